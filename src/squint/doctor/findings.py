"""What an examination says: findings, in sections, each with the facts it was drawn from."""

from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found."""

    level: Level
    text: str
    advice: str = ""
    """What to do about it; every problem has some."""
    prevents_training: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """The findings about one subject."""

    title: str
    findings: tuple[Finding, ...]
    facts: Any
    """A dataclass of plain values: what the findings were drawn from."""
    command: str = ""
    """To copy, if the section ends in one."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole examination."""

    sections: tuple[Section, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Those of all sections."""
        return tuple(each for section in self.sections for each in section.findings)

    @property
    def prevents_training(self) -> bool:
        """Whether something found has to be mended before training can work."""
        return any(finding.prevents_training for finding in self.findings)


def ok(text: str) -> Finding:
    """As it should be."""
    return Finding(level="ok", text=text)


def note(text: str, advice: str = "") -> Finding:
    """Worth knowing, not wrong."""
    return Finding(level="note", text=text, advice=advice)


def problem(text: str, advice: str, *, prevents_training: bool = False) -> Finding:
    """Wrong, with what to do."""
    return Finding(level="problem", text=text, advice=advice, prevents_training=prevents_training)
