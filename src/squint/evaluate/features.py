"""Features of images, from an encoder that is left as it was found."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from squint.device import Precision
from squint.errors import DataError, RunError

_PIXELS = 1 << 16
"""Pixels that go through an encoder at once on a CPU; 500 images of 24 px were half as fast."""
_LEAST_PIECE = 8


def extract(
    encoder: nn.Module,
    batches: Iterable[Tensor],
    *,
    count: int,
    device: torch.device | str,
    precision: Precision = "float32",
) -> Float[Tensor, "k f"]:
    """Features of `count` images, float32 on the CPU, in the order of the batches.

    The encoder runs in evaluation mode, without gradients; afterwards each of its modules is
    back in the mode it had. Beside the result (4 * count * f bytes), memory holds one batch.

    Args:
        encoder: (n, c, h, w) -> (n, f); moved to `device`, where it stays.
        batches: normalised images (n, c, h, w), count in all.
        count: images.
        device: where the encoder runs.
        precision: bfloat16 runs the encoder in it where torch deems it safe; float32 leaves
            precision alone.

    Raises:
        DataError: there are more or fewer images than count, or none.
        RunError: a feature is not finite.
    """
    device = torch.device(device)
    encoder.to(device)
    result = torch.empty(0)
    done = 0
    with evaluation_mode(encoder):
        for images in batches:
            for piece in images.split(_pieces(images, device)):
                features = _forward(encoder, piece, device, precision)
                if not done:
                    result = torch.empty(count, features.shape[1])
                if done + len(features) > count:
                    raise DataError(f"More than the {count} images announced came to be evaluated.")
                result[done : done + len(features)] = features
                done += len(features)
    if done != count or not count:
        raise DataError(
            f"{done} images came to be evaluated, {count} were announced; both must be equal and "
            "above 0. Check that the source has images and that none is left out on the way."
        )
    _check_finite(result)
    return result


def _pieces(images: Tensor, device: torch.device) -> int:
    """Images that go through the encoder at once: on a CPU what its caches hold well."""
    if device.type != "cpu":
        return len(images)
    return max(_LEAST_PIECE, _PIXELS // (images.shape[2] * images.shape[3]))


def _forward(
    encoder: nn.Module, images: Tensor, device: torch.device, precision: Precision
) -> Tensor:
    images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
    lower = precision == "bfloat16"
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=lower):
        return encoder(images).float()  # (n, f)


@contextmanager
def evaluation_mode(encoder: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards the former mode of every module on its own."""
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _check_finite(features: Tensor) -> None:
    rows = sum(int((~chunk.isfinite()).any(dim=1).sum()) for chunk in features.split(8192))
    if rows:
        raise RunError(
            f"The features of {rows} of {len(features)} images are not finite: the weights are "
            "broken, or the precision is too low. Evaluate an earlier checkpoint, or in float32."
        )
