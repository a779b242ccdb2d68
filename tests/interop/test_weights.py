"""Weights of other training scripts: prefixes and heads come off, other networks are refused."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor

from squint.errors import CheckpointError
from squint.interop.weights import fit
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
