"""Networks: images to features (`encoders`), features to codes (`heads`)."""

from squint.nn._encoder import Encoder
from squint.nn.heads import mlp

__all__ = ["Encoder", "mlp"]
