"""`squint import`: weights of any library as a pair of files of ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from squint.configs import EncoderConfig
from squint.errors import RunError
from squint.interop import encoder as encoder_file
from squint.interop import formats, guess
from squint.interop.encoder import PretrainedEncoder
from squint.interop.inputs import own_input
from squint.interop.weights import Fitted, fit, read


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of a weights file."""

    out: Path
    """The encoder.safetensors; its JSON lies beside it."""
    encoder: PretrainedEncoder
    origin: str
    """Whose checkpoint it was and which part was taken, in words."""
    fitted: Fitted

    @property
    def counts(self) -> str:
        """How many tensors were loaded and which were not, in words."""
        fitted = self.fitted
        said = f"{fitted.loaded} of {fitted.wanted} tensors loaded"
        if counters := fitted.wanted - fitted.loaded:
            said += f" (the other {counters} count batches, and nothing reads them)"
        if not fitted.ignored:
            return said
        groups = dict.fromkeys(_group(name, fitted.prefix) for name in fitted.ignored)
        return f"{said}; {len(fitted.ignored)} of other names ignored: {', '.join(groups)}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the numbers of tensors do not show, a sentence each."""
        if self.origin.startswith(guess.SOLO_LEARN) and self.encoder.config.stem == "cifar":
            return ("solo-learn pads its cifar stem by 2 px, Squint by 1: features will differ.",)
        return ()


def import_weights(
    file: str | Path,
    *,
    out: str | Path,
    encoder: EncoderConfig | Literal["guess"] = "guess",
    size: int | Literal["own"] = "own",
    overwrite: bool = False,
) -> Imported:
    """Write a weights file of any library as a pair that Squint reads.

    Args:
        file: tensors by name, with a trainer's prefix and heads or without; nothing in it is run.
        out: the .safetensors; a .json of the same name is written beside it.
        encoder: the architecture; "guess" knows plain ResNets by their names and shapes.
        size: side of its input in pixels; "own" is what its library feeds it.
        overwrite: replace what is at `out`.

    Raises:
        SquintError: the file is missing, damaged, ours already or does not fit, the architecture
            is unknown, or something is there already.
    """
    file, out = Path(file), Path(out)
    formats.check_import(file, out, named=encoder != "guess", overwrite=overwrite)
    state = read(file)
    config = guess.resnet(state, str(file)) if encoder == "guess" else encoder
    built = encoder_file.build(config)
    fitted = fit(built, state, str(file), config.name)
    if config.in_channels != 3:
        raise RunError(
            f"{file} reads images of {config.in_channels} channels, of which no library says how "
            "they are normalised. Train with Squint from such images instead."
        )
    views = own_input(config, size=size)
    encoder_file.save_pair(out, built, config, views)
    return Imported(
        out=out,
        encoder=PretrainedEncoder(built, config, views).eval(),
        origin=guess.origin(state, fitted.prefix),
        fitted=fitted,
    )


def _group(name: str, prefix: str) -> str:
    """What stands for a name that was not taken, with all that begin likewise: fc.*."""
    starts = (start for start in (prefix, "module.") if start and name.startswith(start))
    start = next(starts, "")  # module.encoder_k.* rather than module.*
    first, dot, _ = name.removeprefix(start).partition(".")
    return f"{start}{first}{'.*' if dot else ''}"
