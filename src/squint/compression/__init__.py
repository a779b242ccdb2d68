"""What a code may keep: bottlenecks between the encoder's direction and the objective."""

from squint.compression.bottleneck import CEB, Bottleneck, Open

__all__ = ["CEB", "Bottleneck", "Open"]
