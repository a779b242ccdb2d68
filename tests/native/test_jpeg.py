"""Windows of JPEG files have Pillow's pixels, and Pillow's opinion of what can be read."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from squint.data.decode import Unreadable, decode
from squint.data.picture import Picture, Reduction
from squint.native import jpeg

pytestmark = pytest.mark.skipif(jpeg.library() is None, reason="built without libjpeg")

REAL = Path(__file__).parents[3] / "shared" / "data" / "imagenet-sample.tar"


def photo(seed: int, height: int, width: int) -> Image.Image:
    """Smooth colours with some noise, as photographs have."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    noisy = smooth.astype(int) + rng.integers(-20, 21, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def pillows(data: bytes, channels: int, reduction: int) -> np.ndarray:
    """The whole file as Pillow decodes it, at a reduced scale by its own way to ask for one."""
    if reduction == 1:
        return decode(data, channels)
    with Image.open(io.BytesIO(data)) as image:
        wanted = tuple(-(-side // reduction) for side in image.size)
        image.draft("L" if channels == 1 else "RGB", tuple(s // reduction for s in image.size))
        assert image.size == wanted
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def check_windows(data: bytes, seed: int, channels: int = 3, reduction: int = 1) -> None:
    """Some windows, and the corners, of an ordinary file are Pillow's."""
    whole = pillows(data, channels, reduction)
    height, width = whole.shape[:2]
    found = jpeg.size(data)
    assert found is not None
    assert tuple(-(-side // reduction) for side in found[:2]) == (height, width)
    rng = np.random.default_rng(seed)
    windows = [(0, 0, height, width), (height - 1, width - 1, 1, 1), (0, 0, 1, 1)]
    for _ in range(12):
        h, w = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
        windows.append((int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w))
    for top, left, h, w in windows:
        part = jpeg.window(data, top, left, h, w, channels, reduction)
        assert part is not None
        np.testing.assert_array_equal(part, whole[top : top + h, left : left + w])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 999),
    st.integers(8, 90),
    st.integers(8, 90),
    st.sampled_from(["4:4:4", "4:2:2", "4:2:0", "4:1:1"]),
    st.booleans(),
    st.integers(30, 100),
    st.sampled_from([1, 1, 2, 4, 8]),
)
def test_windows_are_parts_of_the_whole(
    seed: int,
    height: int,
    width: int,
    subsampling: str,
    progressive: bool,
    quality: int,
    reduction: int,
) -> None:
    data = encoded(
        photo(seed, height, width),
        subsampling=subsampling,
        progressive=progressive,
        quality=quality,
    )
    check_windows(data, seed, reduction=reduction)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_grey_files_in_grey_and_in_colour(channels: int, reduction: int) -> None:
    check_windows(encoded(photo(0, 61, 47).convert("L")), 0, channels, reduction)


def test_restart_markers_and_what_follows_the_end_are_ordinary() -> None:
    check_windows(encoded(photo(1, 80, 70), restart_marker_blocks=2) + b"\0" * 100, 1)


@pytest.mark.skipif(not REAL.exists(), reason="no photographs here")
def test_windows_of_photographs() -> None:
    with tarfile.open(REAL) as archive:
        members = [m for m in archive.getmembers() if m.isfile()][::12]
        files = [archive.extractfile(m).read() for m in members]  # pyright: ignore
    ordinary = [data for data in files if jpeg.size(data)]
    assert len(ordinary) > 0.8 * len(files)
    for seed, data in enumerate(ordinary):
        check_windows(data, seed)
        check_windows(data, seed, reduction=(2, 4, 8)[seed % 3])


def test_a_window_outside_the_image_is_refused() -> None:
    data = encoded(photo(0, 20, 30))
    assert jpeg.window(data, 0, 0, 10, 15, 3, 2) is not None
    assert jpeg.window(data, 0, 0, 11, 15, 3, 2) is None
    assert jpeg.window(data, 0, 1, 20, 30, 3) is None
    assert jpeg.window(data, -1, 0, 5, 5, 3) is None
    assert jpeg.window(data, 0, 0, 0, 5, 3) is None


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def test_what_is_not_ordinary_is_left_to_pillow() -> None:
    image = photo(0, 40, 50)
    assert jpeg.size(encoded(image, exif=exif(1))) == (40, 50, 3)
    xmp = b'<x tiff:Orientation="6"/>'
    for data in (
        encoded(image, exif=exif(6)),
        encoded(image, xmp=xmp),
        encoded(image.convert("CMYK")),
        encoded(image)[:-2],
        encoded(image)[:-200],
        encoded(image, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        b"",
        b"\xff\xd8\xff",
        b"not a picture",
    ):
        assert jpeg.size(data) is None
    turned = Picture(encoded(image, exif=exif(6)), 3)
    assert (turned.height, turned.width) == (50, 40)
    assert turned.window(3, 2, 20, 10).shape == (20, 10, 3)


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_a_reduced_pixel_stands_for_a_square_of_the_image(reduction: Reduction) -> None:
    """Blocks of one colour each keep their colour and their place, in and out of a window."""
    colours = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    blocks = colours.repeat(16, axis=0).repeat(16, axis=1)
    picture = Picture(encoded(Image.fromarray(blocks), subsampling=0, quality=100), 3)
    part = picture.part(37, 50, 90, 80, reduction)
    assert part.reduction == reduction
    height, width = part.pixels.shape[:2]
    rows = (part.top + np.arange(height)) * reduction // 16
    columns = (part.left + np.arange(width)) * reduction // 16
    error = np.abs(part.pixels.astype(int) - colours[rows][:, columns])
    assert error.max() <= 3  # of the file's own rounding
    assert part.top * reduction <= 37 and (part.top + height) * reduction >= 37 + 90
    assert part.left * reduction <= 50 and (part.left + width) * reduction >= 50 + 80


def test_a_library_of_other_sources_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg.library.cache_clear()
    with monkeypatch.context() as changed:
        changed.setattr(jpeg, "INTERFACE", jpeg.INTERFACE + 1)
        assert jpeg.library() is None
    jpeg.library.cache_clear()


def test_limits_are_those_of_decode() -> None:
    with pytest.raises(Unreadable, match="smaller than 8x8"):
        Picture(encoded(photo(0, 7, 100)), 3)
    luma = Picture(encoded(photo(0, 30, 30)), 1)
    np.testing.assert_array_equal(
        luma.window(2, 3, 9, 8), decode(encoded(photo(0, 30, 30)), 1)[2:11, 3:11]
    )


def test_damage_is_judged_as_pillow_judges_it() -> None:
    """Cut files and flipped bytes: same pixels or same refusal, and never a crash."""
    rng = np.random.default_rng(0)
    files = [
        encoded(photo(1, 64, 72), exif=exif(1)),
        encoded(photo(2, 50, 40), progressive=True),
        encoded(photo(3, 48, 48).convert("L")),
    ]
    judged = 0
    for trial in range(900):
        data = bytearray(files[trial % 3])
        if trial % 5 == 0:
            data = data[: rng.integers(len(data))]
        for place in rng.integers(max(1, len(data)), size=rng.integers(1, 4)):
            if len(data):
                data[place] = rng.integers(256)
        size = jpeg.size(bytes(data))
        if size is None:
            continue
        h, w = max(1, size.height // 3), max(1, size.width // 3)
        if size.height * size.width > 10**6:
            continue
        part = jpeg.window(bytes(data), h, w, h, w, 3)
        if part is None:
            continue
        judged += 1
        if min(size[:2]) >= 8:
            np.testing.assert_array_equal(part, decode(bytes(data), 3)[h : 2 * h, w : 2 * w])
    assert judged > 100
