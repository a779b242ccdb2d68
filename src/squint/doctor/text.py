"""Findings as plain text of at most 100 columns, and as JSON."""

import dataclasses
import textwrap
from pathlib import Path
from typing import Any

from squint import __version__, runs
from squint.doctor.findings import Finding, Report, Section

WIDTH = 100
_INDENT = " " * 10


def of_section(section: Section) -> str:
    """A title, a few lines for each finding, and the command, if there is one, to copy."""
    parts = [section.title, *map(_of_finding, section.findings)]
    if section.command:
        parts.append(f"\n{_of_command(section.command)}")
    return "\n".join(parts) + "\n"


def verdict(report: Report) -> str:
    """One sentence about all findings."""
    problems = [each for each in report.findings if each.level == "problem"]
    stops = sum(each.prevents_training for each in problems)
    found = f"{len(problems)} problem{'s' * (len(problems) != 1)}"
    if not problems:
        return "No problems found."
    if not stops:
        return f"{found}; training can go ahead."
    which = "it has" if len(problems) == 1 else f"{stops} of them {'has' if stops == 1 else 'have'}"
    return f"{found}; {which} to be mended before training can work."


def human_bytes(count: float | int) -> str:
    """1536 -> 1.5 KiB."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return (
                f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
            )
        count /= 1024
    return f"{count:,.1f} GiB"


def human_seconds(seconds: float | int) -> str:
    """5400 -> 1.5 hours."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds" if seconds >= 1.5 else "a second"


def write_json(path: Path, report: Report) -> None:
    """All facts and findings, by section."""
    tree = {
        "squint": __version__,
        "prevents_training": report.prevents_training,
        "sections": {_key(each.title): _tree(each) for each in report.sections},
    }
    runs.write_json(path, tree)


def _key(title: str) -> str:
    return title.partition(":")[0].lower()


def _tree(section: Section) -> dict[str, Any]:
    tree = dataclasses.asdict(section)
    facts, command = tree.pop("facts"), tree.pop("command")
    findings = tree.pop("findings")
    return {"facts": facts, "findings": findings} | ({"command": command} if command else {})


def _of_finding(finding: Finding) -> str:
    told = _filled(finding.text, f"  {finding.level:8}")
    return f"{told}\n{_filled(finding.advice, f'{_INDENT}→ ')}" if finding.advice else told


def _filled(text: str, start: str) -> str:
    after = " " * len(start)
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=after,
        break_long_words=False,  # paths and commands are copied
        break_on_hyphens=False,
    )


def _of_command(command: str) -> str:
    """Over several lines where it is long, as a shell takes it."""
    start, *flags = command.split(" --")
    rows = [f"  {start}"]
    for flag in flags:
        if len(rows[-1]) + len(flag) > WIDTH - 6:
            rows[-1] += " \\"
            rows.append("     ")
        rows[-1] += f" --{flag}"
    return "\n".join(rows)
