"""Views that differ in one augmentation, channels fitted after the fact, and their protocols."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import integrate

import squint
from squint import presets
from squint.data import open_source
from squint.evaluate import compression, fitted, redraw
from squint.evaluate.bench import Bench
from squint.evaluate.options import FittedOptions, Options
from squint.evaluate.protocols import evaluate
from squint.evaluate.subject import open_subject
from squint.ops import vmf
from squint.runs import Run
from squint.views.recipes import Blur, Jitter, View, ViewsConfig, byol_224
from train import small

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    return squint.pretrain(
        small.source(folder), recipe=small.recipe("simclr"), out=folder / "run", quiet=True
    )


def batch(views: View, tmp_path: Path, size: int = 16) -> dict[str, redraw.Pair]:
    config = ViewsConfig(size=size, first=views, second=views)  # no normalisation
    images = open_source(small.source(tmp_path))
    (found,) = redraw.redrawn_pairs(images, config, device=CPU, limit=40)
    return found


def test_only_what_was_drawn_anew_differs(tmp_path: Path) -> None:
    view = View(flip=0.5, gray=0.0, blur=Blur(probability=0.0))
    found = batch(view, tmp_path)
    assert list(found) == ["nothing", "crop", "flip", "jitter", "everything"]
    for name, (first, second) in found.items():
        assert torch.equal(first, found["nothing"][0])
        assert torch.equal(first, second) == (name == "nothing")
    first, flipped = found["flip"]
    mirrored = (first.flip(3) - flipped).flatten(1).abs().amax(dim=1) < 1e-4
    same = (first - flipped).flatten(1).abs().amax(dim=1) < 1e-4
    assert (mirrored | same).all() and 0.2 < mirrored.float().mean() < 0.8


def test_an_augmentation_that_cannot_happen_is_left_out(tmp_path: Path) -> None:
    off = Jitter(probability=0.0)
    found = batch(View(jitter=off, gray=0.3, blur=Blur(probability=0.0)), tmp_path)
    assert list(found) == ["nothing", "crop", "flip", "gray", "everything"]
    first, second = found["gray"]
    rgb = [
        (view - view.mean(dim=1, keepdim=True)).flatten(1).abs().amax(dim=1)
        for view in (first, second)
    ]
    changed = (first != second).flatten(1).any(dim=1)
    gray = [spread < 0.01 for spread in rgb]
    assert torch.equal(changed, gray[0] ^ gray[1])


def test_both_recipes_of_an_asymmetric_pair_are_shown(tmp_path: Path) -> None:
    views = dataclasses.replace(byol_224(), size=16)
    images = open_source(small.source(tmp_path))
    found = list(redraw.redrawn_pairs(images, views, device=CPU, limit=30))
    assert len(found) == 2 and {len(pair[0]) for each in found for pair in each.values()} == {30}
    assert redraw.augmentations(views)[-1] == "solarize"
    solarized = [(each["solarize"][0] != each["solarize"][1]).any().item() for each in found]
    assert solarized == [False, True]


def test_files_and_memory_show_the_same_pairs(tmp_path: Path) -> None:
    """Up to the rounding of crops to whole grey levels, on images no crop enlarges much."""
    from PIL import Image

    smooth = np.linspace(40, 200, 24, dtype=np.uint8)
    pictures = [np.stack([np.roll(smooth, k)[:, None].repeat(24, 1)] * 3, axis=2) for k in range(6)]
    (tmp_path / "files" / "a").mkdir(parents=True)
    for k, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "files" / "a" / f"{k}.png")
    np.save(tmp_path / "all.npy", np.stack(pictures))
    config = dataclasses.replace(presets.recipe("simclr@tiny").views, size=16)
    maker = redraw._Maker(config, config.first, 0, CPU)
    images = open_source(tmp_path / "files")
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    rows = torch.arange(6)
    crops = torch.stack([maker.crop(images.picture(k), k) for k in range(6)])
    memory, files = maker.whole(pixels, rows), maker.finish(crops, rows)
    assert memory.keys() == files.keys()
    for name in memory:
        for left, right in zip(memory[name], files[name], strict=True):
            assert (left - right).abs().mean() < 0.02


def test_protocols_agree_with_the_formulas(run: Run) -> None:
    options = Options(fitted=FittedOptions(kappa_e=50.0))
    table = evaluate(run, protocols=("compression", "fitted", "augmentations"), options=options)
    results = table["results"]
    quantities = results["rate_nats"]["table"]
    held_out = {name: row["held_out"] for name, row in quantities.items()}
    difference = held_out["cross_entropy_nats"] - held_out["entropy_nats"]
    gap = abs(held_out["sampled_rate_nats"] - held_out["rate_nats"])
    assert gap < 5 * held_out["sampled_error_nats"]
    assert difference == pytest.approx(
        held_out["rate_nats"], abs=5 * held_out["sampled_error_nats"]
    )
    row = quantities["rate_nats"]
    assert row["held_out_bits"] == pytest.approx(row["held_out"] / 0.6931471805599453)
    assert row["train"] != row["held_out"]
    after = results["fitted_rate_nats"]
    assert "stated" in after["protocol"] and "maximum likelihood" in after["protocol"]
    assert after["value"] != after["random"]
    assert results["fitted_info_nats"]["value"] < results["fitted_info_cap_nats"]["value"]
    costs = results["augmentation_nats"]["table"]
    assert costs["everything"]["code"] == results["augmentation_nats"]["value"] > 0
    assert {"crop", "flip", "jitter", "everything"} <= set(costs)
    assert (
        json.loads((run.path / "evaluation.json").read_text())["results"].keys() == results.keys()
    )
    names = ("augmentations.png", "augmentations-dark.png")
    assert all((run.path / "figures" / name).stat().st_size > 10_000 for name in names)


def test_an_image_is_held_out_of_the_fit_with_both_views(run: Run) -> None:
    bench = Bench(open_subject(run), open_source(run.source), CPU, Options())
    held = fitted.feature_fit(bench, "trained").held
    images = len(fitted.feature_pairs(bench, "trained")["train"][0][0])
    count = round(0.1 * images)
    assert len(held) == 2 * count and torch.equal(held[:count] + images, held[count:])


def test_every_quantity_of_a_mixture_of_two_poles_is_the_known_one() -> None:
    """On the sphere of three dimensions all integrals have a closed form or one dimension."""
    kappa, n = 1.3, 4_000
    poles = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]).repeat(n // 2, 1)
    channel = compression.CEB(beta=0.0, kappa_e=kappa, kappa_b=kappa)
    found = compression.summary([(poles, poles)], channel)
    assert found.rate_nats == pytest.approx(0.0, abs=1e-6)  # b is e, and so is every sample's
    assert found.sampled_rate_nats == pytest.approx(0.0, abs=1e-6)
    mean_cosine = 1 / np.tanh(kappa) - 1 / kappa
    entropy = np.log(4 * np.pi * np.sinh(kappa) / kappa) - kappa * mean_cosine
    assert found.entropy_nats == pytest.approx(entropy, rel=1e-5)
    deviation = kappa * (1 - mean_cosine**2 - 2 * mean_cosine / kappa) ** 0.5
    assert abs(found.cross_entropy_nats - entropy) < 5 * deviation / n**0.5

    def told(w: float) -> float:
        law = kappa * np.exp(kappa * w) / (2 * np.sinh(kappa))
        return law * np.log(2 / (1 + np.exp(-2 * kappa * w)))

    information = integrate.quad(told, -1, 1)[0]
    assert found.info_nats == pytest.approx(information, abs=0.03)


def test_collected_rows_are_each_others_candidates() -> None:
    h = F.normalize(torch.randn(2, 60, 8, generator=torch.Generator().manual_seed(0)), dim=2)
    channel = compression.CEB(beta=0.0, kappa_e=500.0, kappa_b=40.0)
    outcome = compression.summary([(h[0], h[0])], channel)
    expected = vmf.kl(h[0], 500.0, h[0], 40.0).mean().item()
    assert outcome.rate_nats == pytest.approx(expected, rel=1e-5)
    assert outcome.info_cap_nats == pytest.approx(4.0943, abs=1e-3)
    assert 3.0 < outcome.info_nats < outcome.info_cap_nats
    blunt = compression.summary([(h[0], h[0])], channel, critic=1e-6)
    assert blunt.info_nats == pytest.approx(0.0, abs=1e-4)
    assert blunt.rate_nats == outcome.rate_nats
