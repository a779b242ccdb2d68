"""The picture of a sweep whose runs were measured by different protocols."""

from pathlib import Path
from typing import Any

import pytest

from squint.evaluate import figures, frontier


class Axes:
    """Notes what is written beside the points."""

    def __init__(self) -> None:
        self.written: list[tuple[str, float, float]] = []

    def get_xlim(self) -> tuple[float, float]:
        return 0.0, 10.0

    def get_ylim(self) -> tuple[float, float]:
        return 0.0, 100.0

    def annotate(self, text: str, place: tuple[float, float], **_: Any) -> None:
        self.written.append((text, *place))

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def entry(mean: float) -> dict[str, Any]:
    return {"mean": mean, "std": None, "n": 1}


def test_a_run_without_an_accuracy_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = [
        {"value": "0", "rate_nats": entry(9.0)},
        {"value": "1", "rate_nats": entry(3.0), "knn_top1": entry(0.5), "linear_top1": entry(0.6)},
        {"value": "2", "rate_nats": entry(2.0), "linear_top1": entry(0.4)},
        {"value": "3", "knn_top1": entry(0.3)},
    ]
    sweep = {"recipe": "c-simclr", "over": "compression.beta", "values": ["0", "1", "2", "3"]}
    axes = Axes()
    monkeypatch.setattr(figures, "save", lambda draw, *_: draw(axes, figures.LIGHT))
    frontier.draw_frontier(sweep | {"summary": summary}, tmp_path)
    assert axes.written == [("1", 3.0, 60.0), ("2", 2.0, 40.0)]
    axes.written.clear()
    frontier.draw_frontier(sweep | {"summary": summary[:1]}, tmp_path)
    assert not axes.written


def test_points_that_look_the_same_share_a_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {"0": 132.473, "0.1": 132.4731, "1": 140.0}
    summary = [
        {"value": v, "rate_nats": entry(r), "knn_top1": entry(0.5)} for v, r in rates.items()
    ]
    sweep = {"recipe": "c-simclr", "over": "compression.beta", "values": list(rates)}
    axes = Axes()
    monkeypatch.setattr(figures, "save", lambda draw, *_: draw(axes, figures.LIGHT))
    frontier.draw_frontier(sweep | {"summary": summary}, tmp_path)
    assert axes.written == [("0, 0.1", 132.473, 50.0), ("1", 140.0, 50.0)]
