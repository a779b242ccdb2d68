"""Data sets in the Hugging Face hub's form, from folders: there is no network here."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import pixels, png

from squint.data import from_anywhere, hub, open_source
from squint.errors import DataError

datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")

SPLITS = {"train": 5, "validation": 3, "test": 2}


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    hub._loaded.cache_clear()
    hub._encoded.cache_clear()
    yield
    hub._loaded.cache_clear()
    hub._encoded.cache_clear()


def rows(count: int, first: int, **columns: Any) -> Any:
    """A split whose images are PNG files in memory, each of its own number."""
    images = [{"bytes": png(pixels(first + i)), "path": None} for i in range(count)]
    data = {"id": list(range(count)), "image": images} | columns
    kinds = {"image": datasets.Image()}
    if "label" in columns:
        kinds["label"] = datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features({"id": datasets.Value("int64")} | kinds)
    return datasets.Dataset.from_dict(data, features=features)


def folder(path: Path, *, labelled: bool = True) -> str:
    """Three splits as parquet files, as the hub keeps them; the source that opens them."""
    (path / "data").mkdir(parents=True)
    for first, (split, count) in enumerate(SPLITS.items()):
        labels = {"label": [i % 2 for i in range(count)]} if labelled else {}
        part = rows(count, 10 * first, **labels)
        part.to_parquet(str(path / "data" / f"{split}-00000-of-00001.parquet"))
    return f"hf:{path}"


def test_splits_labels_and_pixels(tmp_path: Path) -> None:
    images = open_source(folder(tmp_path / "set"))
    assert images.splits == ("train", "val", "test") and len(images) == 10
    assert images.classes == ("cat", "dog")
    test = images.split("test")
    assert test.paths == ("test/0000000", "test/0000001")
    assert test.targets is not None and test.targets.tolist() == [0, 1]
    np.testing.assert_array_equal(test.read(1), pixels(21))
    assert isinstance(test.fetch(0), bytes), "as stored: our rule decodes"


def test_one_split(tmp_path: Path) -> None:
    images = open_source(folder(tmp_path / "set") + ":validation")
    assert images.splits == () and len(images) == 3
    np.testing.assert_array_equal(images.read(2), pixels(12))


def test_what_save_to_disk_leaves(tmp_path: Path) -> None:
    for name, found in (("one", rows(4, 0)), ("more", datasets.DatasetDict(a=rows(4, 0)))):
        found.save_to_disk(str(tmp_path / name))
        images = open_source(f"hf:{tmp_path / name}")
        assert len(images) == 4 and images.labels is None
        np.testing.assert_array_equal(images.read(3), pixels(3))


def test_labels_that_are_unknown_or_texts(tmp_path: Path) -> None:
    rows(3, 0, label=[1, None, -1]).save_to_disk(str(tmp_path / "some"))
    images = open_source(f"hf:{tmp_path / 'some'}")
    assert images.targets is not None and images.targets.tolist() == [1, -1, -1]
    part = rows(3, 0).add_column("label", ["b", "a", "b"])
    part.save_to_disk(str(tmp_path / "texts"))
    images = open_source(f"hf:{tmp_path / 'texts'}")
    assert images.classes == ("a", "b") and images.labels is not None
    assert images.labels.tolist() == [1, 0, 1]


def test_a_row_without_an_image_is_one_unreadable_image(tmp_path: Path) -> None:
    part = rows(3, 0)
    buffer = io.BytesIO(b"no picture")
    broken = [{"bytes": png(pixels(0)), "path": None}, None, {"bytes": buffer.read(), "path": None}]
    features = datasets.Features({"image": datasets.Image()})
    part = datasets.Dataset.from_dict({"image": broken}, features=features)
    part.save_to_disk(str(tmp_path / "set"))
    images = open_source(f"hf:{tmp_path / 'set'}")
    np.testing.assert_array_equal(images.read(0), pixels(0))
    for row, reason in ((1, "no image"), (2, "known format")):
        with pytest.raises(DataError, match=reason):
            images.read(row)


def test_changed_content_has_another_fingerprint(tmp_path: Path) -> None:
    def fingerprint(name: str, first: int) -> str:
        rows(2, first).save_to_disk(str(tmp_path / name))
        found = open_source(f"hf:{tmp_path / name}").fingerprint()
        hub._loaded.cache_clear()
        return found

    assert fingerprint("a", 0) != fingerprint("b", 5)
    again = [open_source(f"hf:{tmp_path / 'a'}").fingerprint() for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hf:nobody/has-this", ["can't be opened", "network"]),
        ("hf:{set}:extra", ["no split 'extra'", "train, validation, test"]),
        ("hf:{plain}", ["no column of images", "id"]),
    ],
)
def test_what_can_not_be_opened(tmp_path: Path, text: str, words: list[str]) -> None:
    place = folder(tmp_path / "set").removeprefix("hf:")
    datasets.Dataset.from_dict({"id": [1]}).save_to_disk(str(tmp_path / "plain"))
    with pytest.raises(DataError) as error:
        open_source(text.format(set=place, plain=tmp_path / "plain"))
    assert all(word in str(error.value) for word in words), error.value


def test_without_the_package_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"pip install 'squint\[hub\]'"):
        open_source("hf:uoft-cs/cifar10")


def test_a_folder_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    assert from_anywhere("hf:set:test") == f"hf:{tmp_path / 'set'}:test"
    assert from_anywhere("hf:uoft-cs/cifar10") == "hf:uoft-cs/cifar10"
