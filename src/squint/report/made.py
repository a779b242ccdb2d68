"""How the runs of a page were made, and how to make them again."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from squint.codec import leaves
from squint.report.folder import Folder, mapping
from squint.report.markup import Html, details, section, table, tag

_NAMED = 10
"""Unreadable images that are named."""


def made(folders: Sequence[Folder]) -> Html:
    """The section."""
    titles = [f.title for f in folders]
    recipes = [_flat(f.recipe) | _flat({"derived": f.derived}) for f in folders]
    places = [_environment(f) for f in folders]
    apart = _rows(recipes, only_different=True)
    differences = table(None, ["field", *titles], apart, class_="facts") if apart else None
    heading = tag("h3", "Recipes: what differs") if len(folders) > 1 else None
    same = tag("p", "The recipes are the same.") if len(folders) > 1 and not apart else None
    full = details(
        "The full recipes", table(None, ["field", *titles], _rows(recipes), class_="facts")
    )
    where = table(None, ["", *titles], _rows(places), class_="facts")
    return section(
        "made",
        "How it was made",
        (heading, same, differences, full),
        (tag("h3", "Environment"), where),
        (tag("h3", "Commands"), map(_commands, folders)),
        (tag("h3", "Unreadable images"), map(_unreadable, folders)),
    )


def _flat(tree: Mapping[str, Any]) -> dict[str, str]:
    """Every field by its dotted name, with the kinds of method and compression."""
    kinds = {
        f"{name}.kind": str(group["kind"])
        for name, group in tree.items()
        if isinstance(group, Mapping) and "kind" in group
    }
    return kinds | {name: _said(value) for name, value in leaves(tree).items()}


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_said, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _rows(
    columns: Sequence[Mapping[str, str]], *, only_different: bool = False
) -> dict[str, list[str]]:
    names = dict.fromkeys(name for column in columns for name in column)
    rows = {name: [column.get(name, "–") for column in columns] for name in names}
    return {n: cells for n, cells in rows.items() if not only_different or len(set(cells)) > 1}


def _environment(folder: Folder) -> dict[str, str]:
    """Of the last session, and how many there were."""
    if not folder.sessions:
        return {"sessions": "none on record"}
    last = {k: v for k, v in folder.sessions[-1].items() if k != "command"}
    versions, machine = mapping(last.pop("versions", None)), mapping(last.pop("machine", None))
    flat = {**leaves(versions), **leaves(machine), **leaves(last)}
    return {"sessions": str(len(folder.sessions))} | {k: _said(v) for k, v in flat.items() if v}


def _commands(folder: Folder) -> Html:
    given = [_command(session) for session in folder.sessions]
    evaluated = [_command(mapping(t.get("environment"))) for t in folder.evaluation[:1]]
    again = _again(folder)
    return tag(
        "div",
        tag("h4", folder.title),
        _listed("As given", given),
        _listed("Measured last by", evaluated),
        _listed("Again, from the command line", [again] if again else []),
        _listed("Again from recipe.json, whoever made it", [_python(folder)]),
        tag("p", "It is finished: nothing is left to resume.", class_="note")
        if folder.finished
        else _listed("Go on where it stopped", [folder.command("resume")]),
    )


def _listed(title: str, commands: Sequence[str]) -> Html | None:
    if not (commands := [command for command in commands if command]):
        return None
    said = "\n".join(commands)
    return tag("div", tag("small", title), tag("pre", tag("code", said)))


def _words(session: Mapping[str, Any]) -> list[str]:
    command = session.get("command")
    return [str(word) for word in command] if isinstance(command, list) else []


def _command(session: Mapping[str, Any]) -> str:
    return shlex.join(_words(session))


def _again(folder: Folder) -> str:
    """The first command with another --out, where it was `squint pretrain`."""
    words = next((_words(s) for s in folder.sessions), [])
    if words[1:2] != ["pretrain"] or words[0] not in ("squint", "__main__.py"):
        return ""
    kept = [word for word in ["squint", *words[1:]] if word != "--overwrite"]
    for place, word in enumerate(kept):
        if word == "--out" and place + 1 < len(kept):
            kept[place + 1] += "-again"
        elif word.startswith("--out="):
            kept[place] += "-again"
    directory = str(folder.sessions[0].get("directory", ""))
    moved = f"cd {shlex.quote(directory)}\n" if directory else ""
    return moved + shlex.join(kept)


def _python(folder: Folder) -> str:
    return (
        "from pathlib import Path\n"
        "import squint\n"
        f"run = squint.Run(Path({str(folder.path)!r}))\n"
        f"squint.pretrain(run.source, recipe=run.recipe, out={f'{folder.path}-again'!r})"
    )


def _unreadable(folder: Folder) -> Iterator[Html]:
    count = len(folder.unreadable)
    if not count:
        yield tag("p", f"{folder.title}: none.")
        return
    yield tag("p", f"{folder.title}: {count:,}, listed in {folder.path / 'quarantine.txt'}.")
    first = (line.partition("\t") for line in folder.unreadable[:_NAMED])
    yield tag("ul", (tag("li", path, f": {why}" if why else None) for path, _, why in first))
    if count > _NAMED:
        yield tag("p", f"… and {count - _NAMED:,} more.", class_="note")
