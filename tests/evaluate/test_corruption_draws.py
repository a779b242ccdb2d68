"""Corruptions of any size, random numbers of their own, and what is said of bad input."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from squint.errors import DataError, RunError
from squint.evaluate.corruptions import COMMON, NAMES, _check_images, constants, corrupt
from squint.evaluate.corruptions.apply import apply
from squint.evaluate.corruptions.draws import ImageDraws, poisson_table
from squint.evaluate.corruptions.spatter import distance
from squint.views.uniform import stream, uniform

RANDOM = (
    "gaussian_noise shot_noise impulse_noise speckle_noise glass_blur motion_blur snow frost fog "
    "elastic_transform spatter"
).split()


def pictures(count: int, side: int = 32) -> Tensor:
    """Smooth gradients with a bright square: something for every corruption to change."""
    at = torch.linspace(20, 220, side)
    flat = torch.stack(
        [at.expand(side, side), at[:, None].expand(side, side), 240 - at.expand(side, side)]
    )
    images = flat.repeat(count, 1, 1, 1).to(torch.uint8)
    images[:, :, side // 4 : side // 2, side // 4 : side // 2] = 250
    return images


def changed(images: Tensor, name: str, severity: int = 3, **how: Any) -> Tensor:
    how = {"rows": torch.arange(len(images)), "seed": 0} | how
    return corrupt(images, name, severity, **how)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_corrupted_alike_in_any_batch(name: str) -> None:
    images = pictures(70)  # more than one piece of work
    whole = changed(images, name)
    assert torch.equal(whole, changed(images, name, threads=1))
    rows = torch.tensor([69, 3, 40])
    assert torch.equal(whole[rows], changed(images[rows], name, rows=rows))
    assert not torch.equal(whole, images)


@pytest.mark.parametrize("name", RANDOM)
def test_streams_differ_between_images_seeds_and_severities(name: str) -> None:
    images = pictures(2)
    one, two = changed(images, name)
    assert not torch.equal(one, two)
    assert not torch.equal(one, changed(images, name, seed=1)[0])
    assert not torch.equal(one, changed(images, name, severity=4)[0])


def test_streams_differ_between_corruptions() -> None:
    keys = [(k, s) for k in range(len(NAMES)) for s in range(1, 6)]
    first = [
        ImageDraws(np.array([7]), seed=3, corruption=k, severity=s).uniform(0.0, 1.0).item()
        for k, s in keys
    ]
    assert len(set(first)) == len(keys)


def test_draws_are_the_bits_of_the_views() -> None:
    rows = np.array([0, 5, 2**40])
    draws = ImageDraws(rows, seed=-4, corruption=2, severity=5)
    found = np.concatenate([draws.uniform(0.0, 1.0, 7), draws.uniform(0.0, 1.0, 2)], axis=1)
    key = stream(0x636F7272, -4, 2, 5)
    wanted = uniform(key, torch.from_numpy(rows), 0, 9)
    np.testing.assert_array_equal(found, wanted.numpy())


def test_normal_and_integer_draws_have_their_laws() -> None:
    draws = ImageDraws(np.arange(40), seed=0, corruption=0, severity=1)
    normal = draws.normal(2.0, 3.0, 50, 50).ravel()
    assert stats.kstest(normal, stats.norm(2, 3).cdf).pvalue > 1e-3
    whole = draws.integers(-3, 4, 100).ravel()
    assert sorted(set(whole)) == [-3, -2, -1, 0, 1, 2, 3]
    assert stats.chisquare(np.bincount(whole + 3)).pvalue > 1e-3
    each = draws.integers(0, np.arange(1, 41))
    assert (each < np.arange(1, 41)).all()


@pytest.mark.parametrize("scale", [3.0, 60.0, 500.0])
def test_poisson_tables_are_the_distribution_functions(scale: float) -> None:
    table = poisson_table(scale)
    for level in (0, 1, 100, 255):
        wanted = stats.poisson(level / 255 * scale).cdf(np.arange(table.shape[1]))
        np.testing.assert_allclose(table[level], wanted, atol=1e-12)


@pytest.mark.parametrize("scale", [3.0, 500.0])
def test_poisson_draws_follow_the_law(scale: float) -> None:
    draws = ImageDraws(np.arange(50), seed=1, corruption=1, severity=1)
    levels = np.full((50, 20, 20, 3), 128, dtype=np.uint8)
    counts = draws.poisson(levels, scale).ravel()
    law = stats.poisson(128 / 255 * scale)
    error = (law.var() / len(counts)) ** 0.5
    assert abs(counts.mean() - law.mean()) < 4 * error
    assert abs(counts.var() / law.var() - 1) < 0.03
    black = draws.poisson(np.zeros((50, 4, 4, 3), dtype=np.uint8), scale)
    assert (black == 0).all()


class Given:
    """Draws that answer with prepared numbers, in order."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def integers(self, low: int, high: Any, *shape: int) -> Any:
        return np.array(self.answers.pop(0))

    def uniform(self, low: float, high: float, *shape: int) -> Any:
        raise AssertionError("given frost needs no other draws")

    normal = poisson = uniform


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_given_frost_is_blended_as_defined(severity: int) -> None:
    random = np.random.default_rng(0)
    textures = [random.integers(0, 256, (260, 300, 3), dtype=np.uint8) for _ in range(2)]
    image = random.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    weights = constants.IMAGENET["frost"][severity - 1]
    out = apply(image, "frost", weights, Given([1, 0], [30, 2], [5, 70]), textures)  # type: ignore[arg-type]
    for k, (which, row, col) in enumerate([(1, 30, 5), (0, 2, 70)]):
        crop = textures[which][row : row + 224, col : col + 224].astype(float)
        wanted = np.minimum(weights[0] * image[k] + weights[1] * crop, 255).astype(np.uint8)
        np.testing.assert_array_equal(out[k], wanted)


