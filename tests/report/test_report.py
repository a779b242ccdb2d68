"""A page of runs: complete, escaped, quick, and never an error for what is missing."""

import json
import math
import re
import resource
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from squint import cli, presets, runs
from squint.errors import RunError
from squint.report import report, svg
from squint.runs import Run

STEPS = 40


def made(folder: Path, recipe: str = "c-simclr", /, *, steps: int = STEPS, **logged: Any) -> Run:
    """A run folder as training leaves it, with numbers made up by a formula."""
    derived = {"total_steps": STEPS, "steps_per_epoch": 10, "lr": 0.6, "images": 5000}
    chosen = presets.recipe(f"{recipe}@tiny")
    run = runs.create(folder, chosen, source="photos", derived=derived)
    session = {
        "command": ["squint", "pretrain", f"{recipe}@tiny", "--out", str(folder), "--data", "a b"],
        "directory": "/home/me",
        "versions": {"python": "3.11.7", "torch": "2.15.0"},
        "device": "cpu",
    }
    runs.write_json(folder / "environment.json", {"sessions": [session]})
    lines = [
        {
            "step": step,
            "epoch": step / 10,
            "loss": 5 / step,
            "info_nats": math.log(step),
            "info_cap_nats": 6.2,
            "beta": 0.1,
            "images_per_second": 500.0 + step,
            "data_wait": 0.01,
        }
        | {name: value(step) for name, value in logged.items()}
        for step in range(1, steps + 1)
    ]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def entry(value: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "random": 0.1, "protocol": "as always; test on the test split"} | more


def evaluate(run: Run, /, step: int = STEPS, **results: Any) -> None:
    head = {"run": str(run.path), "weights": "ab", "step": step, "data": "photos"}
    runs.write_json(run.path / "evaluation.json", head | {"results": results})


