"""From the command line to evaluation.json: what stands there, from where, and how to get it again.

The numbers are of one run on sixty pictures (`conftest.measured`); here they are computed again
from the file alone, by the formulas written out, or by scikit-learn.
"""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import squint
from conftest import TEST, TRAIN, Measured
from squint.data import open_source
from squint.evaluate import finetune
from squint.evaluate.corruptions import COMMON
from squint.evaluate.finetune import Setting, fit
from squint.evaluate.inputs import labelled_features
from squint.evaluate.options import (
    FeaturesOptions,
    FewshotOptions,
    FinetuneOptions,
    Options,
    TransferOptions,
)
from squint.interop.encoder import load
from squint.nn import encoders

CPU = torch.device("cpu")

EXPECTED = {
    "knn_top1": ["l2-normalised", "k=60 (asked 200, there are no more)"],
    "linear_top1": ["standardised", "60 train images", "seed 0"],
    "linear_sgd_byol_top1": ["raw encoder features", "3 epochs", "seed 0"],
    "fewshot_1pct_top1": ["3 of 60 train images", "5 draws (seed 3)"],
    "fewshot_10pct_top1": ["6 of 60 train images", "5 draws (seed 3)"],
    "fewshot_2shot_top1": ["6 of 60 train images", "5 draws (seed 3)"],
    "finetune_1pct_top1": [
        "3 train images",
        "batch 3 (asked 16, there are no more)",
        "layer decay 0.75",
        "EMA 0.99",
        "seed 5",
    ],
    "finetune_10pct_top1": ["6 train images", "10 % of every class", "seed 5"],
    "finetune_100pct_top1": ["60 train images", "adamw", "batch 16,", "seed 5"],
    "transfer_knn_top1": ["30 train images", "learned on"],
    "transfer_linear_top1": ["30 train images", "learned on"],
    "compare_linear_top1": ["1, 10 and 100 %", "5 draws"],
    "corrupted_error": ["12 of 24", "seed 0", "24 px"],
    "clean_error": ["12 of 24"],
    "mce": ["a random encoder's"],
    "pgd_top1": ["10 of 24", "eps 16/255 of linf", "3 steps"],
    "shifted_top1": ["12 images of imagenet-r (2 of its 200 class folders)", "among 2 classes"],
}


def test_every_number_stands_there_with_its_protocol(measured: Measured) -> None:
    assert set(EXPECTED) <= set(measured.results) <= set(EXPECTED) | {"relative_mce"}
    for name, words in EXPECTED.items():
        entry = measured.results[name]
        assert math.isfinite(entry["value"]) and entry["seconds"] > 0
        for word in [*words, "evaluation view", "float32", "24 px"]:
            assert word in entry["protocol"], (name, word, entry["protocol"])
        own_test = "test split, 24 images" in entry["protocol"]
        assert own_test == (name != "shifted_top1"), entry["protocol"]
        for word in ("bicubic", "central square of 100 %", "less (0.4914, 0.4822, 0.4465) over"):
            assert word in entry["protocol"], (name, word)


def test_shares_are_of_the_images_that_the_protocol_names(measured: Measured) -> None:
    images = dict.fromkeys(EXPECTED, 3 * TEST) | {"clean_error": 12, "pgd_top1": 10}
    images |= {"shifted_top1": 12}
    for name in ("fewshot_1pct_top1", "compare_linear_top1", "corrupted_error", "mce"):
        del images[name]  # means of several
    del images["fewshot_10pct_top1"], images["fewshot_2shot_top1"]
    for name, count in images.items():
        for which in ("value", "random"):
            if which in measured.results[name]:
                right = measured.results[name][which] * count
                assert right == pytest.approx(round(right), abs=1e-9), name


def student(values: list[float]) -> float:
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return float(high - low) / 2


def test_means_and_intervals_follow_from_the_draws(measured: Measured) -> None:
    for name in ("fewshot_1pct_top1", "fewshot_10pct_top1", "fewshot_2shot_top1"):
        entry = measured.results[name]
        for which, value in (("trained", entry["value"]), ("random", entry["random"])):
            assert len(entry["draws"][which]) == 5
            assert value == pytest.approx(np.mean(entry["draws"][which]))
        if len(set(entry["draws"]["trained"])) > 1:
            assert entry["interval"] == pytest.approx(student(entry["draws"]["trained"]))
    entry = measured.results["compare_linear_top1"]
    assert list(entry["table"]) == ["random init", str(measured.run.path), "this encoder"]
    for title, row in entry["table"].items():
        for column, value in row.items():
            draws = entry["draws"][title][column]
            assert len(draws) == (1 if column == "100% labels" else 5)
            assert value == pytest.approx(np.mean(draws))
            if len(set(draws)) > 1:
                assert entry["intervals"][title][column] == pytest.approx(student(draws))
    assert entry["value"] == entry["table"]["this encoder"]["10% labels"]
    assert entry["table"]["this encoder"] == entry["table"][str(measured.run.path)]
    assert entry["table"]["this encoder"]["100% labels"] == measured.results["linear_top1"]["value"]
    assert entry["table"]["random init"]["100% labels"] == measured.results["linear_top1"]["random"]


