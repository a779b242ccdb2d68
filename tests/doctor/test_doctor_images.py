"""What doctor says of sources that are as they should be, and of those that are not."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from doctor import photos
from squint import doctor
from squint.data import open_source
from squint.doctor import images as looking
from squint.doctor import source
from squint.errors import DataError


def told(data: Path | str, **options: float) -> tuple[list[tuple[str, str]], looking.Sample]:
    """Level and words of each finding about a source, all of it decoded."""
    images = open_source(str(data))
    sample = looking.look(images, sample="all")
    limits: dict[str, Any] = {"view": 32, "limit_percent": 1.0} | options
    section = source.section(looking.contents(images), sample, **limits)
    return [(each.level, f"{each.text} {each.advice}") for each in section.findings], sample


def level(findings: list[tuple[str, str]], words: str) -> str:
    found = [level for level, text in findings if words in text]
    assert len(found) == 1, f"{words!r} is in {len(found)} of {findings}"
    return found[0]


def test_a_sound_folder_has_notes_at_the_most(tmp_path: Path) -> None:
    for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
        photos.folder(tmp_path / name, 10, start=10 * (len(list(tmp_path.rglob("*.jpg")))))
    findings, sample = told(tmp_path)
    assert {level for level, _ in findings} == {"ok"}
    assert level(findings, "train 20, test 20") == "ok"
    assert level(findings, "2 classes of 20 images each") == "ok"
    assert level(findings, "every one can be read") == "ok"
    assert level(findings, "every image is 96x72") == "ok"
    assert sample.kinds == {"JPEG": 40} and sample.short_sides == {72: 40}


def test_images_of_test_that_are_in_train(tmp_path: Path) -> None:
    photos.folder(tmp_path / "train", 30)
    photos.folder(tmp_path / "test", 10, start=100)
    shutil.copy(tmp_path / "train/003.jpg", tmp_path / "test/copy.jpg")
    photos.photo(5).resize((48, 36)).save(tmp_path / "test/small.png")
    photos.photo(7).save(tmp_path / "train/again.jpg", quality=60)
    findings, sample = told(tmp_path)
    assert sample.copied_leaks == (("train/003.jpg", "test/copy.jpg"),)
    assert sample.near_leaks == (("train/005.jpg", "test/small.png"),)
    assert level(findings, "1 image of other splits also in train: test/copy.jpg") == "problem"
    assert level(findings, "1 exact copy of other images") == "note"
    assert level(findings, "2 pairs of nearly the same image (1 image of other splits") == "note"


def test_broken_files_are_named_with_their_reasons(tmp_path: Path) -> None:
    folder = photos.folder(tmp_path / "photos", 20)
    (folder / "a.jpg").write_bytes((folder / "001.jpg").read_bytes()[:900])
    (folder / "b.png").write_bytes(b"")
    (folder / "c.heic").write_bytes(b"?")
    findings, sample = told(folder)
    assert level(findings, "a.jpg: the file is truncated; b.png: the file is empty") == "problem"
    assert level(findings, "passed over, in no format that is read: 1 .heic") == "note"
    assert sample.readable == 20 and len(sample.unreadable) == 2
    findings, _ = told(folder, limit_percent=20.0)
    assert level(findings, "2 can't be read (9.1 %)") == "note"


def test_nothing_can_be_read(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_text("no picture")
    findings, _ = told(tmp_path)
    assert level(findings, "Check that this is the right source") == "problem"
    report = doctor.examine(str(tmp_path))
    assert report.prevents_training and len(report.sections) == 2


def test_odd_images_and_what_becomes_of_them(tmp_path: Path) -> None:
    folder = photos.folder(tmp_path / "odd", 20)
    photos.photo(50).convert("L").save(folder / "grey.png")
    photos.photo(51).convert("CMYK").save(folder / "print.jpg")
    photos.photo(52).convert("RGBA").save(folder / "clear.png")
    wide = np.asarray(photos.photo(53).convert("L")).astype(np.uint16) * 257
    Image.fromarray(wide).save(folder / "wide.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    photos.photo(54).save(folder / "turned.jpg", exif=turned)
    Image.new("RGB", (20, 24), "white").save(folder / "white.png")
    findings, sample = told(folder)
    for words in (
        "grey is repeated to three channels",
        "16 bits are scaled to 8",
        "transparency is laid on white",
        "CMYK becomes RGB",
        "EXIF turns it upright",
    ):
        assert level(findings, words) == "ok"
    assert level(findings, "1 image of one colour only: white.png") == "note"
    assert level(findings, "3.8 % are smaller than views of 32 px") == "note"
    assert sample.smallest == (24, 20) and sample.largest in ((72, 96), (96, 72))
    assert sample.colourless == 3  # grey, wide, white
    assert not sample.near


def test_grey_arrays_without_labels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "grey.npy", pixels)
    findings, sample = told(tmp_path / "grey.npy")
    assert level(findings, "no labels") == "note"
    assert level(findings, "all are grey") == "note"
    assert sample.kinds == {"arrays, grey": 40}


@pytest.mark.parametrize("channels", [2, 5])
def test_mean_and_deviation_of_every_channel(tmp_path: Path, channels: int) -> None:
    levels = np.random.default_rng(0).normal(100, 20, (40, 16, 16, channels))
    levels += 10 * np.arange(channels)
    levels[..., 1] = 7  # says nothing
    pixels = levels.clip(0, 255).astype(np.uint8)
    np.save(tmp_path / "many.npy", pixels)
    images = open_source(tmp_path / "many.npy", channels=channels)
    sample = looking.look(images)
    np.testing.assert_allclose(sample.mean, (pixels / 255).mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(sample.std, (pixels / 255).std((0, 1, 2)), atol=1e-5)
    assert sample.kinds == {f"arrays, {channels} channels": 40} and not sample.near
    section = source.section(looking.contents(images), sample, view=16, limit_percent=1.0)
    findings = [(each.level, each.text) for each in section.findings]
    assert level(findings, "channel 2: std below 2 of 255 grey levels") == "note"
    mean, std = (
        " ".join(str(max(round(number, 3), 0.001)) for number in numbers)
        for numbers in (sample.mean, sample.std)
    )
    flags = f"--encoder.in-channels {channels} --views.mean {mean} --views.std {std}"
    assert level(findings, f"mean and std as flags: {flags}") == "ok" and " 0.001" in std


def test_large_images_are_measured_by_a_part_of_their_pixels() -> None:
    smooth = np.linspace(0, 255, 900 * 1100).reshape(900, 1100).astype(np.uint8)
    pixels = np.stack([smooth, 255 - smooth, smooth // 2], axis=2)
    mean, square = looking._moments(pixels)
    np.testing.assert_allclose(mean, (pixels / 255).mean((0, 1)), atol=2e-3)
    np.testing.assert_allclose(square, ((pixels / 255) ** 2).mean((0, 1)), atol=2e-3)


def test_a_sample_is_the_same_every_time_and_says_what_it_misses() -> None:
    images = open_source("demo")
    first, second = (looking.look(images, sample=50, threads=n) for n in (1, 3))
    assert first.short_sides == second.short_sides and first.bytes_each == second.bytes_each
    assert first.looked_at == first.readable == 50
    section = source.section(looking.contents(images), first, view=16, limit_percent=1.0)
    assert "--sample all" in section.findings[-1].advice


@pytest.mark.parametrize("count", [0, 1, 2])
def test_very_few_images(tmp_path: Path, count: int) -> None:
    photos.folder(tmp_path / "few", count)
    if not count:
        with pytest.raises(DataError, match="holds no images"):
            doctor.examine(str(tmp_path / "few"))
        return
    report = doctor.examine(str(tmp_path / "few"))
    assert report.prevents_training
    assert "too few to learn from" in report.findings[-1].text
