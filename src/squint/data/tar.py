"""Images in tar archives: one, compressed or not, or the shards of a WebDataset.

Nothing is extracted: a member is read in place, by its offset. A gzip stream has no offsets, so a
compressed archive is decompressed once into the cache directory, as one tar file beside its index.
Member names are labels on bytes and never used as paths. A hard link is another name of the member
it links to; symbolic links, devices and sparse members are ignored. A member `KEY.cls` holds the
class of the image `KEY.*` (WebDataset); if every image has one, they are the labels, else class
folders are. In an archive with such members one image of each key counts, that with the fewest
dots, then the first by name: `KEY.jpg`, not the mask `KEY.seg.png` beside it.
"""

import contextlib
import gzip
import hashlib
import json
import shutil
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from squint.data.cachedir import cache_directory, file_identity, written_whole
from squint.data.decode import Unreadable
from squint.data.images import Images, Store, endings, passing_over
from squint.data.layout import is_image, laid_out, nothing_found, numbered, printable
from squint.errors import DataError
from squint.files import lock

_STREAM_VERSION = 1
"""Of how archives are decompressed."""
_INDEX_VERSION = 5
_LONGEST_CLASS = 1024
"""Bytes."""
_GZIP = b"\x1f\x8b"

_Place = tuple[int, int]
"""Offset and size of a member's bytes."""


@dataclass(frozen=True)
class TarMembers(Store):
    """Byte ranges of plain tar files."""

    archives: tuple[Path, ...]
    which: np.ndarray
    """(len,) int64: the archive of each row."""
    offsets: np.ndarray
    sizes: np.ndarray
    identity: str

    def fetch(self, row: int) -> bytes:
        """The member's bytes; the archive is opened for this one read.

        Raises:
            Unreadable: If the archive is gone or shorter than its index says.
        """
        size = int(self.sizes[row])
        try:
            with self.archives[self.which[row]].open("rb", buffering=0) as file:
                file.seek(int(self.offsets[row]))
                data = file.read(size)
        except OSError as error:
            raise Unreadable(f"the archive can't be read ({error.strerror})") from error
        if len(data) < size:
            raise Unreadable("the archive ends inside this image")
        return data

    def stamp(self) -> str:
        """Paths, sizes and times of change of the archives as the user named them."""
        return self.identity


@dataclass(frozen=True)
class _Index:
    """What one archive holds; images sorted by name."""

    names: list[str]
    offsets: list[int]
    sizes: list[int]
    classes: list[str | None]
    others: list[str]
    """Names of other members, a thousand at most."""
    passed_over: dict[str, int]
    """`endings` of all of them."""


def open_tar(archives: Sequence[Path], name: str, channels: int) -> Images:
    """The images of one or several tar archives; several are read as one source, in order.

    Raises:
        DataError: If there is no image, or an archive is damaged or can't be decompressed.
    """
    identities = [file_identity(path) for path in archives]
    pairs = [_indexed(path, known) for path, known in zip(archives, identities, strict=True)]
    indexes = [index for _, index in pairs]
    names = [each for index in indexes for each in index.names]
    if not names:
        raise nothing_found(name, [other for index in indexes for other in index.others])
    store = TarMembers(
        archives=tuple(plain.absolute() for plain, _ in pairs),
        which=np.repeat(np.arange(len(indexes)), [len(index.names) for index in indexes]),
        offsets=np.array([each for index in indexes for each in index.offsets], dtype=np.int64),
        sizes=np.array([each for index in indexes for each in index.sizes], dtype=np.int64),
        identity="\n".join(identities),
    )
    passed_over = sum((Counter(index.passed_over) for index in indexes), Counter[str]())
    images = passing_over(laid_out(name, names, store, channels), passed_over)
    if len(archives) > 1:
        shown = [f"{archives[k].name}/{each}" for k, each in zip(store.which, names, strict=True)]
        images = replace(images, paths=tuple(printable(each) for each in shown))
    given = [each for index in indexes for each in index.classes]
    if None in given:
        return images
    classes, targets = numbered(given)
    return replace(images, classes=classes, targets=targets)


