"""Which images are learned from and which are tested, and that they have labels."""

from typing import NamedTuple

from squint.data import Images, permutation
from squint.errors import DataError

HELD_OUT = 0.2
"""Share of the images that is tested where the source has no test split."""

_TEST_SPLITS = ("test", "val")


class Halves(NamedTuple):
    """What is learned from, what is tested, and how they were told apart."""

    train: Images
    test: Images
    note: str


def halves(images: Images) -> Halves:
    """The source's own train and test splits, or a random fifth of all images as the test part.

    Raises:
        DataError: there is but one image.
    """
    if (name := tested_split(images)) is not None:
        train, test = images.split("train"), images.split(name)
        return Halves(train, test, f"test on the {name} split, {len(test)} images")
    if len(images) < 2:
        raise DataError(
            f"{images.name} has {len(images)} image, and evaluation learns from some and tests on "
            "others. Give at least two."
        )
    shuffled = permutation(0, 0, len(images))
    cut = max(1, round(HELD_OUT * len(images)))
    note = (
        f"test on {cut} of the images, {HELD_OUT:.0%} chosen at random (seed 0); the source has no "
        "train and test splits, so pretraining may have seen them, without labels"
    )
    return Halves(images.select(shuffled[cut:]), images.select(shuffled[:cut]), note)


def tested_split(images: Images) -> str | None:
    """The split that is tested, where the source has one beside a train split."""
    tests = [name for name in _TEST_SPLITS if name in images.splits]
    return tests[0] if tests and "train" in images.splits else None


def check_labels(images: Images) -> None:
    """Refuse images without labels.

    Raises:
        DataError: some image has none.
    """
    if images.labels is not None:
        return
    if images.targets is not None and len(images):
        raise DataError(
            f"{int((images.targets < 0).sum())} of {len(images)} images of {images.name} are in no "
            "class folder, and accuracy needs a label for each. Move them into one, or away."
        )
    raise DataError(
        f"{images.name} has no labels, and accuracy needs them. Sort all images into one folder "
        "per class, two at least, or give a labelled source with --data."
    )
