"""View recipes: the published numbers, and what is refused."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from squint.errors import RecipeError
from squint.views import recipes
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
    assert first.crop == second.crop == Crop(ratio_law="log_uniform", interpolation="bicubic")
    assert config.mean == (0.485, 0.456, 0.406) and config.std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Crop(area=(0.5, 0.2)), r"views.crop.area=0.5..0.2"),
        (lambda: Crop(area=(0.01, 0.05), ratio_law="uniform"), r"no crop would fit"),
        (lambda: Crop(ratio=(0.0, 1.0)), r"views.crop.ratio=0.0..1.0"),
        (lambda: Jitter(probability=1.5), r"views.jitter.probability=1.5"),
        (lambda: Jitter(contrast=-0.1), r"views.jitter.contrast=-0.1 is negative"),
        (lambda: Jitter(hue=0.6), r"views.jitter.hue=0.6 is outside"),
        (lambda: Blur(sigma=(0.0, 2.0)), r"views.blur.sigma=0.0..2.0"),
        (lambda: View(flip=-1.0), r"views.flip=-1.0"),
        (lambda: EvalView(crop=0.0), r"views.evaluation.crop=0.0"),
        (lambda: ViewsConfig(size=4), r"views.size=4"),
        (lambda: ViewsConfig(mean=(0.5,)), r"views.mean=\(0.5,\)"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make()
