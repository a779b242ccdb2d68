"""Random words by counter: Philox4x32-10 of Salmon et al. 2011 ("as easy as 1, 2, 3"), in torch.

Four 32-bit words are a function of a key and of counters. There is no state: a number does not
depend on what was drawn before it, on threads, ranks or the shape of a batch. The generator passes
the Crush batteries; torch uses it on GPUs, and JAX its sibling.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_ROUNDS = 10
_FACTORS = 0xD2511F53, 0xCD9E8D57
_STEPS = 0x9E3779B9, 0xBB67AE85  # of the key, from round to round
_WORD = 2**32 - 1

Words = Int64[Tensor, "..."]
"""Integers from 0 to 2^32 - 1."""


def words(
    key: Int64[Tensor, ""], *counters: Int64[Tensor, "..."]
) -> tuple[Words, Words, Words, Words]:
    """Four independent words for each of the counters, which are broadcast.

    Args:
        key: all of its 64 bits count.
        counters: four, from 0 to 2^32 - 1.
    """
    # torch's compiler multiplies what it knows to be an arange in 32 bits; not what has been masked
    c0, c1, c2, c3 = (counter & _WORD for counter in counters)
    rounds = torch.arange(_ROUNDS, device=key.device) & _WORD
    keys0, keys1 = key + _STEPS[0] * rounds, (key >> 32) + _STEPS[1] * rounds
    for k0, k1 in zip(keys0.unbind(), keys1.unbind(), strict=True):
        p0, p1 = _FACTORS[0] * c0, _FACTORS[1] * c2  # 64 bits; the highest may become a sign
        c0, c1 = ((p1 >> 32) ^ c1 ^ k0) & _WORD, p1  # of c1 and c3 the lower halves count
        c2, c3 = ((p0 >> 32) ^ c3 ^ k1) & _WORD, p0
    return c0, c1 & _WORD, c2, c3 & _WORD


def uniform(word: Words) -> Float[Tensor, "..."]:
    """Uniform numbers, the midpoints of 2^32 equal parts of 0..1, in float64."""
    return (word.double() + 0.5) * 2.0**-32


def normals(
    radius: Words, angle: Words, dtype: torch.dtype
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Two independent standard normals of each pair of words (Box and Muller 1958).

    A radius has 31 bits: up to 6.66, which a share of 2e-10 exceeds. Near zero it is computed from
    the uniform's distance to 1, so that it is as exact there.
    """
    up = radius >> 1
    below = (up.to(dtype) + 0.5) * 2.0**-31
    above = ((2**31 - 1 - up).to(dtype) + 0.5) * 2.0**-31  # 1 - below, not rounded
    exponential = -torch.where(below < 0.7, torch.log(below), torch.log1p(-above))
    r = torch.sqrt(2 * exponential)
    turn = angle - ((angle & 2**31) << 1)  # -2^31 .. 2^31 - 1: from minus to plus half a turn
    radians = (turn.to(dtype) + 0.5) * (torch.pi * 2.0**-31)
    return r * torch.cos(radians), r * torch.sin(radians)
