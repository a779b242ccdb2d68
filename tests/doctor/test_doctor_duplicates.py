"""What counts as the same image, and what does not."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from doctor import photos
from squint.data import open_source
from squint.doctor import duplicates


def find(*pixels: np.ndarray) -> duplicates.Duplicates:
    thumbnails = np.stack([duplicates.thumbnail(each) for each in pixels])
    return duplicates.find([duplicates.digest(each) for each in pixels], thumbnails)


def compressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half the size": lambda image: image.resize((48, 36), Image.Resampling.BICUBIC),
    "twice the size": lambda image: image.resize((192, 144), Image.Resampling.BILINEAR),
    "compressed again": lambda image: compressed(image, 50),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "grey": lambda image: image.convert("L").convert("RGB"),
}


def test_the_same_pixels_are_copies() -> None:
    images = [np.asarray(photos.photo(seed)) for seed in (0, 1, 0, 2, 0)]
    found = find(*images)
    assert found.copies == ((0, 2), (0, 4)) and not found.near and not found.more


def test_the_same_numbers_in_another_shape_are_no_copy() -> None:
    pixels = np.asarray(photos.photo(0))
    assert duplicates.digest(pixels) != duplicates.digest(pixels.reshape(96, 72, 3))


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_edited_images_are_near_their_originals(
    edit: Callable[[Image.Image], Image.Image],
) -> None:
    originals = [photos.photo(seed) for seed in range(40)]
    edited = [edit(image) for image in originals]
    found = find(*map(np.asarray, originals + edited))
    assert not found.copies
    assert {(seed, 40 + seed) for seed in range(40)} <= set(found.near)
    assert len(found.near) == 40


def test_mirrored_and_other_images_are_not() -> None:
    mirrored = photos.photo(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    others = [photos.photo(seed) for seed in range(200)]
    found = find(*map(np.asarray, [mirrored, *others]))
    assert not found.copies and not found.near


def test_built_in_shapes_are_rarely_taken_for_each_other() -> None:
    images = open_source("demo")
    found = find(*(images.read(index) for index in range(600)))
    assert not found.copies
    assert len(found.near) <= 1  # of 600 drawings of ten shapes


def test_few_images_have_few_pairs() -> None:
    nothing = np.empty((0, duplicates.SIDE, duplicates.SIDE), np.uint8)
    assert not duplicates.find([], nothing).pairs()
    assert not find(np.asarray(photos.photo(0))).pairs()


def test_images_that_are_all_alike_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_MOST_PAIRS", 100)
    noise = np.random.default_rng(0)
    base = duplicates.thumbnail(np.asarray(photos.photo(0))).astype(np.int16)
    alike = (base + noise.integers(0, 2, (200, *base.shape))).clip(0, 255).astype(np.uint8)
    found = duplicates.find([bytes([k]) for k in range(200)], alike)
    assert found.more and 50 < len(found.near) <= 100
