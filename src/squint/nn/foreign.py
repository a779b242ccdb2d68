"""Encoders from timm and torchvision, by name, behind our interface.

Both libraries are imported when one of their names is asked for, not before.
"""

import importlib
from typing import Any, Literal

from torch import Tensor, nn

from squint.errors import RecipeError
from squint.nn._encoder import Encoder
from squint.shapes import Features, Image

Library = Literal["timm", "torchvision"]

_TORCHVISION_CLASSES = 1000
_PREFIX = "body."


class Foreign(Encoder):
    """A model of another library whose output is already (n, f).

    `state_dict` and `load_state_dict` use the model's own key names, without a prefix of ours,
    so weights go both ways between Squint and the library.
    """

    def __init__(self, body: nn.Module, dim: int) -> None:
        super().__init__()
        self.body = body
        self.dim = dim
        self.register_state_dict_post_hook(_drop_prefix)  # pyright: ignore[reportUnknownMemberType]
        self.register_load_state_dict_pre_hook(_add_prefix)  # pyright: ignore[reportUnknownMemberType]

    def forward(self, images: Image) -> Features:
        """Features as the library pools them, (n, c, h, w) -> (n, f)."""
        return self.body(images)


def _drop_prefix(
    module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: dict[str, Any]
) -> None:
    ours = prefix + _PREFIX
    for key in [key for key in state if key.startswith(ours)]:
        state[prefix + key.removeprefix(ours)] = state.pop(key)


def _add_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[prefix + _PREFIX + key.removeprefix(prefix)] = state.pop(key)


def names(library: Library) -> list[str]:
    """All classification architectures the installed library can build."""
    if library == "timm":
        return _timm().list_models()
    models: Any = importlib.import_module("torchvision.models")
    return models.list_models(module=models)


def build(library: Library, name: str, *, in_channels: int) -> Foreign:
    """A randomly initialised model without its classifier.

    The weights follow the library's own initialisation; the stem is built with `in_channels`
    inputs.

    Raises:
        RecipeError: the model has no linear classifier to take off.
    """
    if library == "timm":
        model = _timm().create_model(name, pretrained=False, num_classes=0, in_chans=in_channels)
        # head_hidden_size: some timm models widen the features once more after pooling
        return Foreign(model, int(getattr(model, "head_hidden_size", model.num_features)))
    models: Any = importlib.import_module("torchvision.models")
    model = models.get_model(name, weights=None)
    dim = _take_off_classifier(model, name)
    if in_channels != 3:
        _replace_stem(model, in_channels)
    return Foreign(model, dim)


def _submodules(model: Any) -> list[tuple[str, nn.Module]]:
    return list(model.named_modules())


def _timm() -> Any:
    return importlib.import_module("timm")


def _take_off_classifier(model: nn.Module, name: str) -> int:
    """Replace the linear classifier, wherever it sits, by the identity; give its input width."""
    classifiers = [
        (path, module)
        for path, module in _submodules(model)
        if isinstance(module, nn.Linear) and module.out_features == _TORCHVISION_CLASSES
    ]
    if len(classifiers) != 1:
        raise RecipeError(
            f"torchvision/{name} has {len(classifiers)} linear classifiers with "
            f"{_TORCHVISION_CLASSES} outputs; exactly one is needed, because its input is the "
            f"feature. Choose another encoder, or the model of the same name from timm."
        )
    path, classifier = classifiers[0]
    model.set_submodule(path, nn.Identity())
    return classifier.in_features


def _replace_stem(model: nn.Module, in_channels: int) -> None:
    """Rebuild the first convolution, drawn anew by torch's default, for other channels."""
    path, conv = next(
        (path, module) for path, module in _submodules(model) if isinstance(module, nn.Conv2d)
    )
    assert conv.in_channels == 3, f"the first convolution {path} reads {conv.in_channels} channels"
    model.set_submodule(path, _with_inputs(conv, in_channels))


def _with_inputs(conv: nn.Conv2d, in_channels: int) -> nn.Conv2d:
    def pair(values: tuple[int, ...]) -> tuple[int, int]:
        return values[0], values[1]

    padding = conv.padding if isinstance(conv.padding, str) else pair(conv.padding)
    return nn.Conv2d(
        in_channels,
        conv.out_channels,
        pair(conv.kernel_size),
        pair(conv.stride),
        padding,
        bias=isinstance(conv.bias, Tensor),
    )
