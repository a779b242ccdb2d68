import gzip
import io
import pickle
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from image_files import pixels, png, write_tree

from squint.data import Images, Unreadable, open_source, pack
from squint.errors import DataError

CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10-jpeg.tar.gz"

HOSTILE = ["../../escape/cat/0.png", "/absolute/cat/1.png", "./plain/dog/2.png"]


def write_tar(path: Path, members: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_tgz(path: Path, members: Mapping[str, bytes]) -> Path:
    return write_tar(path, members, "w:gz")


def write_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


Writer = Callable[[Path, Mapping[str, bytes]], Path]

kinds = pytest.mark.parametrize(
    ("ending", "write"),
    [(".tar", write_tar), (".tar.gz", write_tgz), (".tgz", write_tgz), (".zip", write_zip)],
)


def pictures(*names: str) -> dict[str, bytes]:
    return {name: png(pixels(k)) for k, name in enumerate(names)}


def message(source: str | Path) -> str:
    with pytest.raises(DataError) as caught:
        open_source(source)
    return str(caught.value)


@kinds
def test_archives_are_read_like_the_folder_they_hold(
    tmp_path: Path, ending: str, write: Writer
) -> None:
    members = pictures("set/train/dog/0.png", "set/train/cat/1.png", "set/val/cat/2.png")
    members |= {"set/readme.txt": b"x", "set/.hidden.png": b"x", "__MACOSX/set/a.png": b"x"}
    images = open_source(write(tmp_path / f"set{ending}", members))
    assert images.paths == ("set/train/cat/1.png", "set/train/dog/0.png", "set/val/cat/2.png")
    assert images.splits == ("train", "val")
    assert images.classes == ("cat", "dog")
    assert images.labels is not None and images.labels.tolist() == [0, 1, 0]
    for index, seed in enumerate([1, 0, 2]):
        np.testing.assert_array_equal(images.read(index), pixels(seed))
    again: Images = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(again.read(2), pixels(2))


@pytest.mark.parametrize("kind", ["folder", ".tar", ".zip"])
def test_many_files_passed_over_are_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    quiet = {"0.txt": b"x", "0.json": b"{}", ".DS_Store": b"x", "._0.png": b"x", ".git/a": b"x"}
    beside = {f"cat/{k}.HEIC": b"x" for k in range(1200)} | {"film.mp4": b"x"}

    def opened(name: str, members: Mapping[str, bytes]) -> Images:
        root = tmp_path / name
        if kind == "folder":
            for each, data in members.items():
                (root / each).parent.mkdir(parents=True, exist_ok=True)
                (root / each).write_bytes(data)
            return open_source(root)
        return open_source((write_tar if kind == ".tar" else write_zip)(root, members))

    few = pictures(*(f"{k}.png" for k in range(100))) | quiet | {"LICENSE": b"x"}
    assert opened(f"few{kind}", few).passed_over == {"no ending": 1}
    assert not caplog.records
    for _ in range(2):
        images = opened(f"many{kind}", pictures("cat/0.png", "dog/0.png") | quiet | beside)
        assert images.select([0]).passed_over == {".heic": 1200, ".mp4": 1}
    assert len(caplog.records) == 1
    assert "is read: 1,200 .heic, 1 .mp4; images found: 2." in caplog.text


@kinds
def test_hostile_names_are_only_names(
    tmp_path: Path, cache: Path, ending: str, write: Writer
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = write(inside / f"set{ending}", pictures(*HOSTILE))
    images = open_source(path)
    found = {name.removeprefix("./"): images.read(k) for k, name in enumerate(images.paths)}
    for seed, name in enumerate(HOSTILE):
        np.testing.assert_array_equal(found[name.removeprefix("./")], pixels(seed))
    written = {each for each in tmp_path.rglob("*") if each.is_file() and cache not in each.parents}
    assert written == {path} and not Path("/absolute").exists()


def test_links_out_of_a_tar_and_devices_are_ignored(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(pixels(9)))
    path = write_tar(tmp_path / "set.tar", pictures("a.png"))
    with tarfile.open(path, "a") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"b{kind!r}.png")
            member.type = kind
            member.linkname = str(secret)
            archive.addfile(member)
    assert open_source(path).paths == ("a.png",)


def test_a_hard_link_in_a_tar_is_another_name_of_its_image(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "set", ["a/x.png", "b/y.png"])
    (root / "blob").write_bytes(png(pixels(2)))
    for name, target in [("b/x again.png", "a/x.png"), ("a/z.png", "blob")]:
        (root / name).hardlink_to(root / target)
    names = ["blob", *open_source(root).paths]
    for order in (names, names[::-1]):
        path = tmp_path / "set.tar"
        with tarfile.open(path, "w") as archive:
            for name in order:
                archive.add(root / name, f"./{name}")
        images = open_source(path)
        assert images.paths == open_source(root).paths == tuple(names[1:])
        assert images.classes == ("a", "b")
        for k, seed in enumerate([0, 2, 0, 1]):
            np.testing.assert_array_equal(images.read(k), pixels(seed))


def test_the_last_of_equal_names_counts(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    write_tar(path, {"a.png": png(pixels(0))})
    write_tar(path, {"a.png": png(pixels(1))}, "a")
    images = open_source(path)
    assert images.paths == ("a.png",)
    np.testing.assert_array_equal(images.read(0), pixels(1))


@kinds
def test_empty_archives_say_so(tmp_path: Path, ending: str, write: Writer) -> None:
    assert "found: 1 .txt" in message(write(tmp_path / f"set{ending}", {"a.txt": b"x"}))


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".zip"])
def test_archives_that_are_none_say_so(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"set{ending}"
    path.write_bytes(b"not an archive" * 100)
    assert "damaged" in message(path)


@pytest.mark.parametrize("share", [0.3, 0.95])
def test_half_an_archive_is_damaged(tmp_path: Path, share: float, cache: Path) -> None:
    whole = write_tgz(tmp_path / "whole.tar.gz", pictures(*"abcdefgh")).read_bytes()
    path = tmp_path / "half.tar.gz"
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "damaged" in message(path)
    assert list(cache.iterdir()) == []

    members = {f"{k}.png": png(pixels(k)) for k in range(8)}
    whole = write_tar(tmp_path / "whole.tar", members).read_bytes()
    path = tmp_path / "half.tar"
    path.write_bytes(whole[:3000])
    assert "damaged" in message(path)


@pytest.mark.parametrize("harm", ["cut before a header", "cut inside a header", "header"])
def test_a_tar_without_its_end_mark_is_damaged(tmp_path: Path, cache: Path, harm: str) -> None:
    path = write_tar(tmp_path / "set.tar", pictures(*(f"{k}.png" for k in range(8))))
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        start = archive.getmembers()[4].offset
    changed = whole[: start + 150] + bytes([whole[start + 150] ^ 1]) + whole[start + 151 :]
    harmed = {
        "cut before a header": whole[:start],
        "cut inside a header": whole[: start + 100],
        "header": changed,
    }[harm]
    path.write_bytes(harmed)
    assert "damaged (no end mark" in message(path)
    assert not cache.exists()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_whole_tars_of_every_form_open(tmp_path: Path, form: int) -> None:
    path, long = tmp_path / "set.tar", f"{'folder' * 20}/{'c' * 90}.png"
    for mode, name in (("w", "a.png"), ("a", long)):
        with tarfile.open(path, mode, format=form) as archive:
            member = tarfile.TarInfo(name)
            member.size = len(data := png(pixels(0)))
            archive.addfile(member, io.BytesIO(data))
    assert open_source(path).paths == ("a.png", long)


def test_an_archive_that_changes_under_us_is_unreadable(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "set.tar", pictures("a.png", "b.png"))
    images = open_source(path)
    path.write_bytes(path.read_bytes()[:1100])
    with pytest.raises(Unreadable, match="ends inside"):
        images.read(1)
    path.unlink()
    with pytest.raises(Unreadable, match="can't be read"):
        images.read(0)


@kinds
def test_an_archive_is_read_after_the_working_folder_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, write: Writer
) -> None:
    write(tmp_path / f"set{ending}", pictures("a.png"))
    monkeypatch.setenv("SQUINT_CACHE", "cache")
    monkeypatch.chdir(tmp_path)
    images = open_source(f"set{ending}")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(images.read(0), pixels(0))


