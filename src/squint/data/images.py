"""What every source becomes: images in a fixed order, with what is known about each."""

import abc
import bisect
import functools
import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np

from squint.data.decode import RULE, Raw, decode
from squint.data.picture import Picture
from squint.errors import DataError

UNKNOWN = -1
"""In `targets` and `groups`: no label, in no split."""

_TEXTS = frozenset(".cls .csv .db .html .ini .json .jsonl .md .tsv .txt .xml .yaml .yml".split())
"""Lower-case endings of what lies beside images and nobody takes for one."""
_FEW = 0.01
"""Share of the images; so many files passed over are not worth a word."""
_NAMED = 5

_log = logging.getLogger(__name__)


class Store(abc.ABC):
    """Where the pixels of a source are; the only thing that differs between kinds.

    Holds no open file between calls and pickles small: any process or thread may fetch.
    """

    @abc.abstractmethod
    def fetch(self, row: int) -> Raw:
        """One image as it is stored.

        Raises:
            Unreadable: If the store itself can tell that this image is damaged.
        """

    @abc.abstractmethod
    def stamp(self) -> str:
        """A text that changes whenever the stored images may have changed.

        Two copies of the same images may share it, so that results are known to be of both.
        """

    def unique_stamp(self) -> str:
        """A stamp that no other stored images share, to keep under it what is made from these."""
        return self.stamp()


def located(row: int, starts: Sequence[int]) -> tuple[int, int]:
    """Which of several parts, one after the other, a row lies in, and its place in that.

    Args:
        row: counted from 0 over all parts.
        starts: First row of each part.
    """
    part = bisect.bisect_right(starts, row) - 1
    return part, row - starts[part]


@dataclass(frozen=True, eq=False, kw_only=True)
class Images:
    """Images in a fixed order; reading is by index, from 0 to len - 1.

    The order depends on the source's content only, never on the file system, the platform or
    the number of processes.
    """

    name: str
    """What the user called it, for messages."""
    paths: tuple[str, ...]
    """A printable name per image, unique where the source's own names are."""
    store: Store
    rows: np.ndarray
    """(len,) int64: each image's row in the store."""
    channels: int = 3
    classes: tuple[str, ...] = ()
    """Class names; labels index into them."""
    targets: np.ndarray | None = None
    """(len,) int64: label per image, -1 where unknown; None where none is known."""
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Recorded factors, (len,) each: float32 if continuous, int64 if categorical."""
    splits: tuple[str, ...] = ()
    """Names `split` accepts; () if the source has none."""
    groups: np.ndarray | None = None
    """(len,) int64: index into `splits` per image, -1 for none; None without splits."""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """How many files of each ending the source has that count as no images, as `endings` does."""

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"Images({self.name!r}, {len(self)} images, {len(self.classes)} classes)"

    @property
    def labels(self) -> np.ndarray | None:
        """(len,) int64 from 0 to len(classes) - 1, or None unless every image has one."""
        if self.targets is None or not len(self) or self.targets.min() == UNKNOWN:
            return None
        return self.targets

    def read(self, index: int) -> np.ndarray:
        """Pixels of one image, uint8 (h, w, channels), by the rule of `decode`.

        Raises:
            Unreadable: With the reason.
        """
        return decode(self.fetch(index), self.channels)

    def picture(self, index: int) -> Picture:
        """One image to read parts of, cheaper than the whole.

        Raises:
            Unreadable: With the reason.
        """
        return Picture(self.fetch(index), self.channels)

    def fetch(self, index: int) -> Raw:
        """One image as it is stored: a file, its bytes, or an array.

        Raises:
            Unreadable: If the store can tell that this image is damaged.
        """
        return self.store.fetch(int(self.rows[index]))

    def split(self, name: str) -> "Images":
        """The images of one split, without further splits.

        Raises:
            DataError: If there is no split of this name.
        """
        if self.groups is None or name not in self.splits:
            known = ", ".join(self.splits) or "none"
            raise DataError(
                f"{self.name} has no split {name!r}: its splits are {known}. Choose one of them, "
                "or arrange the images in top-level folders train/ and val/ or test/."
            )
        part = self.select(np.flatnonzero(self.groups == self.splits.index(name)))
        return replace(part, name=f"{self.name} ({name})", splits=(), groups=None)

    def select(self, indices: Sequence[int] | np.ndarray) -> "Images":
        """The images at `indices`, in that order, with everything known about them."""
        chosen = np.asarray(indices, dtype=np.int64)  # (k,)
        return replace(
            self,
            paths=tuple(self.paths[i] for i in chosen),
            rows=self.rows[chosen],
            targets=None if self.targets is None else self.targets[chosen],
            attributes={name: values[chosen] for name, values in self.attributes.items()},
            groups=None if self.groups is None else self.groups[chosen],
        )

    def fingerprint(self) -> str:
        """Hex digest of what the images are, to know results of the same data by.

        It changes whenever the pixels `read` gives may have changed. A copy of a folder that keeps
        times has that of the folder.
        """
        return self._digest(self.store.stamp())

    def cache_key(self) -> str:
        """Hex digest of what the images are and where they lie, to keep decoded pixels under.

        Never shared by two sources, and changed by whatever changes the fingerprint.
        """
        return self._digest(self.store.unique_stamp())

    def _digest(self, stored: str) -> str:
        # Paths in it may be undecodable.
        known = f"{stored}\n{RULE}\n{self.channels}\n".encode("utf-8", "surrogateescape")
        digest = hashlib.sha256(known)
        digest.update(np.ascontiguousarray(self.rows, dtype="<i8").tobytes())
        return digest.hexdigest()


def endings(names: Iterable[str]) -> Counter[str]:
    """How many files there are of each lower-case ending; hidden files and texts are left out."""
    found: Counter[str] = Counter()
    for name in map(PurePosixPath, names):
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.parts)
        if not hidden and (ending := name.suffix.lower()) not in _TEXTS:
            found[ascii(ending)[1:-1] or "no ending"] += 1  # a name may hold anything
    return found


def passing_over(images: Images, others: Mapping[str, int]) -> Images:
    """The images with the `endings` of the files beside them; many of those are worth a word."""
    if sum(others.values()) > _FEW * len(images):
        kinds = [f"{count:,} {ending}" for ending, count in Counter(others).most_common()]
        more = ", …" if len(kinds) > _NAMED else ""
        _say_passed_over(images.name, ", ".join(kinds[:_NAMED]) + more, f"{len(images):,}")
    return replace(images, passed_over=dict(others))


@functools.cache  # once for each source
def _say_passed_over(name: str, kinds: str, images: str) -> None:
    _log.warning(
        "%s: passed over, because they are in no format that is read: %s; images found: %s. "
        "Convert what is to count to JPEG or PNG.",
        name,
        kinds,
        images,
    )
