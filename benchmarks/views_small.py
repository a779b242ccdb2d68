"""Two views of small images in memory, and the finishing of crops: ours against others'.

    python benchmarks/views_small.py [--quick] [--write] [--batch 512] [--compiled no]

All make the same recipe at 32 px (crop 0.08 to 1, flip, half-strength jitter, grey, no blur,
normalised float32 tensors), the one lightly uses for CIFAR, from the same images that lie decoded
in memory, on one thread. Per-sample libraries get what they ask for (PIL images, arrays), made
beforehand. `per second` counts source images, each of which gives two views.
"""

# pyright: reportMissingImports=false
# what is compared with need not be installed

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import side_by_side
import torch
from PIL import Image
from side_by_side import Case, Section, peer
from torch import Tensor

from squint.data import open_source, pack
from squint.views import TwoViews, paths
from squint.views.cifar_recipes import lightly_simclr_32
from squint.views.recipes import IMAGENET_MEAN, IMAGENET_STD, byol_224, moco_v2_224, simclr_224

SIZE = 32


def main() -> None:
    """Measure and print all tables."""
    chosen = side_by_side.options(__doc__, batch=512, compiled="yes")
    pixels = images(chosen.batch)
    sections = [
        peers(pixels, chosen.seconds, compiled=chosen.compiled == "yes"),
        by_size(chosen.seconds / 4),
        by_batch(chosen.seconds / 4),
        by_threads(pixels, chosen.seconds / 4),
        finishing(chosen.seconds / 2),
    ]
    side_by_side.report("views_small", sections, chosen)


def images(n: int, side: int = SIZE) -> Tensor:
    """Built-in images, (n, 3, side, side) of uint8 over (n, h, w, c) memory."""
    packed = pack(open_source("demo").split("train"))
    assert packed is not None
    rows = np.arange(n) % len(packed.pixels)
    pixels = torch.from_numpy(np.array(packed.pixels[rows])).permute(0, 3, 1, 2)
    if side == pixels.shape[-1]:
        return pixels
    tiles = -(-side // pixels.shape[-1])
    tiled = pixels.repeat(1, 1, tiles, tiles)[:, :, :side, :side]
    return tiled.contiguous(memory_format=torch.channels_last)


def peers(pixels: Tensor, seconds: float, *, compiled: bool) -> Section:
    """Squint's paths and other libraries."""
    n = len(pixels)
    makers = {
        "squint, native": lambda: squint(pixels, "native"),
        "squint, compiled": lambda: squint(pixels, "compiled"),
        "squint, reference": lambda: squint(pixels, "reference"),
        "lightly": lambda: lightly(pixels),
        "torchvision v2": lambda: torchvision(pixels),
        "kornia, batched": lambda: kornia(pixels),
        "albumentations": lambda: albumentations(pixels),
        "DALI, CPU": lambda: dali(pixels),
        "solo-learn": solo_learn,
    }
    if not compiled:
        del makers["squint, compiled"]
    cases = [Case(name, Late(make), n) for name, make in makers.items()]
    timings = side_by_side.measure(cases, seconds=seconds)
    return Section(f"{SIZE} px, batch {n}, two views, one thread", timings, against="lightly")


class Late:
    """A case that is made on its first call, so that a peer that is missing is reported as such."""

    def __init__(self, make: Callable[[], Callable[[], object]]):
        self._make = make
        self._run: Callable[[], object] | None = None

    def __call__(self) -> object:
        """The case itself."""
        self._run = self._run or self._make()
        return self._run()


def squint(pixels: Tensor, path: paths.PathName, size: int = SIZE) -> Callable[[], object]:
    """Drawing included, as in training."""
    views = TwoViews(replace(lightly_simclr_32(), size=size), seed=0, path=path)
    index = torch.arange(len(pixels))
    return lambda: views(pixels, index, 0)


def lightly(pixels: Tensor) -> Callable[[], object]:
    """SimCLRTransform on PIL images."""
    transform = peer("lightly.transforms").SimCLRTransform(
        input_size=SIZE, cj_strength=0.5, gaussian_blur=0.0
    )
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]
    return lambda: [transform(picture) for picture in pictures]


