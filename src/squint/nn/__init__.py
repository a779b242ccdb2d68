"""Networks: images to features (`encoders`), features to codes (`heads`), and what follows them."""

from squint.nn._encoder import Encoder
from squint.nn.heads import mlp
from squint.nn.queue import Queue
from squint.nn.target import Target

__all__ = ["Encoder", "Queue", "Target", "mlp"]
