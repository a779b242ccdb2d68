"""Odd and broken files: the same crops, or the same reason, whichever code reads them."""

import io
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import torch
from PIL import Image
from torch import Tensor

from squint import native
from squint.data.decode import Raw, Unreadable
from squint.data.picture import Picture
from squint.native import jpeg
from squint.views import recipes
from squint.views.two_views import TwoViews
from views.pictures import photographs


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(height: int = 210, width: int = 300) -> Image.Image:
    return Image.fromarray(photographs(1, height, width)[0].permute(1, 2, 0).numpy())


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(photo(), exif=exif)


def cut(share: float, ending: bytes = b"", **options: object) -> bytes:
    data = encoded(photo(), **options)
    return data[: int(share * len(data))] + ending


def sixteen_bits() -> bytes:
    levels = torch.arange(210 * 300).remainder(65536).to(torch.int32).view(210, 300)
    return encoded(Image.fromarray(levels.numpy().astype("uint16")), "PNG")


END = b"\xff\xd9"
READABLE: dict[str, Callable[[], bytes]] = {
    "plain": lambda: encoded(photo()),
    "progressive": lambda: encoded(photo(), progressive=True),
    "grey": lambda: encoded(photo().convert("L")),
    "CMYK": lambda: encoded(photo().convert("CMYK")),
    "PNG of 16 bits": sixteen_bits,
    "turned by a quarter": lambda: turned(6),
    "mirrored": lambda: turned(2),
    "8000 x 20": lambda: encoded(photo(20, 600).resize((8000, 20))),
    "20 x 8000": lambda: encoded(photo(20, 600).resize((20, 8000))),
    "8 x 8": lambda: encoded(photo(8, 8)),
    "what follows the end": lambda: encoded(photo()) + b"\0" * 1000,
    "damaged, yet with an end": lambda: cut(0.3, END),  # Pillow decodes it
}
BROKEN: dict[str, Callable[[], bytes]] = {
    "1 x 1": lambda: encoded(photo(8, 8).resize((1, 1))),
    "7 x 300": lambda: encoded(photo(8, 300).resize((300, 7))),
    "cut": lambda: cut(0.7),
    "cut in the header": lambda: cut(0.02),
    "progressive, cut": lambda: cut(0.7, progressive=True),
    "grey, cut": lambda: encoded(photo().convert("L"))[:-300],
    "empty": lambda: b"",
    "text": lambda: b"not a picture",
}
PATHS = ("native", "reference") if native.library() else ("reference",)


@pytest.fixture(params=["libjpeg", "Pillow"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "Pillow":
        monkeypatch.setattr(jpeg, "library", lambda: None)
    elif jpeg.library() is None:
        pytest.skip("built without libjpeg")
    return request.param


def crops(raw: Raw, path: str, *, exact: bool, index: int = 0) -> Tensor:
    """At a size that makes files of 300 px large."""
    config = replace(recipes.moco_v2_224(), size=20, exact=exact)
    views = TwoViews(config, seed=0, path=path)  # type: ignore[arg-type]
    return views.crops_of_picture(Picture(raw, 3), index, 0)


@pytest.mark.parametrize("make", READABLE.values(), ids=READABLE.keys())
def test_odd_files_have_the_same_crops_in_every_mode(
    make: Callable[[], bytes], decoder: str
) -> None:
    data = make()
    at_once = Image.open(io.BytesIO(data))  # by Pillow, wherever the crops lie
    for index, path in product(range(4), PATHS):
        wanted = crops(at_once, PATHS[0], exact=True, index=index)
        exact = crops(data, path, exact=True, index=index)
        assert (exact.int() - wanted.int()).abs().max() <= 1  # torchvision rounds twice
        near = crops(data, path, exact=False, index=index)
        assert (near.int() - wanted.int()).abs().float().mean() < 1.5


@pytest.mark.parametrize("make", BROKEN.values(), ids=BROKEN.keys())
def test_broken_files_have_the_same_reason_in_every_mode(
    make: Callable[[], bytes], decoder: str
) -> None:
    data = make()
    reasons: set[str] = set()
    for path, exact in product(PATHS, (True, False)):
        with pytest.raises(Unreadable) as caught:
            crops(data, path, exact=exact)
        reasons.add(str(caught.value))
    assert len(reasons) == 1, reasons
