"""Formats an encoder can leave in, and whether files of export and import may be written.

Nothing here imports torch: a file that can't be read or written is refused at once.
"""

import importlib.util
from pathlib import Path
from typing import Literal, get_args

from squint import files
from squint.errors import RunError
from squint.runs import Run

Format = Literal["timm", "torchvision", "hf", "onnx", "detectron2"]
"""Whose form the weights are written in."""

HUB_FILES = ("model.safetensors", "config.json", "README.md")
"""What the folder of format hf holds."""

_ENDINGS: dict[Format, tuple[str, ...]] = {
    "timm": (".safetensors", ".pth"),
    "torchvision": (".safetensors", ".pth"),
    "onnx": (".onnx",),
    "detectron2": (".pkl",),
}
"""Of the file's name; format hf is a folder."""


def check(target: Path | None, out: Path, *, format: Format, overwrite: bool) -> None:
    """Make sure that an export may be written, before anything is loaded.

    Args:
        target: a run or a weights file; None for an encoder that is in memory.
        out: the file to write, or the folder of format hf.
        format: whose form.
        overwrite: whether what is at `out` may be replaced.

    Raises:
        RunError: no such target, unknown format, a name that does not suit it, no such folder,
            something there that is not to be overwritten, or a library that is not installed.
    """
    if format not in get_args(Format):
        raise RunError(
            f"format={format!r} is unknown: it must be one of {', '.join(get_args(Format))}."
        )
    if target is not None:
        if not target.exists():
            raise RunError(f"There is no {target}. Give a run or an encoder.safetensors.")
        if out.resolve() in (target.resolve(), (target / "encoder.safetensors").resolve()):
            raise RunError(f"--out {out} is the encoder itself. Give another name.")
    if format == "onnx":
        _check_onnx()
    if format == "hf":
        _check_folder(out, overwrite=overwrite)
    else:
        files.check_file(out, kinds=_ENDINGS[format], overwrite=overwrite)


def check_import(file: Path, out: Path, *, named: bool, overwrite: bool) -> None:
    """Make sure that a file may be imported to `out`, before anything is loaded.

    Args:
        file: the weights.
        out: the .safetensors to write.
        named: whether its architecture is given.
        overwrite: whether what is at `out` may be replaced.

    Raises:
        RunError: no such file, one of ours, or something at `out`.
    """
    if not file.exists():
        raise RunError(f"There is no {file}. Give a weights file.")
    if file.is_dir():
        raise RunError(f"{file} is a folder. Give a weights file; a run needs no import.")
    run = Run(file.absolute().parent.parent)
    if file.absolute().parent == run.checkpoint.parent and (run.path / "recipe.json").exists():
        raise RunError(
            f"{file} is a checkpoint of the run {run.path}, which Squint reads as it is: give the "
            "run to `squint evaluate`, `embed` or `export`."
        )
    if file.suffix.lower() == ".safetensors" and file.with_suffix(".json").exists() and not named:
        raise RunError(
            f"{file} has its {file.stem}.json beside it, so Squint reads it as it is. To import it "
            "all the same, name its architecture with --encoder."
        )
    files.check_file(out, kinds=(".safetensors",), overwrite=overwrite)
    files.check_file(out.with_suffix(".json"), overwrite=overwrite)
    if out.resolve() == file.resolve():
        raise RunError(f"--out {out} is the weights file itself. Give another name.")


def _check_folder(out: Path, *, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise RunError(f"--out {out} is a file, and format hf is a folder. Give another name.")
    files.check_folder(out)
    there = {path.name for path in out.iterdir()} if out.is_dir() else set[str]()
    if not (there <= set(HUB_FILES) or there >= set(HUB_FILES[:2])):  # some of an export, or all
        raise RunError(
            f"--out {out} holds other files, and format hf needs a folder of its own. Give a new "
            "or empty one."
        )
    if there and not overwrite:
        raise RunError(
            f"--out {out} holds an export already, and no file is overwritten unasked. Give "
            "another name, or add --overwrite to replace it."
        )


def _check_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise RunError(
            f"Format onnx needs {' and '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not installed: pip install 'squint[onnx]'."
        )