def _indexed(path: Path, known: str) -> tuple[Path, _Index]:
    """The plain tar file to read from, and its index, both from the cache if they are there."""
    key = hashlib.sha256(f"{known} {_STREAM_VERSION}".encode("utf-8", "surrogateescape"))
    stem = cache_directory() / key.hexdigest()[:32]
    plain = _decompressed(path, stem.with_suffix(".tar"))
    cached = stem.with_suffix(f".index-{_INDEX_VERSION}.json")
    with contextlib.suppress(OSError, ValueError, TypeError):
        return plain, _Index(**json.loads(cached.read_bytes()))
    index = _scan(plain, path)
    # An index is a convenience: without a writable cache every start scans again.
    with contextlib.suppress(OSError), written_whole(cached) as file:
        file.write(json.dumps(vars(index)).encode())
    return plain, index


def _decompressed(path: Path, plain: Path) -> Path:
    with path.open("rb") as file:
        if file.read(2) != _GZIP:
            return path
    if plain.exists():
        return plain
    with lock(plain):
        if not plain.exists():
            _decompress(path, plain)
    return plain


def _decompress(path: Path, plain: Path) -> None:
    try:
        with gzip.open(path) as stream, written_whole(plain) as file:
            shutil.copyfileobj(stream, file, 1 << 20)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise DataError(
            f"{path} can't be decompressed into {plain.parent} ({error.strerror}). A compressed "
            "archive needs its decompressed size there once, to read images in any order. Free "
            "space, set SQUINT_CACHE to a folder on another disk, or gunzip it and give the .tar."
        ) from error


def _scan(plain: Path, path: Path) -> _Index:
    """Read every header of an archive; of members of the same name the last one counts.

    A hard link is another name of a member before it.

    Raises:
        DataError: If a header is damaged, or the archive ends without its end mark.
    """
    places: dict[str, _Place] = {}
    classes: dict[str, str] = {}
    try:
        with tarfile.open(plain, "r:") as archive, plain.open("rb") as contents:
            while (member := archive.next()) is not None:
                # tarfile keeps every header it has met: gigabytes for an archive of a million.
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
                name, place = _plain(member.name), _place(member, places)
                if place is None:
                    continue
                places[name] = place
                offset, size = place
                if name.endswith(".cls") and size <= _LONGEST_CLASS:
                    contents.seek(offset)
                    text = contents.read(size).decode("utf-8", "replace").strip()
                    classes[_key(name)] = printable(text)
            # tarfile takes a header that is damaged or cut for the end of the archive.
            contents.seek(archive.offset)
            if contents.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise _damaged(path, "no end mark after its members")
    except tarfile.TarError as error:
        raise _damaged(path, str(error)) from error
    found = set(filter(is_image, places))
    others = [name for name in places if name not in found]
    names = sorted(_one_per_key(found) if classes else found)
    return _Index(
        names=names,
        offsets=[places[name][0] for name in names],
        sizes=[places[name][1] for name in names],
        classes=[classes.get(_key(name)) for name in names],
        others=others[:1000],
        passed_over=endings(others),
    )


def _one_per_key(names: Iterable[str]) -> Iterable[str]:
    """Of each sample its image, not the masks and depth maps beside it."""
    chosen: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (name.count("."), name)):
        chosen.setdefault(_key(name), name)
    return chosen.values()


def _place(member: tarfile.TarInfo, places: Mapping[str, _Place]) -> _Place | None:
    """Where the bytes of a member are; None of what is no file or is not in the archive."""
    if member.islnk():
        return places.get(_plain(member.linkname))
    if member.isreg() and not member.issparse():
        return member.offset_data, member.size
    return None


def _plain(name: str) -> str:
    return name.removeprefix("./")


def _key(name: str) -> str:
    """WebDataset's sample key: the path up to the first dot of the file name."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.split('.')[0]}"


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} is damaged ({why}). An archive must be whole: tar, or tar compressed with gzip. "
        "Copy or download it again and compare the sizes."
    )
