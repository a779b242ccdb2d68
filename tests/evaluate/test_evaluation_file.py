"""evaluation.json: what is in it survives whatever is measured next."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from squint import pretrain
from squint.errors import RunError
from squint.evaluate import protocols
from squint.evaluate.options import Protocol
from squint.evaluate.protocols import PROTOCOLS, evaluate
from squint.runs import Run
from train import small


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("evaluated")
    return pretrain(small.source(folder), recipe=small.recipe(), out=folder / "run", quiet=True)


def written(run: Run) -> dict[str, Any]:
    return json.loads((run.path / "evaluation.json").read_text())


def test_every_named_protocol_exists_and_the_other_way_round() -> None:
    assert get_args(Protocol) == tuple(PROTOCOLS)


def test_results_of_other_data_stay_and_come_back(run: Run, tmp_path: Path) -> None:
    evaluate(run, protocols=("knn",))
    first = written(run)
    other = small.source(tmp_path)
    evaluate(run, data=other, protocols=("linear",))
    table = written(run)
    assert set(table["results"]) == {"linear_top1"} and table["data"] == other
    assert table["others"] == [{k: v for k, v in first.items() if k != "others"}]
    evaluate(run, protocols=("linear",))
    assert set(written(run)["results"]) == {"knn_top1", "linear_top1"}


def test_a_kill_in_the_middle_loses_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(run, protocols=("knn",))

    def killed(_: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(protocols, "PROTOCOLS", {**PROTOCOLS, "compression": killed})
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, protocols=("linear", "compression"))
    assert {"knn_top1", "linear_top1"} <= set(written(run)["results"])


def test_a_damaged_file_is_not_written_over(run: Run) -> None:
    evaluate(run, protocols=("knn",))
    path = run.path / "evaluation.json"
    whole = path.read_text()
    path.write_text(whole[:50])
    with pytest.raises(RunError, match="lose what it holds"):
        evaluate(run, protocols=("knn",))
    assert path.read_text() == whole[:50]
    path.write_text(whole)
