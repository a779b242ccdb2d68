import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import pixels, png
from PIL import Image, features

from squint.data.decode import Raw, Unreadable, decode, inspect


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def reason(raw: Raw, channels: int = 3) -> str:
    with pytest.raises(Unreadable) as caught:
        decode(raw, channels)
    return str(caught.value)


def test_colour_is_read_as_it_is() -> None:
    colour = pixels(0, 9, 14)
    found = decode(png(colour), 3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, colour)


def test_pictures_have_no_other_channels() -> None:
    assert reason(Image.new("RGB", (12, 12)), 5) == "pictures are grey or RGB: none has 5 channels"
    assert reason(png(pixels(0)), 5) == "pictures are grey or RGB: none has 5 channels"
    assert reason(pixels(0), 5) == "an array of shape (12, 12, 3) has no 5 channels"


def test_grey_is_repeated_over_three_channels() -> None:
    grey = pixels(0, channels=1)
    np.testing.assert_array_equal(decode(png(grey), 3), np.stack([grey] * 3, axis=2))
    np.testing.assert_array_equal(decode(png(grey), 1), grey[:, :, None])


def test_colour_becomes_luma_for_one_channel() -> None:
    colour = pixels(0)
    luma = colour @ np.array([0.299, 0.587, 0.114])
    found = decode(png(colour), 1)
    assert found.shape == (12, 12, 1)
    np.testing.assert_allclose(found[:, :, 0], luma, atol=1)


def test_palette_gives_its_colours() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert (decode(encoded(image, "PNG"), 3) == [10, 200, 30]).all()


def test_transparent_palette_entry_becomes_white() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert (decode(encoded(image, "PNG", transparency=1), 3) == 255).all()


def test_alpha_is_composited_on_white() -> None:
    half = Image.new("RGBA", (8, 8), (0, 100, 200, 128))
    expected = np.array([0, 100, 200]) * (128 / 255) + 255 * (127 / 255)
    np.testing.assert_allclose(decode(encoded(half, "PNG"), 3)[0, 0], expected, atol=1)


def test_grey_with_alpha_is_composited_on_white() -> None:
    assert (decode(encoded(Image.new("LA", (8, 8), (40, 0)), "PNG"), 1) == 255).all()


def test_a_transparent_colour_becomes_white() -> None:
    raw = encoded(Image.new("RGB", (8, 8), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert (decode(raw, 3) == 255).all()


def test_cmyk_becomes_rgb() -> None:
    raw = encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "TIFF")
    assert (decode(raw, 3) == [0, 255, 255]).all()


def test_one_bit_becomes_black_and_white() -> None:
    image = Image.new("1", (8, 8), 1)
    assert (decode(encoded(image, "PNG"), 3) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    wide = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    found = decode(encoded(Image.fromarray(wide), kind), 1)[:, :, 0]
    np.testing.assert_array_equal(found, np.round(wide / 257))


def test_sixteen_bit_pgm_is_scaled() -> None:
    wide = np.linspace(0, 65535, 64).astype(">u2").reshape(8, 8)
    found = decode(b"P5 8 8 65535\n" + wide.tobytes(), 1)[:, :, 0]
    np.testing.assert_array_equal(found, np.round(wide / 257))


def test_arrays_follow_the_same_rule() -> None:
    wide = np.full((8, 8, 3), 65535, dtype=np.uint16)
    assert (decode(wide, 3) == 255).all()
    assert decode(pixels(0, channels=1)[:, :, None], 3).shape == (12, 12, 3)
    clear = np.zeros((8, 8, 4), dtype=np.uint8)
    assert (decode(clear, 3) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    # What the camera saw, and the corner its top left pixel is stored in under each orientation.
    upright = Image.fromarray(pixels(3, 8, 16))
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encoded(stored, "PNG", exif=exif)
    np.testing.assert_array_equal(decode(raw, 3), np.asarray(upright))


def test_damaged_exif_counts_as_upright() -> None:
    raw = encoded(Image.fromarray(pixels(0)), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(decode(raw, 3), pixels(0))


def test_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("L", (8, 8), level) for level in (10, 200)]
    raw = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode(raw, 1) == 10).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_truncated_files_are_unreadable(kind: str) -> None:
    whole = encoded(Image.fromarray(pixels(0, 64, 64)), kind)
    assert decode(whole, 3).shape == (64, 64, 3)
    assert reason(whole[: len(whole) * 2 // 3])


def test_a_truncated_jpeg_says_so() -> None:
    whole = encoded(Image.fromarray(pixels(0, 64, 64)), "JPEG")
    assert reason(whole[:-200]) == "the file is truncated"


def test_text_in_disguise_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_text("not an image")
    assert reason(path) == "not an image in a known format"


def test_formats_that_run_other_programs_are_not_opened() -> None:
    assert reason(encoded(Image.new("RGB", (16, 16)), "EPS")) == "not an image in a known format"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF"])
def test_usual_formats_are_opened(kind: str) -> None:
    if kind.lower() in ("webp", "avif") and not features.check(kind.lower()):
        pytest.skip(f"this Pillow was built without {kind}")
    found = decode(encoded(Image.new("RGB", (16, 16), (200, 100, 50)), kind), 3)
    np.testing.assert_allclose(found[8, 8], [200, 100, 50], atol=4)


def test_empty_files_are_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    assert reason(path) == reason(b"") == "the file is empty"


def test_missing_files_are_unreadable(tmp_path: Path) -> None:
    assert reason(tmp_path / "gone.jpg") == "no such file or directory"


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7)])
def test_a_side_below_eight_pixels_is_unreadable(size: tuple[int, int]) -> None:
    raw = encoded(Image.new("RGB", size), "PNG")
    assert reason(raw) == f"{size[0]}x{size[1]} is smaller than 8x8"
    assert decode(encoded(Image.new("RGB", (8, 8)), "PNG"), 3).shape == (8, 8, 3)


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("width", [10_000, 60_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_not_decoded(width: int) -> None:
    assert "decompression bomb" in reason(bomb(width, 10_000))


def test_ranges_nobody_agreed_on_are_unreadable() -> None:
    floating = Image.fromarray(np.zeros((8, 8), dtype=np.float32))
    assert reason(encoded(floating, "TIFF")) == "floating-point pixels have no agreed range"
    deep = Image.fromarray(np.full((8, 8), 70_000, dtype=np.int32))
    assert reason(encoded(deep, "TIFF")).startswith("32-bit integers from 70000")


def test_every_reason_is_one_short_line() -> None:
    whole = encoded(Image.fromarray(pixels(0, 64, 64)), "PNG")
    for cut in range(0, len(whole), 997):
        assert "\n" not in reason(whole[:cut]) and len(reason(whole[:cut])) <= 120


def test_inspect_finds_what_headers_tell_and_no_more() -> None:
    whole = encoded(Image.fromarray(pixels(0, 64, 64)), "JPEG")
    inspect(whole)
    inspect(whole[:-200])
    for bad in (b"", b"text", encoded(Image.new("L", (3, 3)), "PNG")):
        with pytest.raises(Unreadable):
            inspect(bad)


def test_an_image_that_was_given_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(pixels(0)))
    with Image.open(path) as image:
        inspect(image)
        np.testing.assert_array_equal(decode(image, 3), np.asarray(image))