def test_robustness_follows_from_the_errors(measured: Measured) -> None:
    results = measured.results
    errors = results["corrupted_error"]["errors"]
    ours, base = errors["trained"], errors["random"]
    severities = [str(s) for s in range(1, 6)]
    cells = [[ours[c][s] for s in severities] for c in COMMON]
    assert results["corrupted_error"]["value"] == pytest.approx(np.mean(cells))
    assert results["clean_error"]["value"] == ours["clean"]["0"]
    assert results["mce"]["baseline"] == base
    ce = [sum(ours[c].values()) / sum(base[c].values()) for c in COMMON]
    assert results["mce"]["value"] == pytest.approx(np.mean(ce))
    added = {
        which: [sum(cells[c][s] - cells["clean"]["0"] for s in severities) for c in COMMON]
        for which, cells in errors.items()
    }
    if min(added["random"]) > 0:
        relative = np.mean(np.divide(added["trained"], added["random"]))
        assert results["relative_mce"]["value"] == pytest.approx(relative)
    else:
        assert "relative_mce" not in results
    for name in COMMON:
        row = results["corrupted_error"]["table"][name]
        assert row["mean"] == pytest.approx(np.mean([ours[name][s] for s in severities]))
        assert row["mean (random)"] == pytest.approx(np.mean([base[name][s] for s in severities]))


def test_attacks_only_take_away(measured: Measured) -> None:
    rows = measured.results["pgd_top1"]["table"]
    assert list(rows) == ["eps 0/255", "eps 2/255", "eps 16/255"]
    for column in ("top1", "top1 (random)"):
        shares = [row[column] for row in rows.values()]
        assert shares == sorted(shares, reverse=True)
    assert measured.results["pgd_top1"]["value"] == rows["eps 16/255"]["top1"]
    assert measured.results["pgd_top1"]["random"] == rows["eps 16/255"]["top1 (random)"]


def test_features_give_scikit_learn_the_same_numbers(measured: Measured) -> None:
    images, encoder = open_source(measured.source), load(measured.run)
    x, y, x_test, y_test = (
        part.numpy()
        for split in ("train", "test")
        for part in labelled_features(
            encoder.encoder, images.split(split), encoder.views, device=CPU
        )
    )
    mean, std = x.mean(axis=0), x.std(axis=0)
    entry = measured.results["linear_top1"]
    model = LogisticRegression(C=1 / (entry["strength"] * len(x)), tol=1e-6, max_iter=5000)
    model.fit((x - mean) / std, y)
    assert entry["value"] == pytest.approx(model.score((x_test - mean) / std, y_test))

    def votes(distance: np.ndarray) -> np.ndarray:
        return np.exp((1 - distance**2 / 2) / 0.1)

    def unit(rows: np.ndarray) -> np.ndarray:
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    nearest = KNeighborsClassifier(3 * TRAIN, weights=votes, algorithm="brute")  # k=200 is all
    nearest.fit(unit(x), y)
    assert measured.results["knn_top1"]["value"] == pytest.approx(
        nearest.score(unit(x_test), y_test)
    )


def evaluated(measured: Measured, protocol: str, options: Options, out: Any) -> dict[str, Any]:
    results = out / "evaluation.json"
    table = squint.evaluate(measured.run, protocols=(protocol,), options=options, out=results)
    return table["results"]


def test_the_same_seed_gives_the_same_numbers(measured: Measured, tmp_path: Any) -> None:
    again = FewshotOptions(shares=(0.1,), seed=3)
    found = evaluated(measured, "fewshot", Options(fewshot=again), tmp_path)["fewshot_10pct_top1"]
    before = measured.results["fewshot_10pct_top1"]
    assert found["draws"] == before["draws"] and found["interval"] == before["interval"]
    settings = {"labels": (0.1,), "epochs": 2, "batch_size": 16}
    for seed, same in ((5, True), (6, False)):
        options = Options(finetune=FinetuneOptions(seed=seed, **settings))
        entry = evaluated(measured, "finetune", options, tmp_path)["finetune_10pct_top1"]
        before = measured.results["finetune_10pct_top1"]
        assert (entry["protocol"] == before["protocol"]) is same
        if same:
            assert entry["value"] == before["value"]


