"""Training: the only room that touches processes, precision, optimizers, checkpoints, progress."""

from squint.train.optim import LARS

__all__ = ["LARS"]
