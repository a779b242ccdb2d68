"""Images in a zip archive, read in place: nothing is extracted, names are never used as paths."""

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from squint.data.cachedir import file_identity
from squint.data.decode import Unreadable
from squint.data.images import Images, Store, endings, passing_over
from squint.data.layout import is_image, laid_out, nothing_found
from squint.errors import DataError

_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Signature; lengths of the name and of the extra field before the data."""
_LARGEST_MEMBER = 1 << 29
"""Bytes. A picture needs less; a decompression bomb needs more."""


@dataclass(frozen=True)
class ZipMembers(Store):
    """Members of one zip file, by where they start."""

    archive: Path
    offsets: np.ndarray
    """(len,) int64: of each member's local header."""
    packed: np.ndarray
    """(len,) int64: bytes as stored."""
    sizes: np.ndarray
    """(len,) int64: bytes of the image."""
    checks: np.ndarray
    """(len,) int64: CRC-32 of the image."""
    methods: np.ndarray
    """(len,) int64: how it is compressed, -1 if it is encrypted."""
    identity: str

    def fetch(self, row: int) -> bytes:
        """The member's bytes; the archive is opened for this one read.

        Raises:
            Unreadable: If they are damaged, encrypted or compressed in an unusual way.
        """
        method, size = int(self.methods[row]), int(self.sizes[row])
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unreadable("encrypted" if method < 0 else "compressed by an unusual method")
        if size > _LARGEST_MEMBER:
            raise Unreadable(f"larger than {_LARGEST_MEMBER >> 20} MiB")
        data = self._packed_bytes(row)
        if method == zipfile.ZIP_DEFLATED:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
            except zlib.error as error:
                raise Unreadable("damaged inside the archive") from error
        if len(data) != size or zlib.crc32(data) != self.checks[row]:
            raise Unreadable("damaged inside the archive")
        return data

    def stamp(self) -> str:
        """Path, size and time of change of the archive."""
        return self.identity

    def _packed_bytes(self, row: int) -> bytes:
        try:
            with self.archive.open("rb") as file:
                file.seek(int(self.offsets[row]))
                signature, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
                if signature != b"PK\3\4":
                    raise Unreadable("damaged inside the archive")
                file.seek(name + extra, 1)
                return file.read(int(self.packed[row]))
        except OSError as error:
            raise Unreadable(f"the archive can't be read ({error.strerror})") from error
        except struct.error as error:
            raise Unreadable("the archive ends inside this image") from error


def open_zip(path: Path, name: str, channels: int) -> Images:
    """The images of a zip archive, sorted by name; of equal names the last one counts.

    Raises:
        DataError: If there is no image, or the archive's directory is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise DataError(
            f"{path} is damaged or no zip archive ({error}). Its directory, at the end of the "
            "file, must be whole. Copy or download it again and compare the sizes."
        ) from error
    # Some Windows programs write backslashes between folders.
    named = {member.filename.replace("\\", "/"): member for member in members}
    found = {each: named[each] for each in sorted(named) if is_image(each)}
    others = [each for each in named if each not in found and not each.endswith("/")]
    if not found:
        raise nothing_found(name, others)
    rows = found.values()
    store = ZipMembers(
        archive=path.absolute(),
        offsets=np.array([member.header_offset for member in rows], dtype=np.int64),
        packed=np.array([member.compress_size for member in rows], dtype=np.int64),
        sizes=np.array([member.file_size for member in rows], dtype=np.int64),
        checks=np.array([member.CRC for member in rows], dtype=np.int64),
        methods=np.array([_method(member) for member in rows], dtype=np.int64),
        identity=file_identity(path),
    )
    return passing_over(laid_out(name, list(found), store, channels), endings(others))


def _method(member: zipfile.ZipInfo) -> int:
    return -1 if member.flag_bits & 1 else member.compress_type
