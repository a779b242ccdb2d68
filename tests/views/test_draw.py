"""Drawn parameters: against the reference laws, their statistics, and what they depend on."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from squint.views import draw as draw_module
from squint.views.draw import Box, Draw, Look, draw, draw_box
from squint.views.recipes import Blur, Crop, Jitter, View
from squint.views.uniform import stream, uniform

LAWS = ("log_uniform", "uniform", "byol")
PLACE: dict[str, Any] = {"seed": 5, "epoch": 2, "view_number": 1}


def fields(view: View, index: list[int], **changes: object) -> dict[str, Tensor]:
    arguments = {**PLACE, "height": 48, "width": 40, **changes}
    box, look = draw(view, torch.tensor(index), **arguments)  # type: ignore[arg-type]
    return {**box._asdict(), **look._asdict()}


@settings(max_examples=25, deadline=None)
@given(
    index=st.lists(st.integers(0, 10**7), min_size=1, max_size=5),
    epoch=st.integers(0, 1000),
    law=st.sampled_from(LAWS),
)
def test_a_draw_does_not_depend_on_its_batch(index: list[int], epoch: int, law: str) -> None:
    view = View(crop=Crop(ratio_law=law))  # type: ignore[arg-type]
    alone = fields(view, [5], epoch=epoch)
    batch = fields(view, [*index, 5], epoch=epoch)
    for name, value in alone.items():
        assert torch.equal(batch[name][-1:], value), name


@pytest.mark.parametrize("change", [{"seed": 6}, {"epoch": 3}, {"view_number": 0}])
def test_seed_epoch_and_view_change_every_draw(change: dict[str, int]) -> None:
    view = View(solarize=0.5)
    before, after = fields(view, list(range(64))), fields(view, list(range(64)), **change)
    same = [name for name in before if torch.equal(before[name], after[name])]
    assert not same


def test_draws_are_independent_of_each_other() -> None:
    params = fields(View(solarize=0.5), list(range(4096)), height=500, width=500)
    order = params.pop("order")
    rows = [value.double() for value in params.values()]
    r = torch.corrcoef(torch.stack([*rows, order[:, 0].double()])).fill_diagonal_(0)
    names = [*params, "order"]
    # sides and positions of one box depend on each other
    r[: names.index("flip"), : names.index("flip")] = 0
    assert r.abs().max() < 4.5 / 64


def test_probabilities_are_kept() -> None:
    view = View(flip=0.3, jitter=Jitter(probability=0.8), gray=0.2, solarize=0.1)
    params = fields(view, list(range(8192)))
    for name, p in {"flip": 0.3, "jitter": 0.8, "gray": 0.2, "blur": 0.5, "solarize": 0.1}.items():
        assert abs(params[name].float().mean() - p) < 4 * math.sqrt(p * (1 - p) / 8192), name


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_certain_and_impossible_are_exact(p: float) -> None:
    view = View(flip=p, jitter=Jitter(probability=p), gray=p, blur=Blur(probability=p), solarize=p)
    params = fields(view, list(range(999)))
    for name in ("flip", "jitter", "gray", "blur", "solarize"):
        assert torch.equal(params[name], torch.full((999,), p == 1.0)), name


@pytest.mark.parametrize(
    ("form", "brightness"),
    [("torchvision", (0.0, 2.2)), ("simclr", (0.0, 2.2)), ("byol", (-1.2, 1.2))],
)
def test_strengths_fill_their_ranges(form: str, brightness: tuple[float, float]) -> None:
    jitter = Jitter(brightness=1.2, contrast=0.8, saturation=0.3, hue=0.1, form=form)  # type: ignore[arg-type]
    params = fields(View(jitter=jitter, blur=Blur(sigma=(0.5, 2.5))), list(range(4096)))
    ranges = {
        "brightness": brightness,
        "contrast": (0.2, 1.8),
        "saturation": (0.7, 1.3),
        "hue": (-0.1, 0.1),
        "sigma": (0.5, 2.5),
    }
    for name, (low, high) in ranges.items():
        u = (params[name] - low) / (high - low)
        assert -1e-6 <= u.min() < 0.01 and 0.99 < u.max() <= 1 + 1e-6, name
        count = torch.histc(u, 8, 0, 1)
        assert ((count - 512) ** 2 / 512).sum() < 30, name  # 7 degrees of freedom


def test_all_orders_are_equally_likely() -> None:
    order = fields(View(), list(range(24 * 400)))["order"]
    assert torch.equal(order.sort(dim=1).values, torch.arange(4).expand(len(order), 4))
    code = order @ torch.tensor([64, 16, 4, 1])
    count = code.unique(return_counts=True)[1].double()
    assert len(count) == 24
    assert ((count - 400) ** 2 / 400).sum() < 55  # 23 degrees of freedom


def torchvision_box(crop: Crop, u: list[float], place: list[float], h: int, w: int) -> list[int]:
    """RandomResizedCrop.get_params with its random numbers given."""
    for area_u, ratio_u in zip(u[0::2], u[1::2], strict=True):
        area = h * w * (crop.area[0] + (crop.area[1] - crop.area[0]) * area_u)
        low, high = (math.log(ratio) for ratio in crop.ratio)
        ratio = math.exp(low + (high - low) * ratio_u)
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= w and 0 < tall <= h:
            return [int(place[0] * (h - tall + 1)), int(place[1] * (w - wide + 1)), tall, wide]
    wide, tall = w, h
    if w / h < crop.ratio[0]:
        tall = round(w / crop.ratio[0])
    elif w / h > crop.ratio[1]:
        wide = round(h * crop.ratio[1])
    return [(h - tall) // 2, (w - wide) // 2, tall, wide]


def tensorflow_box(crop: Crop, u: list[float], place: list[float], h: int, w: int) -> list[int]:
    """GenerateRandomCrop of sample_distorted_bounding_box_op.cc with its random numbers given."""
    least, most = (share * h * w for share in crop.area)
    for ratio_u, height_u in zip(u[0::2], u[1::2], strict=True):
        ratio = crop.ratio[0] + (crop.ratio[1] - crop.ratio[0]) * ratio_u
        tall, tallest = round(math.sqrt(least / ratio)), round(math.sqrt(most / ratio))
        if round(tallest * ratio) > w:
            tallest = int((w + 0.5 - 1e-7) / ratio)
            if round(tallest * ratio) > w:
                tallest -= 1
        tallest = min(tallest, h)
        tall = min(tall, tallest)
        tall += int(height_u * (tallest - tall + 1))
        wide = round(tall * ratio)
        if tall * wide < least:
            tall += 1
            wide = round(tall * ratio)
        if tall * wide > most:
            tall -= 1
            wide = round(tall * ratio)
        inside = least <= tall * wide <= most and 0 < wide <= w and 0 < tall <= h
        if inside and tall * wide >= 0.1 * h * w:
            return [int(place[0] * (h - tall)), int(place[1] * (w - wide)), tall, wide]
    return [0, 0, h, w]


def byol_box(crop: Crop, u: list[float], place: list[float], h: int, w: int) -> list[int]:
    """_decode_and_random_crop of BYOL's utils/dataset.py with its random numbers given."""
    area = h * w * (crop.area[0] + (crop.area[1] - crop.area[0]) * u[0])
    low, high = (math.log(ratio) for ratio in crop.ratio)
    ratio = math.exp(low + (high - low) * u[1])
    wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    wide, tall = min(max(wide, 1), w), min(max(tall, 1), h)
    return [int(place[0] * (h - tall + 1)), int(place[1] * (w - wide + 1)), tall, wide]


