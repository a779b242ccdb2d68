"""From JPEG bytes to two views at 224 px, ours against others'.

    python benchmarks/views_files.py --files FOLDER [--quick] [--write]

BYOL-like colours differ a little between libraries; crops (0.08 to 1) and size are the same, and so
are the bytes, held in memory, on one thread. `per second` counts source images, two views each.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import side_by_side
import torch
from PIL import Image
from side_by_side import Case, Section

from squint.data.picture import Picture
from squint.views import TwoViews
from squint.views.recipes import simclr_224


def main() -> None:
    """Measure and print the table."""
    chosen = side_by_side.options(__doc__, files="", count=64)
    paths = sorted(path for path in Path(chosen.files).rglob("*") if path.suffix.lower() == ".jpeg")
    raws = [path.read_bytes() for path in paths[: chosen.count]]
    small = [shrunk(raw) for raw in raws]
    makers: dict[str, Callable[[], object]] = {
        "lightly": lightly(raws),
        "albumentations": albumentations(raws),
        "Squint, complete": lambda: complete(raws),
        "Squint, decode and crop": lambda: crops(raws),
        "Squint, decode and crop, short side 256": lambda: crops(small),
        "Squint, complete, short side 256": lambda: complete(small),
    }
    cases = [Case(name, run, items=len(raws)) for name, run in makers.items()]
    timings = side_by_side.measure(cases, seconds=chosen.seconds)
    section = Section(f"224 px, {len(raws)} files", timings, against="lightly")
    side_by_side.report("views_files", [section], chosen)


VIEWS = TwoViews(simclr_224(), seed=0)


def crops(raws: list[bytes]) -> torch.Tensor:
    return torch.stack([VIEWS.crops_of(Picture(raw, 3), k, 0) for k, raw in enumerate(raws)])


def complete(raws: list[bytes]) -> object:
    return VIEWS.finish(crops(raws), torch.arange(len(raws)), 0)


def shrunk(raw: bytes) -> bytes:
    """As `squint pack` writes it."""
    from squint.data.copy import _shrunk

    file = io.BytesIO()
    _shrunk(Image.open(io.BytesIO(raw)).convert("RGB"), 256).save(file, "JPEG", quality=90)
    return file.getvalue()


def lightly(raws: list[bytes]) -> Callable[[], object]:
    def run() -> object:
        from lightly.transforms import SimCLRTransform

        transform = SimCLRTransform(input_size=224)
        return [transform(Image.open(io.BytesIO(raw)).convert("RGB")) for raw in raws]

    return run


def albumentations(raws: list[bytes]) -> Callable[[], object]:
    def run() -> object:
        import albumentations as A
        import cv2

        cv2.setNumThreads(1)
        view = A.Compose(
            [
                A.RandomResizedCrop((224, 224), scale=(0.08, 1.0), interpolation=cv2.INTER_CUBIC),
                A.HorizontalFlip(p=0.5),
                A.ColorJitter((0.2, 1.8), (0.2, 1.8), (0.2, 1.8), (-0.2, 0.2), p=0.8),
                A.ToGray(p=0.2),
                A.GaussianBlur((23, 23), (0.1, 2.0), p=0.5),
                A.Normalize(),
            ]
        )
        views = []
        for raw in raws:
            image = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            views += [view(image=image)["image"].transpose(2, 0, 1).copy() for _ in range(2)]
        return torch.from_numpy(np.stack(views))

    return run


if __name__ == "__main__":
    main()
