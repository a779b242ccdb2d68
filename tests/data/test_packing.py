import contextlib
import errno
import json
import logging
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from image_files import pixels, png, write_tree
from PIL import Image

from squint.data import Bad, Images, Packed, Unreadable, cache, cachedir, open_source, pack
from squint.errors import DataError
from squint.files import lock


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "photos", [f"{k:03d}.png" for k in range(30)])


def packed(images: Images, max_unreadable_percent: float = 1.0) -> Packed:
    """Packed into a file that could be read back."""
    found = pack(images, max_unreadable_percent=max_unreadable_percent)
    assert found is not None and isinstance(found.pixels, np.memmap)
    return found


def forbid_reading(monkeypatch: pytest.MonkeyPatch, probes: int) -> None:
    """Let images be read only as often as a warm start has to."""
    reads: Iterator[int] = iter(range(probes))
    read = Images.read
    monkeypatch.setattr(Images, "read", lambda self, k: read(self, k) if next(reads) >= 0 else 0)


def test_pixels_are_those_of_the_images(root: Path) -> None:
    found = packed(open_source(root))
    assert found.pixels.shape == (30, 12, 12, 3) and found.pixels.dtype == np.uint8
    assert not found.pixels.flags.writeable
    for k in range(30):
        np.testing.assert_array_equal(found.pixels[k], pixels(k))


def test_a_second_start_decodes_only_probes(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = packed(open_source(root))
    (file,) = cache.iterdir()
    stamp = file.stat().st_mtime_ns
    forbid_reading(monkeypatch, probes=16)
    second = packed(open_source(root))
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert file.stat().st_mtime_ns == stamp


def test_the_cache_is_a_plain_npy(root: Path, cache: Path) -> None:
    packed(open_source(root))
    (file,) = cache.iterdir()
    assert np.load(file).shape == (30, 12, 12, 3)


def test_changed_images_and_other_channels_have_their_own_cache(root: Path) -> None:
    packed(open_source(root))
    (root / "004.png").write_bytes(png(pixels(99)))
    np.testing.assert_array_equal(packed(open_source(root)).pixels[4], pixels(99))
    assert packed(open_source(root, channels=1)).pixels.shape == (30, 12, 12, 1)


def test_folders_alike_in_names_sizes_and_times_have_their_own_cache(tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("a", "b")]
    for seed, root in enumerate(roots):
        root.mkdir()
        Image.fromarray(pixels(seed)).save(root / "0.bmp")
        os.utime(root / "0.bmp", (1e9, 1e9))
    for seed, root in enumerate(roots):
        np.testing.assert_array_equal(packed(open_source(root)).pixels[0], pixels(seed))
    Image.fromarray(pixels(2)).save(roots[0] / "0.bmp")
    os.utime(roots[0] / "0.bmp", (1e9, 1e9))
    np.testing.assert_array_equal(packed(open_source(roots[0])).pixels[0], pixels(2))


def test_archives_at_paths_no_text_can_hold_are_packed(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        archive.writestr("a.png", png(pixels(0)))
    np.testing.assert_array_equal(packed(open_source(folder / "set.zip")).pixels[0], pixels(0))


def test_unreadable_images_are_left_out_and_everything_stays_aligned(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "pets", [f"{k % 2}/{k:03d}.png" for k in range(30)])
    (root / "0/000.png").write_bytes(b"")
    (root / "1/007.png").write_text("no image")
    for _ in range(2):  # decoded, then from the cache
        found = packed(open_source(root), max_unreadable_percent=10.0)
        assert found.bad == (
            Bad("0/000.png", "the file is empty"),
            Bad("1/007.png", "not an image in a known format"),
        )
        assert len(found.images) == len(found.pixels) == 28
        assert found.images.labels is not None
        for k, path in enumerate(found.images.paths):
            np.testing.assert_array_equal(found.pixels[k], pixels(int(path[2:5])))
            assert found.images.labels[k] == int(path[0])


def test_an_image_that_could_not_be_read_once_is_tried_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Images.read

    def away(self: Images, index: int) -> np.ndarray:
        if index == 7:
            raise Unreadable("too many open files")
        return read(self, index)

    with monkeypatch.context() as patched:
        patched.setattr(Images, "read", away)
        for _ in range(2):
            found = packed(open_source(root), max_unreadable_percent=4.0)
            assert found.bad == (Bad("007.png", "too many open files"),)
    assert packed(open_source(root)).bad == ()
    np.testing.assert_array_equal(packed(open_source(root)).pixels[7], pixels(7))


def test_the_limit_holds_on_a_cold_and_on_a_warm_start(root: Path) -> None:
    (root / "003.png").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DataError, match="1 of 30 images"):
            pack(open_source(root))
    assert len(packed(open_source(root), max_unreadable_percent=4.0).images) == 29


def test_all_unreadable_stops(root: Path) -> None:
    for path in root.iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="30 of 30 images"):
        pack(open_source(root), max_unreadable_percent=100.0)


def test_no_images_stop(root: Path) -> None:
    with pytest.raises(DataError, match="has no images"):
        pack(open_source(root).select([]))


def test_probes_that_cannot_be_read_do_not_hide_the_rest(root: Path) -> None:
    for path in sorted(root.iterdir())[:-2]:
        path.write_bytes(b"")
    (root / "029.png").write_bytes(b"")
    found = packed(open_source(root), max_unreadable_percent=99.0)
    np.testing.assert_array_equal(found.pixels, pixels(28)[None])


