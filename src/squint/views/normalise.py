"""Normalisation of finished views, by the recipe's mean and standard deviation per channel."""

from jaxtyping import Float
from torch import Tensor

from squint.errors import RecipeError
from squint.views.recipes import ViewsConfig

Square = Float[Tensor, "n c s s"]
"""Finished views: of the recipe's size, normalised."""


def normalise(images: Float[Tensor, "*n c h w"], config: ViewsConfig) -> Float[Tensor, "*n c h w"]:
    """Subtracts the recipe's mean and divides by its std, per channel; overwrites `images`.

    One number serves any number of channels; of several equal ones, fewer channels use the first.

    Raises:
        RecipeError: The recipe has not one number per channel.
    """
    # in Python numbers: a tensor of them would have to be copied to the device, every time
    for channel, (shift, scale) in enumerate(per_channel(config, images.shape[-3])):
        if (shift, scale) != (0, 1):
            images.select(-3, channel).sub_(shift).div_(scale)
    return images


def per_channel(config: ViewsConfig, channels: int) -> list[tuple[float, float]]:
    """Mean and std of each of so many channels; see `normalise`.

    Raises:
        RecipeError: The recipe has not one number per channel.
    """
    mean, std = config.mean, config.std
    if len(mean) == 1:
        mean, std = mean * channels, std * channels
    uniform = len(set(mean)) == len(set(std)) == 1
    if channels > len(mean) or (channels < len(mean) and not uniform):
        raise RecipeError(
            f"views.mean={config.mean} and views.std={config.std} have {len(mean)} numbers, the "
            f"images {channels} channels: give one number per channel, or one number for all."
        )
    return list(zip(mean[:channels], std[:channels], strict=True))
