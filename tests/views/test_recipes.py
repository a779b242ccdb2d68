"""View recipes: the published numbers, and what is refused."""

import ast
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from squint.errors import RecipeError
from squint.views import cifar_recipes, recipes
from squint.views.recipes import Blur, Crop, EvalView, Jitter, View, ViewsConfig


def test_recipes_are_data_without_torch() -> None:
    tree = ast.parse(Path(recipes.__file__).read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"dataclasses", "typing", "squint.errors"}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))


def test_simclr_224_has_the_published_numbers() -> None:
    config = recipes.simclr_224()
    assert (
        config.first
        == config.second
        == View(
            crop=Crop(
                area=(0.08, 1.0), ratio=(3 / 4, 4 / 3), ratio_law="uniform", interpolation="bicubic"
            ),
            flip=0.5,
            jitter=Jitter(
                probability=0.8,
                brightness=0.8,
                contrast=0.8,
                saturation=0.8,
                hue=0.2,
                form="simclr",
            ),
            gray=0.2,
            blur=Blur(probability=0.5, sigma=(0.1, 2.0), padding="zero"),
            solarize=0.0,
        )
    )
    assert set(config.mean) == {0.0} and set(config.std) == {1.0}
    assert config.evaluation == EvalView(size=224, crop=0.875, interpolation="bicubic")


def test_simclr_32_has_half_the_strength_and_no_blur() -> None:
    config = recipes.simclr_32()
    jitter = config.first.jitter
    strengths = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    assert strengths == (0.4, 0.4, 0.4, 0.1)
    assert config.first.blur.probability == 0 and config.first == config.second
    assert config.evaluation.crop == 1.0


def test_byol_224_has_the_published_numbers() -> None:
    config = recipes.byol_224()
    first, second = config.first, config.second
    jitter = Jitter(
        probability=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, form="byol"
    )
    assert first.jitter == second.jitter == jitter
    assert (first.blur.probability, second.blur.probability) == (1.0, 0.1)
    assert first.blur.padding == second.blur.padding == "zero"
    assert (first.solarize, second.solarize) == (0.0, 0.2)
    assert first.crop == second.crop == Crop(ratio_law="byol", interpolation="bicubic")
    assert config.mean == (0.485, 0.456, 0.406) and config.std == (0.229, 0.224, 0.225)


def test_moco_recipes_have_the_published_numbers() -> None:
    v1, v2, v3 = recipes.moco_v1_224(), recipes.moco_v2_224(), recipes.moco_v3_224()
    crop = Crop(
        area=(0.2, 1.0),
        ratio=(3 / 4, 4 / 3),
        ratio_law="log_uniform",
        interpolation="bilinear",
    )
    half = Jitter(probability=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    weak = Jitter(probability=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    strong_hue = Jitter(probability=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4)
    none = Blur(probability=0.0)
    assert v1.first == v1.second
    assert v1.first == View(crop=crop, jitter=strong_hue, gray_before_jitter=True, blur=none)
    assert v2.first == v2.second == View(crop=crop, jitter=half, blur=Blur(probability=0.5))
    assert v3.first == View(crop=crop, jitter=weak, blur=Blur(probability=1.0))
    assert v3.second == View(crop=crop, jitter=weak, blur=Blur(probability=0.1), solarize=0.2)
    assert recipes.moco_v3_224(0.08).second.crop.area == (0.08, 1.0)
    for config in (v1, v2, v3):
        assert (config.first.flip, config.first.gray, config.first.blur.sigma) == (
            0.5, 0.2, (0.1, 2.0)
        )  # fmt: skip
        assert config.mean == (0.485, 0.456, 0.406) and config.std == (0.229, 0.224, 0.225)
        assert config.evaluation == EvalView(size=224, crop=224 / 256, interpolation="bilinear")


def test_pairs_of_other_libraries_for_cifar() -> None:
    solo = [cifar_recipes.solo_simclr_32(), cifar_recipes.solo_moco_32()]
    asymmetric = [cifar_recipes.solo_byol_32(), cifar_recipes.lightly_byol_32()]
    for config, strengths in zip(solo, [(0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.4, 0.1)], strict=True):
        jitter = config.first.jitter
        assert (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) == strengths
        assert config.first == config.second and config.first.blur.probability == 0.5
    for config in asymmetric:
        assert config.first.jitter == config.second.jitter and config.first.jitter.saturation == 0.2
        assert (config.first.solarize, config.second.solarize) == (0.0, 0.2)
    weak = [*asymmetric, cifar_recipes.lightly_simclr_32()]
    assert all(c.first.blur.probability == c.second.blur.probability == 0 for c in weak)
    assert cifar_recipes.lightly_simclr_32().first.jitter == solo[1].first.jitter
    for config in (*solo, *weak):
        assert config.size == config.evaluation.size == 32 and config.evaluation.crop == 1.0
        assert config.first.crop.area == (0.08, 1.0)
        by_solo = config.mean == (0.4914, 0.4822, 0.4465)
        assert by_solo == (config.first.crop.interpolation == "bicubic")
        assert by_solo or config.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Crop(area=(0.5, 0.2)), r"^area=0.5..0.2"),
        (lambda: Crop(area=(0.01, 0.05), ratio_law="uniform"), r"no crop would fit"),
        (lambda: Crop(ratio=(0.0, 1.0)), r"^ratio=0.0..1.0"),
        (lambda: Jitter(probability=1.5), r"^probability=1.5"),
        (lambda: Crop(area=(0.0, 0.0)), r"^area=\(0.0, 0.0\) has no pixels"),
        (lambda: Jitter(contrast=-0.1), r"^contrast=-0.1 is outside 0 to 100"),
        (lambda: Jitter(brightness=math.nan), r"^brightness=nan is outside"),
        (lambda: Jitter(saturation=math.inf), r"^saturation=inf is outside"),
        (lambda: Jitter(hue=0.6), r"^hue=0.6 is outside"),
        (lambda: Blur(sigma=(0.0, 2.0)), r"^sigma=0.0..2.0"),
        (lambda: View(flip=-1.0), r"^flip=-1.0 must be a probability"),
        (lambda: EvalView(crop=0.0), r"views.evaluation.crop=0.0"),
        (lambda: ViewsConfig(size=4), r"views.size=4"),
        (lambda: ViewsConfig(mean=(0.5,)), r"views.mean=\(0.5,\)"),
        (lambda: ViewsConfig(mean=(), std=()), r"views.mean=\(\)"),
        (lambda: ViewsConfig(mean=(math.inf,), std=(1.0,)), r"views.mean=\(inf,\)"),
        (lambda: ViewsConfig(std=(math.nan,) * 3), r"and views.std=\(nan, nan, nan\)"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make()