def test_large_images_are_not_packed(tmp_path: Path, cache: Path) -> None:
    root = write_tree(tmp_path / "photos", ["a.png", "b.png"], side=65)
    assert pack(open_source(root)) is None
    assert not cache.exists()
    assert pack(open_source(write_tree(tmp_path / "small", ["a.png", "b.png"], side=64)))


def test_one_odd_size_is_enough_not_to_pack_and_is_remembered(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "016.png").write_bytes(png(pixels(0, 12, 13)))
    assert pack(open_source(root)) is None
    (file,) = cache.iterdir()
    assert file.read_text() == "016.png\n"
    forbid_reading(monkeypatch, probes=16)
    assert pack(open_source(root)) is None


@pytest.mark.parametrize("harm", ["half", "empty", "no trailer", "wrong trailer", "bit", "header"])
def test_a_damaged_cache_is_made_anew(root: Path, cache: Path, harm: str) -> None:
    packed(open_source(root))
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    end = 128 + 30 * 12 * 12 * 3
    harmed = {
        "half": whole[: end // 2],
        "empty": b"",
        "no trailer": whole[:end],
        "wrong trailer": whole[:end] + json.dumps({"bad": [], "checks": []}).encode(),
        "bit": whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:],
        "header": b"\x93NUMPY" + bytes(200),
    }[harm]
    file.write_bytes(harmed)
    np.testing.assert_array_equal(packed(open_source(root)).pixels[29], pixels(29))
    assert file.read_bytes() == whole


def test_blocks_join_without_seams(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_BLOCK", 8)
    monkeypatch.setattr(cache, "_CHUNK", 3)
    (root / "009.png").write_bytes(b"")
    for _ in range(2):
        found = packed(open_source(root), max_unreadable_percent=5.0)
        expected = np.stack([pixels(k) for k in range(30) if k != 9])
        np.testing.assert_array_equal(found.pixels, expected)


def test_two_processes_may_pack_the_same_source_at_once(root: Path, cache: Path) -> None:
    code = (
        "from squint.data import open_source, pack; import sys; images = open_source(sys.argv[1])\n"
        "print(flush=True); sys.stdin.readline()\n"
        "print(pack(images).pixels.astype(int).sum())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()  # imported and open: from here on they race
    sums = [int(process.communicate("go\n", timeout=60)[0]) for process in processes]
    assert sums == [sum(int(pixels(k).sum()) for k in range(30))] * 2
    assert [path.suffix for path in cache.iterdir()] == [".npy"]


def test_of_several_that_pack_the_same_source_at_once_one_does(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    @contextlib.contextmanager
    def slowly(path: Path) -> Iterator[BinaryIO]:
        with cachedir.written_whole(path) as file:
            time.sleep(0.1)
            yield file
        written.append(path.suffix)

    monkeypatch.setattr(cache, "written_whole", slowly)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: packed(open_source(root)), range(4)))
        for each in found:
            np.testing.assert_array_equal(each.pixels, found[0].pixels)
        assert written == [".npy"]
        (root / "016.png").write_bytes(png(pixels(0, 12, 13)))
        assert set(threads.map(lambda _: pack(open_source(root)), range(4))) == {None}
    assert written == [".npy", ".odd"]
    assert not list(cachedir.cache_directory().glob(".*"))


ALONE = """
import sys
from pathlib import Path
from squint.files import lock
with lock(Path(sys.argv[1])):
    print(flush=True)
    sys.stdin.read()
"""


def test_one_is_alone_with_a_path_and_the_dead_keep_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.npy"
    command = [sys.executable, "-c", ALONE, str(path)]
    entered = threading.Event()

    def enter() -> None:
        with lock(path):
            entered.set()

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()  # it is in there
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.2)
        holder.kill()
        assert entered.wait(20)
        thread.join()
    assert list(path.parent.iterdir()) == []


def test_where_no_lock_can_be_had_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with lock(tmp_path / "file" / "a"), lock(tmp_path / "file" / "a"):
        pass


def test_a_cache_that_cannot_be_written_means_memory(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        found = pack(open_source(root), cache_dir=tmp_path / "file" / "cache")
    assert found is not None
    np.testing.assert_array_equal(found.pixels[29], pixels(29))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "kept in memory" in caplog.text and "SQUINT_CACHE" in caplog.text


def test_a_full_disk_leaves_nothing_behind(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (root / "003.png").write_bytes(b"")
    monkeypatch.setattr(os, "fsync", full)
    found = pack(open_source(root), max_unreadable_percent=5.0)
    assert found is not None and found.pixels.shape == (29, 12, 12, 3)
    assert "No space left on device" in caplog.text
    assert list(cache.iterdir()) == []


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), cachedir.written_whole(tmp_path / "a") as file:
        file.write(b"x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_swept_after_a_day(tmp_path: Path) -> None:
    old, new, other = (tmp_path / f".{name}-x" for name in ("a.tmp-1", "a.tmp-2", "ba.tmp-1"))
    for file in (old, new, other):
        file.touch()
    for file in (old, other):
        os.utime(file, (0, 0))
    with cachedir.written_whole(tmp_path / "a") as file:
        file.write(b"x")
    assert set(tmp_path.iterdir()) == {tmp_path / "a", new, other}


def test_the_cache_directory_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SQUINT_CACHE", str(tmp_path / "own"))
    assert cachedir.cache_directory() == tmp_path / "own"
    monkeypatch.delenv("SQUINT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cachedir.cache_directory() == tmp_path / "xdg" / "squint"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cachedir.cache_directory() == Path("~/.cache/squint").expanduser()
    monkeypatch.chdir(tmp_path)
    for name in ("SQUINT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "here")
        assert cachedir.cache_directory().is_relative_to(tmp_path / "here")
        monkeypatch.delenv(name)