def torchvision(pixels: Tensor) -> Callable[[], object]:
    """Transforms v2 on uint8 tensors, image by image."""
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=(0.08, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    pieces = list(pixels.contiguous())
    return lambda: [(transform(image), transform(image)) for image in pieces]


def kornia(pixels: Tensor) -> Callable[[], object]:
    """Augmentations on the whole batch."""
    K = peer("kornia.augmentation")

    transform = torch.nn.Sequential(
        K.RandomResizedCrop((SIZE, SIZE), scale=(0.08, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.Normalize(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)),
    )
    whole = pixels.contiguous()

    def run() -> object:
        batch = whole.float() / 255
        return transform(batch), transform(batch)

    return run


def albumentations(pixels: Tensor) -> Callable[[], object]:
    """Transforms on arrays, image by image."""
    A, to_tensor = peer("albumentations"), peer("albumentations.pytorch").ToTensorV2

    transform = A.Compose(
        [
            A.RandomResizedCrop(size=(SIZE, SIZE), scale=(0.08, 1.0)),
            A.HorizontalFlip(),
            A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1), p=0.8),
            A.ToGray(p=0.2),
            A.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            to_tensor(),
        ]
    )
    arrays = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in pixels]
    return lambda: [(transform(image=a)["image"], transform(image=a)["image"]) for a in arrays]


def dali(pixels: Tensor) -> Callable[[], object]:
    """CPU operators on the whole batch, one thread."""
    fn, types = peer("nvidia.dali.fn"), peer("nvidia.dali.types")

    arrays = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in pixels]

    def view(source: Any) -> Any:
        crop = fn.random_resized_crop(
            source, size=[SIZE, SIZE], random_area=[0.08, 1.0], antialias=True
        )
        coin = lambda p: fn.cast(fn.random.coin_flip(probability=p), dtype=types.FLOAT)  # noqa: E731
        jitters, keeps = coin(0.8), coin(0.8)
        around = lambda width: fn.random.uniform(range=[-width, width]) * jitters  # noqa: E731
        color = fn.color_twist(
            crop,
            brightness=1 + around(0.4),
            contrast=1 + around(0.4),
            saturation=(1 + around(0.4)) * keeps,
            hue=around(36.0),
        )
        return fn.crop_mirror_normalize(
            color,
            mirror=fn.random.coin_flip(),
            mean=[255 * x for x in IMAGENET_MEAN],
            std=[255 * x for x in IMAGENET_STD],
            dtype=types.FLOAT,
            output_layout="CHW",
        )

    @peer("nvidia.dali").pipeline_def(
        batch_size=len(arrays),
        num_threads=1,
        device_id=None,
        prefetch_queue_depth=1,
        exec_async=False,
        exec_pipelined=False,
    )
    def pipeline() -> Any:
        source = fn.external_source(source=lambda: arrays, device="cpu")
        return view(source), view(source)

    built = pipeline()
    built.build()
    return built.run


def solo_learn() -> Callable[[], object]:
    """Its own pipeline, if it can be imported."""
    from solo.data import pretrain_dataloader  # noqa: F401

    raise NotImplementedError("solo-learn was importable: compare with its pipeline")


def by_size(seconds: float) -> Section:
    """Native, from images of one size to views of the same."""
    cases = [
        Case(f"{size} px", squint(images(128, size), "native", size), 128)
        for size in (16, 32, 48, 64, 96, 128)
    ]
    timings = side_by_side.measure(cases, seconds=seconds)
    return Section("Native by size of images and views, batch 128", timings, against="32 px")


def by_batch(seconds: float) -> Section:
    """Native, by images per batch."""
    cases = [Case(f"batch {n}", squint(images(n), "native"), n) for n in (16, 64, 256, 1024, 4096)]
    timings = side_by_side.measure(cases, seconds=seconds)
    return Section(f"Native by batch, {SIZE} px", timings, against="batch 256")


def by_threads(pixels: Tensor, seconds: float) -> Section:
    """Native, by threads of the kernels; drawing has one, as changing torch's own takes long."""

    def with_threads(count: int) -> Callable[[], object]:
        run = squint(pixels, "native")

        def threaded() -> object:
            with patch("torch.get_num_threads", lambda: count):
                return run()

        return threaded

    cases = [Case(f"{n} threads", with_threads(n), len(pixels)) for n in (1, 2, 4)]
    title = f"Native by threads, {SIZE} px, batch {len(pixels)}"
    return Section(title, side_by_side.measure(cases, seconds=seconds), against="1 threads")


def finishing(seconds: float) -> Section:
    """From the 8-bit crops that workers make of files to both views, at 224 px."""
    crops = torch.stack([images(32, 224).contiguous()] * 2, dim=1)  # (n, 2, c, s, s)
    index = torch.arange(len(crops))

    def cases() -> Iterator[Case]:
        for recipe in (simclr_224, byol_224, moco_v2_224):
            for path in ("native", "reference"):
                views = TwoViews(recipe(), seed=0, path=path)
                run = lambda views=views: views.finish(crops, index, 0)  # noqa: E731
                yield Case(f"{recipe.__name__}, {path}", run, len(crops))

    timings = side_by_side.measure(list(cases()), seconds=seconds)
    title = f"Finishing of 224 px crops, batch {len(crops)}, two views, one thread"
    return Section(title, timings, against="simclr_224, reference")


if __name__ == "__main__":
    main()
