"""How each number was measured: protocols as numbered notes below their tables."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from squint.evaluate.table import title_of
from squint.report.folder import Folder, mapping
from squint.report.markup import Html, safe, tag

_VIEW = "evaluation view: "
_LETTERS = "EFGHKLMN"


class Notes:
    """Protocols, numbered in the order in which they are met; the same words have one number."""

    def __init__(self, folders: Sequence[Folder]) -> None:
        self._numbers: dict[str, int] = {}
        self._placed: set[int] = set()
        self._folders = folders
        self._ends = _endings(dict.fromkeys(said for f in folders for said in _protocols(f)))

    def of(self, name: str) -> Mapping[str, Sequence[str]]:
        """The protocols of a result, and the runs that were measured so."""
        found: dict[str, list[str]] = {}
        for folder in self._folders:
            if said := mapping(folder.results.get(name)).get("protocol"):
                found.setdefault(str(said), []).append(folder.title)
        return found

    def marks(self, name: str) -> Html:
        """Links to the protocols of a result."""
        full: dict[str, list[str]] = {}
        for said in self.of(name):
            full.setdefault(self._short(said), []).append(said)
        return tag("sup", (self._mark(short, said) for short, said in full.items()))

    def shared(self) -> Html | None:
        """What many protocols end with, said once and called by a letter."""
        said = ([tag("b", letter), f": {end[2:]}. "] for end, letter in self._ends.items())
        lead = "Notes that end in a letter go on as follows. "
        return tag("p", lead, said, class_="note") if self._ends else None

    def listed(self, names: Sequence[str]) -> Html:
        """The protocols of some results in full."""
        whose: dict[str, list[str]] = {}
        for name in names:
            runs: dict[str, list[str]] = {}
            for said, titles in self.of(name).items():
                runs.setdefault(self._short(said), []).extend(titles)
            for short, titles in runs.items():
                among = f" ({', '.join(titles)})" if len(runs) > 1 else ""
                whose.setdefault(short, []).append(title_of(name).strip() + among)
        items = (self._item(short, of, names) for short, of in whose.items())
        return tag("ol", items, class_="protocols")

    def _item(self, short: str, of: Sequence[str], names: Sequence[str]) -> Html:
        """A note; links lead to where it stands first."""
        count = self._number(short)
        place = None if count in self._placed else f"protocol-{count}"
        self._placed.add(count)
        title = "; ".join(of)
        said = short.removeprefix(f"{title}: ")
        content = (tag("b", title), ": ", said, self._letters(short, names))
        return tag("li", content, id=place, value=count)

    def _letters(self, short: str, names: Sequence[str]) -> Iterator[Html]:
        """How a note goes on, for whom if not for all in one way."""
        runs: dict[str, dict[str, None]] = {}
        for said, titles in (pair for name in names for pair in self.of(name).items()):
            if self._short(said) == short != said:
                runs.setdefault(self._ends[_ending(said)], {}).update(dict.fromkeys(titles))
        for place, (letter, titles) in enumerate(runs.items()):
            among = f" ({', '.join(titles)})" if len(runs) > 1 else ""
            yield safe((", " if place else "; ", tag("b", letter), among))

    def _short(self, said: str) -> str:
        """A protocol without an end that has a letter."""
        end = _ending(said)
        return said.removesuffix(end) if end in self._ends else said

    def _number(self, short: str) -> int:
        return self._numbers.setdefault(short, len(self._numbers) + 1)

    def _mark(self, short: str, said: Sequence[str]) -> Html:
        count = self._number(short)
        return tag("a", str(count), href=f"#protocol-{count}", title="\n\n".join(said))


def agree(protocols: Iterable[str]) -> bool:
    """Whether numbers were measured in one way, each encoder in its own evaluation view."""
    ways = {tuple(c for c in said.split("; ") if not c.startswith(_VIEW)) for said in protocols}
    return len(ways) == 1


def _endings(protocols: Iterable[str]) -> dict[str, str]:
    """Ends of at least two protocols, with a letter for each, the most frequent first."""
    counts = Counter(end for said in protocols if (end := _ending(said)))
    often = [end for end, count in counts.most_common(len(_LETTERS)) if count > 1]
    return dict(zip(often, _LETTERS, strict=False))


def _ending(said: str) -> str:
    """From the evaluation view on, protocols are mostly the same."""
    _, found, rest = said.partition(f"; {_VIEW}")
    return found + rest


def _protocols(folder: Folder) -> Iterator[str]:
    found = (mapping(entry).get("protocol") for entry in folder.results.values())
    return (said for said in found if isinstance(said, str))
