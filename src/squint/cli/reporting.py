"""Verbs that show what is on record: report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from squint.cli.flags import parse


def report(arguments: list[str]) -> None:
    """Runs as one HTML page."""
    import tyro

    @dataclass(frozen=True, kw_only=True)
    class ReportFlags:
        """Write runs side by side as one HTML page that needs no network and no other file."""

        runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
        """Run folders, or folders of sweeps, which stand for their runs."""
        out: Annotated[Path | None, tyro.conf.arg(metavar="F.html")] = None
        """File to write; report.html in the folder if only one is given."""
        overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
        """Replace the file that is there."""

    flags = parse(ReportFlags, arguments, verb="report")
    from squint.report import report as write

    where = write(flags.runs, out=flags.out, overwrite=flags.overwrite)
    print(f"{where}: {where.stat().st_size / 1000:,.0f} kB")
