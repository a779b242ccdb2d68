import errno
import inspect
import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from image_files import pixels, png, write_tree

from squint.data import Unreadable, from_anywhere, open_source
from squint.errors import DataError


def message(source: str | Path, **options: int) -> str:
    with pytest.raises(DataError) as caught:
        open_source(source, **options)
    return str(caught.value)


def test_a_directory_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "photos", ["z.png", "b/1.png", "a/2.png"])
    images = open_source(root)
    assert images.paths == ("a/2.png", "b/1.png", "z.png")
    assert (images.labels, images.splits, images.classes) == (None, (), ())
    np.testing.assert_array_equal(images.read(0), pixels(2))


def test_the_order_does_not_depend_on_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tree(tmp_path / "photos", [f"{k}.png" for k in range(9)])
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: sorted(scandir(path), key=str, reverse=True))
    assert open_source(root).paths == tuple(f"{k}.png" for k in range(9))


def test_splits_select_images_with_their_labels(tmp_path: Path) -> None:
    names = ["test/cat/0.png", "train/cat/0.png", "train/dog/0.png", "train/dog/1.png"]
    images = open_source(write_tree(tmp_path / "pets", names))
    train = images.split("train")
    assert images.splits == ("train", "test")
    assert train.paths == tuple(names[1:])
    assert train.labels is not None and train.labels.tolist() == [0, 1, 1]
    assert train.splits == ()
    np.testing.assert_array_equal(train.read(1), pixels(2))
    with pytest.raises(DataError, match=r"no split 'val': its splits are train, test"):
        images.split("val")


def test_labels_are_absent_unless_every_image_has_one(tmp_path: Path) -> None:
    names = ["test/0.png", "train/cat/0.png", "train/dog/0.png"]
    images = open_source(write_tree(tmp_path / "pets", names))
    assert images.labels is None
    assert images.split("test").labels is None
    assert images.split("train").labels is not None


def test_select_keeps_what_is_known_in_the_order_asked_for(tmp_path: Path) -> None:
    images = open_source(write_tree(tmp_path / "pets", ["cat/0.png", "cow/0.png", "dog/0.png"]))
    chosen = images.select([2, 0])
    assert chosen.paths == ("dog/0.png", "cat/0.png")
    assert chosen.labels is not None and chosen.labels.tolist() == [2, 0]
    np.testing.assert_array_equal(chosen.read(0), pixels(2))


def test_hidden_and_foreign_files_are_passed_over(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "photos", ["a.png", ".b.png", ".git/c.png", "__MACOSX/d.png"])
    (root / "notes.txt").write_text("x")
    os.mkfifo(root / "pipe.png")
    assert open_source(root).paths == ("a.png",)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    other = write_tree(tmp_path / "elsewhere", ["cat.png"])
    root = write_tree(tmp_path / "photos", ["a.png"])
    (root / "linked").symlink_to(other)
    (root / "again").symlink_to(root)
    (root / "broken.png").symlink_to(root / "gone.png")
    images = open_source(root)
    assert images.paths == ("a.png", "broken.png", "linked/cat.png")
    with pytest.raises(Unreadable, match="file not found"):
        images.read(1)


def test_odd_entries_cost_a_folder_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_tree(tmp_path / "photos", ["a.png", "@eaDir/a.png/thumb.png", "lost+found/b.png"])
    (root / "me").symlink_to("me")
    (root / "z.png").symlink_to("z.png")
    scandir = os.scandir

    def refuse(path: str | Path) -> object:
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    images = open_source(root)
    assert images.paths == ("a.png", "z.png")
    with pytest.raises(Unreadable, match="too many levels"):
        images.read(1)


