"""Joining ranks takes nothing from a network."""

import pytest
import torch
from torch import nn

from squint.errors import RecipeError
from squint.train.runtime import Runtime


class NormAct(nn.BatchNorm2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).relu()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_batch_norm_with_an_activation_is_refused_on_several_ranks(device: str) -> None:
    runtime = Runtime(
        rank=0,
        world_size=2,
        device=torch.device(device),
        precision="float32",
        channels_last=False,
    )
    model = nn.Sequential(nn.BatchNorm2d(3), NormAct(3))
    before = list(model)
    with pytest.raises(RecipeError, match="NormAct can't be computed over other images"):
        runtime.place(model)
    assert list(model) == before
