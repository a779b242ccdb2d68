"""Features, paths, labels and residual information in files; surprise and slopes as protocols."""

import csv
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.metrics import roc_auc_score

import squint
from squint.cli import main
from squint.compression import lipschitz as slopes
from squint.data import open_source
from squint.errors import RunError
from squint.evaluate import compression, inputs, surprise
from squint.evaluate.inputs import squares, view_pairs
from squint.evaluate.options import LipschitzOptions, Options, SubjectOptions, SurpriseOptions
from squint.evaluate.protocols import evaluate
from squint.ops import vmf
from squint.runs import Run
from train import small

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    return squint.pretrain(
        small.source(folder), recipe=small.recipe(), out=folder / "run", quiet=True
    )


def test_every_image_has_the_features_of_the_encoder(run: Run) -> None:
    found = squint.embed(run)
    images = open_source(run.source)
    encoder = squint.load_encoder(run)
    row = 57
    with torch.no_grad():
        expected = encoder(encoder.transform(Image.fromarray(images.read(row)))[None])[0]
    np.testing.assert_allclose(found.features[row], expected.numpy(), rtol=1e-3, atol=1e-4)
    assert found.paths == images.paths and len(found.features) == small.IMAGES
    assert found.labels is not None and (found.labels == images.labels).all()


def test_a_single_image_is_enough(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", open_source(run.source).read(57)[None])
    found, whole = squint.embed(run, data=tmp_path / "one.npy"), squint.embed(run)
    np.testing.assert_allclose(found.features[0], whole.features[57], rtol=1e-3, atol=1e-4)
    assert found.rate_nats is not None and found.rate_nats.shape == (1,)


def test_the_rate_column_is_the_divergence_of_the_two_laws(run: Run) -> None:
    found = squint.embed(run).rate_nats
    assert found is not None
    bench_method = squint.methods.build(run.recipe)
    bench_method.load_state_dict(run.state()["method"])
    bench_method.eval()
    expected = torch.zeros(small.IMAGES)
    ceb = run.recipe.compression
    images = open_source(run.source)
    for epoch in range(compression.PAIRS):
        (views,) = view_pairs(images, run.recipe.views, device=CPU, limit=None, epoch=epoch)
        with torch.no_grad():
            u1, u2 = bench_method.embed(views)
        for h, y in ((u1, u2), (u2, u1)):
            expected += vmf.kl(h, ceb.kappa_e, y, ceb.kappa_b) / (2 * compression.PAIRS)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4)


@pytest.mark.parametrize("ending", ["npz", "csv"])
def test_files_hold_what_python_returns(run: Run, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"e.{ending}"
    assert main(["embed", str(run.path), "--out", str(out)]) == 0
    found = squint.embed(run)
    assert found.rate_nats is not None and found.labels is not None
    if ending == "npz":
        with np.load(out, allow_pickle=False) as file:
            np.testing.assert_array_equal(file["features"], found.features)
            assert tuple(file["path"]) == found.paths
            np.testing.assert_array_equal(file["label"], found.labels)
            np.testing.assert_array_equal(file["rate_nats"], found.rate_nats)
    else:
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["path"] for row in rows] == list(found.paths)
        assert [int(row["label"]) for row in rows] == found.labels.tolist()
        features = [[float(row[f"f{k}"]) for k in range(found.features.shape[1])] for row in rows]
        np.testing.assert_array_equal(np.float32(features), found.features)
        np.testing.assert_array_equal(
            np.float32([row["rate_nats"] for row in rows]), found.rate_nats
        )
    assert [path.name for path in tmp_path.iterdir()] == [out.name], "nothing else is left"


