import struct
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from image_files import pixels
from PIL import Image
from torchvision import datasets

from squint.data import Unreadable, check, open_source, torchvision_sets
from squint.errors import DataError

WNIDS = (
    "n01440764 n02102040 n02979186 n03000684 n03028079 "
    "n03394916 n03417042 n03425413 n03445777 n03888257"
).split()
"""Classes of Imagenette."""


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MNIST as torchvision leaves it, but tiny."""
    root = tmp_path / "sets"
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count in (("train", 6), ("t10k", 4)):
        images = np.stack([pixels(k, 28, 28, 1) for k in range(count)])
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8)))
    monkeypatch.setenv("SQUINT_DATA", str(root))
    torchvision_sets._loaded.cache_clear()
    return root


def test_a_set_that_is_there_needs_no_network(store: Path) -> None:
    images = open_source("torchvision:MNIST")
    test = images.split("test")
    assert images.splits == ("train", "test") and len(images) == 10
    assert len(images.classes) == 10 and images.classes[7] == "7 - seven"
    assert test.labels is not None and test.labels.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(test.read(3)[:, :, 0], pixels(3, 28, 28, 1))


def test_without_a_network_the_error_says_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setenv("SQUINT_DATA", str(tmp_path / "sets"))
    with pytest.raises(DataError) as caught:
        open_source("torchvision:CIFAR10")
    message = str(caught.value)
    assert f"is not in {tmp_path / 'sets'} and can't be downloaded" in message
    assert "no network" in message and "set SQUINT_DATA" in message


def test_an_image_torchvision_cannot_open_has_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUINT_DATA", str(tmp_path))
    torchvision_sets._loaded.cache_clear()
    folders = [f"imagenette2/{split}/{wnid}" for split in ("train", "val") for wnid in WNIDS]
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        for k in range(4):
            Image.fromarray(pixels(k, 64, 64)).save(tmp_path / folder / f"{k}.JPEG")
    first = tmp_path / folders[0]
    whole = (first / "0.JPEG").read_bytes()
    (first / "0.JPEG").write_bytes(whole[: len(whole) // 2])
    (first / "1.JPEG").write_text("no image")
    images = open_source("torchvision:Imagenette")
    (first / "2.JPEG").unlink()
    for index, reason in enumerate(["truncated", "not an image in a known", "no such file"]):
        with pytest.raises(Unreadable, match=reason):
            images.read(index)
    assert images.read(3).shape == (64, 64, 3)
    assert len(check(images, 50.0)) == 3


class Downloaded:
    """A set whose files come one after the other; with some of them it opens, as some do."""

    def __init__(self, root: Path, train: bool, download: bool) -> None:
        if not (root / "set").exists():
            if not download:
                raise RuntimeError("Dataset not found. You can use download=True to download it")
            (root / "set").mkdir()
            for k in range(10):
                time.sleep(0.05)
                (root / "set" / f"{k}").touch(exist_ok=False)
        self.targets = [0] * len(list((root / "set").iterdir()))

    def __len__(self) -> int:
        return len(self.targets)


def test_of_several_that_open_a_set_at_once_one_downloads_and_none_sees_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUINT_DATA", str(tmp_path))
    monkeypatch.setattr(datasets, "MNIST", Downloaded)
    torchvision_sets._loaded.cache_clear()

    def opened(delay: float) -> int:
        time.sleep(delay)
        return len(open_source("torchvision:MNIST"))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(opened, [0.0, 0.0, 0.2, 0.4])) == [20] * 4
    torchvision_sets._loaded.cache_clear()
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["set"]


def test_unknown_names_list_near_ones() -> None:
    with pytest.raises(DataError, match=r"no torchvision:cifar_10.*Did you mean CIFAR10"):
        open_source("torchvision:cifar_10")
    with pytest.raises(DataError, match=r"The names are CIFAR10, .* Choose one of them\."):
        open_source("torchvision:zzz")


@pytest.mark.parametrize("name", torchvision_sets.KNOWN)
def test_torchvision_has_every_name_on_the_list(name: str) -> None:
    assert hasattr(datasets, name)


def test_the_default_place_is_below_the_cache(cache: Path) -> None:
    assert torchvision_sets._root() == cache / "torchvision"


def test_classes_without_names_are_numbered() -> None:
    assert torchvision_sets._classes(object(), 3) == ("0", "1", "2")
