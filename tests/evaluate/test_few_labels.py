"""Few labels, SGD probes, transfer: which images, which numbers, against hand and torch."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from squint.data import open_source
from squint.errors import DataError, RecipeError, RunError
from squint.evaluate import fewshot, sgd_probe, transfer
from squint.evaluate.features import extract
from squint.evaluate.fewshot import few_label_top1, name_of, spread, subset
from squint.evaluate.inputs import Labelled
from squint.evaluate.linear import linear_probe
from squint.evaluate.options import (
    FewshotOptions,
    LinearOptions,
    Options,
    SGDProbeOptions,
    SubjectOptions,
    TransferOptions,
)
from squint.evaluate.protocols import evaluate
from squint.evaluate.transfer import renumbered
from train import small


@given(st.lists(st.integers(4, 40), min_size=2, max_size=5), st.integers(0, 9), st.integers(1, 4))
def test_subsets_are_balanced_and_a_function_of_seed_and_draw(
    sizes: list[int], seed: int, shots: int
) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = subset(labels, shots, seed=seed, draw=1)
    assert Counter(labels[rows].tolist()) == dict.fromkeys(range(len(sizes)), shots)
    np.testing.assert_array_equal(rows, subset(labels, shots, seed=seed, draw=1))
    tenth = subset(labels, 0.1, seed=seed, draw=0)
    counts = Counter(labels[tenth].tolist())
    assert counts == {label: max(1, round(0.1 * size)) for label, size in enumerate(sizes)}


def test_other_draws_are_other_images_and_too_few_are_refused() -> None:
    labels = np.repeat([0, 1], 50)
    assert set(subset(labels, 5, seed=0, draw=0)) != set(subset(labels, 5, seed=0, draw=1))
    with pytest.raises(DataError, match="has 50 train images, and 51"):
        subset(labels, 51, seed=0, draw=0)


def test_the_interval_is_students() -> None:
    values = [0.5, 0.6, 0.55, 0.7, 0.65]
    found = spread(values)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.interval == pytest.approx((high - low) / 2)


def blobs(images: int, seed: int) -> Labelled:
    random = np.random.default_rng(seed)
    labels = np.arange(images) % 3
    means = np.random.default_rng(5).normal(size=(3, 8))
    features = means[labels] + 1.5 * random.normal(size=(images, 8))
    return Labelled(torch.from_numpy(features).float(), torch.from_numpy(labels))


def test_more_labels_are_better_and_one_per_class_works() -> None:
    train, test = blobs(600, 0), blobs(300, 1)
    accuracy = [
        few_label_top1(train, test, amount, draws=5, seed=0, linear=LinearOptions()).mean
        for amount in (1, 20, 1.0)
    ]
    assert 1 / 3 < accuracy[0] < accuracy[1] <= accuracy[2]
    assert (name_of(1), name_of(0.05)) == ("fewshot_1shot_top1", "fewshot_5pct_top1")


def test_every_linear_probe_follows_the_linear_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, set[Any]] = {"fewshot": set(), "transfer": set()}

    def spying(name: str) -> Any:
        def spy(*data: Any, **settings: Any) -> Any:
            asked[name].add(tuple(settings[key] for key in ("strengths", "held_out", "seed")))
            return linear_probe(*data, **settings)

        return spy

    monkeypatch.setattr(fewshot, "linear_probe", spying("fewshot"))
    monkeypatch.setattr(transfer, "linear_probe", spying("transfer"))
    source = small.source(tmp_path)

    def results(*protocols: str, **linear: Any) -> dict[str, Any]:
        options = Options(
            linear=LinearOptions(held_out=0.3, seed=4, **linear),
            fewshot=FewshotOptions(shares=(0.2, 1.0), shots=(1,), draws=2, seed=8),
            transfer=TransferOptions(train_data=source),
        )
        given, out = SubjectOptions(size=32), tmp_path / "out.json"
        table = evaluate(
            "timm:resnet10t",
            data=source,
            protocols=protocols,
            subject=given,
            out=out,
            options=options,
        )
        return {name: entry["protocol"] for name, entry in table["results"].items()}

    two = (2.0, 0.5)
    said = results("fewshot", "transfer", strengths=two)
    single = {((fewshot.ONE_SHOT_STRENGTH,), 0.2, seed) for seed in (8, 9)}
    whole = (two, 0.3, 4)
    assert asked["fewshot"] == {(two, 0.2, 8), (two, 0.2, 9), whole} | single
    assert asked["transfer"] == {whole}
    few = "strength of {2, 0.5} chosen on 20 % of them (0.1 where none has a second)"
    assert few in said["fewshot_20pct_top1"] and few in said["fewshot_1shot_top1"]
    assert "mean of 2 draws" in said["fewshot_20pct_top1"]
    assert "strength of {2, 0.5} chosen on 30 % of them (seed 4)" in said["fewshot_100pct_top1"]
    assert "77 train images, one fit" in said["fewshot_100pct_top1"]
    assert "draws" not in said["fewshot_100pct_top1"]
    assert "s of {2, 0.5} chosen on 30 % of train" in said["transfer_linear_top1"]

    asked["fewshot"].clear()
    said = results("fewshot", "compare", "linear", strengths=(3.0,))
    assert {strengths for strengths, _, _ in asked["fewshot"]} == {(3.0,)}
    for name in ("fewshot_20pct_top1", "fewshot_100pct_top1", "fewshot_1shot_top1"):
        assert "strength 3," in said[name] and "strength of" not in said[name]
    assert "strength of {3}" in said["compare_linear_top1"]
    assert "s = 3, fitted" in said["linear_top1"]


@pytest.mark.parametrize("name", sgd_probe.SETTINGS)
def test_sgd_probe_is_torchs_sgd(name: str) -> None:
    published = sgd_probe.SETTINGS[name]
    # a decay that shows in four epochs
    decay = 0.05 if published.weight_decay else 0.0
    setting = replace(published, init_std=0.0, epochs=4, batch_size=32, weight_decay=decay)
    train = blobs(100, 0)
    lrs = setting.lrs[:2]
    weight, bias = sgd_probe.fit(
        lambda _: train.features, train.labels, lrs, setting, width=8, seed=0
    )
    for row, lr in enumerate(lrs):
        order = torch.Generator().manual_seed(0)
        torch.randn(3, 8, generator=order)  # the initial weights
        head = torch.nn.Linear(8, 3)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        peak = lr if name == "moco" else lr * 32 / 256
        nesterov = name.startswith(("simclr", "byol"))
        sgd = torch.optim.SGD(
            head.parameters(), peak, momentum=0.9, nesterov=nesterov, weight_decay=decay
        )
        for epoch in range(4):
            for step, rows in enumerate(torch.randperm(100, generator=order)[:96].split(32)):
                part = 0 if name.startswith("mocov3") else step / 3
                steps_factor = 0.1 ** ((epoch >= 2.4) + (epoch >= 3.2))
                cosine = (1 + np.cos(np.pi * (epoch + part) / 4)) / 2
                factor = steps_factor if name == "moco" else cosine
                # lr inside SGD multiplies the buffer at each step, as in the probe
                sgd.param_groups[0]["lr"] = peak * factor
                sgd.zero_grad()
                logits = head(train.features[rows])
                torch.nn.functional.cross_entropy(logits, train.labels[rows]).backward()
                sgd.step()
        torch.testing.assert_close(weight[row], head.weight.detach(), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(bias[row], head.bias.detach(), rtol=1e-3, atol=1e-4)


def test_the_rate_is_chosen_in_the_evaluation_view(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = replace(sgd_probe.SETTINGS["byol"], epochs=3, batch_size=32)
    cropped = blobs(100, 0)
    shown = Labelled(torch.zeros(100, 8), cropped.labels)  # only biases tell
    epochs: list[int] = []
    scored: list[torch.Tensor] = []

    def views(epoch: int) -> torch.Tensor:
        epochs.append(epoch)
        return cropped.features

    def score(logits: torch.Tensor, truth: torch.Tensor) -> float:
        scored.append(logits)
        return len(scored) / 10

    monkeypatch.setattr(sgd_probe, "share_right", score)
    assert sgd_probe._best_lr(views, shown, setting, seed=0) == 0.05  # the last
    assert epochs == [0, 1, 2], "one pass an epoch, for all rates"
    for logits in scored:
        assert torch.equal(logits, logits[:1].expand(9, -1))


PUBLISHED: dict[str, tuple[tuple[float, ...], float, int, int]] = {
    "moco": ((30.0,), 0.0, 256, 100),
    "mocov3": ((0.1,), 0.0, 1024, 90),
    "mocov3-vit": ((3.0,), 0.0, 1024, 90),
    "simclr": ((0.1,), 1e-6, 4096, 90),
    "simclr-cifar": ((0.1,), 0.0, 512, 100),
    "byol": ((0.4, 0.3, 0.2, 0.1, 0.05), 0.0, 1024, 80),
    "byol-released": ((0.2,), 0.0, 4096, 80),
}
"""Learning rates, weight decay, batch and epochs: section 16 of the specification."""


@pytest.mark.parametrize("name", sgd_probe.SETTINGS)
def test_sgd_settings_are_the_published_ones_and_each_number_can_be_set(name: Any) -> None:
    found = sgd_probe.setting_of(SGDProbeOptions(setting=name))
    assert (found.lrs, found.weight_decay, found.batch_size, found.epochs) == PUBLISHED[name]
    other = SGDProbeOptions(setting=name, lr=0.7, weight_decay=0.25, batch_size=8, epochs=3)
    changed = sgd_probe.setting_of(other)
    assert (changed.lrs, changed.weight_decay, changed.batch_size, changed.epochs) == (
        (0.7,), 0.25, 8, 3
    )  # fmt: skip
    assert changed.schedule == found.schedule and changed.init_std == found.init_std


@pytest.mark.parametrize(
    ("field", "value"), [("lr", 0.0), ("weight_decay", -0.1), ("batch_size", 0), ("epochs", 0)]
)
def test_sgd_settings_out_of_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=rf"sgd\.{field}={value:g} must be"):
        SGDProbeOptions(**{field: value})


def other_source(folder: Path, classes: list[str]) -> str:
    from PIL import Image

    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (16, 16), (60 * label + number,) * 3).save(
                folder / name / f"{number}.png"
            )
    return str(folder)


def test_transfer_matches_classes_by_name_and_drops_the_others(tmp_path: Path) -> None:
    train = open_source(other_source(tmp_path / "a", ["cat", "dog", "eel"]))
    test = open_source(other_source(tmp_path / "b", ["eel", "cat"])).select(range(8))
    found = renumbered(train, test)
    assert found.classes == test.classes and found.labels is not None
    for path, label in zip(found.paths, found.labels, strict=True):
        assert path.startswith(found.classes[label])
    assert len(found) == 8
    with pytest.raises(DataError, match="dog"):
        renumbered(test, train)


def test_transfer_from_source_to_source(tmp_path: Path) -> None:
    first = other_source(tmp_path / "a", ["x", "y"])
    second = other_source(tmp_path / "b", ["x", "y"])
    given, out = SubjectOptions(size=32), tmp_path / "out.json"
    options = Options(transfer=TransferOptions(train_data=first))
    table = evaluate(
        "timm:resnet10t",
        data=second,
        protocols=("transfer",),
        subject=given,
        out=out,
        options=options,
    )
    entry = table["results"]["transfer_linear_top1"]
    assert first in entry["protocol"] and second in entry["protocol"]
    with pytest.raises(RunError, match=r"--transfer\.train-data"):
        evaluate("timm:resnet10t", data=second, protocols=("transfer",), subject=given, out=out)


def test_the_augmented_probe_and_the_comparison_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []

    def counted(*data: Any, count: int, **settings: Any) -> torch.Tensor:
        passes.append(count)
        return extract(*data, count=count, **settings)

    monkeypatch.setattr(sgd_probe, "extract", counted)
    out = tmp_path / "out.json"
    options = Options(sgd=SGDProbeOptions(setting="byol", epochs=1, augment=True))
    table = evaluate(
        "timm:resnet10t",
        data=small.source(tmp_path),
        protocols=("linear-sgd", "compare"),
        subject=SubjectOptions(size=32),
        out=out,
        options=options,
    )
    entry = table["results"]["linear_sgd_byol_top1"]
    assert passes == [77, 77], "one to choose the rate, one to fit"
    assert "chosen on 10 % of train in the evaluation view" in entry["protocol"]
    assert "random resized crops" in entry["protocol"] and entry["lr"] in (0.4, 0.3, 0.2, 0.1, 0.05)
    assert list(table["results"]["compare_linear_top1"]["table"]) == ["random init"]


def test_every_choice_of_an_sgd_probe_stands_in_its_protocol(tmp_path: Path) -> None:
    options = Options(
        sgd=SGDProbeOptions(setting="mocov3-vit", lr=0.5, weight_decay=1e-4, epochs=2, seed=3)
    )
    table = evaluate(
        "timm:resnet10t",
        data=small.source(tmp_path),
        protocols=("linear-sgd",),
        subject=SubjectOptions(size=32),
        out=tmp_path / "out.json",
        options=options,
    )
    entry = table["results"]["linear_sgd_mocov3_vit_top1"]
    assert 0 <= entry["value"] <= 1 and entry["lr"] == 0.5
    images = int(entry["protocol"].partition(" train images")[0].rpartition(" ")[2])
    for words in (
        "as mocov3-vit: raw encoder features, evaluation view, computed once",
        f"lr {{0.5}} x batch / 256, batch {images} (asked 1024, there are no more), 2 epochs",
        "cosine, per epoch, momentum 0.9, weight decay 0.0001, classifier from N(0, 0.01^2)",
        "seed 3; tested in the evaluation view",
    ):
        assert words in entry["protocol"]
