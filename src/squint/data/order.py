"""The order in which training meets the images: a pure function of seed and epoch."""

import numpy as np


def order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Permutation of range(count), int64; the same on every machine, rank and worker count.

    Sorts raw random words instead of calling numpy's own shuffle: the raw stream is promised
    never to change, the shuffle built on it is not.

    Args:
        seed: Of the run, 0 or above.
        epoch: From 0.
        count: Number of images.
    """
    words = np.random.PCG64(np.random.SeedSequence((seed, epoch))).random_raw(count)
    return np.argsort(words, kind="stable").astype(np.int64)
