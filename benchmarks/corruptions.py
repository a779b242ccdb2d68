"""Images per second and core of every corruption, ours and the `imagecorruptions` package's.

The package corrupts one image a call with OpenCV and scikit-image, at ImageNet's constants only;
ours works on batches, on as many threads as there are cores, or on one (`--workers 1`). Mean over
severities 1, 3 and 5.

    python benchmarks/corruptions.py --workers 2 --write
"""

import numpy as np
import side_by_side
import torch
from side_by_side import Case, Section

from squint.evaluate.corruptions import NAMES, corrupt

SEVERITIES = (1, 3, 5)


def pictures(side: int, count: int) -> torch.Tensor:
    """Smooth random pictures: noise alone would flatter JPEG and spare no edge detector."""
    random = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    large = torch.nn.functional.interpolate(random, (side, side), mode="bicubic")
    return (large.clamp(0, 1) * 255).to(torch.uint8)


def ours(images: torch.Tensor, name: str, workers: int) -> None:
    rows = torch.arange(len(images))
    for severity in SEVERITIES:
        corrupt(images, name, severity, rows=rows, seed=0, threads=workers)


def theirs(images: list[np.ndarray], name: str) -> None:
    from imagecorruptions import corrupt as corrupt_one  # type: ignore[import-not-found]

    for severity in SEVERITIES:
        for image in images:
            corrupt_one(image, corruption_name=name, severity=severity)


def section(side: int, count: int, name: str, seconds: float, workers: int) -> Section:
    images = pictures(side, count)
    few = list(images.permute(0, 2, 3, 1).contiguous().numpy()[: max(2, count // 8)])
    cases = [
        Case("squint", lambda: ours(images, name, workers), items=3 * count),
        Case("imagecorruptions", lambda: theirs(few, name), items=3 * len(few)),
    ]
    timings = side_by_side.measure(cases, seconds=seconds)
    return Section(f"{name}, {side} px", timings, against="imagecorruptions")


def main() -> None:
    chosen = side_by_side.options(__doc__, workers=2)
    share = chosen.seconds / (2 * len(NAMES))
    sections = [
        section(side, count, name, share, chosen.workers)
        for side, count in ((32, 256), (224, 8))
        for name in NAMES
    ]
    side_by_side.report("corruptions", sections, chosen)


if __name__ == "__main__":
    main()
