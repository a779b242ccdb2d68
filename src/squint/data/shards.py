"""Tar shards named by a range: `dir/{0000..0127}.tar`, as WebDataset names them."""

import re
from pathlib import Path

from squint.data.images import Images
from squint.data.tar import open_tar
from squint.errors import DataError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST = 1_000_000


def is_range(text: str) -> bool:
    """Whether the text has a brace range in it."""
    return _RANGE.search(text) is not None


def open_shards(text: str, channels: int) -> Images:
    """All images of all shards as one source; `KEY.cls` members give labels.

    Raises:
        DataError: If the range is empty, or a shard is missing or damaged.
    """
    shards = [Path(name).expanduser() for name in expanded(text)]
    missing = [shard for shard in shards if not shard.is_file()]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(shards):,} shards of {text} do not exist, the first of them "
            f"{missing[0]}. Every shard of the range must be there. Correct the range, or copy "
            "what is missing."
        )
    return open_tar(shards, text, channels)


def expanded(text: str) -> list[str]:
    """The names a text with brace ranges stands for; digits keep the width of the first number.

    Raises:
        DataError: If a range runs backwards or stands for more than a million names.
    """
    match = _RANGE.search(text)
    if match is None:
        return [text]
    first, last = int(match[1]), int(match[2])
    if not first <= last < first + _MOST:
        raise DataError(
            f"The range {match[0]} in {text} has {max(0, last - first + 1):,} shards. It must run "
            f"upwards and have at most {_MOST:,}. Write it as {{0000..0127}}."
        )
    rest = expanded(text[match.end() :])
    return [
        f"{text[: match.start()]}{number:0{len(match[1])}d}{tail}"
        for number in range(first, last + 1)
        for tail in rest
    ]
