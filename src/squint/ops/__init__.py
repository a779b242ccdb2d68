"""Pure mathematics: tensors in, tensors out. No settings, no module state, no logging."""

from squint.ops import contrast, gather, geometry, regress, vmf

__all__ = ["contrast", "gather", "geometry", "regress", "vmf"]
