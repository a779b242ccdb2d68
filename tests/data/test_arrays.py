import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from image_files import pixels

from squint.data import Unreadable, check, open_source, pack
from squint.data.copy import copy
from squint.errors import DataError


def batch(count: int, first: int = 0) -> np.ndarray:
    return np.stack([pixels(first + k) for k in range(count)])


def message(source: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_source(source)
    return str(caught.value)


def test_npy_holds_images_only(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", batch(3))
    images = open_source(tmp_path / "set.npy")
    assert images.paths == ("set/000000", "set/000001", "set/000002")
    assert images.labels is None
    np.testing.assert_array_equal(images.read(2), pixels(2))


def test_grey_arrays_need_no_channel_axis(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", batch(2)[..., 0])
    assert open_source(tmp_path / "set.npy").read(0).shape == (12, 12, 3)
    assert open_source(tmp_path / "set.npy", channels=1).read(0).shape == (12, 12, 1)


def test_sixteen_bit_arrays_are_scaled(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", batch(2).astype(np.uint16) * 257)
    np.testing.assert_array_equal(open_source(tmp_path / "set.npy").read(1), pixels(1))


@pytest.mark.parametrize(("x", "y"), [("images", "labels"), ("x", "y")])
def test_npz_may_have_labels(tmp_path: Path, x: str, y: str) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, **{x: batch(3), y: np.array([[7], [10], [7]])})
    images = open_source(path)
    assert images.classes == ("7", "10")
    assert images.labels is not None and images.labels.tolist() == [0, 1, 0]


def test_npz_may_have_splits(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, x_train=batch(3), y_train=[0, 1, 2], x_test=batch(2, first=3), y_test=[2, 0])
    images = open_source(path)
    test = images.split("test")
    assert images.splits == ("train", "test")
    assert test.paths == ("x_test/000000", "x_test/000001")
    assert test.labels is not None and test.labels.tolist() == [2, 0]
    np.testing.assert_array_equal(test.read(1), pixels(4))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(test)).read(0), pixels(3))


def test_labels_below_zero_mean_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=batch(3), y=[0, -1, 1])
    images = open_source(tmp_path / "set.npz")
    assert images.labels is None
    assert images.targets is not None and images.targets.tolist() == [0, -1, 1]
    np.savez(tmp_path / "set.npz", x=batch(3), y=["-a", "b", "-1"])
    images = open_source(tmp_path / "set.npz")
    assert images.classes == ("-a", "b")
    assert images.targets is not None and images.targets.tolist() == [0, 1, -1]


def test_a_rewritten_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, x=batch(1))
    first = open_source(path)
    np.savez(path, x=batch(2, first=5))
    second = open_source(path)
    np.testing.assert_array_equal(second.read(0), pixels(5))
    assert first.fingerprint() != second.fingerprint()


def test_arrays_that_are_no_images_are_refused_with_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "set.npy"
    np.save(path, batch(2).astype(np.float32))
    assert f"{path} is float32. Images must be uint8" in message(path)
    np.save(path, batch(2).transpose(0, 3, 1, 2))
    assert "(2, 3, 12, 12)" in message(path) and "(0, 2, 3, 1)" in message(path)
    np.save(path, batch(2)[0, :, :, 0])
    assert "must be (N, h, w)" in message(path)
    np.save(path, batch(1)[:0])
    assert "has no images" in message(path)


def many(count: int, channels: int, side: int = 12) -> np.ndarray:
    return np.stack([pixels(k, side, side, channels) for k in range(count)])