SIZES = [(32, 32), (500, 375), (333, 500), (96, 96), (7, 640), (640, 7), (1, 1), (2, 3), (31, 4)]


@pytest.mark.parametrize("law", LAWS)
def test_boxes_follow_the_reference_law(law: str) -> None:
    oracle, tries = {
        "log_uniform": (torchvision_box, draw_module.TORCHVISION_TRIES),
        "uniform": (tensorflow_box, draw_module.TENSORFLOW_TRIES),
        "byol": (byol_box, 1),
    }[law]
    crop = Crop(ratio_law=law)  # type: ignore[arg-type]
    index = torch.arange(40 * len(SIZES))
    height, width = (torch.tensor(sides).repeat(40) for sides in zip(*SIZES, strict=True))
    box = draw_box(crop, index, seed=5, epoch=2, view_number=1, height=height, width=width)
    u = uniform(stream(5, 2, 1), index, Draw.TRIES, 2 * tries).tolist()
    place = uniform(stream(5, 2, 1), index, Draw.TOP, 2).tolist()
    for row in index.tolist():
        expected = oracle(crop, u[row], place[row], int(height[row]), int(width[row]))
        assert [int(side[row]) for side in box] == expected, (height[row], width[row])


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    law=st.sampled_from(LAWS),
    area=st.tuples(st.floats(0, 1), st.floats(0.1, 1)).map(lambda a: (min(a), max(a))),
)
def test_boxes_lie_inside_the_image(
    height: int, width: int, law: str, area: tuple[float, float]
) -> None:
    crop = Crop(area=area, ratio_law=law)  # type: ignore[arg-type]
    box = draw_box(crop, torch.arange(50), **PLACE, height=height, width=width)
    assert (box.top >= 0).all() and (box.left >= 0).all()
    assert (box.height >= 1).all() and (box.width >= 1).all()
    assert (box.top + box.height <= height).all() and (box.left + box.width <= width).all()


