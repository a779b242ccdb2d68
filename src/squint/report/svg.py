"""Line charts as SVG: coloured by the page's style sheet, thinned, ticks at round numbers."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from squint.report.markup import Html, tag

WIDTH, HEIGHT = 400.0, 200.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 12.0, 10.0, 34.0
_COLUMNS = 140
"""Of a thinned line, each with its lowest and highest point."""
_LOG_FROM = 100.0
"""Ratio of highest to lowest number from which an axis of positive numbers is logarithmic."""
SHAPES = ("circle", "square", "diamond", "triangle")
_TURNS = 7
"""Colours of the style sheet before they repeat."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Numbers of one run along training."""

    name: str
    slot: int
    """Place of the run on the page, which gives colour and shape."""
    points: Sequence[tuple[float, float]]
    dashed: bool = False
    """A limit, not a measurement."""

    @cached_property
    def finite(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [(x, y) for x, y in self.points if math.isfinite(y)]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Numbers to pixels along one axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a number."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def chart(
    lines: Sequence[Line],
    *,
    label: str,
    across: str,
    percent: bool,
    log: bool,
    least: Sequence[float] = (),
) -> Html:
    """A chart of several lines.

    Args:
        lines: at least one has a finite point.
        label: the whole in words, for those who can't see it.
        across: what runs from left to right.
        percent: the numbers are shares.
        log: a logarithmic axis may be used.
        least: numbers that the upright axis has in any case.
    """
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.finite]
    log = log and min(ys) > 0 and max(ys) / min(ys) > _LOG_FROM
    left = 0.0 if min(xs) < max(xs) / 3 else min(xs)
    x = Scale(low=left, high=max(xs) + (max(xs) == left), start=_LEFT, end=WIDTH - _RIGHT)
    y = _upright(min([*ys, *least]), max([*ys, *least]), log=log)
    return tag(
        "svg",
        _grid(y, percent=percent),
        _ticks_below(x, across),
        (_drawn(line, x, y) for line in lines),
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_label=label,
    )


def _upright(low: float, high: float, *, log: bool) -> Scale:
    """The axis for such numbers, with a margin."""
    start, end = HEIGHT - _BOTTOM, _TOP
    if log:
        return Scale(low=low / 1.2, high=high * 1.2, start=start, end=end, log=True)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    floor = 0.0 if 0 <= low < room else low - room  # nothing below 0 for the margin's sake
    return Scale(low=floor, high=high + room, start=start, end=end)


def _grid(y: Scale, *, percent: bool) -> Iterator[Html]:
    ticks = log_ticks(y.low, y.high) if y.log else round_ticks(y.low, y.high)
    for tick, text in zip(ticks, tick_texts(ticks, percent=percent), strict=True):
        height = _px(y(tick))
        yield tag("path", d=f"M{_LEFT:g} {height}H{WIDTH - _RIGHT:g}", class_="grid")
        yield tag("text", text, x=_LEFT - 7, y=height, dy=".35em", text_anchor="end")
    if y.log:
        yield tag("text", "log", x=_LEFT - 7, y=HEIGHT - 5, text_anchor="end", class_="quiet")


def _ticks_below(x: Scale, across: str) -> Iterator[Html]:
    bottom = HEIGHT - _BOTTOM
    yield tag("path", d=f"M{_LEFT:g} {bottom:g}H{WIDTH - _RIGHT:g}", class_="axis")
    ticks = round_ticks(x.low, x.high, most=5)
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        at = _px(x(tick))
        yield tag("path", d=f"M{at} {bottom:g}v4", class_="axis")
        yield tag("text", text, x=at, y=bottom + 15, text_anchor="middle")
    yield tag("text", across, x=WIDTH - _RIGHT, y=HEIGHT - 5, text_anchor="end", class_="quiet")


