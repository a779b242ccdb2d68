"""Which recipe is suggested when, and that it can be trained."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from squint import presets
from squint.doctor import environment, suggestion, text
from squint.doctor.suggestion import Situation

GIB = 2**30
BASE = Situation(device="cpu", precision="bfloat16", free_bytes=16 * GIB, images=50_000, side=32)

CASES: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({}, "simclr@tiny", {"train.epochs": 32}),
    ({"images": 5000}, "simclr@tiny", {"train.epochs": 320}),
    ({"images": 200}, "simclr@tiny", {"train.batch_size": 64, "train.epochs": 400}),
    ({"images": 32}, "simclr@tiny", {"train.batch_size": 16}),
    ({"device": "cuda"}, "simclr@cifar", {"train.epochs": 1000}),
    ({"device": "mps", "free_bytes": None}, "simclr@cifar", {"train.epochs": 1000}),
    ({"side": 375}, "simclr@folder", {"encoder.name": "resnet18", "views.size": 96}),
    ({"side": 375, "images": 2_000_000}, "simclr@folder", {"train.epochs": 100}),
    (
        {"device": "cuda", "side": 375, "free_bytes": 75 * GIB},
        "simclr@folder",
        {"train.epochs": 280},
    ),
    ({"device": "cuda", "side": 96, "free_bytes": 75 * GIB}, "simclr@folder", {"views.size": 96}),
    ({"device": "cuda", "side": 375, "free_bytes": 10 * GIB}, "moco-v2@folder", {}),
    (
        {"device": "cuda", "side": 375, "free_bytes": 10 * GIB, "images": 4000},
        "simclr@folder",
        {"train.micro_batch_size": "auto"},
    ),
    (
        {"device": "cuda", "side": 375, "free_bytes": GIB, "images": 4000},
        "simclr@folder",
        {"train.micro_batch_size": "auto"},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]} {case[0]}")
def test_suggestions(case: tuple[dict[str, Any], str, dict[str, Any]]) -> None:
    where, name, changes = case
    found = dataclasses.replace(BASE, **where)
    suggested = suggestion.suggest(found)
    assert suggested is not None
    assert suggested.name == name
    assert changes.items() <= suggested.changes.items()
    assert suggested.recipe.train.batch_size <= found.images // 2
    assert suggested.recipe.views.size <= max(found.side, 32)
    section = suggestion.of_suggestion(suggested, found, "my photos")
    assert section.command.startswith(f"squint pretrain {name} --data 'my photos' --out ")
    for line in text.of_section(section).splitlines():
        assert len(line) <= text.WIDTH, line


def test_the_command_trains_the_recipe_that_was_suggested() -> None:
    from squint.cli.flags import long_names

    found = dataclasses.replace(BASE, side=375, images=900)
    suggested = suggestion.suggest(found)
    assert suggested is not None
    _, _, name, _, _, _, _, *flags = suggested.command("x").split()
    flags = long_names(flags)
    given = dict(zip(flags[::2], flags[1::2], strict=True))
    recipe = presets.recipe(name)
    typed = {
        flag.removeprefix("--").replace("-", "_"): int(value) if value.isdigit() else value
        for flag, value in given.items()
    }
    assert recipe.override(typed) == suggested.recipe


def test_fewer_images_are_shown_more_often() -> None:
    for device, side in (("cpu", 32), ("cuda", 32), ("cpu", 300), ("cuda", 300)):
        found = dataclasses.replace(BASE, device=device, side=side, free_bytes=75 * GIB)
        counts = (100, 1_000, 10_000, 100_000, 1_000_000)
        suggested = [suggestion.suggest(dataclasses.replace(found, images=n)) for n in counts]
        epochs = [each.changes["train.epochs"] for each in suggested if each]
        assert epochs == sorted(epochs, reverse=True) and len(epochs) == len(counts)


def test_too_few_images_get_no_suggestion() -> None:
    found = dataclasses.replace(BASE, images=31)
    assert suggestion.suggest(found) is None
    finding = suggestion.of_suggestion(None, found, "x").findings[0]
    assert finding.prevents_training and "31 images" in finding.text


def test_a_recipe_that_was_asked_for_is_compared_with_the_images() -> None:
    recipe = presets.recipe("simclr@folder")
    good = suggestion.of_recipe(
        "simclr@folder", recipe, dataclasses.replace(BASE, side=300), "photos"
    )
    assert {each.level for each in good.findings} == {"ok"}
    few = dataclasses.replace(BASE, images=100)
    bad = suggestion.of_recipe("simclr@folder", recipe, few, "photos")
    assert [each.level for each in bad.findings] == ["problem", "note"]
    assert bad.findings[0].prevents_training and "--batch-size 32" in bad.findings[0].advice


MACHINE = environment.Machine(
    versions={"python": "3.12.1", "torch": "2.12.0", "torchvision": "0.27", "timm": "1.0.20"},
    demanded={},
    torchvision_error="",
    device="cuda:0",
    device_name="NVIDIA Test",
    devices=1,
    unseen_gpu=False,
    precision="bfloat16",
    free_bytes=75 * GIB,
    cores=16,
    threads=8,
    kernels=True,
    jpeg=True,
    triton="",
    cache=environment.Disk(path="/cache", free_bytes=100 * GIB, writable=True),
    working=environment.Disk(path="/here", free_bytes=100 * GIB, writable=True),
    shared_bytes=GIB,
    open_files=1024,
)


def test_a_sound_machine() -> None:
    findings = environment.section(MACHINE).findings
    assert {each.level for each in findings} == {"ok"}


@pytest.mark.parametrize(
    ("change", "level", "words", "stops"),
    [
        ({"demanded": {"torch": ">=2.11"}}, "problem", "pip install --upgrade 'torch>=2.11'", True),
        ({"torchvision_error": "no nms"}, "problem", "torchvision can't be imported", True),
        ({"unseen_gpu": True}, "problem", "torch finds no GPU", False),
        ({"device": "cpu", "precision": "float32"}, "note", "does not multiply bfloat16", False),
        ({"devices": 4}, "note", "torchrun", False),
        ({"kernels": False}, "note", "native kernels are not built", False),
        ({"jpeg": False}, "note", "libjpeg-dev", False),
        ({"triton": "not installed"}, "note", "no Triton", False),
        ({"open_files": 64}, "problem", "ulimit -n", False),
        (
            {"working": environment.Disk(path="/here", free_bytes=5, writable=True)},
            "problem",
            "5 bytes free",
            False,
        ),
        (
            {"cache": environment.Disk(path="/c", free_bytes=GIB, writable=False)},
            "note",
            "can't be written",
            False,
        ),
    ],
)
def test_what_a_machine_lacks(change: dict[str, Any], level: str, words: str, stops: bool) -> None:
    section = environment.section(dataclasses.replace(MACHINE, **change))
    wrong = [each for each in section.findings if each.level != "ok"]
    assert len(wrong) == 1
    assert (wrong[0].level, wrong[0].prevents_training) == (level, stops)
    assert words in wrong[0].text + wrong[0].advice
    if level == "problem":
        assert wrong[0].advice


def test_this_machine_can_be_looked_at(cache: Path) -> None:
    machine = environment.look("cpu")
    assert machine.device == "cpu" and machine.cores >= 1 and not machine.demanded
    assert machine.cache.path == str(cache) and not cache.exists()


def test_versions_are_compared_as_numbers() -> None:
    assert environment._numbers("2.9.1+cu128") < environment._numbers("2.11")
    assert environment._numbers("") < environment._numbers("0.26")
