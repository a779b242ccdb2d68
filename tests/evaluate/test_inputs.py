"""What evaluation is shown of files, of which only parts are decoded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from squint.data import Images, open_source
from squint.evaluate import inputs
from squint.evaluate.inputs import labelled_squares, squares, view_pairs
from squint.evaluate.redraw import EVERYTHING, NOTHING, redrawn_pairs
from squint.views import TwoViews
from squint.views.recipes import EvalView, ViewsConfig
from squint.views.two_views import EvaluationView

VIEWS = ViewsConfig(size=32, evaluation=EvalView(size=40))
BROKEN = 3
GOOD = torch.tensor([row for row in range(8) if row != BROKEN])


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """JPEG files of many sizes in two classes, one of them empty."""
    rng = np.random.default_rng(0)
    for k in range(8):
        path = tmp_path / "photos" / "ab"[k % 2] / f"{k}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (60 + 5 * k, 90 - 2 * k, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    found = open_source(tmp_path / "photos")
    (tmp_path / "photos" / found.paths[BROKEN]).write_bytes(b"")
    return found


def whole(images: Images, row: int) -> Tensor:
    """All pixels, (c, h, w)."""
    return torch.from_numpy(images.read(row).copy()).permute(2, 0, 1)


def test_squares_are_those_of_whole_images(images: Images) -> None:
    view = EvaluationView(VIEWS)
    expected = torch.stack([view.square(whole(images, row)) for row in GOOD.tolist()])
    assert torch.equal(squares(images, VIEWS, limit=100), expected)
    ((numbers, pixels, labels),) = labelled_squares(images, VIEWS, limit=None)
    assert torch.equal(numbers, GOOD) and torch.equal(pixels, expected)
    assert images.labels is not None and labels.tolist() == images.labels[GOOD].tolist()


def test_every_readable_image_asked_for_is_shown(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "BATCH", 3)
    np.save(tmp_path / "packed.npy", np.zeros((8, 32, 32, 3), dtype=np.uint8))
    sizes = {images: [3, 2, 1], open_source(tmp_path / "packed.npy"): [3, 3, 1]}
    for source, expected in sizes.items():
        lost = 7 - sum(expected)
        found = [len(squares(source, VIEWS, limit=limit)) for limit in (7, 8, 20)]
        assert found == [7 - lost, 8 - lost, 8 - lost]
        shown = redrawn_pairs(source, VIEWS, device=torch.device("cpu"), limit=7)
        assert [len(batch[NOTHING][0]) for batch in shown] == expected
        pairs = view_pairs(source, VIEWS, device=torch.device("cpu"), limit=7)
        assert [len(first) for first, _ in pairs] == expected


def test_pairs_are_those_of_whole_images(images: Images) -> None:
    two_views, rows = TwoViews(VIEWS, seed=0), GOOD
    crops = torch.stack([two_views.crops(whole(images, row), row, 2) for row in rows.tolist()])
    ((first, second),) = view_pairs(images, VIEWS, device=torch.device("cpu"), limit=None, epoch=2)
    for found, expected in zip((first, second), two_views.finish(crops, rows, 2), strict=True):
        assert torch.equal(found, expected)


def test_redrawn_pairs_begin_with_the_first_view(images: Images) -> None:
    device = torch.device("cpu")
    ((first, _),) = view_pairs(images, VIEWS, device=device, limit=8)
    ((anew, _),) = view_pairs(images, VIEWS, device=device, limit=8, epoch=1)
    (pairs,) = redrawn_pairs(images, VIEWS, device=device, limit=8)
    for found in pairs[NOTHING]:
        torch.testing.assert_close(found, first, rtol=0, atol=1e-4)
    torch.testing.assert_close(pairs[EVERYTHING][1], anew, rtol=0, atol=1e-4)
