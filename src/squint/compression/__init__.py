"""What a code may keep: bottlenecks between the encoder's direction and the objective."""

from squint.compression.bottleneck import CEB, Bottleneck, Open, Pair, Price

__all__ = ["CEB", "Bottleneck", "Open", "Pair", "Price"]
