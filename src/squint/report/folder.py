"""What a run folder says; a file that is missing or damaged is noted, never an error."""

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from squint.runs import Run

_HUGE = 1e300
"""From here on a number counts as none: differences of such numbers can't be drawn."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """One run as it lies on disk."""

    path: Path
    title: str
    """Short name that tells it from the other runs of the page."""
    source: str
    derived: Mapping[str, Any]
    version: str
    """Of Squint, that made the run."""
    recipe: Mapping[str, Any]
    """Encoded tree, of whatever version."""
    records: Sequence[Mapping[str, Any]]
    sessions: Sequence[Mapping[str, Any]]
    """Starts and resumptions."""
    evaluation: Sequence[Mapping[str, Any]]
    """Tables of evaluation.json, the latest first."""
    unreadable: Sequence[str]
    """Lines of quarantine.txt."""
    pictures: Sequence[str]
    begun: str
    last: str
    """Date and time of the last line of metrics; "" without one."""
    problems: Sequence[str] = field(default=())
    """Sentences about files that are damaged."""

    @property
    def method(self) -> str:
        """The method's name, with c- if it is compressed."""
        compressed = mapping(self.recipe.get("compression")).get("kind") == "ceb"
        return ("c-" if compressed else "") + str(mapping(self.recipe.get("method")).get("kind"))

    @property
    def results(self) -> Mapping[str, Any]:
        """Entries of the latest evaluation by name."""
        return mapping(self.evaluation[0].get("results")) if self.evaluation else {}

    def setting(self, group: str, name: str) -> Any:
        """A field of the recipe, or None."""
        return mapping(self.recipe.get(group)).get(name)

    def latest(self, name: str) -> float | None:
        """The last number that was logged under a name."""
        found = (number(record.get(name)) for record in reversed(self.records))
        return next((value for value in found if value is not None), None)

    @property
    def steps(self) -> int:
        """Optimizer steps that are on record."""
        return int(max((float(r["step"]) for r in self.records), default=0.0))

    def command(self, verb: str, rest: str = "") -> str:
        """A command about this run, as a shell takes it."""
        return f"squint {verb} {shlex.quote(str(self.path))} {rest}".rstrip()

    @property
    def finished(self) -> bool:
        """Whether the last step of the plan is on record."""
        return self.steps >= (number(self.derived.get("total_steps")) or math.inf)


def read(run: Run, title: str) -> Folder:
    """A run folder.

    Raises:
        RunError: it is no run.
    """
    source, derived = run.source, run.derived  # refuses what is no run
    problems: list[str] = []
    manifest = _json(run.path / "recipe.json", problems)
    table = _json(run.path / "evaluation.json", problems)
    others = table.get("others", [])
    tables = [table, *(others if isinstance(others, list) else [])] if table else []
    sessions = _json(run.path / "environment.json", problems).get("sessions", [])
    quarantine = _text(run.path / "quarantine.txt", problems)
    return Folder(
        path=run.path,
        title=title,
        source=str(source),
        derived=mapping(derived),
        version=str(manifest.get("squint", "")),
        recipe=mapping(manifest.get("recipe")),
        records=list(_records(run.metrics, problems)),
        sessions=[mapping(each) for each in sessions] if isinstance(sessions, list) else [],
        evaluation=[mapping(each) for each in tables],
        unreadable=quarantine.splitlines(),
        pictures=sorted(
            path.name
            for path in (run.path / "figures").glob("*.png")
            if not path.stem.endswith("-dark")
        ),
        begun=_date(run.path / "recipe.json"),
        last=_date(run.metrics),
        problems=problems,
    )


def _records(path: Path, problems: list[str]) -> Iterator[Mapping[str, Any]]:
    """Lines of metrics.jsonl that have a step; the last may still be being written."""
    lines = _text(path, problems).splitlines()
    bad = 0
    for place, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            bad += place < len(lines)
            continue
        step = number(mapping(record).get("step"))
        if step is not None and math.isfinite(step):
            yield record
        else:
            bad += 1
    if bad:
        problems.append(f"{path}: {bad:,} of {len(lines):,} lines are damaged and left out.")


def _json(path: Path, problems: list[str]) -> Mapping[str, Any]:
    """The object in a JSON file; {} if there is none."""
    text = _text(path, problems)
    if not text and not path.exists():
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        problems.append(f"{path} is damaged; nothing of it is shown.")
    return mapping(found)


def _text(path: Path, problems: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        problems.append(f"{path} can't be read: {error.strerror or error}.")
        return ""


def _date(path: Path) -> str:
    """When a file was last written; "" if it is not there."""
    try:
        written = datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)
    except OSError:
        return ""
    return f"{written:%Y-%m-%d %H:%M} UTC"


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def number(value: Any) -> float | None:
    """The value if it is a number, NaN if that is not finite, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _HUGE else math.nan
