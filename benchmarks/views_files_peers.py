"""What views_files.py compares with: two views at 224 px from JPEG bytes, by other libraries.

Each function takes the files and gives a call that makes both views of all of them; its import
fails where its library is not installed.
"""

# pyright: reportMissingImports=false
# what is compared with need not be installed

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from side_by_side import peer

from squint.views.recipes import IMAGENET_MEAN, IMAGENET_STD

SIZE = 224


def lightly(raws: list[bytes]) -> Callable[[], object]:
    """SimCLRTransform as it comes; Pillow decodes."""
    transform = peer("lightly.transforms").SimCLRTransform(input_size=SIZE)
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
    K = peer("kornia.augmentation")

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
    A, cv2 = peer("albumentations"), peer("cv2")

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
    fn, types = peer("nvidia.dali.fn"), peer("nvidia.dali.types")

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

    @peer("nvidia.dali").pipeline_def(
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
