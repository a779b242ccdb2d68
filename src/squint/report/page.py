"""`squint.report.report`: runs as one HTML page that needs nothing else."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from squint import __version__, files
from squint import runs as run_files
from squint.errors import RunError
from squint.report.answer import answer
from squint.report.curves import curves
from squint.report.folder import Folder, read
from squint.report.made import made
from squint.report.markup import Html, tag
from squint.report.measured import measured
from squint.report.style import sheet
from squint.report.sweeps import runs_of, summaries
from squint.runs import Run

FILE = "report.html"

_LONGEST = 60
"""Characters of names of runs in the title of a page; more of them are only counted."""

Where = str | Path | Run
"""A run, or a folder of `squint sweep`, which stands for its runs."""


def report(
    runs: Where | Sequence[Where], *, out: str | Path | None = None, overwrite: bool = False
) -> Path:
    """Write runs side by side as one HTML page; returns the file.

    Only JSON and text files of the folders are read; what is missing or damaged is said on the
    page, with the command that makes it.

    Args:
        runs: run folders, or folders of sweeps.
        out: the file; report.html in the folder if there is only one.
        overwrite: replace a file that is there.

    Raises:
        RunError: a folder is no run, or the file can't be written.
    """
    given = [runs] if isinstance(runs, str | Path | Run) else list(runs)
    paths = [run.path if isinstance(run, Run) else Path(run) for run in given]
    paths = list({path.resolve(): path for path in paths}.values())
    if not paths:
        raise RunError("No run was given. Give at least one folder that `squint pretrain` wrote.")
    inside = [run for path in paths for run in runs_of(path) or [path]]
    folders = [_read(path, title) for path, title in zip(inside, _titles(inside), strict=True)]
    where = _checked(paths, out, overwrite=overwrite)
    page = document(folders, summaries(paths))
    with run_files.replacing(where) as temporary:
        temporary.write_bytes(page.encode("utf-8", errors="replace"))
    return where


def document(folders: Sequence[Folder], *more: Html | None) -> str:
    """The page.

    Args:
        folders: at least one run.
        *more: sections that come after the answer.
    """
    title = " · ".join(f.title for f in folders)
    if len(title) > _LONGEST and len(folders) > 1:
        title = f"{len(folders)} runs of {', '.join(dict.fromkeys(f.method for f in folders))}"
    written = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    parts = {
        "answer": "Answer",
        "curves": "Curves",
        "measured": "Evaluation",
        "made": "How it was made",
    }
    links = (tag("a", name, href=f"#{place}") for place, name in parts.items())
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width,initial-scale=1"),
        tag("meta", name_="generator", content=f"Squint {__version__}"),
        tag("title", f"{title} – Squint"),
        tag("style", Html(sheet())),
    )
    body = tag(
        "body",
        tag(
            "header", tag("h1", title), tag("p", _lead(folders), class_="quiet"), tag("nav", links)
        ),
        tag("main", answer(folders), more, curves(folders), measured(folders), made(folders)),
        tag("footer", f"Written {written} by Squint {__version__} from the files of the runs."),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _lead(folders: Sequence[Folder]) -> str:
    """What the page is about, in one line."""
    count = len(folders)
    sources = dict.fromkeys(f.source for f in folders)
    where = next(iter(sources)) if len(sources) == 1 else f"{len(sources)} sources of images"
    done = sum(f.finished for f in folders)
    state = (
        "finished" if done == count else f"{done} of {count} finished" if done else "not finished"
    )
    what = "One run" if count == 1 else f"{count} runs side by side"
    return f"{what}, trained without labels on {where}; {state}."


def _read(path: Path, title: str) -> Folder:
    try:
        return read(Run(path), title)
    except RunError:
        around = sorted(p.parent for p in path.glob("*/recipe.json")) if path.is_dir() else []
        if not around or (path / "recipe.json").exists():
            raise
        named = " ".join(shlex.quote(str(p)) for p in around[:3]) + (" …" if around[3:] else "")
        raise RunError(
            f"{path} is not a run, it holds runs. Give them: squint report {named} --out F.html"
        ) from None


def _titles(paths: Sequence[Path]) -> list[str]:
    """The shortest end of each path that tells it from all others."""
    whole = [path.resolve().parts for path in paths]
    ends: list[str] = []
    for parts in whole:
        length = 1
        while sum(other[-length:] == parts[-length:] for other in whole) > 1:
            length += 1
        ends.append("/".join(parts[-length:]))
    return ends


def _checked(paths: Sequence[Path], out: str | Path | None, *, overwrite: bool) -> Path:
    """Where the page goes, if it may be written there.

    Raises:
        RunError: it may not.
    """
    if out is None and len(paths) > 1:
        raise RunError(
            f"A page of {len(paths)} runs belongs to none of them: say where with --out F.html."
        )
    where = paths[0] / FILE if out is None else Path(out)
    files.check_file(where, overwrite=overwrite)
    return where
