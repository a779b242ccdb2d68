"""The axis letters of every tensor in Squint, defined once.

| letter  | axis                                                              |
|---------|-------------------------------------------------------------------|
| n       | images on this rank                                               |
| m       | images in the global batch, over all ranks                        |
| d       | code width: what the objective compares                           |
| f       | feature width: what the encoder gives and evaluation reads        |
| k       | rows of a queue or of a feature bank                              |
| c h w   | channels, height, width                                           |

Signatures carry them as jaxtyping annotations (checked in tests, free in training); a line of
code that changes a shape ends in a comment with the new one.
"""

from typing import Literal

from jaxtyping import Float, Int, UInt8
from torch import Tensor

Pixels = UInt8[Tensor, "n c h w"]
"""Decoded images, 0 to 255."""

Image = Float[Tensor, "n c h w"]
"""Views or evaluation images, in the recipe's normalisation."""

Codes = Float[Tensor, "n d"]
Features = Float[Tensor, "n f"]
Rows = Int[Tensor, " n"]
"""Indices of images in their source."""

Scalar = Float[Tensor, ""]

View = Literal[0, 1]
"""Which of the two views of an image."""