@pytest.mark.parametrize("law", ["log_uniform", "byol"])
@pytest.mark.parametrize("ratio", [(30.0, 40.0), (0.02, 0.03), (3 / 4, 4 / 3)])
@pytest.mark.parametrize("area", [(0.08, 1.0), (1e-6, 1e-5)])
def test_boxes_have_a_pixel(
    law: Any, ratio: tuple[float, float], area: tuple[float, float]
) -> None:
    crop = Crop(area=area, ratio=ratio, ratio_law=law)
    box = draw_box(crop, torch.arange(64), **PLACE, height=8, width=8)
    assert (box.height >= 1).all() and (box.width >= 1).all()
    assert (box.top + box.height <= 8).all() and (box.left + box.width <= 8).all()
    if area[1] < 1 and law == "byol":
        assert (box.height * box.width == 1).all()


def test_boxes_are_distributed_as_torchvisions() -> None:
    torch.manual_seed(0)
    image = torch.empty(3, 300, 400)
    theirs = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)]
    box = draw_box(Crop(), torch.arange(3000), **PLACE, height=300, width=400)
    ours, reference = torch.stack(list(box)).double(), torch.tensor(theirs).T.double()
    spread = (ours.var(dim=1) / 3000 + reference.var(dim=1) / 3000).sqrt()
    assert ((ours.mean(dim=1) - reference.mean(dim=1)).abs() < 4 * spread).all()
    assert (ours.std(dim=1) / reference.std(dim=1) - 1).abs().max() < 0.08


@pytest.mark.parametrize(
    ("height", "width", "area", "cut"), [(375, 500, 0.518, 0.262), (224, 224, 0.533, 0.144)]
)
def test_boxes_of_byol_have_the_area_and_the_cuts_of_the_official_law(
    height: int, width: int, area: float, cut: float
) -> None:
    """Means of the official law, to three digits; torchvision's redraws give less of both."""
    count = 100_000
    for law in ("byol", "log_uniform"):
        crop = Crop(ratio_law=law)  # type: ignore[arg-type]
        box = draw_box(crop, torch.arange(count), **PLACE, height=height, width=width)
        share = (box.height * box.width) / (height * width)
        whole = ((box.height == height) | (box.width == width)).double().mean()
        near = abs(share.mean() - area) < 0.0035 and abs(whole - cut) < 0.006
        assert near == (law == "byol"), (law, share.mean(), whole)
    box = draw_box(Crop(ratio_law="byol"), torch.arange(count), **PLACE, height=height, width=width)
    for start, side, length in ((box.top, box.height, height), (box.left, box.width, width)):
        free = length - side
        assert (start[free > 0] == free[free > 0]).any()  # the last place too
        assert ((start + 0.5) / (free + 1)).mean().sub(0.5).abs() < 0.005


def test_sizes_per_image_equal_sizes_given_one_by_one() -> None:
    sides = torch.tensor([40, 64, 500])
    batch = draw_box(Crop(), torch.arange(3), **PLACE, height=sides, width=sides.flip(0))
    for row in range(3):
        one = draw_box(
            Crop(),
            torch.tensor([row]),
            **PLACE,
            height=int(sides[row]),
            width=int(sides[2 - row]),
        )
        assert [int(side[row]) for side in batch] == [int(side) for side in one]


def test_parameters_move_together() -> None:
    params = draw(View(), torch.arange(3), **PLACE, height=9, width=9)
    moved = params.to(torch.device("meta"))
    assert isinstance(moved.box, Box) and isinstance(moved.look, Look)
    assert {field.device.type for field in (*moved.box, *moved.look)} == {"meta"}


def test_parameters_arrive_as_they_were_sent() -> None:
    crop = Crop(ratio_law="uniform")
    params = draw(View(crop=crop), torch.arange(7), **PLACE, height=90, width=61)
    arrived = params.to(torch.device("cpu", 0))  # not the same as "cpu", so it is a journey
    for sent, there in zip((*params.box, *params.look), (*arrived.box, *arrived.look), strict=True):
        assert there.data_ptr() != sent.data_ptr()
        assert there.dtype == sent.dtype and torch.equal(there, sent)