def test_transfer_to_itself_is_no_transfer(measured: Measured, tmp_path: Any) -> None:
    options = Options(transfer=TransferOptions(train_data=str(measured.source)))
    found = evaluated(measured, "transfer", options, tmp_path)
    assert found["transfer_linear_top1"]["value"] == measured.results["linear_top1"]["value"]
    assert found["transfer_knn_top1"]["value"] == measured.results["knn_top1"]["value"]


def test_precision_is_said_and_changes_little(measured: Measured, tmp_path: Any) -> None:
    options = Options(features=FeaturesOptions(precision="bfloat16"))
    entry = evaluated(measured, "linear", options, tmp_path)["linear_top1"]
    assert "features of it in bfloat16" in entry["protocol"]
    assert entry["value"] == pytest.approx(measured.results["linear_top1"]["value"], abs=3 / 24)


def setting(**changes: Any) -> Setting:
    given: dict[str, Any] = {
        "optimizer": "sgd",
        "lrs": (0.5,),
        "weight_decay": 0.0,
        "epochs": 2,
        "layer_decay": 1.0,
        "ema": 0.0,
        "batch_size": 60,
        "seed": 0,
    }
    return Setting(**(given | changes))


def moved(measured: Measured, layer_decay: float) -> dict[str, torch.Tensor]:
    """How far each parameter went in two steps; the first moves the classifier alone, from 0."""
    images = open_source(measured.source).split("train")
    torch.manual_seed(0)
    encoder = encoders.build("resnet10", stem="cifar", width=0.125).eval()
    before = {f"encoder.{name}": value.clone() for name, value in encoder.named_parameters()}
    views = load(measured.run).views
    model = fit(encoder, images, views, setting(layer_decay=layer_decay), 20.0, CPU)
    return {n: v - before[n] for n, v in model.named_parameters() if n in before}


def test_lower_layers_go_shorter_ways(measured: Measured) -> None:
    whole, decayed = moved(measured, 1.0), moved(measured, 0.5)
    depths = finetune.layer_of([name.removeprefix("encoder.") for name in whole])
    top = max(depths.values()) + 1
    assert len(set(depths.values())) == 5  # stem and four blocks
    for name, way in whole.items():
        expected = 0.5 ** (top - depths[name.removeprefix("encoder.")])
        if way.norm() > 0:
            assert (decayed[name].norm() / way.norm()).item() == pytest.approx(expected, rel=1e-3)
    assert sum(way.norm() > 0 for way in whole.values()) > len(whole) / 2


def test_the_averaged_weights_are_the_ones_evaluated(
    measured: Measured, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[dict[str, np.ndarray]] = []
    evaluated_ones: list[dict[str, np.ndarray]] = []
    average, top1 = finetune._average, finetune._top1

    def copied(model: torch.nn.Module) -> dict[str, np.ndarray]:
        return {n: v.detach().double().numpy().copy() for n, v in model.named_parameters()}

    def spy(averaged: Any, model: Any, keep: float) -> None:
        steps.append(copied(averaged) if not steps else {})
        average(averaged, model, keep)
        steps.append(copied(model))

    def counted(model: Any, *rest: Any) -> float:
        evaluated_ones.append(copied(model))
        return top1(model, *rest)

    monkeypatch.setattr(finetune, "_average", spy)
    monkeypatch.setattr(finetune, "_top1", counted)
    options = FinetuneOptions(epochs=3, batch_size=16, ema=0.5, lr=0.01)
    evaluated(measured, "finetune", Options(finetune=options), tmp_path)
    first, weights = steps[0], [step for step in steps[1:] if step]
    assert len(weights) == 9  # 3 epochs of 3 whole batches
    for name, value in first.items():
        mean = value
        for step, now in enumerate(weights):
            keep = min(0.5, (1 + step) / (10 + step))
            mean = keep * mean + (1 - keep) * now[name]
        np.testing.assert_allclose(evaluated_ones[-1][name], mean, rtol=1e-4, atol=1e-6)
    assert any(not np.allclose(evaluated_ones[-1][n], weights[-1][n]) for n in first)


def test_the_file_is_json_that_others_read(measured: Measured) -> None:
    text = (measured.run.path / "evaluation.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
