"""Sweeps: what is trained, skipped, continued and collected."""

import json
import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

import squint
from squint import presets
from squint import sweep as sweep_function
from squint.configs import CEBConfig, OpenConfig
from squint.data import open_source
from squint.errors import RecipeError, RunError
from squint.evaluate import frontier
from squint.evaluate.options import Protocol
from squint.runs import Run, write_json
from squint.sweep_plan import begin, plan
from squint.train import signals
from squint.train.signals import Interrupted
from train import small

sweep_module = sys.modules["squint.sweep"]  # the package's attribute is the function


def trained_at(run: Run) -> float:
    return run.checkpoint.stat().st_mtime_ns


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    small.source(folder)
    sweep_function(
        folder / "noise.npz",
        recipe=small.recipe(),
        over="compression.beta",
        values=["plain", "0", "1"],
        out=folder / "sweep",
        seeds=(0, 1),
        protocols=("knn", "compression"),
        quiet=True,
    )
    shutil.copytree(folder / "sweep", folder / "backup")
    shutil.copy2(folder / "noise.npz", folder / "backup.npz")
    return folder


@pytest.fixture
def done(untouched: Path) -> Path:
    """The folder of a finished sweep, as it was whatever other tests did to it."""
    shutil.rmtree(untouched / "sweep")
    shutil.copytree(untouched / "backup", untouched / "sweep")
    shutil.copy2(untouched / "backup.npz", untouched / "noise.npz")  # with its time
    return untouched


def test_every_value_and_seed_is_trained_and_collected(done: Path) -> None:
    table = json.loads((done / "sweep" / "sweep.json").read_text())
    assert [(row["value"], row["seed"]) for row in table["runs"]] == [
        (value, seed) for seed in (0, 1) for value in ("plain", "0", "1")
    ]
    for row in table["runs"]:
        run = Run(done / "sweep" / row["path"])
        assert row["path"] == f"compression.beta={row['value']},seed={row['seed']}"
        assert run.recipe.train.seed == row["seed"]
        entries = run.evaluation()["results"]
        assert row["results"] == {name: entry["value"] for name, entry in entries.items()}
    for entry in table["summary"]:
        found = [row["results"] for row in table["runs"] if row["value"] == entry["value"]]
        for name in ("knn_top1", "rate_nats"):
            numbers = [results[name] for results in found]
            assert entry[name]["mean"] == pytest.approx(statistics.fmean(numbers))
            assert entry[name]["std"] == pytest.approx(statistics.stdev(numbers))
            assert entry[name]["n"] == 2
    assert "still draws z" in table["note"]
    for name in ("frontier", "information-plane"):
        for ending in (".png", "-dark.png"):
            assert (done / "sweep" / "figures" / f"{name}{ending}").stat().st_size > 10_000


def test_values_become_recipes(done: Path) -> None:
    at = {
        value: Run(done / "sweep" / f"compression.beta={value},seed=0").recipe
        for value in ("plain", "0", "1")
    }
    assert isinstance(at["plain"].compression, OpenConfig)
    compression = at["0"].compression
    assert isinstance(compression, CEBConfig)
    assert (compression.beta, compression.sampling) == (0.0, True)
    assert at["1"].compression.beta == 1.0


def test_what_is_done_is_skipped_and_what_stopped_goes_on(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {row: trained_at(Run(row)) for row in (done / "sweep").glob("compression*")}
    monkeypatch.setattr(sweep_module, "evaluate", lambda *_, **__: pytest.fail("measured again"))
    table = sweep_function(
        done / "noise.npz",
        recipe=small.recipe(),
        over="compression.beta",
        values=["plain", "0", "1"],
        out=done / "sweep",
        seeds=(0, 1),
        protocols=("knn", "compression"),
        quiet=True,
    )
    assert len(table["runs"]) == 6
    assert before == {row: trained_at(Run(row)) for row in (done / "sweep").glob("compression*")}


def _measured_again(done: Path, protocol: Protocol) -> dict[str, Any]:
    return sweep_function(
        done / "noise.npz",
        recipe=small.recipe(),
        over="compression.beta",
        values=["1"],
        out=done / "sweep",
        protocols=(protocol,),
        quiet=True,
    )


def test_a_further_protocol_is_added_to_what_is_known(done: Path) -> None:
    table = _measured_again(done, "linear")
    (row,) = [row for row in table["runs"] if row["path"] == "compression.beta=1,seed=0"]
    assert {"knn_top1", "rate_nats", "linear_top1"} <= row["results"].keys()
    assert row["protocols"] == ["knn", "compression", "linear"] and len(table["runs"]) == 6


def test_what_was_measured_on_other_images_is_measured_again(done: Path) -> None:
    earlier = json.loads((done / "sweep" / "sweep.json").read_text())["runs"]
    os.utime(done / "noise.npz", (0, 0))  # images are known by name, size and time
    table = _measured_again(done, "compression")
    rows = {row["path"]: row for row in table["runs"]}
    for row in earlier:
        again = rows[row["path"]]
        if row["path"] == "compression.beta=1,seed=0":
            assert again["protocols"] == ["compression"] and "knn_top1" not in again["results"]
        else:
            assert again == row


def test_a_stopped_sweep_says_how_to_go_on_and_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"recipe": small.recipe(), "over": "compression.kappa_e", "values": [50.0, 500.0]}
    settings |= {"out": tmp_path / "sweep", "protocols": ("compression",), "quiet": True}
    # in the second step of the second run; a run asks once more when it has ended
    asked = iter([0] * 8 + [1])

    class AfterAWhile(signals.Stop):
        @property
        def asked(self) -> bool:
            self.signal = 2 * next(asked, 0)
            return bool(self.signal)

    with monkeypatch.context() as patch:
        patch.setattr("squint.train.signals.Stop", AfterAWhile)
        with pytest.raises(Interrupted, match=r"run 2 of 2, .*The same command goes on"):
            sweep_function(small.source(tmp_path), **settings)
    saved = Run(tmp_path / "sweep" / "compression.kappa_e=500,seed=0")
    assert saved.state()["position"]["step"] == 2
    table = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [row["value"] for row in table["runs"]] == ["50"]
    table = sweep_function(small.source(tmp_path), **settings)
    assert [row["step"] for row in table["runs"]] == [6, 6]
    whole = squint.pretrain(
        small.source(tmp_path), recipe=saved.recipe, out=tmp_path / "whole", quiet=True
    )
    small.assert_same_bits(whole, saved)
    assert frontier._rate(table | {"summary": [{"fitted_rate_nats": {}}]}) == "fitted_rate_nats"


