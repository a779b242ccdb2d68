"""The weights a run begins with, where they are not drawn: those of an earlier run, or anyone's."""

from pathlib import Path

from squint.errors import CheckpointError
from squint.interop import weights
from squint.methods import Method
from squint.nn import Target
from squint.recipe import Recipe

_REMEDY = "Train the architecture they are of: --encoder.name, --encoder.stem and --encoder.width."


def load_initial(method: Method, recipe: Recipe) -> str:
    """Load `train.initial_weights` into the encoder, and into the target's if there is one.

    Heads keep the weights they were drawn with.

    Returns:
        What was loaded, in words; empty if nothing was asked for.

    Raises:
        CheckpointError: the file can't be read, or is of another architecture.
    """
    asked = recipe.train.initial_weights
    if asked == "random":
        return ""
    path = Path(asked)
    if path.is_dir():  # a run
        path = path / "encoder.safetensors"
        if not path.exists():
            raise CheckpointError(
                f"train.initial_weights={asked!r} is a folder without encoder.safetensors: no run, "
                "or one before its first checkpoint. Give another run or a weights file."
            )
    state = weights.read(path)
    encoders = [method.encoder]
    encoders += [child.encoder for child in method.children() if isinstance(child, Target)]
    fitted = [
        weights.fit(encoder, state, str(path), recipe.encoder.name, remedy=_REMEDY)
        for encoder in encoders
    ]
    return f"begun with {path}, {fitted[0].loaded} tensors"
