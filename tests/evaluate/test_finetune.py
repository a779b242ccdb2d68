"""Fine-tuning: rates per layer against timm's, averaged weights by hand, and that it learns."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay

from squint import presets
from squint.data import open_source
from squint.errors import DataError
from squint.evaluate import finetune
from squint.evaluate.finetune import Classifier, Setting, fit, groups_of, setting_of
from squint.evaluate.options import FinetuneOptions
from squint.nn import encoders

CPU = torch.device("cpu")
VIEWS = presets.recipe("simclr@tiny").views


def setting(**changes: object) -> Setting:
    values: dict[str, object] = {
        "optimizer": "sgd",
        "lrs": (0.5,),
        "weight_decay": 0.05,
        "epochs": 6,
        "layer_decay": 0.5,
        "ema": 0.0,
        "batch_size": 16,
        "seed": 0,
    }
    return Setting(**(values | changes))  # pyright: ignore


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_layer_wise_decay_is_timms(name: str) -> None:
    theirs = timm.create_model(name, num_classes=3)
    expected: dict[str, float] = {}
    names = {id(p): n for n, p in theirs.named_parameters()}
    for group in param_groups_layer_decay(theirs, weight_decay=0.05, layer_decay=0.5):
        expected |= {names[id(p)]: group["lr_scale"] for p in group["params"]}
    model = Classifier(encoders.build(f"timm/{name}"), 8, 3)
    ours_names = {id(p): n for n, p in model.named_parameters()}
    found = {
        ours_names[id(p)].removeprefix("encoder.").removeprefix("body."): group["peak"]
        for group in groups_of(model, setting(), 1.0)
        for p in group["params"]
    }
    highest = max(expected.values())
    shared = set(expected) & set(found)
    assert len(shared) > 50
    assert {n: found[n] for n in shared} == pytest.approx(
        {n: expected[n] / highest for n in shared}
    )
    assert found["head.weight"] == 1.0


def bright(folder: Path, images: int = 64) -> str:
    random = np.random.default_rng(0)
    labels = np.arange(images) % 2
    pixels = random.integers(0, 100, (images, 16, 16, 3)) + 120 * labels[:, None, None, None]
    np.savez(folder / "bright.npz", images=pixels.astype(np.uint8), labels=labels)
    return str(folder / "bright.npz")


def test_it_learns_leaves_the_encoder_alone_and_repeats(tmp_path: Path) -> None:
    images = open_source(bright(tmp_path))
    torch.manual_seed(0)
    encoder = encoders.build("resnet10", stem="cifar", width=0.125)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    model = fit(encoder, images, VIEWS, setting(), 0.5, CPU)
    assert finetune._top1(model, images, VIEWS, CPU) > 0.9
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())
    again = fit(encoder, images, VIEWS, setting(), 0.5, CPU)
    torch.testing.assert_close(again.state_dict(), model.state_dict())


def test_average_of_weights_by_hand() -> None:
    mean, now = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    torch.nn.init.constant_(now.weight, 3.0)
    now.num_batches_tracked.fill_(7)
    finetune._average(mean, now, 0.75)
    assert mean.weight.tolist() == [1.5, 1.5] and int(mean.num_batches_tracked) == 7


def test_settings_are_the_papers_and_one_class_is_refused(tmp_path: Path) -> None:
    simclr = FinetuneOptions(setting="simclr")
    assert [setting_of(simclr, share).epochs for share in (0.01, 0.1)] == [60, 30]
    assert setting_of(simclr, 0.1).lrs == (0.05,) and setting_of(simclr, 0.1).weight_decay == 0
    assert len(setting_of(FinetuneOptions(setting="byol"), 0.1).lrs) == 5
    images = open_source(bright(tmp_path))
    with pytest.raises(DataError, match="one class"):
        fit(
            encoders.build("resnet10", width=0.125),
            images.select([0, 2]),
            VIEWS,
            setting(),
            1.0,
            CPU,
        )