def _drawn(line: Line, x: Scale, y: Scale) -> Html:
    places = [(x(u), y(v)) if math.isfinite(v) else (x(u), math.nan) for u, v in line.points]
    kind = "line cap" if line.dashed else "line"
    path = tag("path", d=_path(thinned(places)), class_=kind)
    lost = sorted({round(u) for u, v in places if math.isnan(v)})
    crosses = "".join(f"M{u - 3} {_TOP:g}l6 6m0-6l-6 6" for u in lost)
    marks = tag("path", tag("title", "not a finite number"), d=crosses, class_="lost")
    end = next((place for place in reversed(places) if not math.isnan(place[1])), None)
    dot = marker(line.slot, *end) if end and not line.dashed else None
    content = (tag("title", line.name), path, marks if lost else None, dot)
    return tag("g", content, class_=f"s{line.slot % _TURNS}")


def marker(slot: int, x: float, y: float) -> Html:
    """The sign of a run, told from others without colour too."""
    u, v = float(_px(x)), float(_px(y))
    paths = {
        "circle": f"M{u - 3.5:g} {v:g}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
        "square": f"M{u - 3:g} {v - 3:g}h6v6h-6z",
        "diamond": f"M{u:g} {v - 4.4:g}l4.4 4.4l-4.4 4.4l-4.4-4.4z",
        "triangle": f"M{u:g} {v - 4:g}l4.2 7.2h-8.4z",
    }
    shape = SHAPES[(slot + 2 * (slot // _TURNS)) % len(SHAPES)]
    return tag("path", d=paths[shape], class_="dot")


def sign(slot: int) -> Html:
    """The sign of a run for a line of text."""
    inside = tag("g", marker(slot, 6.0, 6.0), class_=f"s{slot % _TURNS}")
    return tag("svg", inside, viewBox="0 0 12 12", class_="sign", aria_hidden="true")


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most a few points for each column of pixels: first, lowest, highest, last; NaN is a gap.

    A curve looks the same and keeps its extremes.
    """
    if len(points) <= 2 * _COLUMNS:
        return list(points)
    width = (WIDTH - _LEFT - _RIGHT) / _COLUMNS
    columns: dict[int, list[tuple[float, float]]] = {}
    for point in points:
        columns.setdefault(int(point[0] / width), []).append(point)
    kept = [points[0]]
    for column in columns.values():
        finite = [point for point in column if not math.isnan(point[1])]
        ends = {min(finite, key=lambda p: p[1]), max(finite, key=lambda p: p[1])} if finite else ()
        kept += sorted(ends)
        kept += [point for point in column if math.isnan(point[1])][:1]
    return [*kept, points[-1]]


def _path(points: Sequence[tuple[float, float]]) -> str:
    parts: list[str] = []
    pen = "M"
    for x, y in points:
        if math.isnan(y):
            pen = "M"
            continue
        parts.append(f"{pen}{_px(x)} {_px(y)}")
        pen = "L"
    return "".join(parts)


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def round_ticks(low: float, high: float, *, most: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two numbers, at most about `most`."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [count * step for count in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between two numbers, every so many that they stand apart."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    return [10.0**power for power in range(first, last + 1, max(1, (last - first) // 4))]


def tick_texts(ticks: Sequence[float], *, percent: bool = False) -> list[str]:
    """Labels with as many digits as tell the ticks apart."""
    factor, unit = (100, "%") if percent else (1, "")
    numbers = [round(factor * tick, 12) for tick in ticks]
    if any(0 < abs(x) < 1e-3 or abs(x) >= 1e6 for x in numbers):
        return [f"{x:g}".replace("e-0", "e-").replace("e+0", "e") + unit for x in numbers]
    digits = max((len(f"{x:.6g}".partition(".")[2]) for x in numbers), default=0)
    logarithmic = len(numbers) > 1 and numbers[1] > 5 * numbers[0] > 0
    return [(f"{x:,g}" if logarithmic else f"{x:,.{digits}f}") + unit for x in numbers]