class Page(HTMLParser):
    """Text and tags of a page; every element is closed in the order in which it was opened."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def charts(self) -> list[str]:
        """What the charts are called."""
        return [a["aria-label"] or "" for tag, a in self.tags if tag == "svg" and "role" in a]


def test_two_runs_stand_side_by_side_with_the_best_in_bold(tmp_path: Path) -> None:
    first, second = made(tmp_path / "squeezed"), made(tmp_path / "plain", "simclr")
    rate = {"protocol": "in its own channel"}
    evaluate(first, knn_top1=entry(0.625), rate_nats=entry(134.0, **rate))
    evaluate(second, knn_top1=entry(0.5), rate_nats=entry(133.0, **rate))
    page = Page(report([first, str(second.path)], out=tmp_path / "page.html"))
    assert "Best kNN top-1: squeezed, 62.5% against 10.0% of a random encoder" in page.text
    assert [a["class"] for tag, a in page.tags if tag == "td" and "best" in (a.get("class") or "")]
    assert page.text.count("as always; test on the test split") == 1  # one note for all
    assert "compression.beta 0.1 –" in page.text  # recipes differ here
    assert "c-simclr finished: step 40 of 40" not in page.text  # rows are facts, not runs
    assert "finished: step 40 of 40, 4 of" in page.text
    assert page.text.index("Answer") < page.text.index("Evaluation") < page.text.index("Commands")
    bold = re.findall(r'<td class="best"[^>]*>([^<]*)', (tmp_path / "page.html").read_text())
    assert bold == ["62.5%"]  # not the rate


def test_nothing_is_best_among_numbers_of_different_protocols(tmp_path: Path) -> None:
    first, second = made(tmp_path / "a"), made(tmp_path / "b")
    evaluate(first, knn_top1=entry(0.6, protocol="k=200"))
    evaluate(second, knn_top1=entry(0.5, protocol="k=20"))
    where = report([first, second], out=tmp_path / "page.html")
    assert 'class="best"' not in where.read_text()
    assert "kNN top-1 (a) : k=200" in Page(where).text


def test_an_encoder_no_better_than_chance_is_called_so(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    evaluate(run, linear_top1=entry(0.1))
    assert "no better than a random encoder (10.0%)" in Page(report(run)).text


def test_every_logged_number_has_a_chart_unless_it_never_changes(tmp_path: Path) -> None:
    run = made(tmp_path / "run", grad_norm=lambda step: 10.0 ** (step % 5), novel=lambda step: step)
    page = Page(report(run))
    charts = page.charts()
    assert any(
        c.startswith("Loss, of each method’s own make. run: 5 at epoch 0.1, 0.125 at epoch 4")
        for c in charts
    )
    assert any(c.startswith("novel") for c in charts) and "More" in page.text
    assert not any(c.startswith("Beta") for c in charts)
    assert "Logged once, or the same throughout" in page.text
    assert "log" in page.words  # the axis of grad_norm


def test_health_is_told_as_its_last_word_and_its_changes(tmp_path: Path) -> None:
    run = made(tmp_path / "run", health=lambda step: "warming up" if step < 7 else "healthy")
    assert "healthy warming up from step 1, healthy from step 7" in Page(report(run)).text


def test_nothing_of_an_evaluation_is_lost(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    corruptions = {"fog": {"1": 0.25, "5": 0.75}, "snow": {"1": 0.31}}
    attributes = {"label": {"linear": 0.5}, "hue": {"linear": 0.9, "linear (random)": 0.4}}
    evaluate(
        run,
        corrupted_error=entry(0.44, table=corruptions),
        nuisance_readable=entry(0.3, table=attributes),
        fewshot_1pct_top1=entry(0.4, interval=0.015, draws={"trained": [0.41, 0.39]}),
        from_the_future={"value": 12.5, "protocol": "unheard of", "shape": "odd"},
        bare=3.0,
    )
    page = Page(report(run))
    for said in ("fog 25.0% 75.0%", "40.0% ± 1.5%", "[0.41, 0.39]", "from the future", "12.50"):
        assert said in page.text
    for said in ("unheard of", "odd", "bare 3.00", "hue 0.90 0.40"):
        assert said in page.text
    assert any("hue 0.90" in chart for chart in page.charts())
    assert any("--v:0.750" in (a.get("style") or "") for _, a in page.tags)


def test_older_weights_and_other_images_are_pointed_out(tmp_path: Path) -> None:
    first, second = made(tmp_path / "a"), made(tmp_path / "b")
    evaluate(first, step=30, knn_top1=entry(0.6))
    evaluate(second, knn_top1=entry(0.5))
    table = second.evaluation()
    others = [{"data": "sketches", "step": 40, "results": {"knn_top1": entry(0.3)}}]
    runs.write_json(
        second.path / "evaluation.json", table | {"data": "elsewhere", "others": others}
    )
    page = Page(report([first, second], out=tmp_path / "page.html"))
    assert "a was measured after step 30 of 40" in page.text
    assert "measured on different images" in page.text and "b on elsewhere" in page.text
    assert "b on sketches, step 40" in page.text and "30.0%" in page.text


def test_a_run_without_evaluation_says_how_to_get_one(tmp_path: Path) -> None:
    measured, bare = made(tmp_path / "a"), made(tmp_path / "with space", steps=13)
    evaluate(measured, knn_top1=entry(0.6), linear_top1=entry(0.7))
    page = Page(report([measured, bare], out=tmp_path / "page.html"))
    assert f"squint evaluate '{bare.path}'" in page.text
    assert "not finished : step 13 of 40" in page.text
    assert f"squint resume '{bare.path}'" in page.text
    assert "squint pretrain c-simclr@tiny --out" in page.text and "-again" in page.text


def test_what_one_run_lacks_is_asked_for_by_protocol(tmp_path: Path) -> None:
    first, second = made(tmp_path / "a"), made(tmp_path / "b")
    evaluate(first, knn_top1=entry(0.6), pgd_top1=entry(0.1), mce=entry(0.9))
    evaluate(second, knn_top1=entry(0.5))
    page = Page(report([first, second], out=tmp_path / "page.html"))
    assert f"squint evaluate {second.path} --protocols pgd robustness" in page.text
    runs.write_json(second.path / "evaluation.json", second.evaluation() | {"data": "a b"})
    page = Page(report([first, second], out=tmp_path / "page.html", overwrite=True))
    assert f"squint evaluate {second.path} --data 'a b' --protocols pgd" in page.text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("evaluation.json", b'{"results": {"knn'),
        ("evaluation.json", b"[1, 2]"),
        ("evaluation.json", b'{"results": [1], "others": 3}'),
        ("evaluation.json", b'{"results": {"knn_top1": {"value": NaN}, "x": {"value": "y"}}}'),
        ("evaluation.json", b'{"results": {"rate_nats": {"value": 1e999, "table": {"a": 1}}}}'),
        ("evaluation.json", b'{"results": {"nuisance_readable": {"table": {"a": null, "b": {}}}}}'),
        ("environment.json", b"\xff\xfe"),
        ("environment.json", b'{"sessions": [{"command": 3, "versions": [], "machine": 1}, 2]}'),
        ("metrics.jsonl", b""),
        ("metrics.jsonl", b'{"step": 1, "loss": 2.5}\n{"step": 2, "lo'),
        ("metrics.jsonl", b'7\n{"loss": 1}\nnonsense}\n{"step": 1, "loss": 2.5}\n'),
        ("metrics.jsonl", b'{"step": 1, "loss": NaN}\n{"step": 2, "loss": Infinity}\n'),
        (
            "metrics.jsonl",
            b'{"step": 1, "loss": NaN}\n{"step": 2, "loss": 3}\n{"step": 3, "loss": 4}',
        ),
        ("metrics.jsonl", b'{"step": 0, "loss": 1}\n{"step": 0, "loss": -1}\n'),
        ("metrics.jsonl", b'{"step": 1, "loss": 1e-300}\n{"step": 9, "loss": 1e300}\n'),
        ("quarantine.txt", b"a.jpg\nb.jpg\ttruncated\n"),
    ],
)
def test_damaged_and_partly_written_files_never_fail(
    tmp_path: Path, name: str, content: bytes
) -> None:
    run = made(tmp_path / "run")
    (run.path / name).write_bytes(content)
    alone = Page(report(run))
    beside = made(tmp_path / "whole")
    evaluate(beside, knn_top1=entry(0.5))
    both = Page(report([run, beside], out=tmp_path / "both.html"))
    assert "nan" not in alone.text.lower().split()
    assert not any("nan" in (a.get("d") or "") for _, a in (*alone.tags, *both.tags))


def test_damage_is_said(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    (run.path / "evaluation.json").write_text('{"results": ')
    run.metrics.write_text('{"step": 1, "loss": 2.5}\nnonsense\n{"step": 2, "loss": 2.4}\n{"st')
    page = Page(report(run))
    assert "evaluation.json is damaged; nothing of it is shown." in page.text
    assert "1 of 4 lines are damaged and left out" in page.text  # the last is being written


def test_a_run_that_has_logged_nothing_yet(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    for name in ("metrics.jsonl", "environment.json"):
        (run.path / name).unlink()
    page = Page(report(run))
    assert "Nothing was logged yet by run" in page.text and "none on record" in page.text


def test_text_from_files_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&\u202e"
    run = made(tmp_path / "<b>run", health=lambda step: evil)
    results: dict[str, Any] = {
        evil: entry(0.5, protocol=evil, table={evil: {evil: 0.5}}, more=evil)
    }
    evaluate(run, compare_x=entry(0.5, table={evil: {evil: 0.5}}), **results)
    (run.path / "quarantine.txt").write_text(f"{evil}\t{evil}\n")
    runs.write_json(run.path / "environment.json", {"sessions": [{"command": [evil], evil: evil}]})
    where = report(run)
    page, raw = Page(where), where.read_text()
    assert not [tag for tag, _ in page.tags if tag in ("script", "b>run")]
    assert "<script" not in raw and "\u202e" not in raw and "alert(1)" in page.text
    assert "<b>run" in page.text


def test_a_page_needs_nothing_else(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    evaluate(run, knn_top1=entry(0.5))
    raw = report(run).read_text()
    assert "://" not in raw and "src=" not in raw and "@import" not in raw and "url(" not in raw
    links = {a["href"] for tag, a in Page(run.path / "report.html").tags if tag == "a"}
    places = [a["id"] for _, a in Page(run.path / "report.html").tags if "id" in a]
    assert len(places) == len(set(places))
    assert links and all(link and link[1:] in places for link in links)


def test_a_long_run_is_quick_and_small_and_keeps_its_extremes(tmp_path: Path) -> None:
    noise: dict[str, Any] = {
        f"n{k}": lambda step, k=k: math.sin(step * (k + 1.7)) for k in range(14)
    }
    spike = {"novel": lambda step: 1e4 if step == 3777 else 1.0 + step % 3}
    run = made(tmp_path / "run", steps=6000, **noise, **spike)
    command = [sys.executable, "-m", "squint", "report", str(run.path)]  # without type checks
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run(command, check=True, capture_output=True)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 2
    where = run.path / "report.html"
    assert where.stat().st_size < 1_000_000
    label = next(c for c in Page(where).charts() if c.startswith("novel"))
    figure = where.read_text().split(f'aria-label="{label}"')[1].split("</svg>")[0]
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", figure)]
    assert min(heights) < 20 and max(heights) > 150


def test_a_sweep_stands_for_its_runs(tmp_path: Path) -> None:
    for value in (0, 1):
        made(tmp_path / "sweep" / f"beta={value}")
    summary = [{"value": v, "knn_top1": {"mean": 0.5, "std": 0.02, "n": 2}} for v in ("0", "1")]
    rows = [{"path": f"beta={v}"} for v in (0, 1)] + [{"path": "beta=2", "error": "no memory"}]
    table = {"recipe": "c-simclr", "over": "compression.beta", "data": "photos"}
    runs.write_json(tmp_path / "sweep" / "sweep.json", table | {"summary": summary, "runs": rows})
    where = report(tmp_path / "sweep")
    assert where == tmp_path / "sweep" / "report.html"
    page = Page(where)
    assert "c-simclr on photos over compression.beta" in page.text
    assert "50.0% ± 2.0%" in page.text and "beta=2: no memory" in page.text
    assert "2 runs side by side" in page.text
    runs.write_json(tmp_path / "sweep" / "sweep.json", {"summary": 3, "runs": [*rows, 7, None]})
    assert "Over all seeds" not in Page(report(tmp_path / "sweep", overwrite=True)).text


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    first, second = made(tmp_path / "a" / "run"), made(tmp_path / "b" / "run")
    page = Page(report([first, second, first.path], out=tmp_path / "page.html"))
    assert "a/run · b/run" in page.text and "2 runs" in page.text


def test_runs_stay_apart_when_colours_repeat() -> None:
    looks = {(slot % 7, re.sub(r"[\d.-]+", "", svg.marker(slot, 6.0, 6.0))) for slot in range(28)}
    assert len(looks) == 28


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made(tmp_path / "run")
    assert cli.main(["report", str(run.path)]) == 0
    where = run.path / "report.html"
    assert capsys.readouterr().out.startswith(f"{where}: ")
    assert cli.main(["report", str(run.path)]) == 2
    assert "add --overwrite to replace it" in capsys.readouterr().err
    where.write_text("old")
    assert cli.main(["report", str(run.path), "--overwrite"]) == 0
    assert where.read_text() != "old"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("report", "No run was given"),
        ("report nowhere", "There is no nowhere"),
        ("report run run2", "--out F.html"),
        ("report run --out no/page.html", "the folder no does not exist"),
        ("report run --out empty", "is a folder"),
        ("report empty", "empty is not a run: it has no recipe.json"),
        ("report .", "it holds runs. Give them: squint report run run2"),
        ("report run/recipe.json", "is a file. Give the folder of the run"),
        ("report run --oout x", "Did you mean --out?"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    said: str,
) -> None:
    for name in ("run", "run2"):
        made(tmp_path / name)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments.split()) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.html"))


def test_a_damaged_recipe_is_no_run(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    (run.path / "recipe.json").write_text("{")
    with pytest.raises(RunError, match=r"recipe.json can't be read"):
        report(run)


def test_torch_is_never_loaded(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    evaluate(run, knn_top1=entry(0.5))
    probe = (
        f"import sys, squint.report\nsquint.report.report({str(run.path)!r})\n"
        "heavy = {'torch', 'matplotlib', 'timm', 'PIL', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_page_can_be_moved_away_from_its_run(tmp_path: Path) -> None:
    where = report(made(tmp_path / "run"), out=tmp_path / "page.html")
    shutil.rmtree(tmp_path / "run")
    assert "Curves" in Page(where).text


def test_notes_that_differ_only_in_the_evaluation_view_are_one(tmp_path: Path) -> None:
    first, second = made(tmp_path / "a"), made(tmp_path / "b")
    for run, pixels in ((first, 24), (second, 32)):
        end = f"evaluation view: {pixels} px; test on the test split"
        knn, linear = (entry(0.5, protocol=f"{kind}, k=3; {end}") for kind in ("knn", "linear"))
        evaluate(run, knn_top1=knn, linear_top1=linear)
    page = Page(report([first, second], out=tmp_path / "page.html"))
    assert "E : evaluation view: 24 px; test on the test split." in page.text
    assert "kNN top-1 : knn, k=3; E (a), F (b)" in page.text
    assert page.text.count("knn, k=3") == 1
    assert "none is called best" not in page.text
