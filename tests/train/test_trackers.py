"""Trackers get the numbers of metrics.jsonl, and can't end a training."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import squint
from squint.errors import RecipeError, RunError
from squint.train.trackers import KINDS
from train import small


class Service:
    """Stands in for the packages of both services; keeps what it is given."""

    def __init__(self) -> None:
        self.begun: list[str | None] = []
        self.numbers: list[tuple[int, dict[str, float]]] = []
        self.config: dict[str, Any] = {}
        self.fails_at = 10**9
        self.closed = 0

    def take(self, step: int, numbers: dict[str, float]) -> None:
        if step >= self.fails_at:
            raise ConnectionError("no route\nto host")
        self.numbers.append((step, numbers))

    # wandb
    def init(self, *, id: str | None, config: dict[str, Any], **_: Any) -> Any:
        self.begun.append(id)
        self.config = config
        return types.SimpleNamespace(
            id=id or "abc",
            log=lambda numbers, step: self.take(step, numbers),
            finish=self.close,
        )

    def close(self, *_: Any) -> None:
        self.closed += 1

    # mlflow
    def MlflowClient(self) -> Any:
        def create_run(_: str, **__: Any) -> Any:
            self.begun.append(None)
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id="abc"))

        return types.SimpleNamespace(
            get_experiment_by_name=lambda name: None,
            create_experiment=lambda name: "0",
            create_run=create_run,
            log_param=lambda key, field, value: self.config.update({field: value}),
            log_metric=lambda key, name, value, step: self.take(step, {name: value}),
            set_terminated=self.close,
        )


@pytest.fixture(params=sorted(KINDS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def service(name: str, monkeypatch: pytest.MonkeyPatch) -> Service:
    found = Service()
    module = types.ModuleType(name)
    module.__spec__ = types.SimpleNamespace(name=name)  # type: ignore[assignment]
    vars(module).update({"init": found.init, "MlflowClient": found.MlflowClient})
    monkeypatch.setitem(sys.modules, name, module)
    return found


def test_a_tracker_gets_every_number_and_the_recipe(
    tmp_path: Path, name: str, service: Service
) -> None:
    recipe = small.recipe(train__trackers=(name,))
    run = squint.pretrain(small.source(tmp_path), recipe=recipe, out=tmp_path / "r", quiet=True)
    expected = [
        (record["step"], key, value)
        for record in run.records()
        for key, value in record.items()
        if key not in ("step", "epoch", "health")
    ]
    given = [(step, k, v) for step, numbers in service.numbers for k, v in numbers.items()]
    assert given == expected
    assert service.config["method.temperature"] == 0.2 and service.closed == 1
    path = run.path / "trackers.json"
    path.write_text(json.dumps({"another": "kept"} | json.loads(path.read_text())))
    squint.resume(run, quiet=True)
    assert json.loads(path.read_text()) == {"another": "kept", name: "abc"}
    assert service.begun == ([None, "abc"] if name == "wandb" else [None]), "one run, not two"


def test_a_tracker_that_fails_is_told_of_once(
    tmp_path: Path, name: str, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    service.fails_at = 3
    recipe = small.recipe(train__trackers=(name,))
    run = squint.pretrain(small.source(tmp_path), recipe=recipe, out=tmp_path / "r")
    assert len(run.records()) == 6
    said = capsys.readouterr().out
    assert said.count(f"{name} gets no more numbers (no route).") == 1


def test_a_tracker_that_does_not_begin_stops_the_run(
    tmp_path: Path, name: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("api_key not configured")

    vars(sys.modules[name]).update({"init": refuse, "MlflowClient": refuse})
    recipe = small.recipe(train__trackers=(name,))
    with pytest.raises(RunError, match=rf"{name} does not take the run \(api_key not"):
        squint.pretrain(small.source(tmp_path), recipe=recipe, out=tmp_path / "r", quiet=True)


def test_a_package_that_is_missing_is_said_before_anything_is_written(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    recipe = small.recipe(train__trackers=(name,))
    with pytest.raises(RecipeError, match=f"train.trackers names {name}, which is not installed"):
        squint.pretrain(small.source(tmp_path), recipe=recipe, out=tmp_path / "r", quiet=True)
    assert not (tmp_path / "r").exists()
