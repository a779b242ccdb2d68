"""Runs of earlier versions: their recipes are read, completed and said; anything else is refused.

earlier_recipes/ holds recipe.json files as the versions of those days wrote them, one a method:
whoever adds a field to a recipe without a line in earlier.py fails here.
"""

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import squint
from squint import codec, presets, runs
from squint.errors import RunError
from squint.recipe import Recipe, to_dict
from squint.runs import Run
from squint.train import loop
from squint.train.signals import Interrupted
from train import small

TEXTS = sorted((Path(__file__).parent / "earlier_recipes").glob("*.json"))


def written(path: Path, tree: Any) -> Run:
    (path / "recipe.json").write_text(json.dumps(tree))
    return Run(path)


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
def test_an_earlier_recipe_is_that_of_today_with_what_was_done_then(
    text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree = json.loads(text.read_text())
    run = written(tmp_path, tree)
    with caplog.at_level(logging.WARNING):
        recipe, _ = run.recipe, run.recipe
    (line,) = (record.getMessage() for record in caplog.records)
    assert str(run.path) in line and "compile=off" in line
    now = codec.leaves(to_dict(recipe))
    then = codec.leaves(tree["recipe"])
    assert {name: now[name] for name in then} == then
    filled = set(now) - set(then)
    assert filled and all(name in line for name in filled)
    # where a recipe has not been tuned since, the published name still gives the same one
    if text.stem == "2026-11-24-c-moco-v2":
        now = presets.recipe("c-moco-v2@tiny")
        assert recipe == now.override({"train.health_every_steps": 0})  # nobody looked then


def test_a_recipe_of_today_needs_nothing_and_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = runs.create(tmp_path / "run", Recipe(), source="demo", derived={})
    assert run.recipe == Recipe() and not caplog.records


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["train"].pop("seed"), ["train lacks seed"]),
        (lambda r: r["train"].update(epoch=3), ["train.epoch", "Did you mean epochs"]),
        (lambda r: r["train"].update(compiled="off"), ["train.compiled", "Did you mean compile"]),
        (lambda r: r["train"].update(seed="0"), ["train.seed='0'", "int"]),
        (lambda r: r["compression"].update(kind="cebb"), ["compression.kind", "open, ceb"]),
        (lambda r: r.pop("views"), ["recipe lacks views"]),
    ],
)
def test_anything_else_stays_an_error(tmp_path: Path, change: Any, words: list[str]) -> None:
    tree = json.loads(TEXTS[0].read_text())
    change(tree["recipe"])
    with pytest.raises(RunError, match=r"recipe\.json: .* Restore it") as caught:
        _ = written(tmp_path, tree).recipe
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("tree", [[], {"format": 1}, {"format": 1, "recipe": {}, "source": "demo"}])
def test_a_file_that_lacks_its_parts_is_named(tmp_path: Path, tree: Any) -> None:
    with pytest.raises(RunError, match=r"recipe\.json has format.*recipe, derived and source"):
        _ = written(tmp_path, tree).recipe


def as_then(run: Run, text: Path) -> None:
    """Take the fields out of a run's recipe.json and encoder.json that `text` does not have."""
    then = json.loads(text.read_text())["recipe"]
    for name, part in (("recipe.json", "recipe"), ("encoder.json", "views")):
        tree = json.loads((run.path / name).read_text())
        tree[part] = _like(tree[part], then if part == "recipe" else then["views"])
        tree.pop("squint", None)
        (run.path / name).write_text(json.dumps(tree))


def _like(tree: Any, then: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    return {name: _like(value, then[name]) for name, value in tree.items() if name in then}


def test_an_earlier_run_is_evaluated_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = small.source(tmp_path)
    recipe = small.recipe("c-simclr", views__first__gray=0.2)
    whole = squint.pretrain(source, recipe=recipe, out=tmp_path / "whole", quiet=True)
    check = loop.health.check_finite

    def stop(out: Any, grad_norm: Any, method: Any, step: int) -> None:
        check(out, grad_norm, method, step)
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(loop.health, "check_finite", stop)
        squint.pretrain(source, recipe=recipe, out=tmp_path / "run", quiet=True)
    run = Run(tmp_path / "run")
    as_then(run, TEXTS[0])
    squint.resume(run, quiet=True)
    small.assert_same_bits(whole, run)
    table = squint.evaluate(run, protocols=("knn", "compression"))
    assert {"knn_top1", "rate_nats"} <= set(table["results"])
