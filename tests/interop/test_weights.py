"""Weights of other training scripts: prefixes and heads come off, other networks are refused."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from squint.errors import CheckpointError
from squint.interop.weights import fit, read
from squint.nn import encoders

PREFIXES = ["", "module.", "module.encoder_q.", "backbone.", "model."]


def state_of(name: str) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return encoders.build(name, width=0.125).state_dict()


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_training_scripts_add_comes_off(prefix: str) -> None:
    saved = OrderedDict((prefix + name, value) for name, value in state_of("resnet18").items())
    saved[prefix + "fc.weight"] = torch.zeros(1)
    if prefix:
        saved |= {f"{prefix}prototypes.weight": torch.zeros(1), "module.queue": torch.zeros(1)}
    if prefix == "module.encoder_q.":
        saved |= {f"module.encoder_k.{k}": v + 1 for k, v in state_of("resnet18").items()}
    encoder = encoders.build("resnet18", width=0.125)
    fit(encoder, saved, "file.pt", "resnet18")
    for name, value in state_of("resnet18").items():
        assert torch.equal(encoder.state_dict()[name], value), name


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("saved", "into", "said"),
    [("resnet34", "resnet18", "not in it"), ("resnet18", "resnet34", "missing")],
)
def test_a_deeper_network_is_not_cut_to_fit(prefix: str, saved: str, into: str, said: str) -> None:
    state = {prefix + name: value for name, value in state_of(saved).items()}
    with pytest.raises(CheckpointError, match=f"does not fit {into}.*{said}.*--encoder"):
        fit(encoders.build(into, width=0.125), state, "file.pt", into)


def test_a_resnet_kept_as_a_sequential_is_taken_apart() -> None:
    """lightly's backbones are `nn.Sequential(*list(resnet.children())[:-1])`."""
    torch.manual_seed(1)
    theirs = torchvision.models.resnet18()
    backbone = torch.nn.Sequential(*list(theirs.children())[:-1])
    saved = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
    encoder = encoders.build("resnet18").eval()
    fit(encoder, saved | {"projection_head.0.weight": torch.zeros(1)}, "last.ckpt", "resnet18")
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(encoder(images), backbone.eval()(images).flatten(1))


def test_a_checkpoint_of_vissl_is_read(tmp_path: Path) -> None:
    trunk = {f"_feature_blocks.{key}": value for key, value in state_of("resnet18").items()}
    model = {"trunk": trunk, "heads": {"0.clf.weight": torch.zeros(1)}}
    path = tmp_path / "model_final.torch"
    torch.save({"classy_state_dict": {"base_model": {"model": model}}, "iteration": 9}, path)
    encoder = encoders.build("resnet18", width=0.125)
    fit(encoder, read(path), str(path), "resnet18")
    for name, value in state_of("resnet18").items():
        assert torch.equal(encoder.state_dict()[name], value), name
