"""How each number was measured: protocols as numbered notes below their tables."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from squint.evaluate.table import title_of
from squint.report.folder import Folder, mapping
from squint.report.markup import Html, safe, tag

_END = "; evaluation view: "
"""From here on the protocols of one evaluation are mostly the same."""


class Notes:
    """Protocols, numbered in the order in which they are met; the same words have one number."""

    def __init__(self, folders: Sequence[Folder]) -> None:
        self._numbers: dict[str, int] = {}
        self._placed: set[int] = set()
        self._folders = folders
        ends = Counter(
            said[said.index(_END) :]
            for said in {said for f in folders for said in _protocols(f)}
            if _END in said
        )
        self._end = next((end for end, count in ends.most_common(1) if count > 1), "")

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
        """What many protocols end with, said once and called E."""
        if not self._end:
            return None
        words = self._end.removeprefix("; ")
        return tag(
            "p", tag("b", "E"), f", at the end of a note, stands for: {words}.", class_="note"
        )

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
        short = said.removesuffix(self._end) if self._end else said
        end = tag("b", "E") if short != said else None
        title = "; ".join(of)
        if short.startswith(f"{title}: "):
            short = short.removeprefix(f"{title}: ")
        return safe((tag("b", title), ": ", short, end and ("; ", end)))

    def _number(self, said: str) -> int:
        return self._numbers.setdefault(said, len(self._numbers) + 1)

    def _mark(self, said: str) -> Html:
        count = self._number(said)
        return tag("a", str(count), href=f"#protocol-{count}", title=said)


def _protocols(folder: Folder) -> Iterator[str]:
    found = (mapping(entry).get("protocol") for entry in folder.results.values())
    return (said for said in found if isinstance(said, str))
