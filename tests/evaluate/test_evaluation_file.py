"""evaluation.json: what is in it survives whatever is measured next."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, get_args

import pytest

from squint import pretrain
from squint.errors import RunError
from squint.evaluate import evaluation_file, protocols
from squint.evaluate.options import Protocol
from squint.evaluate.protocols import PROTOCOLS, evaluate
from squint.runs import Run
from train import small


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("evaluated")
    return pretrain(small.source(folder), recipe=small.recipe(), out=folder / "run", quiet=True)


@pytest.fixture
def run(trained: Run) -> Run:
    """Not evaluated yet."""
    (trained.path / "evaluation.json").unlink(missing_ok=True)
    return trained


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


def test_another_evaluation_meanwhile_loses_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = small.source(tmp_path)

    def interrupted(bench: Any) -> dict[str, Any]:
        evaluate(run, protocols=("linear",))
        evaluate(run, data=other, protocols=("knn",))
        return PROTOCOLS["knn"](bench)

    monkeypatch.setattr(protocols, "PROTOCOLS", {**PROTOCOLS, "compression": interrupted})
    table = evaluate(run, protocols=("compression",))
    assert table == written(run) and set(table["results"]) == {"knn_top1", "linear_top1"}
    assert [(each["data"], set(each["results"])) for each in table["others"]] == [
        (other, {"knn_top1"})
    ]


HEAD = {"weights": "w", "data": "a", "fingerprint": "f"}


def test_writers_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    writers = [
        threading.Thread(target=evaluation_file.add, args=(path, HEAD, {str(n): {}}))
        for n in range(8)
    ]
    with (tmp_path / ".evaluation.json.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for writer in writers:
            writer.start()
        writers[0].join(0.2)
        assert all(writer.is_alive() for writer in writers) and not path.exists()
    for writer in writers:
        writer.join(60)
    assert set(json.loads(path.read_text())["results"]) == set(map(str, range(8)))
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import sys, time
from pathlib import Path
from squint.files import lock
with lock(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(600)
"""


def test_a_killed_writer_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "mine\n"
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / ".evaluation.json.lock").exists()
    assert evaluation_file.add(path, HEAD, {"x": {}})["results"] == {"x": {}}


def test_the_same_images_are_the_same_however_they_are_spelled(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(run, protocols=("knn",))
    source = Path(run.source)
    monkeypatch.chdir(source.parent)
    table = evaluate(run, data=source.name, protocols=("linear",))
    assert set(table["results"]) == {"knn_top1", "linear_top1"} and "others" not in table


def test_other_images_of_the_same_name_are_others(run: Run, tmp_path: Path) -> None:
    source = small.source(tmp_path)
    evaluate(run, data=source, protocols=("knn",))
    os.utime(source, (1, 1))
    table = evaluate(run, data=source, protocols=("linear",))
    assert set(table["results"]) == {"linear_top1"} and len(table["others"]) == 1


def test_a_table_of_an_earlier_version_is_known_by_its_images_name(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    old = {"weights": "w", "data": "a", "results": {"x": 1, "y": 1}}
    elsewhere = {"weights": "w", "data": "b", "results": {"x": 3}}
    path.write_text(json.dumps(old | {"others": [elsewhere]}))
    table = evaluation_file.add(path, HEAD, {"y": 2})
    assert table == HEAD | {"results": {"x": 1, "y": 2}, "others": [elsewhere]}
    assert json.loads(path.read_text()) == table


def test_a_call_tells_what_it_measured_and_takes_one_name(run: Run) -> None:
    evaluate(run, protocols="knn")
    unset = dict.fromkeys(("data", "options", "subject", "out"))
    asked: dict[str, Any] = {"device": "cpu"} | unset
    found = protocols.measure(run, protocols="linear", **asked)
    assert found.new == ("linear_top1",) and found.out == run.path / "evaluation.json"
    assert set(found.table["results"]) == {"knn_top1", "linear_top1"}