@pytest.mark.parametrize("channels", [2, 4, 5, 64])
def test_arrays_of_other_channels_are_taken_as_they_are(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "set.npz"
    stored = many(6, channels)
    np.savez(path, images=stored, labels=np.arange(6) % 2)
    images = open_source(path, channels=channels)
    assert images.labels is not None and images.channels == channels
    np.testing.assert_array_equal(images.read(3), stored[3])
    np.testing.assert_array_equal(images.picture(3).window(2, 1, 4, 8), stored[3, 2:6, 1:9])
    assert check(images) == ()
    wide = stored.astype(np.uint16) * 257
    wide[5] -= 100  # rounded, not cut off
    np.save(tmp_path / "wide.npy", wide)
    images = open_source(tmp_path / "wide.npy", channels=channels)
    packed = pack(images, cache_dir=tmp_path)
    assert packed is not None
    np.testing.assert_array_equal(packed.pixels[:5], stored[:5])
    below = stored[5] > 0
    np.testing.assert_array_equal(packed.pixels[5][below], stored[5][below])


def test_four_channels_are_colour_with_transparency_unless_all_four_are_asked_for(
    tmp_path: Path,
) -> None:
    path = tmp_path / "set.npy"
    stored = many(2, 4)
    stored[0, :, :, 3] = 0
    np.save(path, stored)
    assert (open_source(path).read(0) == 255).all()
    np.testing.assert_array_equal(open_source(path, channels=4).read(0), stored[0])
    first, second = (open_source(path, channels=c).fingerprint() for c in (3, 4))
    assert first != second


def test_another_number_of_channels_is_refused_with_the_flag(tmp_path: Path) -> None:
    path = tmp_path / "set.npy"
    for held, asked in ((5, 3), (5, 1), (2, 3), (5, 4), (3, 5), (4, 5)):
        np.save(path, many(2, held))
        with pytest.raises(DataError) as caught:
            open_source(path, channels=asked)
        said = str(caught.value)
        assert f"{path} has images of {held} channels, not of {asked}." in said
        assert f"give --encoder.in-channels {held}," in said
    np.save(path, batch(2)[..., 0])
    with pytest.raises(DataError, match=r"images of 1 channels, not of 5.*--encoder.in-channels 1"):
        open_source(path, channels=5)


@pytest.mark.parametrize("shape", [(4, 5, 24, 24), (4, 12, 24, 24), (4, 3, 24, 20)])
def test_channels_first_is_seen(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "set.npy"
    np.save(path, np.zeros(shape, np.uint8))
    for asked in (3, shape[1]):
        with pytest.raises(DataError, match=r"channels last\. Save it transposed by \(0, 2, 3, 1"):
            open_source(path, channels=asked)


def test_small_images_of_many_channels_are_unreadable_like_others(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", many(2, 5, side=7))
    images = open_source(tmp_path / "set.npy", channels=5)
    with pytest.raises(Unreadable, match="7x7 is smaller"):
        images.read(0)
    with pytest.raises(DataError, match="smaller"):
        check(images)


def test_no_jpeg_holds_many_channels(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", many(2, 5))
    with pytest.raises(DataError, match="5 channels, which no JPEG file holds"):
        copy(open_source(tmp_path / "set.npy", channels=5), tmp_path / "copy")


def test_labels_must_fit_the_images(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, x=batch(3), y=[0, 1])
    assert "the shape (2,)" in message(path)
    np.savez(path, x=batch(3), y=[0.5, 1, 2])
    assert "float64" in message(path)


def test_unknown_names_are_listed_with_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, pictures=batch(1))
    assert "has the arrays pictures" in message(path) and "x_train" in message(path)


def test_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "set.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "no Python objects" in message(path)


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_damaged_files_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"set{ending}"
    np.save(tmp_path / "set.npy", batch(3))
    np.savez(tmp_path / "set.npz", x=batch(3))
    path.write_bytes(path.read_bytes()[:300])
    assert "must be whole" in message(path)
    path.write_bytes(b"")
    assert "must be whole" in message(path)


@pytest.mark.parametrize(("ending", "other"), [(".npy", ".npz"), (".npz", ".npy")])
def test_a_file_of_the_other_kind_is_told_its_name(tmp_path: Path, ending: str, other: str) -> None:
    np.save(tmp_path / "set.npy", batch(3))
    np.savez(tmp_path / "set.npz", x=batch(3))
    path = (tmp_path / f"set{ending}").rename(tmp_path / f"wrong{other}")
    assert f"Rename it to wrong{ending}." in message(path)


def test_damage_that_numpy_answers_with_other_errors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.npy"
    np.save(path, batch(3))
    path.write_bytes(path.read_bytes().replace(b"3), }", b"3(, }"))
    assert "must be whole" in message(path)
    path = tmp_path / "set.npz"
    np.savez_compressed(path, x=batch(3))
    whole = path.read_bytes()
    first = 30 + sum(struct.unpack("<HH", whole[26:30]))  # behind the header, name and extras
    path.write_bytes(whole[:first] + b"\xff" + whole[first + 1 :])
    assert "invalid block type" in message(path)
    method = whole.index(b"PK\x01\x02") + 10
    path.write_bytes(whole[:method] + b"\x63" + whole[method + 1 :])
    assert "compression method is not supported" in message(path)
