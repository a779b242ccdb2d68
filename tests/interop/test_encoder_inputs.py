"""What each library feeds its models, told by whose network a name means."""

import sys

import pytest
import timm

from squint.configs import EncoderConfig
from squint.errors import RecipeError
from squint.interop.inputs import own_input
from squint.nn.resnet import LAYOUTS
from squint.views.recipes import IMAGENET_MEAN


@pytest.mark.parametrize(
    "name",
    ["resnetv2_50x1_bit", "resnetrs50", "resnet50d", "timm/resnet18", "vit_base_patch16_224"],
)
def test_a_model_of_timm_gets_what_timm_feeds_it(name: str) -> None:
    cfg = timm.get_pretrained_cfg(name.removeprefix("timm/"))
    views = own_input(EncoderConfig(name=name))
    assert (views.mean, views.std) == (cfg.mean, cfg.std)
    assert (views.evaluation.size, views.evaluation.crop) == (cfg.input_size[-1], cfg.crop_pct)
    assert views.evaluation.interpolation == cfg.interpolation


def test_our_own_get_that_of_imagenet_and_need_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("timm", "torchvision.models"):
        monkeypatch.setitem(sys.modules, library, None)
    for name in (*LAYOUTS, "mocov3_vit_small"):
        views = own_input(EncoderConfig(name=name))
        assert (views.mean, views.evaluation.crop) == (IMAGENET_MEAN, 0.875)
        assert views.evaluation.interpolation == "bilinear"


def test_a_name_nobody_has_is_refused() -> None:
    with pytest.raises(RecipeError, match="Did you mean resnet50"):
        own_input(EncoderConfig(name="resnet5O"))
