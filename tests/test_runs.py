"""The run folder: nothing lost, nothing half written."""

import errno
import json
import shlex
from pathlib import Path

import pytest

from squint import runs
from squint.errors import RunError
from squint.recipe import Recipe
from squint.runs import Run


def make(path: Path, **options) -> Run:
    return runs.create(path, Recipe(), source="demo", derived={"total_steps": 3}, **options)


def test_a_run_gives_back_its_recipe_and_source(tmp_path: Path) -> None:
    run = make(tmp_path / "a" / "b")
    assert run.recipe == Recipe()
    assert run.source == "demo"
    assert json.loads((run.path / "recipe.json").read_text())["derived"] == {"total_steps": 3}


def test_a_run_is_not_overwritten_unasked(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.metrics.write_text("precious\n")
    with pytest.raises(RunError, match="--overwrite"):
        make(tmp_path)
    assert run.metrics.read_text() == "precious\n"


def test_overwrite_deletes_the_run_and_nothing_else(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.metrics.write_text("old\n")
    (tmp_path / "events.out.tfevents.1").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    make(tmp_path, overwrite=True)
    assert not run.metrics.exists() and not (tmp_path / "events.out.tfevents.1").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_never_used(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match="other files"):
        make(tmp_path, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_out_may_not_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match="folder"):
            runs.check_out(out, overwrite=False)


def test_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        _ = Run(tmp_path).recipe
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(RunError, match="can't be read"):
        _ = Run(tmp_path).recipe
    (tmp_path / "recipe.json").write_text('{"format": 99}')
    with pytest.raises(RunError, match="format 99"):
        _ = Run(tmp_path).recipe


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    runs.write_json(path, {"old": 1})
    with pytest.raises(RunError, match="No space left"), runs.replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.metrics.write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "lo')
    assert [record["step"] for record in run.records()] == [1, 2]


def test_a_run_is_named_as_a_shell_takes_it(tmp_path: Path) -> None:
    run = Run(tmp_path / "my run's <b>")
    assert shlex.split(f"squint resume {run.quoted}") == ["squint", "resume", str(run.path)]
