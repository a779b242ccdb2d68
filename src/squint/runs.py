"""The run folder: the names of its files, and writing them whole or not at all.

Over 300 lines because making, locking, replacing and deleting go by one list of names:

recipe.json          the recipe, its derived values and the source, complete and strict
environment.json     versions, device, world size, commit, exact command
metrics.jsonl        one object a line
checkpoints/last.pt  everything needed to go on; step-*.pt when asked
encoder.safetensors  the backbone alone, with encoder.json beside it
evaluation.json      every number with its protocol
figures/             pictures of it, each light and dark
quarantine.txt       images that could not be read
trackers.json        what trackers call the run, if there are any
"""

import functools
import json
import logging
import os
import shlex
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squint import __version__, codec, earlier, files
from squint.errors import CheckpointError, RecipeError, RunError
from squint.recipe import Recipe

FORMAT = 1
"""Version of recipe.json and of the checkpoint; a reader refuses a later one."""

_log = logging.getLogger(__name__)

_OURS = (
    "recipe.json",
    "environment.json",
    "metrics.jsonl",
    "checkpoints",
    "encoder.safetensors",
    "encoder.json",
    "evaluation.json",
    "figures",
    "quarantine.txt",
    "report.html",
    "trackers.json",
    "wandb",
)

_TRAINED = (
    "environment.json",
    "metrics.jsonl",
    "encoder.safetensors",
    "encoder.json",
    "quarantine.txt",
)
"""Of these, what training writes; an evaluation may be writing the others at the same time."""

_PATIENCE_SECONDS = 10.0
"""For a killed run's loader workers, which hold its lock until they notice."""