def test_names_no_terminal_could_show_are_escaped_and_still_read(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for k, name in enumerate([b"a\tb.png", b"\xff.png"]):
        (root / os.fsdecode(name)).write_bytes(png(pixels(k)))
    images = open_source(root)
    assert images.paths == ("a\\tb.png", "\\udcff.png")
    np.testing.assert_array_equal(images.read(1), pixels(1))


def test_missing_sources_name_near_ones(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert f"Did you mean {tmp_path / 'photos'}?" in message(tmp_path / "photoz")
    assert "Check the spelling" in message("no/such/place")


def test_empty_sources_say_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.mp4").touch()
    assert "holds no images (found: 2 .mp4)" in message(tmp_path)


def test_folders_that_cannot_be_listed_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tree(tmp_path / "photos", ["a/b.png"])
    scandir = os.scandir

    def refuse(path: str | Path) -> object:
        if str(path).endswith("a/"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", lambda path: refuse(f"{path}/"))
    assert f"{root / 'a'} can't be listed (Permission denied)" in message(root)


def test_other_kinds_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.touch()
    assert "A source is a folder, a pattern" in message(path)
    assert "empty text" in message("")
    assert "demo can't be read in 4 channels" in message("demo", channels=4)
    assert "in 0 channels" in message(tmp_path / "images.npy", channels=0)


def test_a_pattern_is_what_matches_it(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "photos", ["b.png", "a.png", "x/c.png", "y/z/d.png", ".e.png"])
    (root / "paper.pdf").write_text("no image")
    assert open_source(f"{root}/*.png").paths == ("a.png", "b.png")
    assert open_source(f"{root}/**").passed_over == {".pdf": 1}
    every = open_source(f"{root}/**/*.png")
    assert every.paths == ("a.png", "b.png", "x/c.png", "y/z/d.png")
    np.testing.assert_array_equal(every.read(2), open_source(root).read(2))
    (root / "y/z/d.png").rename(root / "y/d.png")
    classes = open_source(f"{root}/*/*.png")
    assert classes.paths == ("x/c.png", "y/d.png") and classes.classes == ("x", "y")


def test_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "a [1]", ["b.png"])
    assert open_source(str(root)).paths == ("b.png",)


def test_patterns_that_match_nothing_are_explained(tmp_path: Path) -> None:
    root = write_tree(tmp_path, ["a.png"])
    (root / "notes.txt").write_text("no image")
    assert "No file matches" in message(f"{root}/*.jpg")
    assert "in quotes" in message(f"{root}/*.jpg")
    assert "holds no images (found: 1 .txt)" in message(f"{root}/*.txt")


def test_a_list_of_paths_is_told_where_to_go() -> None:
    with pytest.raises(DataError, match=r"this is a list.*\.txt file, one a line"):
        inspect.unwrap(open_source)(["a.png", "b.png"])


def test_a_path_called_demo_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "demo", ["a.png"])
    assert open_source(Path("demo")).paths == ("a.png",)
    assert len(open_source("demo")) == 6_000


def test_a_source_opens_again_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    write_tree(here / "demo", ["a.png"])
    write_tree(here / "photos", ["a.png", "b.png"])
    for number in range(2):
        write_shard(here / f"{number}.tar", f"{number}.png")
    (here / "0.tar").rename(here / "stored")  # as git-annex and DVC keep files
    (here / "0.tar").symlink_to("stored")
    monkeypatch.chdir(here)
    given = ["photos", Path("photos"), Path("demo"), "0.tar", "{0..1}.tar", "photos/*", "demo"]
    opened = [open_source(source) for source in given]
    kept = [from_anywhere(source) for source in given]
    assert [from_anywhere(images.name) for images in opened] == kept
    assert kept[-1] == "demo"
    assert from_anywhere("torchvision:CIFAR10") == "torchvision:CIFAR10"
    assert from_anywhere("photos (train)") == "photos (train)"
    monkeypatch.chdir(there)
    assert [open_source(text).paths for text in kept] == [images.paths for images in opened]


def write_shard(path: Path, name: str) -> None:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(name)
        data = png(pixels(0))
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))