def test_a_second_start_reads_index_and_stream_from_the_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tgz(tmp_path / "set.tar.gz", pictures("a.png", "b.png"))
    first = open_source(path)
    assert sorted(each.suffix for each in cache.iterdir()) == [".json", ".tar"]
    monkeypatch.setattr(tarfile, "open", lambda *_: pytest.fail("scanned again"))
    monkeypatch.setattr(gzip, "open", lambda *_: pytest.fail("decompressed again"))
    assert open_source(path).paths == first.paths


def test_of_several_that_open_a_stream_at_once_one_decompresses(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tgz(tmp_path / "set.tar.gz", pictures("a.png", "b.png"))
    opened: list[Path] = []
    gunzip = gzip.open

    def slowly(path: Path) -> gzip.GzipFile:
        opened.append(path)
        time.sleep(0.1)
        return gunzip(path)

    monkeypatch.setattr(gzip, "open", slowly)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: open_source(path).paths, range(4)))
    assert found == [("a.png", "b.png")] * 4 and len(opened) == 1
    assert sorted(each.suffix for each in cache.iterdir()) == [".json", ".tar"]


def test_a_changed_archive_is_scanned_again(tmp_path: Path) -> None:
    path = write_tgz(tmp_path / "set.tar.gz", pictures("a.png"))
    first = open_source(path)
    write_tgz(path, pictures("a.png", "b.png"))
    second = open_source(path)
    assert len(second) == 2
    assert second.fingerprint() != first.fingerprint()