def test_parquet_holds_the_same(run: Run, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    found = squint.embed(run, out=tmp_path / "e.parquet")
    table = parquet.read_table(tmp_path / "e.parquet")
    assert table["path"].to_pylist() == list(found.paths)
    np.testing.assert_array_equal(np.stack(table["features"].to_numpy()), found.features)


def test_files_without_labels_and_with_an_unreadable_one(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        pixels = rng.integers(0, 256, (100 + number, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "2.png").write_text("no picture")
    found = squint.embed(run, data=folder, out=tmp_path / "e.csv")
    assert found.paths == ("0.png", "1.png", "3.png", "4.png") and found.labels is None
    assert found.rate_nats is not None and np.isfinite(found.rate_nats).all()
    heading = (tmp_path / "e.csv").read_text().splitlines()[0]
    assert heading.startswith("path,rate_nats,f0,f1")


def test_what_cannot_be_written_is_said_before_anything_is_computed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("squint.evaluate.embed")
    monkeypatch.setattr(module, "open_subject", lambda *_: pytest.fail("began"))
    for name, message in (
        ("e.xlsx", r"must end in \.npz, \.csv or \.parquet"),
        ("none/e.npz", "does not exist"),
    ):
        with pytest.raises(RunError, match=message):
            squint.embed(run, out=tmp_path / name)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RunError, match=r"squint\[parquet\]"):
        squint.embed(run, out=tmp_path / "e.parquet")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_replaced_only_when_told(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "e.npz"
    out.write_text("mine")
    with pytest.raises(RunError, match=r"e\.npz is there already.*add --overwrite"):
        squint.embed(run, out=out)
    program = (
        "import sys; from squint.cli import main; done = main(sys.argv[1:]); "
        "sys.exit(9 if 'torch' in sys.modules else done)"
    )
    command = [sys.executable, "-c", program, "embed", str(run.path), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "is there already" in done.stderr, "before torch is loaded"
    assert out.read_text() == "mine"
    assert main(["embed", str(run.path), "--out", str(out), "--overwrite"]) == 0
    with np.load(out, allow_pickle=False) as file:
        assert len(file["features"]) == small.IMAGES


def test_weights_of_anyone_are_embedded_too(run: Run, tmp_path: Path) -> None:
    weights, out = tmp_path / "w.pth", tmp_path / "e.npz"
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    flags = ["--encoder", "torchvision/resnet18", "--size", "32", "--data", run.source]
    assert main(["embed", str(weights), "--out", str(out), *flags]) == 0
    given = SubjectOptions(encoder="torchvision/resnet18", size=32)
    found = squint.embed(weights, data=run.source, subject=given)
    assert found.rate_nats is None and found.features.shape == (small.IMAGES, 512)
    with np.load(out, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["features"], found.features)


def test_the_area_is_the_chance_that_a_strange_image_has_the_higher_rate() -> None:
    rng = np.random.default_rng(0)
    usual, strange = rng.normal(size=40), rng.normal(1.0, size=30)
    expected = (strange[:, None] > usual).mean()
    assert surprise._area(usual, strange) == pytest.approx(expected)
    truth = [0] * 40 + [1] * 30
    assert expected == pytest.approx(roc_auc_score(truth, [*usual, *strange]))


def test_surprise_and_slopes_are_measured_and_drawn(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "white.npy"
    np.save(other, np.full((20, 16, 16, 3), 255, dtype=np.uint8))
    options = Options(
        surprise=SurpriseOptions(images=12, other=str(other)),
        lipschitz=LipschitzOptions(images=6, iterations=5),
    )
    results = evaluate(run, protocols=("surprise", "lipschitz"), options=options)["results"]
    for kind, said in (("surprise", "of the code"), ("surprise_features", "head fitted")):
        corrupted = results[f"{kind}_corrupted_auroc"]
        assert len(corrupted["table"]) == 15 and said in corrupted["protocol"]
        areas = [area for row in corrupted["table"].values() for area in row.values()]
        assert corrupted["value"] == pytest.approx(np.mean(areas))
        assert 0 <= min(areas) <= max(areas) <= 1
        protocol = results[f"{kind}_other_auroc"]["protocol"]
        assert f"12 images of {other}" in protocol  # no splits: all are strange
    rows = results["lipschitz_median"]["table"]
    assert rows["steepest"]["median"] == results["lipschitz_median"]["value"]
    assert rows["steepest"]["max"] == results["lipschitz_max"]["value"]
    assert {"towards crop", "towards gaussian_noise", "steepest (random)"} <= rows.keys()
    for row in rows.values():
        assert 0 < row["median"] <= row["90 %"] <= row["99 %"] <= row["max"]
    assert 0 < results["lipschitz_lower_bound"]["value"]
    bound = results["lipschitz_density_bound"]
    assert 0 < bound["median"] <= bound["value"] == bound["table"]["bound"]["max"]
    assert bound["value"] < bound["table"]["slope in the steepest z"]["max"]
    for name in ("surprise", "surprise_features", "lipschitz"):
        assert (run.path / "figures" / f"{name}-dark.png").stat().st_size > 10_000


def test_slopes_are_of_as_many_images_as_the_protocol_says(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "BATCH", 4)
    seen: list[int] = []
    quantiles = slopes.quantiles

    def counted(values: torch.Tensor) -> list[float]:
        seen.append(len(values))
        return quantiles(values)

    monkeypatch.setattr(slopes, "quantiles", counted)
    for asked, count in ((6, 6), (50, 19)):  # a fifth of 96 is held out
        options = Options(lipschitz=LipschitzOptions(images=asked, iterations=1))
        results = evaluate(run, protocols=("lipschitz",), options=options)["results"]
        assert set(seen) == {count}
        for name in ("lipschitz_median", "lipschitz_lower_bound"):
            assert f" {count} held-out images" in results[name]["protocol"]
        seen.clear()


def test_slopes_towards_a_view_only_the_other_recipe_has_are_left_out(tmp_path: Path) -> None:
    recipe = small.recipe("simclr", views__second__solarize=0.5)
    asymmetric = squint.pretrain(
        small.source(tmp_path), recipe=recipe, out=tmp_path / "run", quiet=True
    )
    options = Options(lipschitz=LipschitzOptions(images=6, iterations=1))
    table = evaluate(asymmetric, protocols=("lipschitz",), options=options)["results"]
    rows = table["lipschitz_median"]["table"]
    assert "towards solarize" not in rows and "towards crop" in rows


def test_squares_are_the_pixels_evaluation_sees(run: Run) -> None:
    images = open_source(run.source)
    views = run.recipe.views
    found = squares(images, views, limit=10)
    assert found.dtype == torch.uint8 and found.shape == (10, 3, *[views.evaluation.size] * 2)
    assert len(squares(images, views, limit=1000)) == len(images)
