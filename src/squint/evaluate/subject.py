"""What is evaluated: the encoder of a run, of a weights file, or of a library by name."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squint.errors import RunError
from squint.interop import encoder as encoder_file
from squint.interop.encoder import PretrainedEncoder
from squint.runs import Run


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An encoder under test, and where its results go."""

    name: str
    """As the user wrote it."""
    title: str
    """What it is, for the head of a table: a recipe's name or an architecture's."""
    encoder: PretrainedEncoder
    run: Run | None
    """The run it is from, if it is from one."""
    trained: bool
    """Whether its weights are more than freshly drawn ones."""
    weights: str
    """Digest of the weights: results of other weights are other results."""
    out: Path
    """The evaluation.json."""

    def described(self) -> dict[str, Any]:
        """What evaluation.json says of it."""
        step = {"step": step_of(self.run)} if self.run else {}
        return {
            "run": self.name,
            "recipe": self.title,
            "encoder": self.encoder.config.name,
            "weights": self.weights,
        } | step


def open_subject(target: str | Path | Run) -> Subject:
    """The encoder of a run folder.

    Raises:
        SquintError: it is no run, or its files are missing or damaged.
    """
    run = target if isinstance(target, Run) else Run(Path(target))
    recipe = run.recipe
    encoder = encoder_file.load(run)
    return Subject(
        name=str(run.path),
        title=recipe.name,
        encoder=encoder,
        run=run,
        trained=True,
        weights=_digest(run.encoder),
        out=run.path / "evaluation.json",
    )


def step_of(run: Run) -> int:
    """Optimizer steps behind a run's last weights."""
    return run.state()["position"]["step"]


def _digest(path: Path) -> str:
    """First 16 hex digits of the SHA-256 of a file.

    Raises:
        RunError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise RunError(f"{path} can't be read ({error.strerror}).") from None
