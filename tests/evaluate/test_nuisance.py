"""Readability against scikit-learn and known answers; tables of attributes."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score, r2_score

import squint
from squint.data import Images, open_source, permutation
from squint.errors import DataError
from squint.evaluate import nuisance
from squint.evaluate.attributes import Attribute, attributes_of
from squint.evaluate.bench import Bench
from squint.evaluate.knn import neighbors
from squint.evaluate.nuisance import Split
from squint.evaluate.options import NuisanceOptions, Options
from squint.evaluate.protocols import evaluate
from squint.evaluate.subject import open_subject
from squint.runs import Run
from train import small

RNG = np.random.default_rng(0)


def split(x: np.ndarray, y: np.ndarray, train: int) -> Split:
    return Split(x[:train], y[:train], x[train:], y[train:])


def test_scores_are_those_of_scikit_learn() -> None:
    truth, guess = RNG.normal(size=(2, 50, 2))
    expected = 1 - np.square(truth - guess).sum() / np.square(truth - truth.mean(axis=0)).sum()
    assert nuisance.r2(truth, guess) == pytest.approx(expected)
    one = nuisance.r2(truth[:, :1], guess[:, :1])
    assert one == pytest.approx(r2_score(truth[:, 0], guess[:, 0]))
    classes = RNG.integers(0, 4, 80).astype(float)
    guesses = np.where(RNG.random(80) < 0.6, classes, RNG.integers(0, 4, 80))
    expected = balanced_accuracy_score(classes, guesses, adjusted=True)
    assert nuisance.balanced(classes, guesses) == pytest.approx(expected)
    assert nuisance.balanced(classes, classes) == 1.0
    assert nuisance.balanced(classes, np.zeros(80)) == pytest.approx(0.0)


@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_ridge_is_that_of_scikit_learn(strength: float) -> None:
    x, y = RNG.normal(size=(120, 6)), RNG.normal(size=(120, 2))
    x[:, 0] += 3  # standardised over all images, an attribute known of some is not centred
    parts = split(x, y, 100)
    (ours,) = nuisance._ridge(parts, (strength,))
    theirs = Ridge(alpha=strength * 100).fit(parts.x, parts.y).predict(parts.x_test)
    np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)


def test_linear_probe_reads_what_is_linear_and_nothing_else() -> None:
    x = RNG.normal(size=(3000, 5))
    noise = RNG.normal(size=3000)
    known = (x[:, :1] + 0.5 * noise[:, None]) / np.sqrt(1.25)
    assert nuisance.linear_readable(split(x, known, 2000), categories=False) == pytest.approx(
        0.8, abs=0.03
    )
    assert abs(nuisance.linear_readable(split(x, noise[:, None], 2000), categories=False)) < 0.02
    sign = (x[:, 1] > 0).astype(float)
    assert nuisance.linear_readable(split(x, sign, 2000), categories=True) > 0.9
    coin = (noise > 0).astype(float)
    assert abs(nuisance.linear_readable(split(x, coin, 2000), categories=True)) < 0.1
    rare = (x[:, 1] > 1.6).astype(float)  # 5 %: never guessing it would be 95 % right
    assert nuisance.linear_readable(split(x, rare, 2000), categories=True) > 0.8


def test_turns_have_no_seam() -> None:
    """Features that lie on a circle give the turns, also around 0 = 1."""
    turns = RNG.random(3000)
    x = np.stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)], axis=1)
    column = Attribute(name="hue", kind="turns", values=turns)
    circle = nuisance.linear_readable(split(x, column.target(), 2000), categories=False)
    straight = nuisance.linear_readable(split(x, turns[:, None], 2000), categories=False)
    assert circle > 0.999 > 0.8 > straight


def test_categories_that_can_not_be_held_out_are_named() -> None:
    theirs = Attribute(name="lens", kind="category", values=np.arange(12) % 2.0)
    rare = np.r_[np.zeros(12), 1, 2, 3, 4, 5.0]
    for values, count in ((np.arange(20.0), 0), (rare, 1)):
        ours = Attribute(name="lens", kind="category", values=values)
        with pytest.raises(DataError, match=rf"lens has {count} categories .* Merge rare ones"):
            nuisance._check_known(ours, theirs)
    nuisance._check_known(replace(ours, values=np.r_[rare, 1]), theirs)


def test_neighbours_vote_and_average_with_their_weights() -> None:
    features = torch.nn.functional.normalize(
        torch.from_numpy(RNG.normal(size=(130, 3))).float(), dim=1
    )
    near = neighbors(features[100:], features[:100], k=7)
    numbers, classes = RNG.normal(size=130), RNG.integers(0, 3, 130).astype(float)
    guess, votes = [], []
    for cosines, rows in zip(*near, strict=True):
        w = np.exp(cosines.numpy().astype(float) / nuisance.TEMPERATURE)
        number, label = numbers[rows], classes[rows]
        guess.append((w * number).sum() / w.sum())
        votes.append(max(range(3), key=lambda c: w[label == c].sum()))
    unexplained = 1 - r2_score(numbers[100:], guess)  # R^2 itself may be near 0
    y, y_test = numbers[:100, None], numbers[100:, None]
    found = nuisance.knn_readable(*near, y, y_test, categories=False)
    assert 1 - found == pytest.approx(unexplained)
    expected = balanced_accuracy_score(classes[100:], votes, adjusted=True)
    found = nuisance.knn_readable(*near, classes[:100], classes[100:], categories=True)
    assert found == pytest.approx(expected)


def test_a_few_known_images_choose_a_strength() -> None:
    """What is linear is read, also where no held-out number differs from another."""
    for known in range(10, 15):
        x = RNG.normal(size=(known + 200, 3))
        read = nuisance.linear_readable(split(x, x[:, :1], known), categories=False)
        assert read > 0.999, "the weakest penalty, not the strongest"
    x = RNG.normal(size=(60, 3))
    x[permutation(0, 0, 30)[:5]] = [-9, 0, 0]  # held out, and all below
    y = np.maximum(x[:, :1], 0)
    assert np.isfinite(nuisance.linear_readable(split(x, y, 30), categories=False))


# --- attributes --------------------------------------------------------------------------------


def write(path: Path, rows: list[list[object]]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def table(tmp_path: Path, images: Images) -> str:
    rows = [
        [name, k / 7, "left" if k % 3 else "right", (k % 10) / 10, k % 2]
        for k, name in enumerate(images.paths)
    ]
    rows[4][1] = rows[5][2] = ""
    heading = ["path", "size", "side", "angle:turns", "flash:category"]
    return write(tmp_path / "a.csv", [heading, *reversed(rows)])


def test_a_table_gives_kinds_and_gaps(tmp_path: Path) -> None:
    images = open_source(small.source(tmp_path))
    size, side, angle, flash = attributes_of(images, table(tmp_path, images))
    assert [a.kind for a in (size, side, angle, flash)] == [
        "number",
        "category",
        "turns",
        "category",
    ]
    assert (angle.name, flash.name) == ("angle", "flash")
    assert np.flatnonzero(~size.known).tolist() == [4] and not side.known[5]
    assert size.values[7] == 1.0 and angle.values[13] == pytest.approx(0.3)
    part = attributes_of(images.select([1, 2]), table(tmp_path, images))[1]
    assert part.values.tolist() == side.values[1:3].tolist(), "numbered over the whole table"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["path", "a"], ["nowhere.png", "1"]], "names none of the 96 images"),
        ([["path", "a:shade"], ["0", "1"]], "is no kind"),
        ([["path", "a:turns"], ["0", "red"]], "'red' in the column 'a:turns'"),
        ([["path", "a"], ["0"]], "Row 2 .* has 1 columns"),
        ([["path"]], "at least two columns"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    tmp_path: Path, rows: list[list[object]], message: str
) -> None:
    images = open_source(small.source(tmp_path))
    rows = [[images.paths[0] if cell == "0" else cell for cell in row] for row in rows]
    with pytest.raises(DataError, match=message):
        attributes_of(images, write(tmp_path / "a.csv", rows))
    with pytest.raises(DataError, match=r"can't be read as a \.csv"):
        attributes_of(images, str(tmp_path / "none.csv"))


def test_a_source_without_attributes_asks_for_a_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--nuisance\.attributes"):
        attributes_of(open_source(small.source(tmp_path)))


def test_the_demo_set_records_twenty_factors() -> None:
    found = attributes_of(open_source("demo"))
    assert len(found) == 20
    kinds = {kind: {a.name for a in found if a.kind == kind} for kind in ("turns", "category")}
    assert kinds["category"] == {"lighter", "texture"}
    assert {"hue", "rotation"} < kinds["turns"] and "scale" not in kinds["turns"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    return squint.pretrain(
        small.source(folder), recipe=small.recipe("simclr"), out=folder / "run", quiet=True
    )


def test_the_protocol_writes_every_attribute_and_a_figure(run: Run, tmp_path: Path) -> None:
    path = table(tmp_path, open_source(run.source))
    options = Options(nuisance=NuisanceOptions(attributes=path, content=("flash",)))
    results = evaluate(run, protocols=("nuisance",), options=options)["results"]
    assert results.keys() == {"content_readable", "nuisance_readable"}
    rows = results["nuisance_readable"]["table"]
    assert list(rows) == ["label", "flash", "size", "side", "angle"]
    assert set(rows["size"]) == {"linear", "knn", "linear (random)", "knn (random)"}
    mean = np.mean([rows[name]["linear"] for name in ("size", "side", "angle")])
    assert results["nuisance_readable"]["value"] == pytest.approx(mean)
    assert "a.csv" in results["nuisance_readable"]["protocol"]
    json.dumps(results, allow_nan=False)
    assert "5 images" in results["nuisance_readable"]["protocol"]
    for name in ("nuisance.png", "nuisance-dark.png"):
        assert (run.path / "figures" / name).stat().st_size > 10_000
    options = Options(nuisance=NuisanceOptions(attributes=path, content=("colour",)))
    with pytest.raises(DataError, match="names 'colour'"):
        evaluate(run, protocols=("nuisance",), options=options)


def test_neighbours_are_those_of_which_the_attribute_is_known(run: Run, tmp_path: Path) -> None:
    """Where few are known, every test image of which it is known is counted nevertheless."""
    images = open_source(run.source)
    bench = Bench(open_subject(run), images, torch.device("cpu"), Options())
    train, test = bench.features_and_images("trained")
    values = {name: float(k) for k, name in enumerate(train.images.paths[:12])}
    values |= {name: float(k % 5) for k, name in enumerate(test.images.paths)}
    rows: list[list[object]] = [["path", "size"]]
    rows += [[name, number] for name, number in values.items()]
    path = write(tmp_path / "few.csv", rows)
    options = Options(nuisance=NuisanceOptions(attributes=path))
    few = Bench(bench.subject, images, bench.device, options)
    near = neighbors(test.features, train.features[:12], k=12)
    y = np.arange(12.0)[:, None]
    y_test = np.arange(len(test.features))[:, None] % 5.0
    expected = nuisance.knn_readable(*near, y, y_test, categories=False)
    assert nuisance._readable(few, "trained")["size"]["knn"] == pytest.approx(expected)
