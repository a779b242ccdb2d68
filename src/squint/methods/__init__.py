"""Methods: one algorithm box per file, and `build` to make one from a recipe."""

from squint.methods._build import build
from squint.methods._method import Method, Step
from squint.methods.byol import BYOL
from squint.methods.moco import MoCo
from squint.methods.mocov3 import MoCoV3
from squint.methods.simclr import SimCLR

__all__ = ["BYOL", "Method", "MoCo", "MoCoV3", "SimCLR", "Step", "build"]
