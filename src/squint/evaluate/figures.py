"""Figures in the run folder: one size, one font, each drawn for light and for dark pages.

def bars(axes: Axes, theme: Theme) -> None:
    axes.bar(names, values, color=theme.series[0])

save(bars, run.path / "figures", "nuisance")      # nuisance.png and nuisance-dark.png
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squint import runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = "figures"
"""Of a run folder."""
SIZE = (7.2, 4.5)
"""Width and height in inches; a figure may be taller."""
_DOTS_PER_INCH = 160


@dataclass(frozen=True, kw_only=True, slots=True)
class Theme:
    """Colours of one version of a figure."""

    paper: str
    ink: str
    faint: str
    """Grid, borders, and text of second rank."""
    series: tuple[str, ...]
    """For lines and bars, told apart also by most colour-blind eyes (after Okabe & Ito 2008)."""
    shades: str
    """Matplotlib colour map for 0 to much; 0 is close to the paper."""


LIGHT = Theme(
    paper="#ffffff",
    ink="#1d1d26",
    faint="#9a9aa8",
    series=("#0072b2", "#d55e00", "#009e73", "#b5539c", "#a87900", "#3aa0dd", "#5c5c66"),
    shades="YlOrBr",
)
DARK = Theme(
    paper="#15161c",
    ink="#e8e8ee",
    faint="#6f7080",
    series=("#56b4e9", "#f28e4c", "#2fc79b", "#e08cc6", "#f0c14b", "#8ecbf0", "#b4b4c0"),
    shades="inferno",
)


def save(
    draw: Callable[["Axes", Theme], Any],
    folder: Path,
    name: str,
    *,
    height: float = SIZE[1],
) -> tuple[Path, Path]:
    """Draws a figure twice, light and dark; each file is written whole or not at all.

    Args:
        draw: puts everything on the axes it is given, colours by the theme.
        folder: made if it is not there.
        name: of the files: NAME.png, NAME-dark.png.
        height: in inches; the width is the same for all figures.

    Raises:
        RunError: the files can't be written.
    """
    import matplotlib  # here: half a second that only figures need
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{name}.png", folder / f"{name}-dark.png"
    for path, theme in zip(paths, (LIGHT, DARK), strict=True):
        with matplotlib.rc_context(_style(theme)), runs.replacing(path) as temporary:
            figure = Figure(figsize=(SIZE[0], height), dpi=_DOTS_PER_INCH, layout="constrained")
            draw(figure.subplots(), theme)
            figure.savefig(temporary, format="png", metadata={"Software": None})
    return paths


def widen(axes: "Axes", *, x: float, y: float = 0.0) -> None:
    """Let the axes span at least so much, so that hardly different points look alike."""
    for limits, set_limits, least in (
        (axes.get_xlim(), axes.set_xlim, x),
        (axes.get_ylim(), axes.set_ylim, y),
    ):
        low, high = limits
        if high - low < least:
            start = max((low + high - least) / 2, min(low, 0.0))  # not below 0 for its sake
            set_limits(start, start + least)


def _style(theme: Theme) -> Any:  # matplotlib's own key type is not public
    from cycler import cycler

    return {
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
        "font.size": 9.0,
        "axes.titlesize": 10.0,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.formatter.useoffset": False,
        "axes.prop_cycle": cycler(color=theme.series),
        "grid.color": theme.faint,
        "grid.alpha": 0.35,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "lines.markersize": 5.0,
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "axes.facecolor": theme.paper,
        "axes.edgecolor": theme.faint,
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
    }
