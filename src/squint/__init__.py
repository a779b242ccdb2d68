"""Squint learns image representations without labels, compresses them, and measures what is left.

Public names are imported on first use (PEP 562): `import squint` costs nothing beyond Python's
own start, and the command line answers without loading torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from squint.evaluate.embed import embed
    from squint.evaluate.protocols import evaluate
    from squint.interop.encoder import load as load_encoder
    from squint.presets import recipe
    from squint.runs import Run
    from squint.sweep import sweep
    from squint.train.pretrain import pretrain, resume

__version__ = "0.1.0.dev0"
__all__ = [
    "Run",
    "__version__",
    "embed",
    "evaluate",
    "load_encoder",
    "pretrain",
    "recipe",
    "resume",
    "sweep",
]

_HOMES = {
    "embed": ("squint.evaluate.embed", "embed"),
    "evaluate": ("squint.evaluate.protocols", "evaluate"),
    "load_encoder": ("squint.interop.encoder", "load"),
    "pretrain": ("squint.train.pretrain", "pretrain"),
    "recipe": ("squint.presets", "recipe"),
    "resume": ("squint.train.pretrain", "resume"),
    "sweep": ("squint.sweep", "sweep"),
    "Run": ("squint.runs", "Run"),
}
_ROOMS = ("compression", "data", "methods", "nn", "ops", "train", "views")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        module, attribute = _HOMES[name]
        return getattr(import_module(module), attribute)
    if name in _ROOMS:
        return import_module(f"squint.{name}")
    raise AttributeError(f"module 'squint' has no attribute {name!r}")


class _Package(ModuleType):
    """Keeps `squint.evaluate`, `recipe` and `sweep` the functions although rooms share the names.

    Python binds a submodule to its package once it is loaded; for these names it must not.
    `from squint.recipe import Recipe` is not affected.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
