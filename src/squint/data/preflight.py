"""A look at headers before training: wrong folders and broken disks show in seconds."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from squint.data.decode import Unreadable, inspect
from squint.data.images import Images
from squint.data.order import permutation
from squint.data.quarantine import Bad, enforce

ALL_UP_TO = 4_000
"""Sources of up to this many images are checked whole."""
SAMPLE = 2_000
"""How many images of a larger source are checked: the same ones every time."""

_THREADS = 8


def check(images: Images, max_unreadable_percent: float = 1.0) -> tuple[Bad, ...]:
    """Open every image (of more than 4,000: a fixed random 2,000) as far as its header.

    Finds what is missing, empty, too small, too large or no image at all; damage further inside
    shows only when an image is decoded.

    Returns:
        The unreadable images, in order.

    Raises:
        DataError: If more than `max_unreadable_percent` of those looked at, or all, are unreadable.
    """
    chosen = np.arange(len(images))
    if len(images) > ALL_UP_TO:
        chosen = np.sort(permutation(0, 0, len(images))[:SAMPLE])

    def look(index: int) -> Bad | None:
        try:
            inspect(images.fetch(index))
        except Unreadable as reason:
            return Bad(images.paths[index], str(reason))
        return None

    with ThreadPoolExecutor(_THREADS) as threads:
        bads = tuple(bad for bad in threads.map(look, chosen.tolist()) if bad is not None)
    source = images.name
    if len(chosen) < len(images):
        source = f"a sample of {images.name}"
    enforce(bads, len(chosen), max_unreadable_percent, source)
    return bads