@dataclass(frozen=True)
class Run:
    """A run folder."""

    path: Path

    @property
    def quoted(self) -> str:
        """The folder, as a shell takes it."""
        return shlex.quote(str(self.path))

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def metrics(self) -> Path:
        """Metrics, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def encoder(self) -> Path:
        """The backbone's weights."""
        return self.path / "encoder.safetensors"

    @property
    def recipe(self) -> Recipe:
        """The recipe this run follows; of a run of an earlier version, completed and said so."""
        try:
            recipe, absent = earlier.decode(Recipe, self._manifest()["recipe"])
        except RecipeError as error:
            raise RunError(f"{self.path / 'recipe.json'}: {error} Restore it.") from None
        if absent:
            _say_completed(self.path / "recipe.json", ", ".join(absent))
        return recipe

    @property
    def source(self) -> str:
        """The images this run was given: a path made absolute, or as written."""
        return self._manifest()["source"]

    @property
    def derived(self) -> dict[str, Any]:
        """What followed from recipe and images when the run began: total_steps, images and more."""
        return self._manifest()["derived"]

    def records(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a last line cut short by a crash is left out."""
        lines = (
            self.metrics.read_text(encoding="utf-8").splitlines() if self.metrics.exists() else []
        )
        return [json.loads(line) for line in lines if line.endswith("}")]

    def evaluation(self) -> dict[str, Any]:
        """What evaluation.json holds; {} before the first evaluation."""
        try:
            return json.loads((self.path / "evaluation.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}

    def state(self) -> dict[str, Any]:
        """The last checkpoint's content on the CPU, loaded with weights_only=True.

        Raises:
            CheckpointError: there is none, it is damaged, or of another format.
        """
        import torch  # here, so that looking at a run's recipe does not load it

        try:
            with zipfile.ZipFile(self.checkpoint) as parts:  # torch does not look at checksums
                if damaged := parts.testzip():
                    raise ValueError(f"{damaged} in it fails its checksum")
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise CheckpointError(
                f"{self.checkpoint} does not exist: the run ended before its first checkpoint. "
                "Train it again with `squint pretrain … --overwrite`."
            ) from None
        except Exception as error:
            raise CheckpointError(
                f"{self.checkpoint} is damaged or no checkpoint ({str(error) or 'it is empty'}). "
                f"{self._another()}"
            ) from None
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise CheckpointError(
                f"{self.checkpoint} is not a checkpoint of format {FORMAT}. Use the version of "
                "Squint named in environment.json."
            )
        return state

    def _another(self) -> str:
        kept = sorted(self.checkpoint.parent.glob("step-*.pt"))
        return (
            f"Copy {kept[-1]} over it, or train again." if kept else "Restore it, or train again."
        )

    def _manifest(self) -> dict[str, Any]:
        path = self.path / "recipe.json"
        if self.path.is_file():
            around = [folder for folder in self.path.parents if (folder / "recipe.json").exists()]
            which = f": {around[0]}" if around else ", which `squint pretrain … --out` wrote."
            raise RunError(f"{self.path} is a file. Give the folder of the run{which}")
        if not self.path.exists():
            raise RunError(
                f"There is no {self.path}. Give the folder that `squint pretrain` wrote."
            )
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"{self.path} is not a run: it has no recipe.json. "
                "Give the folder that `squint pretrain … --out` wrote."
            ) from None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} can't be read ({error}). Restore it, or train again.") from None
        known = manifest if isinstance(manifest, dict) else {}
        if known.get("format") != FORMAT or not {"recipe", "derived", "source"} <= set(known):
            raise RunError(
                f"{path} has format {known.get('format')} and the parts {', '.join(known)}; this "
                f"version of Squint reads format {FORMAT} with recipe, derived and source. Restore "
                "it, or use the version of Squint named in environment.json."
            )
        return known


@functools.cache  # once for each run
def _say_completed(path: Path, absent: str) -> None:
    _log.warning("%s is of an earlier version; as was done then: %s", path, absent)


def check_out(out: Path, *, overwrite: bool) -> None:
    """Make sure that a run may be written to `out`, without changing anything.

    Raises:
        RunError: it is a file, holds something, or can't be written to.
    """
    try:
        _check_out(out, overwrite=overwrite)
    except OSError as error:  # a name too long, a circle of links
        raise RunError(
            f"--out {out} can't be a folder: {error.strerror or error}. Give another name."
        ) from None


def _check_out(out: Path, *, overwrite: bool) -> None:
    if os.path.lexists(out) and not out.is_dir():
        raise RunError(
            f"--out {out} is a file or a link that leads nowhere, and a run is a folder. Give "
            "another name."
        )
    if out.is_dir() and any(out.iterdir()):
        is_run = (out / "recipe.json").exists()
        if is_run and not overwrite:
            go_on = f"Go on with `squint resume {Run(out).quoted}`, give"
            if not Run(out).checkpoint.exists():
                go_on = "It has no checkpoint to go on from: give"
            raise RunError(
                f"--out {out} already holds a run, which is never overwritten unasked. {go_on} "
                "another name, or add --overwrite to delete it."
            )
        if not is_run:
            raise RunError(
                f"--out {out} holds other files, and a run needs a folder of its own. "
                "Give a new or empty one."
            )
    parent = out
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise RunError(
            f"--out {out} can't be created: {parent} is not a folder we may write to. "
            "Give a place that is, or change its permissions."
        )


def create(
    out: Path, recipe: Recipe, *, source: str, derived: Mapping[str, Any], overwrite: bool = False
) -> Run:
    """A new run folder with its recipe written.

    Args:
        out: the folder; new, empty, or an old run if `overwrite`.
        recipe: as asked for; raw values.
        source: the images, as `Run.source` gives them.
        derived: what follows from recipe and images (steps, scaled learning rate, …).
        overwrite: delete the files of a run that is there. Nothing else is ever deleted.

    Raises:
        RunError: see `check_out`.
    """
    check_out(out, overwrite=overwrite)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if overwrite and (out / "recipe.json").exists():
            with alone(Run(out)):
                _delete_run(out)
    except OSError as error:
        raise RunError(
            f"--out {out} can't be created: {error.strerror or error}. Give another place, or make "
            "room there."
        ) from None
    tree = {
        "format": FORMAT,
        "squint": __version__,
        "recipe": codec.encode(recipe),
        "derived": dict(derived),
        "source": source,
    }
    write_json(out / "recipe.json", tree)  # first: a full disk leaves an empty folder, or a run
    (out / "checkpoints").mkdir(exist_ok=True)
    return Run(out)


@contextmanager
def alone(run: Run) -> Iterator[None]:
    """Nobody else trains this run meanwhile; what killed processes left half written is removed.

    The lock is on recipe.json itself, and is waited for only a moment: who trains the run may take
    days. Where the platform or the file system knows no locks, nobody is kept out.

    Raises:
        RunError: another process is training it.
    """
    with (run.path / "recipe.json").open("rb") as file:
        end = time.monotonic() + _PATIENCE_SECONDS
        while not files.try_lock(file):
            if time.monotonic() > end:
                raise RunError(
                    f"{run.path} is being trained by another process. Wait for it, or stop it "
                    "first; `squint resume` then goes on from its checkpoint."
                )
            time.sleep(0.1)
        _sweep(run)
        try:
            yield
        finally:
            files.unlock(file)


def _sweep(run: Run) -> None:
    """Remove temporary files of `replacing` that training did not live to rename or remove."""
    for folder, names in ((run.path, _TRAINED), (run.checkpoint.parent, ("*.pt",))):
        for name in names:
            for left in folder.glob(f".{name}.*"):
                with suppress(OSError):
                    left.unlink()


def write_json(path: Path, tree: Any) -> None:
    """Write JSON to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(
            json.dumps(tree, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """`files.replacing`, readable by all, with an error in a sentence.

    Raises:
        RunError: the disk is full or the folder can't be written to; `path` is as it was.
    """
    try:
        with files.replacing(path) as temporary:
            yield temporary
            temporary.chmod(0o644)
    except OSError as error:
        raise RunError(
            f"{path} could not be written: {error.strerror or error}. The old file, if any, is "
            "unharmed. Make room or change permissions, then give the command again; a training "
            "goes on with `squint resume`."
        ) from error


def _delete_run(out: Path) -> None:
    events = out.glob("events.out.tfevents*")
    for path in (*(out / name for name in _OURS), *events):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
