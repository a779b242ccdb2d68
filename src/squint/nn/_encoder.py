"""What every encoder is: a module from images to one feature vector each."""

import abc

from torch import nn

from squint.shapes import Features, Image


class Encoder(nn.Module, abc.ABC):
    """Images to features. `squint.nn.encoders.build` makes one by name."""

    dim: int
    """Feature width f."""

    @abc.abstractmethod
    def forward(self, images: Image) -> Features:
        """Features of normalised images, (n, c, h, w) -> (n, f)."""
