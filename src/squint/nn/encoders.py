"""Encoders by name: our ResNets, MoCo v3's ViTs, every model of timm and torchvision.

| name                          | gives                                                 |
|-------------------------------|-------------------------------------------------------|
| resnet10, 18, 34, 50, 101, 152| our ResNet v1.5, with either stem and any width       |
| mocov3_vit_small, base,       | Vision Transformers of MoCo v3 (`squint.nn.vit`);     |
| mocov3_vit_conv_small, base   | image sides are multiples of 16                       |
| timm/NAME, torchvision/NAME   | that library's model without its classifier           |
| any other bare NAME           | timm's model of that name, else torchvision's         |
"""

import difflib
from typing import Literal

from squint.errors import RecipeError
from squint.nn import foreign, vit
from squint.nn._encoder import Encoder
from squint.nn.resnet import LAYOUTS, Init, ResNet, Stem

__all__ = ["Encoder", "build", "library_of"]

Library = Literal["squint", "timm", "torchvision"]
"""Whose network it is."""


def build(
    name: str,
    *,
    stem: Stem = "imagenet",
    width: float = 1.0,
    in_channels: int = 3,
    zero_init_residual: bool = True,
    init: Init = "simclr",
    freeze_patch: bool = True,
) -> Encoder:
    """A randomly initialised encoder, (n, c, h, w) -> (n, f), with f in `.dim`.

    Weights are drawn from torch's global generator, so `torch.manual_seed` before the call
    fixes them. The stem is built with `in_channels` inputs.

    Args:
        name: one of the module's table.
        stem: imagenet, or cifar for images up to about 64 px. Our ResNets only.
        width: multiplies all channels, rounded to multiples of 8, at least 8. Our ResNets only.
        in_channels: channels of the images, at least 1.
        zero_init_residual: see `ResNet`. Our ResNets only.
        init: see `ResNet`. Our ResNets only.
        freeze_patch: see `squint.nn.vit.VisionTransformer`. mocov3_vit_small and base only.

    Raises:
        RecipeError: the name is unknown, a value is out of range, or a setting would have no
            effect on the named encoder.
    """
    if in_channels < 1:
        raise RecipeError(f"encoder.in_channels={in_channels} must be at least 1.")
    if not 0 < width <= 16:
        raise RecipeError(
            f"encoder.width={width} must be above 0 and at most 16: it multiplies all channels."
        )
    library, model = _resolve(name)
    if name not in LAYOUTS:
        _refuse_resnet_settings(name, stem, width, zero_init_residual, init)
    if not freeze_patch and name not in vit.LINEAR_PATCHES:
        raise RecipeError(
            f"encoder.freeze_patch=False has no effect on {name!r}: nothing of it is frozen. Drop "
            f"it, or choose one of {', '.join(vit.LINEAR_PATCHES)}."
        )
    match library:
        case "timm" | "torchvision":
            return foreign.build(library, model, in_channels=in_channels)
        case "squint" if model in vit.LAYOUTS:
            return vit.build(model, in_channels=in_channels, freeze_patch=freeze_patch)
        case "squint":
            block, depths = LAYOUTS[model]
            return ResNet(
                block,
                depths,
                stem=stem,
                width=width,
                in_channels=in_channels,
                zero_init_residual=zero_init_residual,
                init=init,
            )


def library_of(name: str) -> Library:
    """Whose network a name of the module's table means.

    Raises:
        RecipeError: nobody has one of that name.
    """
    return _resolve(name)[0]


def _resolve(name: str) -> tuple[Library, str]:
    """Library of a name, and the model's name there."""
    if name in LAYOUTS or name in vit.LAYOUTS:
        return "squint", name
    libraries: tuple[foreign.Library, ...] = ("timm", "torchvision")
    for library in libraries:
        if name.startswith(f"{library}/"):
            model = name.removeprefix(f"{library}/")
            known = foreign.names(library)
            if model in known:
                return library, model
            raise _unknown(name, [f"{library}/{other}" for other in known])
    for library in libraries:
        if name in foreign.names(library):
            return library, name
    known = [*LAYOUTS, *vit.LAYOUTS, *foreign.names("timm"), *foreign.names("torchvision")]
    raise _unknown(name, known)


def _unknown(name: str, known: list[str]) -> RecipeError:
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.6)
    hint = f"Did you mean {', '.join(dict.fromkeys(near))}? " if near else ""
    return RecipeError(
        f"encoder.name={name!r} is unknown. {hint}Ours are {', '.join([*LAYOUTS, *vit.LAYOUTS])}; "
        "timm/NAME and torchvision/NAME give any model of the installed timm and torchvision."
    )


def _refuse_resnet_settings(
    name: str, stem: Stem, width: float, zero_init_residual: bool, init: Init
) -> None:
    settings = {
        "stem": (stem, "imagenet"),
        "width": (width, 1.0),
        "zero_init_residual": (zero_init_residual, True),
        "init": (init, "simclr"),
    }
    given = {setting: pair for setting, pair in settings.items() if pair[0] != pair[1]}
    if not given:
        return
    values = ", ".join(f"encoder.{setting}={value}" for setting, (value, _) in given.items())
    flags = " ".join(
        f"--encoder.{setting.replace('_', '-')}" + ("" if default is True else f" {default}")
        for setting, (_, default) in given.items()
    )
    have, these = ("has", "this setting") if len(given) == 1 else ("have", "these settings")
    raise RecipeError(
        f"{values} {have} no effect on {name!r}: only our own ResNets have {these}. Give {flags}, "
        f"or choose one of {', '.join(LAYOUTS)}."
    )