def test_a_damaged_index_is_made_anew(tmp_path: Path, cache: Path) -> None:
    path = write_tar(tmp_path / "set.tar", pictures("a.png"))
    open_source(path)
    (index,) = cache.iterdir()
    index.write_bytes(index.read_bytes()[:-5])
    assert open_source(path).paths == ("a.png",)


def test_without_a_cache_tars_still_open_and_streams_say_what_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("SQUINT_CACHE", str(blocked / "cache"))
    assert len(open_source(write_tar(tmp_path / "set.tar", pictures("a.png")))) == 1
    assert "can't be decompressed into" in message(
        write_tgz(tmp_path / "set.tgz", pictures("a.png"))
    )


def test_shards_are_one_source_with_labels_from_cls_members(tmp_path: Path) -> None:
    for shard in range(3):
        members = {}
        for k in range(2):
            members[f"{shard}{k}.cls"] = str(10 - shard).encode()
            members[f"{shard}{k}.png"] = png(pixels(10 * shard + k))
        write_tar(tmp_path / f"in-{shard:03d}.tar", members)
    images = open_source(f"{tmp_path}/in-{{000..002}}.tar")
    assert images.paths[:3] == ("in-000.tar/00.png", "in-000.tar/01.png", "in-001.tar/10.png")
    assert images.classes == ("8", "9", "10")
    assert images.labels is not None and images.labels.tolist() == [2, 2, 1, 1, 0, 0]
    np.testing.assert_array_equal(images.read(5), pixels(21))
    assert len(open_source(f"{tmp_path}/in-{{000..001}}.tar")) == 4


def test_masks_beside_the_image_of_a_sample_are_no_images(tmp_path: Path) -> None:
    names = ["v1.0/0.depth.png", "v1.0/0.png", "v1.0/0.seg.png", "v1.0/1.b.png", "v1.0/1.a.png"]
    members = pictures(*names)
    without = open_source(write_tar(tmp_path / "without.tar", members))
    assert without.paths == tuple(sorted(names))
    members |= {"v1.0/0.cls": b"0", "v1.0/1.cls": b"1"}
    images = open_source(write_tar(tmp_path / "set.tar", members))
    assert images.paths == ("v1.0/0.png", "v1.0/1.a.png")
    assert images.labels is not None and images.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(images.read(0), pixels(1))


def test_missing_shards_and_odd_ranges_are_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", pictures("a.png"))
    assert f"2 of 3 shards of {tmp_path}" in message(f"{tmp_path}/{{0..2}}.tar")
    assert "must run upwards" in message(f"{tmp_path}/{{2..0}}.tar")


def test_zip_members_that_cannot_be_read_have_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", png(pixels(0)), zipfile.ZIP_LZMA)
        archive.writestr("b.png", png(pixels(1)), zipfile.ZIP_STORED)
        archive.writestr("c.png", png(pixels(2)), zipfile.ZIP_DEFLATED)
        places = [(each.header_offset, each.file_size) for each in archive.infolist()]
    damaged = bytearray(path.read_bytes())
    damaged[places[1][0] + 100] ^= 0xFF
    damaged[places[2][0] + 100] ^= 0xFF
    path.write_bytes(damaged)
    images = open_source(path)
    for index, reason in enumerate(["unusual method", "damaged inside", "damaged inside"]):
        with pytest.raises(Unreadable, match=reason):
            images.read(index)


def test_encrypted_members_say_so(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", pictures("a.png"))
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(Unreadable, match="encrypted"):
        open_source(path).read(0)


def test_a_zip_bomb_is_not_inflated(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(1 << 24))
    # The directory claims a kilobyte, the stream holds sixteen megabytes.
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\1\2") + 24
    data[place : place + 4] = (1024).to_bytes(4, "little")
    path.write_bytes(data)
    images = open_source(path)
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable, match="damaged inside"):
            images.read(0)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_backslashes_in_a_zip_are_folders(tmp_path: Path) -> None:
    members = pictures("cat\\0.png", "dog\\1.png")
    images = open_source(write_zip(tmp_path / "set.zip", members))
    assert images.classes == ("cat", "dog")


@pytest.mark.skipif(not CIFAR.exists(), reason=f"the archive {CIFAR} is not on this machine")
@pytest.mark.slow
def test_the_real_archive_opens_and_reads(tmp_path: Path) -> None:
    images = open_source(CIFAR)
    assert len(images) == 60_000 and images.splits == ("train", "test")
    train = images.split("train")
    assert len(train) == 50_000
    assert train.labels is not None
    assert np.bincount(train.labels).tolist() == [5_000] * 10
    packed = pack(images)
    assert packed is not None and packed.pixels.shape == (60_000, 32, 32, 3) and not packed.bad
    np.testing.assert_array_equal(packed.pixels[59_999], images.read(59_999))
