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
        self._ends = _endings({said for f in folders for said in _protocols(f)})

    def of(self, name: str) -> Mapping[str, Sequence[str]]:
        """The protocols of a result, and the runs that were measured so."""
        found: dict[str, list[str]] = {}
        for folder in self._folders:
            if said := mapping(folder.results.get(name)).get("protocol"):
                found.setdefault(str(said), []).append(folder.title)
        return found

    def marks(self, name: str) -> Html:
        """Links to the protocols of a result."""
        return tag("sup", (self._mark(said) for said in self.of(name)))

    def shared(self) -> Html | None:
        """What many protocols end with, said once and called by a letter."""
        said = ([tag("b", letter), f": {end[2:]}. "] for end, letter in self._ends.items())
        lead = "Notes that end in a letter go on as follows. "
        return tag("p", lead, said, class_="note") if self._ends else None

    def listed(self, names: Sequence[str]) -> Html:
        """The protocols of some results in full."""
        whose: dict[str, list[str]] = {}
        for name in names:
            among = self.of(name)
            for said, runs in among.items():
                of = f" ({', '.join(runs)})" if len(among) > 1 else ""
                whose.setdefault(said, []).append(title_of(name).strip() + of)
        items = (self._item(self._number(said), said, of) for said, of in whose.items())
        return tag("ol", items, class_="protocols")

    def _item(self, count: int, said: str, of: Sequence[str]) -> Html:
        """A note; links lead to where it stands first."""
        place = None if count in self._placed else f"protocol-{count}"
        self._placed.add(count)
        return tag("li", self._said(said, of), id=place, value=count)

    def _said(self, said: str, of: Sequence[str]) -> Html:
        end = _ending(said)
        letter = self._ends.get(end)
        short = said.removesuffix(end) if letter else said
        title = "; ".join(of)
        after = ["; ", tag("b", letter)] if letter else None
        return safe((tag("b", title), ": ", short.removeprefix(f"{title}: "), after))

    def _number(self, said: str) -> int:
        return self._numbers.setdefault(said, len(self._numbers) + 1)

    def _mark(self, said: str) -> Html:
        count = self._number(said)
        return tag("a", str(count), href=f"#protocol-{count}", title=said)


def agree(protocols: Iterable[str]) -> bool:
    """Whether numbers were measured in one way, each encoder in its own evaluation view."""
    ways = {tuple(c for c in said.split("; ") if not c.startswith(_VIEW)) for said in protocols}
    return len(ways) == 1


def _endings(protocols: set[str]) -> dict[str, str]:
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
