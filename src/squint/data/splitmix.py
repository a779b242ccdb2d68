"""SplitMix64 in NumPy: random numbers that are a function of a number, exact on every machine."""

import numpy as np
from jaxtyping import UInt64

GAMMA = np.uint64(0x9E37_79B9_7F4A_7C15)
"""What the state grows by from one number to the next."""


def mix(x: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014); overwrites `x`."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58_476D_1CE4_E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D0_49BB_1331_11EB)
    x ^= x >> np.uint64(31)
    return x
