import errno
from pathlib import Path

import numpy as np
import pytest
from image_files import pixels, write_tree
from PIL import Image

from squint.data import open_source
from squint.data.copy import UNREADABLE, copy
from squint.errors import DataError


def tree(root: Path, side: int = 40) -> Path:
    names = [f"{split}/{kind}/{k}.png" for split in ("train", "val") for kind in "ab" for k in "01"]
    return write_tree(root, names, side)


def test_a_copy_is_a_source_with_the_same_splits_labels_and_names(tmp_path: Path) -> None:
    images = open_source(tree(tmp_path / "photos"))
    assert copy(images, tmp_path / "small", side=20, workers=2) == ()
    found = open_source(tmp_path / "small")
    assert found.paths == tuple(f"{path}.jpg" for path in images.paths)
    assert (found.splits, found.classes) == (images.splits, images.classes)
    np.testing.assert_array_equal(found.targets, images.targets)
    np.testing.assert_array_equal(found.groups, images.groups)
    assert {found.read(k).shape for k in range(len(found))} == {(20, 20, 3)}
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == [
        "photos",
        "small",
    ]


def test_labels_of_arrays_become_folders(tmp_path: Path) -> None:
    stored = np.stack([pixels(k) for k in range(6)])
    np.savez(tmp_path / "some.npz", x=stored, y=[3, 11, -1, 3, 11, 3])
    with pytest.raises(DataError, match="can't be told by folders"):
        copy(open_source(tmp_path / "some.npz"), tmp_path / "no")
    assert not (tmp_path / "no").exists()
    np.savez(tmp_path / "a.npz", x_train=stored, y_train=[3, 11, 3, 11, 3, 11], x_test=stored)
    train = open_source(tmp_path / "a.npz").split("train")
    copy(train, tmp_path / "small")
    found = open_source(tmp_path / "small")
    assert found.classes == train.classes == ("3", "11")
    np.testing.assert_array_equal(np.sort(found.targets), np.sort(train.targets))
    names = sorted(found.paths, key=lambda path: path.split("/")[1])
    assert [path.split("/")[0] for path in names] == ["3", "11"] * 3


def test_the_shorter_side_shrinks_and_small_images_stay(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    smooth = Image.linear_gradient("L").convert("RGB")
    smooth.resize((300, 100)).save(tmp_path / "photos" / "wide.png")
    smooth.resize((30, 50)).save(tmp_path / "photos" / "small.png")
    images = open_source(tmp_path / "photos")
    copy(images, tmp_path / "copy", side=60)
    small, wide = (open_source(tmp_path / "copy").read(k) for k in (0, 1))
    assert small.shape == (50, 30, 3) and wide.shape == (60, 180, 3)
    assert np.abs(small.astype(int) - images.read(0)).mean() < 2
    expected = smooth.resize((300, 100)).resize((180, 60), Image.Resampling.BICUBIC)
    assert np.abs(wide.astype(int) - np.asarray(expected)).mean() < 2


def test_unreadable_images_are_listed(tmp_path: Path) -> None:
    images = open_source(tree(tmp_path / "photos"))
    (tmp_path / "photos/val/b/1.png").write_bytes(b"")
    (bad,) = copy(images, tmp_path / "small")
    assert (bad.path, bad.reason) == ("val/b/1.png", "the file is empty")
    listed = (tmp_path / "small" / UNREADABLE).read_text()
    assert listed == "val/b/1.png\tthe file is empty\n"
    assert len(open_source(tmp_path / "small")) == 7


def test_images_below_a_hidden_folder_can_be_opened(tmp_path: Path) -> None:
    hidden = write_tree(tmp_path / ".photos", ["0.png", "1.png"])
    (tmp_path / "list.txt").write_text(f"{hidden}/0.png\n{hidden}/1.png\n")
    assert copy(open_source(tmp_path / "list.txt"), tmp_path / "small") == ()
    assert open_source(tmp_path / "small").paths == ("00000000_0.png.jpg", "00000001_1.png.jpg")


@pytest.mark.parametrize("lost", ["b", "c"])
def test_a_class_that_is_lost_would_shift_labels(tmp_path: Path, lost: str) -> None:
    images = open_source(
        write_tree(tmp_path / "photos", [f"{c}/{k}.png" for c in "abc" for k in "01"])
    )
    for path in (tmp_path / "photos" / lost).iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"Without the 2 images .* {lost}/0.png .* other splits"):
        copy(images, tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_nothing_is_overwritten_or_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = open_source(tree(tmp_path / "photos"))
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError, match="exists already"):
        copy(images, tmp_path / "there")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(DataError, match="exists already"):
        copy(images, tmp_path / "link")
    with pytest.raises(DataError, match="could not be written \\(File name too long\\)"):
        copy(images, tmp_path / ("x" * 300))
    with pytest.raises(DataError, match="quality=0"):
        copy(images, tmp_path / "small", quality=0)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match="No space left on device"):
        copy(images, tmp_path / "out" / "small")
    assert list((tmp_path / "out").iterdir()) == []
