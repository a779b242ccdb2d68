"""Weights & Biases and MLflow get a run's numbers too, if `train.trackers` names them.

Nothing is sent anywhere unasked. A tracker that fails while training is told of and left out:
`metrics.jsonl` has every number.
"""

import abc
import contextlib
import importlib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from squint import codec, runs
from squint.errors import RecipeError, RunError
from squint.recipe import Recipe
from squint.runs import Run

_PACKAGES = {"wandb": "wandb", "mlflow": "mlflow (or mlflow-skinny)"}


class Tracker(abc.ABC):
    """One service's record of a run."""

    key: str
    """What the service calls it; a resumed run goes on under the same."""

    @abc.abstractmethod
    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add the numbers of a step."""

    @abc.abstractmethod
    def close(self) -> None:
        """Send what is left."""


class Wandb(Tracker):
    """Weights & Biases; its WANDB_… variables choose project, mode and more."""

    def __init__(self, run: Run, recipe: Recipe, key: str | None) -> None:
        wandb: Any = importlib.import_module("wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "squint"),
            name=run.path.name,
            id=key,
            resume="allow",
            dir=str(run.path),
            config=codec.leaves(codec.encode(recipe)),
        )
        self.key = self._run.id

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add the numbers of a step."""
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


class MLflow(Tracker):
    """MLflow; MLFLOW_TRACKING_URI says where, MLFLOW_EXPERIMENT_NAME under which experiment."""

    def __init__(self, run: Run, recipe: Recipe, key: str | None) -> None:
        tracking: Any = importlib.import_module("mlflow")
        self._client = tracking.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "squint")
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        self.key = key or self._client.create_run(experiment, run_name=run.path.name).info.run_id
        if key is None:
            for field, value in codec.leaves(codec.encode(recipe)).items():
                self._client.log_param(self.key, field, value)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add the numbers of a step."""
        for name, value in numbers.items():
            self._client.log_metric(self.key, name, value, step=step)

    def close(self) -> None:
        """Mark it as ended."""
        self._client.set_terminated(self.key)


KINDS: Mapping[str, Callable[[Run, Recipe, str | None], Tracker]] = {
    "wandb": Wandb,
    "mlflow": MLflow,
}


def check_trackers(recipe: Recipe) -> None:
    """Make sure that the packages of all trackers are there, before anything is written.

    Raises:
        RecipeError: one is not.
    """
    for name in recipe.train.trackers:
        if importlib.util.find_spec(name) is None:
            raise RecipeError(
                f"train.trackers names {name}, which is not installed. Install "
                f"{_PACKAGES[name]}, or leave it out: metrics.jsonl and TensorBoard's file have "
                "every number."
            )


class Trackers:
    """All trackers of a run, opened.

    Raises:
        RunError: a tracker can't begin.
    """

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self._open: dict[str, Tracker] = {}
        path = run.path / "trackers.json"
        keys: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):
            keys = json.loads(path.read_text(encoding="utf-8"))
        for name in recipe.train.trackers:
            try:
                self._open[name] = KINDS[name](run, recipe, keys.get(name))
            except Exception as error:  # each service has its own
                self.close()
                raise RunError(
                    f"{name} does not take the run ({_first_line(error)}). Log in or set it up as "
                    "its manual says, or leave it out of --train.trackers."
                ) from error
        if self._open:
            now = {name: tracker.key for name, tracker in self._open.items()}
            runs.write_json(path, keys | now)  # one that is left out now may be asked for again

    def write(self, step: int, numbers: Mapping[str, float]) -> list[str]:
        """Add the numbers of a step to all; a sentence for each that fails, and gets no more."""
        return self._each(lambda tracker: tracker.write(step, numbers), "gets no more numbers")

    def close(self) -> list[str]:
        """Close all, likewise."""
        said = self._each(lambda tracker: tracker.close(), "was not closed")
        self._open = {}
        return said

    def _each(self, do: Callable[[Tracker], None], failed: str) -> list[str]:
        said: list[str] = []
        for name, tracker in list(self._open.items()):
            try:
                do(tracker)
            except Exception as error:  # training must not end with a service
                del self._open[name]
                said.append(f"{name} {failed} ({_first_line(error)}).")
        return said


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
