"""From JPEG bytes to two views at 224 px: ours against others'.

    python benchmarks/views_files.py [--files FOLDER] [--quick] [--write] [--count 64]

Each turn takes the same JPEG files, held in memory, on one thread, and makes two views of each:
crop (0.08 to 1 of the area), flip, full-strength jitter, grey, blur (23 px), float32 tensors.
Libraries differ a little in how they jitter and blur; each decodes with what it is used with.
`per second` counts source images. Without a folder the files are made up.

`decode and crop` is what a loader worker does for a device that makes the rest; `complete` is all
of it. `packed` reads the same images out of a copy made by `squint pack`. Further tables: how our
time grows with the size and the number of views, and what a reduced scale (`views.exact` off)
saves with photographs of 12 megapixels, put together from the same images.
"""

import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import side_by_side
import torch
from PIL import Image
from side_by_side import Case, Section, Timing
from views_files_peers import albumentations, dali, kornia, lightly, torchvision
from views_small import Late

from squint.data import open_source
from squint.data.copy import copy
from squint.data.picture import Picture
from squint.native.resize import crop_resize
from squint.views import TwoViews
from squint.views.recipes import simclr_224
from squint.views.two_views import tensor_of, window_of

SIZE = 224
SIZES = (32, 64, 96, 160, 224)
COUNTS = (1, 2, 4, 8)
VIEWS = TwoViews(simclr_224(), seed=0)


def main() -> None:
    """Measure and print the table."""
    chosen = side_by_side.options(__doc__, files="", count=64)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(chosen.files) if chosen.files else made_up(Path(folder) / "made", chosen.count)
        raws = jpegs(files)[: chosen.count]
        small = packed(raws, Path(folder))
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        "squint, decode and crop": lambda: lambda: crops(raws),
        "squint, complete": lambda: lambda: complete(raws),
        "squint, decode and crop, packed": lambda: lambda: crops(small),
        "squint, complete, packed": lambda: lambda: complete(small),
        "lightly": lambda: lightly(raws),
        "torchvision v2": lambda: torchvision(raws),
        "kornia": lambda: kornia(raws),
        "albumentations": lambda: albumentations(raws),
        "DALI, CPU": lambda: dali(raws),
    }
    cases = [Case(name, Late(make), items=len(raws)) for name, make in makers.items()]
    timings = side_by_side.measure(cases, seconds=chosen.seconds)
    what = "files" if chosen.files else "made-up files"
    title = f"{SIZE} px, {len(raws)} {what} of {kilobytes(raws)} kB (packed {kilobytes(small)} kB)"
    sections = [Section(title, timings, against="lightly", notes=against_albumentations(timings))]
    for name, cases in growth(raws, small).items():
        timings = side_by_side.measure(cases, seconds=chosen.seconds / 6)
        sections.append(Section(name, timings, against=cases[-1].name))
    side_by_side.report("views_files", sections, chosen)


def against_albumentations(timings: Sequence[Timing]) -> dict[str, str]:
    """A note for the row of complete views: the other comparison that counts."""
    ours, theirs = "squint, complete", "albumentations"
    if not all(timing.seconds for timing in timings if timing.name in (ours, theirs)):
        return {}
    middle, low, high = side_by_side.ratio(timings, ours, theirs)
    return {ours: f"{middle:.2f} times {theirs} ({low:.2f} to {high:.2f})"}


def growth(raws: list[bytes], small: list[bytes]) -> dict[str, list[Case]]:
    """Our time against size and number of views, and at a reduced scale."""
    items = len(raws)
    sized = {size: TwoViews(replace(VIEWS.config, size=size), seed=0) for size in SIZES}
    large = [mosaic(raws, k) for k in range(4)]
    near = TwoViews(replace(VIEWS.config, exact=False), seed=0)
    return {
        "Complete, by size of the views": [
            Case(f"{size} px", lambda views=views: complete(raws, views), items=items)
            for size, views in sized.items()
        ],
        "Complete, packed, by size of the views": [
            Case(f"{size} px", lambda views=views: complete(small, views), items=items)
            for size, views in sized.items()
        ],
        f"Decode and crop, {SIZE} px, by number of views of an image decoded once": [
            Case(str(count), lambda count=count: many_crops(raws, count), items=items)
            for count in reversed(COUNTS)
        ],
        f"Decode and crop, {SIZE} px, files of 4000 x 3000 px and {kilobytes(large)} kB": [
            Case("reduced scale (views.exact off)", lambda: crops(large, near), items=len(large)),
            Case("exact", lambda: crops(large), items=len(large)),
        ],
    }


