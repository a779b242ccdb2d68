"""Figures: two files, same pixels for the same numbers, nothing half written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from squint.evaluate import figures


def draw(axes: Any, theme: figures.Theme) -> None:
    axes.plot([0, 1, 2], [3, 1, 2], label="rate")
    axes.set_title("Rate over training")
    axes.legend()


def test_light_and_dark_of_one_size(tmp_path: Path) -> None:
    light, dark = figures.save(draw, tmp_path / "figures", "rate")
    assert (light.name, dark.name) == ("rate.png", "rate-dark.png")
    with Image.open(light) as a, Image.open(dark) as b:
        assert a.size == b.size == (1152, 720)
        bright, dim = np.asarray(a.convert("L")), np.asarray(b.convert("L"))
    assert np.median(bright) == 255
    assert np.median(dim) < 40
    assert bright.min() < 60  # there is ink
    assert dim.max() > 200


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    first = figures.save(draw, tmp_path, "a")
    second = figures.save(draw, tmp_path, "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_a_failing_figure_leaves_the_old_file(tmp_path: Path) -> None:
    light, _ = figures.save(draw, tmp_path, "rate")
    before = light.read_bytes()

    def broken(axes: Any, theme: figures.Theme) -> None:
        raise ValueError("no numbers")

    with pytest.raises(ValueError, match="no numbers"):
        figures.save(broken, tmp_path, "rate")
    assert light.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_hardly_different_numbers_are_not_spread_over_the_axes(tmp_path: Path) -> None:
    seen: list[Any] = []

    def close(axes: Any, theme: figures.Theme) -> None:
        axes.plot([132.473, 132.474], [0.1, 0.2])
        figures.widen(axes, x=0.5, y=8.0)
        axes.figure.canvas.draw()
        seen.append((axes.get_xlim(), axes.get_ylim(), axes.xaxis.get_major_formatter()))

    figures.save(close, tmp_path, "close")
    (left, right), (bottom, top), ticks = seen[0]
    assert right - left == pytest.approx(0.5) and left < 132.473 < right
    assert (bottom, top) == (0, 8), "shares below 0 are none"
    assert not ticks.get_offset()
