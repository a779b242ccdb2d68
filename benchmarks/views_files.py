"""From JPEG bytes to two views at 224 px: ours against others'.

    python benchmarks/views_files.py [--files FOLDER] [--quick] [--write] [--count 64]

Each turn takes the same JPEG files, held in memory, on one thread, and makes two views of each:
crop (0.08 to 1 of the area), flip, full-strength jitter, grey, blur (23 px), float32 tensors.
Libraries differ a little in how they jitter and blur; each decodes with what it is used with.
`per second` counts source images. Without a folder the files are made up.

`decode and crop` is what a loader worker does for a device that makes the rest; `complete` is all
of it. `packed` reads the same images out of a copy made by `squint pack`.
"""

# pyright: reportMissingImports=false
# what is compared with need not be installed

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import side_by_side
import torch
from PIL import Image
from side_by_side import Case, Section
from views_small import Late

from squint.data import open_source
from squint.data.copy import copy
from squint.data.picture import Picture
from squint.views import TwoViews
from squint.views.recipes import IMAGENET_MEAN, IMAGENET_STD, simclr_224

SIZE = 224
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
    side_by_side.report("views_files", [Section(title, timings, against="lightly")], chosen)


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


def crops(raws: list[bytes]) -> torch.Tensor:
    """What a worker hands over, (n, 2, c, s, s) of uint8."""
    pictures, index = [Picture(raw, 3) for raw in raws], range(len(raws))
    boxes = VIEWS.boxes(pictures, index, 0)
    return torch.stack(
        [
            VIEWS.crops_of(picture, k, 0, boxes[k])
            for k, picture in zip(index, pictures, strict=True)
        ]
    )


def complete(raws: list[bytes]) -> object:
    """Both views, ready for the encoder."""
    return VIEWS.finish(crops(raws), torch.arange(len(raws)), 0)


def lightly(raws: list[bytes]) -> Callable[[], object]:
    """SimCLRTransform as it comes; Pillow decodes."""
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(input_size=SIZE)
    return lambda: [transform(Image.open(io.BytesIO(raw)).convert("RGB")) for raw in raws]


def decoded(raw: bytes) -> torch.Tensor:
    """By torchvision's decoder, (c, h, w)."""
    from torchvision.io import ImageReadMode, decode_jpeg

    image = decode_jpeg(torch.frombuffer(bytearray(raw), dtype=torch.uint8), ImageReadMode.RGB)
    assert isinstance(image, torch.Tensor), "one file, one image"
    return image


def torchvision(raws: list[bytes]) -> Callable[[], object]:
    """Transforms v2 on uint8 tensors, decoded once for both views."""
    from torchvision.transforms import v2

    view = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], p=0.5),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )

    def run() -> object:
        return [(view(image), view(image)) for image in map(decoded, raws)]

    return run


def kornia(raws: list[bytes]) -> Callable[[], object]:
    """Crops one by one, as sizes differ, then whole batches; torchvision decodes, once."""
    import kornia.augmentation as K

    crop = K.RandomResizedCrop((SIZE, SIZE), scale=(0.08, 1.0), cropping_mode="slice")
    rest = torch.nn.Sequential(
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((23, 23), (0.1, 2.0), p=0.5),
        K.Normalize(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)),
    )

    def run() -> object:
        images = [decoded(raw)[None].float() / 255 for raw in raws]
        return [rest(torch.cat([crop(image) for image in images])) for _ in range(2)]

    return run


def albumentations(raws: list[bytes]) -> Callable[[], object]:
    """Transforms on arrays; OpenCV decodes, once."""
    import albumentations as A
    import cv2

    cv2.setNumThreads(1)
    view = A.Compose(
        [
            A.RandomResizedCrop((SIZE, SIZE), scale=(0.08, 1.0), interpolation=cv2.INTER_CUBIC),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter((0.2, 1.8), (0.2, 1.8), (0.2, 1.8), (-0.2, 0.2), p=0.8),
            A.ToGray(p=0.2),
            A.GaussianBlur((23, 23), (0.1, 2.0), p=0.5),
            A.Normalize(),
        ]
    )

    def run() -> object:
        views = []
        for raw in raws:
            image = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            views += [view(image=image)["image"].transpose(2, 0, 1).copy() for _ in range(2)]
        return torch.from_numpy(np.stack(views))

    return run


def dali(raws: list[bytes]) -> Callable[[], object]:
    """CPU operators on the whole batch, decoded once, one thread."""
    from nvidia.dali import fn, pipeline_def, types

    encoded = [np.frombuffer(raw, np.uint8) for raw in raws]
    coin: Callable[[float], Any] = lambda p: fn.cast(  # noqa: E731
        fn.random.coin_flip(probability=p), dtype=types.FLOAT
    )

    def view(image: Any) -> Any:
        crop = fn.random_resized_crop(
            image, size=[SIZE, SIZE], random_area=[0.08, 1.0], interp_type=types.INTERP_CUBIC
        )
        jitters, keeps = coin(0.8), coin(0.8)
        around = lambda width: fn.random.uniform(range=[-width, width]) * jitters  # noqa: E731
        color = fn.color_twist(
            crop,
            brightness=1 + around(0.8),
            contrast=1 + around(0.8),
            saturation=(1 + around(0.8)) * keeps,
            hue=around(72.0),
        )
        if fn.random.coin_flip(probability=0.5, dtype=types.BOOL):
            sigma = fn.random.uniform(range=[0.1, 2.0])
            color = fn.gaussian_blur(color, sigma=sigma, window_size=23)
        return fn.crop_mirror_normalize(
            color,
            mirror=fn.random.coin_flip(),
            mean=[255 * x for x in IMAGENET_MEAN],
            std=[255 * x for x in IMAGENET_STD],
            dtype=types.FLOAT,
            output_layout="CHW",
        )

    @pipeline_def(
        batch_size=len(raws),
        num_threads=1,
        device_id=None,
        prefetch_queue_depth=1,
        exec_async=False,
        exec_pipelined=False,
        enable_conditionals=True,
    )
    def pipeline() -> Any:
        source = fn.external_source(source=lambda: encoded, device="cpu")
        image = fn.decoders.image(source, device="cpu", output_type=types.RGB)
        return view(image), view(image)

    built = pipeline()
    built.build()
    return built.run


if __name__ == "__main__":
    main()