def jpegs(folder: Path) -> list[bytes]:
    """All JPEG files in a folder, by name."""
    suffixes = (".jpg", ".jpeg")
    return [p.read_bytes() for p in sorted(folder.rglob("*")) if p.suffix.lower() in suffixes]


def kilobytes(raws: list[bytes]) -> int:
    """Mean size."""
    return round(sum(map(len, raws)) / len(raws) / 1000)


def made_up(folder: Path, count: int) -> Path:
    """Files of 500 x 375 px with detail at every scale, about as large as photographs."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(count):
        layers = [rng.normal(0, 60 / 2**j, (3 * 4**j, 4 * 4**j, 3)) for j in range(4)]
        resized = [
            torch.nn.functional.interpolate(
                torch.from_numpy(layer).permute(2, 0, 1)[None], (375, 500), mode="bicubic"
            )[0]
            for layer in layers
        ]
        pixels = (torch.stack(resized).sum(0) + 128).clamp(0, 255).byte().permute(1, 2, 0)
        Image.fromarray(pixels.numpy()).save(folder / f"{k:03d}.jpeg", quality=92)
    return folder


def packed(raws: list[bytes], folder: Path) -> list[bytes]:
    """The files `squint pack` makes of them."""
    source, target = folder / "source", folder / "packed"
    source.mkdir()
    for k, raw in enumerate(raws):
        (source / f"{k:03d}.jpeg").write_bytes(raw)
    copy(open_source(source), target)
    return jpegs(target)


def mosaic(raws: list[bytes], seed: int) -> bytes:
    """A photograph of 12 megapixels: 64 of the images, 500 x 375 px each, drawn with a seed."""
    whole = Image.new("RGB", (4000, 3000))
    for place, k in enumerate(np.random.default_rng(seed).integers(len(raws), size=64)):
        tile = Image.open(io.BytesIO(raws[k])).convert("RGB").resize((500, 375))
        whole.paste(tile, (500 * (place % 8), 375 * (place // 8)))
    file = io.BytesIO()
    whole.save(file, "JPEG", quality=90)
    return file.getvalue()


def crops(raws: list[bytes], views: TwoViews = VIEWS) -> torch.Tensor:
    """What a worker hands over, (n, 2, c, s, s) of uint8."""
    pictures, index = [Picture(raw, 3) for raw in raws], range(len(raws))
    boxes = views.boxes_of_pictures(pictures, index, 0)
    return torch.stack(
        [
            views.crops_of_picture(picture, k, 0, boxes[k])
            for k, picture in zip(index, pictures, strict=True)
        ]
    )


def many_crops(raws: list[bytes], count: int) -> torch.Tensor:
    """As many crops of each image, (n, count, c, s, s), out of what covers them all."""
    pictures, index = [Picture(raw, 3) for raw in raws], range(len(raws))
    epochs = [VIEWS.boxes_of_pictures(pictures, index, epoch) for epoch in range((count + 1) // 2)]
    made = torch.empty(len(raws), count, 3, SIZE, SIZE, dtype=torch.uint8)
    for k, (picture, out) in enumerate(zip(pictures, made, strict=True)):
        boxes = [box for epoch in epochs for box in epoch[k]][:count]
        top, left = (min(box[side] for box in boxes) for side in (0, 1))
        bottom, right = (max(box[side] + box[side + 2] for box in boxes) for side in (0, 1))
        part = picture.part(top, left, bottom - top, right - left, 1)
        for box, crop in zip(boxes, out, strict=True):
            crop_resize(tensor_of(part.pixels), window_of(box, part), SIZE, "bicubic", out=crop)
    return made


def complete(raws: list[bytes], views: TwoViews = VIEWS) -> object:
    """Both views, ready for the encoder."""
    return views.finish(crops(raws, views), torch.arange(len(raws)), 0)


if __name__ == "__main__":
    main()