def test_small_images_take_one_frost_pixel_in_five() -> None:
    random = np.random.default_rng(0)
    texture = random.integers(0, 256, (203, 211, 3), dtype=np.uint8)
    image = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    out = apply(image, "frost", (1.0, 1.0), Given([0], [3], [8]), [texture])  # type: ignore[arg-type]
    small = texture[2::5, 2::5]  # bilinear samples at (j + 0.5) * 5 - 0.5: whole pixels
    np.testing.assert_array_equal(out[0], small[3:35, 8:40])


def test_every_texture_given_is_used() -> None:
    textures = [np.full((260, 260, 3), level, dtype=np.uint8) for level in (10, 100, 200)]
    images = torch.zeros(30, 3, 224, 224, dtype=torch.uint8)
    out = changed(images, "frost", 1, frost_textures=textures)
    assert sorted(out[:, 0, 0, 0].unique().tolist()) == [4, 40, 80]  # weight 0.4


@pytest.mark.parametrize("side", [16, 28, 33, 64, 96, 160])
@pytest.mark.parametrize("name", NAMES)
def test_any_size_works(name: str, side: int) -> None:
    images = pictures(2, side)
    for severity in (1, 5):
        out = changed(images, name, severity)
        assert out.shape == images.shape
        assert out.float().std() > 1  # still a picture


def test_constants_of_the_two_sizes_are_left_alone() -> None:
    for side, table in constants.CONSTANTS.items():
        for name in NAMES:
            for severity in range(1, 6):
                assert constants.strength(name, severity, side) == table[name][severity - 1]


def test_lengths_grow_with_the_side_and_nothing_else_does() -> None:
    assert constants.strength("gaussian_blur", 5, 64) == (2.0,)
    assert constants.strength("gaussian_blur", 5, 448) == (12.0,)
    assert constants.strength("motion_blur", 1, 64) == (12, 2.0)
    assert constants.strength("glass_blur", 5, 448) == (3.0, 8, 2)
    assert constants.strength("gaussian_noise", 3, 448) == (0.18,)
    assert constants.strength("pixelate", 3, 100) == (0.4,)
    assert constants.size_class(84) == 32
    assert constants.size_class(85) == 224


def test_displacements_grow_with_the_side() -> None:
    """Elastic: twice the side, twice the displacement of the same picture (within noise)."""
    moves = []
    for side in (112, 224):
        amplitude, sigma, _ = constants.strength("elastic_transform", 4, side)
        # white noise of -1 to 1 after a blur of so many pixels keeps this deviation
        moves.append(amplitude * 3**-0.5 / (2 * np.pi**0.5 * sigma) / side)
    assert moves[0] == pytest.approx(moves[1], rel=1e-6)


def test_distance_is_the_least_sum_of_steps() -> None:
    random = np.random.default_rng(1)
    edge = random.random((2, 24, 24)) < 0.02
    found = distance(edge)
    steps = {(0, 1): 1.0, (1, 1): 1.4, (1, 2): 2.1969}
    for plane, wanted_of in zip(found, edge, strict=True):
        spots = np.argwhere(wanted_of)
        for row, col in np.ndindex(24, 24):
            best = 21.0
            for r, c in spots:
                long, short = sorted((abs(r - row), abs(c - col)), reverse=True)
                # the cheapest path: knight's moves, then diagonals or straight steps
                knights = min(short, long - short)
                left_long, left_short = long - 2 * knights, short - knights
                diagonal = min(left_long, left_short)
                cost = knights * steps[1, 2] + diagonal * steps[1, 1] + (left_long - diagonal)
                best = min(best, cost)
            assert plane[row, col] == pytest.approx(best, abs=1e-3)


def test_nothing_comes_of_nothing() -> None:
    none = torch.zeros(0, 3, 32, 32, dtype=torch.uint8)
    assert changed(none, "fog").shape == none.shape


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"name": "gausian_noise"}, RunError, "nearest is gaussian_noise"),
        ({"severity": 6}, RunError, "severity=6 has no constants"),
        ({"images": pictures(1)[:, :1]}, DataError, "repeat a grey channel"),
        ({"images": pictures(1)[:, :, 4:]}, DataError, "square RGB"),
        ({"images": pictures(1, 16)[:, :, 8:, 8:]}, DataError, "at least 16 px"),
        ({"frost_textures": [np.zeros((400, 400, 3), np.uint8)]}, RunError, "only frost reads it"),
        (
            {"name": "frost", "frost_textures": [np.zeros((100, 400, 3), np.uint8)]},
            DataError,
            "frost texture has shape",
        ),
    ],
)
def test_bad_input_is_named(how: dict[str, Any], error: type, message: str) -> None:
    given = {"name": "fog", "severity": 1, "images": pictures(1)} | how
    given = {"rows": torch.arange(len(given["images"])), "seed": 0} | given
    with pytest.raises(error, match=message):
        corrupt(given.pop("images"), given.pop("name"), given.pop("severity"), **given)


def test_inputs_of_the_wrong_kind_are_named() -> None:
    # `corrupt` itself is not reached: in tests, its annotations are checked first
    with pytest.raises(DataError, match=r"float32, but must be torch\.uint8"):
        _check_images(pictures(1).float(), torch.arange(1))
    with pytest.raises(DataError, match="one number per image"):
        _check_images(pictures(1), torch.arange(3))


def test_fifteen_count_and_four_are_extra() -> None:
    assert len(COMMON) == 15
    assert len(NAMES) == len(set(NAMES)) == 19
