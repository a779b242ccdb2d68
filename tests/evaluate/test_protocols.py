"""From a source to numbers: which images, which labels, which channel."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import toys
from squint import presets
from squint.compression import CEB
from squint.data import open_source
from squint.errors import DataError, SquintError
from squint.evaluate import compression, protocols
from squint.evaluate.inputs import labelled_features, view_pairs
from squint.evaluate.parts import HELD_OUT, halves
from squint.methods import SimCLR
from squint.ops import vmf
from train import small

CPU = torch.device("cpu")
VIEWS = presets.recipe("simclr@tiny").views


class MeanColour(nn.Module):
    """An encoder whose features are known: the mean of each channel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


def coloured_folder(root: Path, *, size: int, broken: bool = False) -> Path:
    """One folder per class; class k has pictures of brightness 20 k + 100."""
    for label in range(3):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(5):
            picture = Image.new("RGB", (size, size + number), (20 * label + 100,) * 3)
            picture.save(folder / f"{number}.png")
    if broken:
        (root / "class1" / "2.png").write_text("no picture")
    return root


@pytest.mark.parametrize("size", [90, 100])
def test_files_keep_their_labels_when_one_is_unreadable(tmp_path: Path, size: int) -> None:
    images = open_source(coloured_folder(tmp_path, size=size, broken=True))
    found = labelled_features(MeanColour(), images, VIEWS, device=CPU)
    assert len(found.features) == len(found.labels) == 14
    expected = ((20 * found.labels + 100) / 255 - VIEWS.mean[0]) / VIEWS.std[0]
    torch.testing.assert_close(found.features[:, 0], expected, rtol=0, atol=0.01)


def test_pixels_in_memory_keep_their_labels_under_a_limit(tmp_path: Path) -> None:
    images = open_source(small.source(tmp_path))
    whole = labelled_features(MeanColour(), images, VIEWS, device=CPU)
    part = labelled_features(MeanColour(), images, VIEWS, device=CPU, limit=10)
    assert len(part.features) == 10
    for feature, label in zip(*part, strict=True):
        (row,) = (whole.features == feature).all(dim=1).nonzero()[0]
        assert whole.labels[row] == label


def test_without_labels_accuracy_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((20, 16, 16, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="no labels"):
        labelled_features(MeanColour(), open_source(tmp_path / "a.npy"), VIEWS, device=CPU)


def test_halves_are_the_splits_or_a_disjoint_fifth(tmp_path: Path) -> None:
    train, test, note = halves(open_source("demo"))
    assert (len(train), len(test)) == (5000, 1000) and "test split" in note
    images = open_source(small.source(tmp_path))
    train, test, note = halves(images)
    assert len(test) == round(HELD_OUT * len(images)) and "may have seen" in note
    assert not set(train.paths) & set(test.paths)
    assert len(train) + len(test) == len(images)


def test_view_pairs_are_two_views_of_every_image(tmp_path: Path) -> None:
    images = open_source(small.source(tmp_path))
    pairs = list(view_pairs(images, VIEWS, device=CPU, limit=40))
    assert len(pairs) == 1
    first, second = pairs[0]
    assert first.shape == second.shape == (40, 3, VIEWS.size, VIEWS.size)
    assert not torch.equal(first, second)


def known_method(bottleneck: CEB | None) -> SimCLR:
    """Codes are the mean colour; no randomness but the channel's."""
    return SimCLR(MeanColour(), nn.Identity(), temperature=0.2, bottleneck=bottleneck)


def test_rate_is_the_closed_form_and_information_stays_under_its_cap() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.nn.functional.normalize(torch.randn(2, 50, 3, generator=generator), dim=2)
    first, second = (c[:, :, None, None].expand(-1, -1, 4, 4) for c in codes)
    method = known_method(None)
    channel = CEB(kappa_e=100.0, kappa_b=5.0)
    coder = compression.coder_of(method)

    def measure(*views: torch.Tensor) -> compression.Compression:
        return compression.summary(compression.collect(coder.pairs, [views], method), channel)

    measured = measure(first, second)
    expected = (vmf.kl(codes[0], 100.0, codes[1], 5.0) + vmf.kl(codes[1], 100.0, codes[0], 5.0)) / 2
    assert measured.rate_nats == pytest.approx(expected.mean().item(), rel=1e-4)
    assert measured.info_nats < measured.info_cap_nats == pytest.approx(np.log(50))
    same = measure(first, first)
    assert same.rate_nats < measured.rate_nats and same.info_nats > measured.info_nats
    assert method.training, "left as it was"


def test_a_method_is_measured_through_its_own_channel() -> None:
    own = compression.channel_of(known_method(CEB(kappa_e=77.0, kappa_b=5.0)))
    assert (own.kappa_e, own.kappa_b) == (77.0, 5.0)
    convention = compression.channel_of(known_method(None))
    assert (convention.kappa_e, convention.kappa_b) == (compression.KAPPA_E, 5.0)


@pytest.mark.parametrize("backward_view", ["same", "other"])
@pytest.mark.parametrize("bottleneck", [None, CEB(beta=1.0, kappa_e=64.0, kappa_b=4.0)])
def test_y_is_the_other_view_whatever_byol_is_charged_for(
    bottleneck: CEB | None, backward_view: str
) -> None:
    method = toys.make("byol", bottleneck, backward_view=backward_view).eval()
    views = toys.views()
    (q1, q2, _, _, b1, b2), coder = method.embed(views), compression.coder_of(method)
    for (h, y), expected in zip(coder.pairs(views), ((q1, b2), (q2, b1)), strict=True):
        assert torch.equal(h, expected[0]) and torch.equal(y, expected[1])
    charged = [(q1, b1), (q2, b2)] if backward_view == "same" else [(q1, b2), (q2, b1)]
    if bottleneck is not None:  # training logs and charges what it did
        rates = [bottleneck.closed_form_rate(h, y).mean() for h, y in charged]
        assert torch.equal(method(views).logs["rate_nats"], torch.stack(rates).mean())


def test_a_device_that_is_not_there_is_refused() -> None:
    assert protocols.device_of("cpu") == CPU
    for name in ("toaster", "cuda:99"):
        with pytest.raises(SquintError, match="cpu"):
            protocols.device_of(name)