def test_a_list_keeps_its_order_and_its_labels(tmp_path: Path) -> None:
    write_tree(tmp_path / "photos", ["a.png", "b.png", "c.png"])
    lists = tmp_path / "lists"
    lists.mkdir()
    path = lists / "some.txt"
    absolute = tmp_path / "photos" / "a.png"
    path.write_text(f"# chosen\n../photos/c.png\t10\n\n{absolute}\t2\n../photos/b.png\t10\n")
    images = open_source(path)
    assert images.paths == ("../photos/c.png", str(absolute), "../photos/b.png")
    assert images.classes == ("2", "10")
    assert images.labels is not None and images.labels.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(images.read(0), pixels(2))


def test_a_list_without_labels_has_none_and_may_name_missing_files(tmp_path: Path) -> None:
    write_tree(tmp_path, ["cat/a.png"])
    path = tmp_path / "list.txt"
    path.write_text("cat/a.png\ncat/gone.png\n")
    images = open_source(path)
    assert images.labels is None
    with pytest.raises(Unreadable, match="file not found"):
        images.read(1)


def test_files_that_cannot_be_looked_at_have_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path, ["a.png", "secret/b.png", "c.png/d.png"])
    (tmp_path / "loop.png").symlink_to("loop.png")
    path = tmp_path / "list.txt"
    names = ["x" * 300, "z\0.png", "loop.png", "a.png/b.png", "c.png", "secret/b.png", "a.png"]
    path.write_text("\n".join(names))
    look = Path.stat

    def refuse(self: Path, **options: bool) -> os.stat_result:
        if self.parent.name == "secret":
            raise PermissionError(errno.EACCES, "Permission denied")
        return look(self, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    images = open_source(path)
    reasons = ["file name too long", "file not found", "too many levels", "file not found"]
    for index, reason in enumerate([*reasons, "not a file", "permission denied"]):
        with pytest.raises(Unreadable, match=reason):
            images.read(index)
    assert len(images.fingerprint()) == 64 and images.read(6).shape == (12, 12, 3)


def test_lists_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    write_tree(tmp_path, ["a.png"])
    path = tmp_path / "list.txt"
    path.write_text("# nothing\n")
    assert "names no images" in message(path)
    path.write_text("x/a.png\nx/b.png\n")
    assert f"None of the 2 paths in {path} exists" in message(path)
    path.write_text("a.png\tcat\nb.png\n")
    assert "1 of 2 lines" in message(path)


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "photos", ["a.png", "b.png"])
    first = open_source(root).fingerprint()
    assert open_source(root).fingerprint() == first
    assert open_source(root, channels=1).fingerprint() != first
    assert open_source(root).select([0]).fingerprint() != first
    (root / "b.png").write_bytes(png(pixels(7, 13, 13)))
    assert open_source(root).fingerprint() != first


def test_a_copy_is_the_same_data_in_another_place(tmp_path: Path) -> None:
    first = write_tree(tmp_path / "photos", ["a.png", "b.png"])
    second = shutil.copytree(first, tmp_path / "copy")  # keeps times
    original, copied = open_source(first), open_source(second)
    assert original.fingerprint() == copied.fingerprint()
    assert original.cache_key() != copied.cache_key()
    assert open_source(first).cache_key() == original.cache_key()
    assert open_source(first, channels=1).cache_key() != original.cache_key()
    (tmp_path / "other name").symlink_to(first)
    assert open_source(tmp_path / "other name").cache_key() == original.cache_key()


def test_images_survive_pickling(tmp_path: Path) -> None:
    images = open_source(write_tree(tmp_path / "pets", ["cat/0.png", "dog/0.png"]))
    again = pickle.loads(pickle.dumps(images))
    assert again.paths == images.paths
    np.testing.assert_array_equal(again.read(1), images.read(1))
    assert again.fingerprint() == images.fingerprint()


def test_opening_a_source_does_not_import_torch(tmp_path: Path) -> None:
    write_tree(tmp_path, ["a.png"])
    code = (
        "import sys; from squint.data import check, open_source, pack\n"
        f"images = open_source({str(tmp_path)!r}); check(images); pack(images)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
