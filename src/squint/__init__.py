"""Squint learns image representations without labels and can compress them."""

__version__ = "0.1.0.dev0"
