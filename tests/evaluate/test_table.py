"""What `squint evaluate` prints: what was asked for, numbers first, in words."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from squint.cli import main
from squint.evaluate.table import show, side_by_side, text, title_of


def entry(value: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "protocol": "long " * 100, **more}


PARTS = {
    "info_nats": {"held_out": -0.001, "held_out_bits": 1.5},
    "sampled_error_nats": {"train": 0.25},
}
RESULTS = {
    "knn_top1": entry(0.5, random=0.25),
    "rate_nats": entry(3.0, table=PARTS),
    "finetune_20pct_top1": entry(0.75, interval=0.02),
}
RUN = {"run": "a long folder [name]", "recipe": "c-simclr", "data": "demo", "step": 4}


def test_only_what_was_asked_for_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show(RUN | {"results": RESULTS}, ["finetune_20pct_top1"], Path("r/evaluation.json"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a long folder [name]: c-simclr on demo, step 4", "in one line, as it is"
    assert [line.strip("│ ") for line in lines[4:-2]] == ["finetune 20 % top-1 │ 75.0% ± 2.0%"]
    assert lines[-1] == "How each was measured is in r/evaluation.json, beside 2 measured before."


def test_words_stand_for_keys(capsys: pytest.CaptureFixture[str]) -> None:
    weights = {key: value for key, value in RUN.items() if key != "step"}
    show(weights | {"results": RESULTS}, list(RESULTS), Path("evaluation.json"))
    shown = capsys.readouterr().out
    for word in ("this encoder", "random encoder", "held out, bits", "information I(Y;Z)"):
        assert word in shown
    for key in ("this run", "long long", "held_out", "_nats", "-0.00"):
        assert key not in shown


def test_titles_and_numbers_are_for_people() -> None:
    assert title_of("fewshot_5shot_top1") == "fewshot 5 per class top-1"
    assert title_of("linear_sgd_byol_top1") == "linear SGD byol top-1"
    assert (text("info_nats", -0.001), text("x_top1", -0.0001)) == ("0.00", "0.0%")


def test_names_of_encoders_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"my_run": {"10% labels": 0.5}}
    results = {"compare_linear_top1": entry(0.5, table=rows)}
    show(RUN | {"results": results}, list(results), Path("evaluation.json"))
    assert "my_run" in capsys.readouterr().out


def test_runs_stand_side_by_side_in_what_all_have(capsys: pytest.CaptureFixture[str]) -> None:
    both = {"a": {"results": RESULTS}, "b": {"results": {"knn_top1": entry(0.125)}}}
    side_by_side(both)
    shown = capsys.readouterr().out
    assert "25.0%" in shown and "50.0%" in shown and "12.5%" in shown and "rate" not in shown


def test_the_command_shows_its_own_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ["evaluate", "timm:resnet10t", "--data", "demo", "--protocols", "knn"]
    measured = (RUN | {"results": RESULTS}, ("knn_top1",), tmp_path)
    module = importlib.import_module("squint.evaluate.protocols")
    monkeypatch.setattr(module, "measure", lambda *_, **__: module.Measured(*measured))
    assert main(asked) == 0
    shown = capsys.readouterr().out
    assert "kNN top-1" in shown and "finetune" not in shown
