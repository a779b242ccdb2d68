"""Images: one file per kind of source, one way to read them.

`open_source` needs no torch; the loaders, which make tensors, are in `squint.data.loader`.
"""

from squint.data.cache import Packed, pack
from squint.data.decode import Unreadable
from squint.data.images import Images
from squint.data.order import Order, permutation
from squint.data.preflight import check
from squint.data.quarantine import Bad, Quarantine
from squint.data.source import from_anywhere, open_source

__all__ = [
    "Bad",
    "Images",
    "Order",
    "Packed",
    "Quarantine",
    "Unreadable",
    "check",
    "from_anywhere",
    "open_source",
    "pack",
    "permutation",
]