def test_a_failing_run_leaves_the_others(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"1 of 2 runs failed(.|\n)*not finite"):
        sweep_function(
            small.source(tmp_path),
            recipe=small.recipe(),
            over="optim.lr",
            values=["1e30", "0.1"],
            out=tmp_path / "sweep",
            protocols=("compression",),
            quiet=True,
        )
    table = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    bad, good = table["runs"]
    assert "not finite" in bad["error"] and good["results"]["rate_nats"] > 0
    assert [entry["value"] for entry in table["summary"]] == ["0.1"]


@pytest.mark.parametrize(
    ("over", "values", "message"),
    [
        ("compression.bta", ["1"], "Did you mean compression.beta"),
        ("compression.beta", ["1", "1"], "given twice"),
        ("compression.beta", ["1", "1.0"], "given twice: .*=1,seed=0 and .*=1.0,seed=0"),
        ("compression.beta", ["-1"], "beta"),
        ("compression.beta", ["much"], "compression.beta"),
        ("compression.beta", [], "at least one value"),
        ("train.seed", ["1"], "--seeds"),
        ("compression.kappa_b", ["20"], "disagrees"),
    ],
)
def test_values_that_do_not_fit_are_refused_before_training(
    tmp_path: Path, over: str, values: list[str], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        plan(small.recipe(), over=over, values=values, seeds=[0], out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_sweep_or_run_is_left_alone(done: Path) -> None:
    with pytest.raises(RunError, match="holds another sweep"):
        sweep_function(
            done / "noise.npz",
            recipe=small.recipe(),
            over="optim.lr",
            values=[0.1],
            out=done / "sweep",
            quiet=True,
        )
    with pytest.raises(RunError, match="is a run or a file"):
        sweep_function(
            done / "noise.npz",
            recipe=small.recipe(),
            over="optim.lr",
            values=[0.1],
            out=done / "sweep" / "compression.beta=0,seed=0",
            quiet=True,
        )
    with pytest.raises(RunError, match="holds a run of another recipe"):
        sweep_function(
            done / "noise.npz",
            recipe=small.recipe(train__epochs=2.0),
            over="compression.beta",
            values=["0"],
            out=done / "sweep",
            protocols=("knn",),
            quiet=True,
        )


def test_images_of_the_same_name_in_another_folder_are_another_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        small.source(tmp_path / place)

    def begun(folder: str) -> dict[str, str]:
        monkeypatch.chdir(tmp_path / folder)
        images = open_source("noise.npz")
        return begin(tmp_path / "sweep", small.recipe(), over="compression.beta", images=images)[0]

    head = begun("here")
    assert head["data"] == str(tmp_path / "here" / "noise.npz")
    for data in ("noise.npz", head["data"]):  # earlier versions wrote it as it was given
        written = head | {"data": data, "runs": []}
        write_json(tmp_path / "sweep" / "sweep.json", written)
        assert begun("here") == head
    with pytest.raises(RunError, match="holds another sweep"):
        begun("there")


def test_places_where_no_sweep_can_be_are_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    images = open_source("demo")
    for out in (tmp_path / "file" / "sub", tmp_path / ("x" * 300), tmp_path / "a" / ("x" * 300)):
        with pytest.raises(RunError, match=r"can't be a folder: .* Give another name"):
            begin(out, small.recipe(), over="compression.beta", images=images)
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text("[]")
    with pytest.raises(RunError, match="can't be read"):
        begin(tmp_path / "sweep", small.recipe(), over="compression.beta", images=images)
    monkeypatch.setattr("squint.sweep_plan.os.access", lambda *_: False)
    with pytest.raises(RunError, match="not a folder we may write to"):
        begin(tmp_path / "locked", small.recipe(), over="compression.beta", images=images)


def test_words_and_numbers_become_values(tmp_path: Path) -> None:
    (point,) = plan(
        small.recipe(), over="compression.residual", values=["sampled"], seeds=[3], out=tmp_path
    )
    assert point.recipe.compression.residual == "sampled" and point.recipe.train.seed == 3
    (point,) = plan(small.recipe(), over="train.batch_size", values=["8"], seeds=[0], out=tmp_path)
    assert point.recipe.train.batch_size == 8
    (point,) = plan(
        small.recipe(), over="compression.sampling", values=["False"], seeds=[0], out=tmp_path
    )
    assert point.recipe.compression.sampling is False


def test_numbers_from_python_keep_every_digit_that_tells_them_apart() -> None:
    base = presets.recipe("c-simclr@tiny")
    values = [0.1, 1.0, 0.123456789, 0.1234567891]
    points = plan(base, over="compression.beta", values=values, seeds=[0], out=Path("x"))
    assert [point.value for point in points] == ["0.1", "1", "0.123456789", "0.1234567891"]
    assert [point.recipe.compression.beta for point in points] == values  # pyright: ignore
