"""One word for how a run does: each from made-up looks that show it, and none too early."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from squint import presets
from squint.recipe import Recipe
from squint.runs import Run
from squint.train.log import Log, Silent
from squint.train.verdict import ILL, WINDOW, Health

Look = dict[str, Any]
SIMCLR, BYOL = presets.recipe("simclr@tiny"), presets.recipe("byol@tiny")


def look(step: int, **changes: Any) -> Look:
    """What a healthy SimCLR shows: everything still moves."""
    signs = {
        "step": step,
        "effective_rank": 20 + step / 100,
        "uniformity": -2.5 - step / 1e4,
        "alignment": 1 - step / 1e4,
        "negative_cosine": 0.01,
        "grad_norm": 0.5,
        "info_nats": 1 + step / 1e3,
        "info_cap_nats": 6.2,
    }
    return signs | changes


def looks(count: int, first: int = 1, **changes: Any) -> list[Look]:
    return [look(50 * number, **changes) for number in range(first, first + count)]


def words(given: Iterable[Look], recipe: Recipe = SIMCLR, warmup_steps: int = 0) -> list[str]:
    health = Health(recipe, warmup_steps=warmup_steps)
    return [health.judge(each) for each in given]


def test_a_run_that_learns_is_healthy_after_its_warm_up() -> None:
    assert words(looks(6)) == ["warming up"] * 2 + ["healthy"] * 4
    assert words(looks(6), warmup_steps=150) == ["warming up"] * 5 + ["healthy"]


@pytest.mark.parametrize(
    ("word", "changes"),
    [
        ("full collapse", {"uniformity": -0.002, "effective_rank": 1.1, "info_nats": 0.0}),
        ("dimensional collapse", {"effective_rank": 1.7}),
        ("dimensional collapse", {"effective_rank": 4.0}),  # of 20
        ("diverging", {"info_nats": 0.4}),  # of 1.25
        ("diverging", {"grad_norm": 100.0}),
        ("at chance", {"info_nats": 0.05}),
    ],
)
def test_an_illness_is_named_when_it_lasts(word: str, changes: Look) -> None:
    before = looks(5)
    if word == "at chance":
        before = looks(5, info_nats=0.03)
    found = words([*before, *looks(4, first=6, **changes)])
    if word != "at chance":
        assert set(found[5:7]) <= {"healthy"}, "a moment is no illness"
    assert found[7:] == [word] * 2


def test_what_passes_is_not_named() -> None:
    bad = {"uniformity": -0.002, "effective_rank": 1.1, "grad_norm": 1e4}
    given = [look(50 * number, **(bad if number % 3 == 0 else {})) for number in range(1, 20)]
    assert not set(words(given)) & set(ILL)


def test_a_rising_byol_loss_is_no_illness() -> None:
    without = [
        {name: value for name, value in each.items() if not name.startswith("info")}
        | {"loss": number / 10, "alignment": 0.1 + number / 100}
        for number, each in enumerate(looks(30))
    ]
    assert set(words(without, BYOL)) == {"warming up", "healthy"}


def test_a_queue_fills_before_anything_is_said() -> None:
    moco = presets.recipe("moco-v2@tiny")  # 4,096 keys, 256 a step
    falling = [look(step, info_nats=2 - step / 20) for step in range(2, 17, 2)]
    assert set(words(falling, moco)) == {"warming up"}


def test_nothing_moves_any_more() -> None:
    still = [{**look(2000), "step": 2000 + 50 * number} for number in range(2 * WINDOW + 5)]
    found = words([*looks(10), *still])
    assert found[-1] == "plateau" and "plateau" not in found[: 10 + WINDOW]


@pytest.mark.parametrize(
    ("recipe", "changes", "bad", "advice"),
    [
        ("simclr@tiny", {"optim.name": "adamw", "optim.lr": 0.2}, {"info_nats": 0.0}, "about 1e-3"),
        ("simclr@tiny", {}, {"info_nats": 0.0}, "--lr 0.2"),
        ("c-simclr@tiny", {}, {"effective_rank": 1.5}, "--compression.beta 0.1 may squeeze"),
        ("byol@tiny", {}, {"uniformity": 0.0}, "--method.target-momentum 0.997"),
    ],
)
def test_advice_names_the_likely_cause(
    recipe: str, changes: dict[str, Any], bad: Look, advice: str
) -> None:
    health = Health(presets.recipe(recipe).override(changes), warmup_steps=0)
    for each in looks(5, **bad):
        word = health.judge(each)
    assert word in ILL and advice in health.advice(word)
    assert health.advice("healthy") == health.advice("plateau") == ""


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_a_log_says_an_illness_once_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    given = [*looks(5), *looks(6, first=6, uniformity=0.0), *looks(3, 12, effective_rank=1.5)]

    def write(folder: str, records: list[Look], first_step: int = 0) -> list[str]:
        screen, path = Heard(), tmp_path / folder
        path.mkdir(exist_ok=True)
        health = Health(SIMCLR, warmup_steps=0)
        with Log(Run(path), screen, first_step=first_step, health=health) as log:
            for record in records:
                log.write({"epoch": 0.0} | record)
        return screen.lines

    (line,) = write("whole", given)
    assert line.startswith("  full collapse at step 400")
    assert write("parts", given[:9]) == [line]
    assert write("parts", given[8:], first_step=400) == []  # the last line is written again
    records = [Run(tmp_path / folder).records() for folder in ("whole", "parts")]
    assert records[0] == records[1] and records[0][-1]["health"] == "dimensional collapse"
