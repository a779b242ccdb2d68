"""Images that could not be read: who they are, and how many are too many."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from squint.errors import DataError

_NAMED = 5


class Overfull(DataError):
    """More images can't be read than the limit allows.

    Attributes:
        facts: How many, of how many, where.
        named: The first of them, a line each.
    """

    def __init__(self, facts: str, rule: str, named: str) -> None:
        super().__init__(f"{facts} {rule} They are:{named}")
        self.facts = facts
        self.named = named

    def with_rule(self, rule: str) -> "Overfull":
        """The same with another rule and remedy."""
        return Overfull(self.facts, rule, self.named)


@dataclass(frozen=True, slots=True)
class Bad:
    """One image that could not be read."""

    path: str
    reason: str


class Quarantine:
    """The unreadable images of one source, each once, in the order they were met.

    Adding more than the allowed share raises: one bad file must not end a night of training, a
    broken disk or a wrong folder must.
    """

    def __init__(self, source: str, total: int, max_unreadable_percent: float = 1.0) -> None:
        self.source = source
        self.total = total
        self.max_unreadable_percent = max_unreadable_percent
        self._bads: dict[str, Bad] = {}

    def __len__(self) -> int:
        return len(self._bads)

    def __iter__(self) -> Iterator[Bad]:
        return iter(self._bads.values())

    def add(self, bads: Iterable[Bad]) -> None:
        """Record images, then apply the limit.

        Raises:
            Overfull: If more than `max_unreadable_percent` of the images, or all, are unreadable.
        """
        for bad in bads:
            self._bads.setdefault(bad.path, bad)
        enforce(tuple(self), self.total, self.max_unreadable_percent, self.source)


def lines(bads: Iterable[Bad]) -> str:
    """What quarantine.txt holds: one line `path<TAB>reason` for each of the images."""
    return "".join(dict.fromkeys(f"{bad.path}\t{bad.reason}\n" for bad in bads))


def allowed(total: int, max_unreadable_percent: float) -> int:
    """How many of `total` images may be unreadable; never all of them."""
    return min(int(total * max_unreadable_percent / 100), total - 1)


def enforce(bads: Sequence[Bad], total: int, max_unreadable_percent: float, source: str) -> None:
    """Stop if too many of `total` images are unreadable.

    Raises:
        Overfull: If more than `max_unreadable_percent` percent, or all, are.
        DataError: If there are none.
    """
    if total == 0:
        raise DataError(f"{source} has no images. There must be at least one. Choose others.")
    if len(bads) <= allowed(total, max_unreadable_percent):
        return
    named = "".join(f"\n  {bad.path}: {bad.reason}" for bad in bads[:_NAMED])
    more = f"\n  ... and {len(bads) - _NAMED:,} more" if len(bads) > _NAMED else ""
    if len(bads) == total:
        rule = "At least one image must be readable. Check that this is the right source."
    else:
        rule = (
            f"At most {max_unreadable_percent:g} % may be. Remove them, or raise "
            "--data.max-unreadable-percent."
        )
    share = 100 * len(bads) / total
    facts = f"{len(bads):,} of {total:,} images in {source} can't be read ({share:.3g} %)."
    raise Overfull(facts, rule, f"{named}{more}")
