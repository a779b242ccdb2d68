"""The command line as a person meets it: one clear message, exit status 2, nothing lost."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
from PIL import Image

import squint
from squint import presets
from squint.cli import flags, main
from squint.runs import Run
from train import small


def pictures(folder: Path, count: int = 20) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        noise = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number:02}.jpg")
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, words: list[str]) -> str:
    """Run a command that must end with status 2 and one message holding these words."""
    assert main([str(argument) for argument in arguments]) == 2
    shown = capsys.readouterr()
    text = " ".join((shown.out + shown.err).replace("│", " ").split())
    assert "Traceback" not in text
    for word in words:
        assert word in text, f"{word!r} is not in: {text}"
    return text


def pretrain(data: object, out: Path, *flags: object, recipe: str = "simclr@tiny") -> list[object]:
    return ["pretrain", recipe, "--data", data, "--out", out, *flags]


def test_help_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in ("demo", "pretrain", "resume", "evaluate", "recipes"):
        assert f"squint {verb}" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert squint.__version__ in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["demo", "pretrain", "resume", "evaluate", "recipes"])
def test_every_verb_has_help(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert main([verb, "--help"]) == 0
    assert "usage: squint" in capsys.readouterr().out


def test_help_of_a_recipe_shows_its_own_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "c-simclr@tiny", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--compression.beta" in text and "--method.temperature" in text


def test_recipes_are_listed_and_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    rows = [line.split() for line in lines if "@" in line]
    assert [row[0] for row in rows] == list(presets.names())
    row = next(row for row in rows if row[0] == "c-byol@imagenet-1000ep")
    assert " ".join(row[1:]) == "resnet50 224 1000 4096 lars 4 linear 75.8 % (README)"

    assert main(["recipes", "c-simclr@imagenet-1000ep"]) == 0
    text = capsys.readouterr().out
    assert "--compression.kappa-e" in text and "71.7 %" in text and "2109.12909" in text
    assert main(["recipes", "moco-v2@cifar"]) == 0
    long = capsys.readouterr().out.partition("source ")[2]
    assert "92.94 %" in long and max(map(len, long.splitlines())) <= 100


def test_an_unknown_verb(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "trian", words=["'trian'", "pretrain", "evaluate"])


def test_a_wrong_flag(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = pretrain("demo", tmp_path / "r", "--train.epoch", 3)
    refused(capsys, *command, words=["--train.epoch", "--train.epochs"])


@pytest.mark.parametrize(
    ("recipe", "flags", "words"),
    [
        ("simclr@tiny", "--dat demo", ["no flag --dat in", "Did you mean --data?"]),
        ("simclr@tiny", "--epoch 3", ["Did you mean --epochs?"]),
        ("simclr@tiny", "--train.xyz 3", ["no flag --train.xyz in this recipe. `squint pre"]),
        ("c-simclr@tiny", "--beta 0.1", ["Did you mean --compression.beta?"]),
        ("simclr@tiny", "--flip 1", ["--views.first.flip or --views.second.flip?"]),
    ],
)
def test_an_unknown_flag_comes_before_a_missing_one(
    capsys: pytest.CaptureFixture[str], recipe: str, flags: str, words: list[str]
) -> None:
    said = refused(capsys, "pretrain", recipe, *flags.split(), words=words)
    assert said.startswith("squint pretrain: there is no flag")


VERBS = tuple(
    "demo resume evaluate embed neighbors report export import pack recipes doctor".split()
)
TRAINED = (
    "views simclr@tiny",
    "pretrain simclr@tiny",
    "pretrain c-byol@tiny",
    "sweep c-moco-v2@tiny",
)


@pytest.mark.parametrize("verb", VERBS + TRAINED)
def test_the_flags_of_the_help_are_the_known_ones(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def kept(kind: type, *rest: Any, **more: Any) -> Any:
        known.update(flags._flags_of(kind))
        return parse(kind, *rest, **more)

    known, parse = set[str](), tyro.cli
    monkeypatch.setattr(tyro, "cli", kept)
    assert main([*verb.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    lines = re.findall(r"^(?:│ |  )(--[a-z].*?)(?:   *\S.*)?$", shown, re.M)
    listed = {flag for line in lines for flag in re.findall(r"--([a-z][\w.-]*)", line)}
    assert listed == known


def test_a_wrong_value(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    refused(capsys, *pretrain("demo", tmp_path / "r", "--epochs", "many"), words=["many"])
    command = pretrain("demo", tmp_path / "r", "--batch-size", 0)
    refused(capsys, *command, words=["train.batch_size=0", "at least 2"])


def test_a_wrong_value_is_named_by_its_flag(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for flag, word in (
        ("--views.second.flip=2", "views.second.flip=2.0"),
        ("--views.first.crop.area 0.9 0.1", "views.first.crop.area=0.9..0.1"),
        ("--method.projector.hidden-dim 0", "method.projector.hidden_dim=0"),
        ("--epochs 0", "train.epochs=0.0"),
    ):
        command = pretrain("demo", tmp_path / "r", *flag.split())
        assert refused(capsys, *command, words=[]).startswith(f"squint pretrain: {word}")
    both = ("--views.second.flip", 2, "--views.first.flip", 2)
    refused(capsys, *pretrain("demo", tmp_path / "r", *both), words=["pretrain: flip=2.0"])


def test_a_contradiction(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = pretrain("demo", tmp_path / "r", "--method.temperature", 0.5, recipe="c-simclr@tiny")
    refused(capsys, *command, words=["temperature=0.5", "kappa_b=5", "--compression.kappa-b 2"])


def test_compression_flags_on_a_plain_recipe(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = pretrain("demo", tmp_path / "r", "--compression.beta", 0.5)
    refused(capsys, *command, words=["--compression.beta", "Only compressed recipes, c-…, have"])


def test_an_unknown_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = pretrain("demo", tmp_path / "r", recipe="c-simclr@tinny")
    refused(capsys, *command, words=["c-simclr@tinny", "Did you mean c-simclr@tiny"])


def test_a_recipe_that_is_not_published(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = pretrain("demo", tmp_path / "r", recipe="moco-v1@imagenet-300ep")
    refused(capsys, *command, words=["'moco-v1@imagenet-300ep'", "moco-v1 exists", "-200ep"])


def test_a_missing_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "pretrain", "--data", "demo", words=["recipe is missing", "squint recipes"])


def test_a_missing_source(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    refused(capsys, *pretrain(tmp_path / "none", tmp_path / "r"), words=["none"])
    assert not (tmp_path / "r").exists()


def test_an_empty_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(capsys, *pretrain(tmp_path / "empty", tmp_path / "r"), words=["empty", "no images"])


def test_a_text_file_named_jpg(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = pictures(tmp_path / "photos")
    (data / "letter.jpg").write_text("Dear reader")
    command = pretrain(data, tmp_path / "r", "--batch-size", 16)
    refused(capsys, *command, words=["letter.jpg", "1 of 21", "--data.max-unreadable-percent"])
    assert not (tmp_path / "r").exists()


def test_a_truncated_jpeg(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = pictures(tmp_path / "photos")
    whole = (data / "03.jpg").read_bytes()
    (data / "03.jpg").write_bytes(whole[: len(whole) // 2])
    command = pretrain(data, tmp_path / "r", "--batch-size", 16)
    refused(capsys, *command, words=["03.jpg", "truncated"])


def test_a_picture_of_one_pixel(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = pictures(tmp_path / "photos")
    Image.new("RGB", (1, 1)).save(data / "dot.png")
    command = pretrain(data, tmp_path / "r", "--batch-size", 16)
    refused(capsys, *command, words=["dot.png", "1x1"])


def test_a_batch_larger_than_the_source(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = pictures(tmp_path / "photos")
    refused(capsys, *pretrain(data, tmp_path / "r"), words=["20", "256", "--batch-size"])
    assert not (tmp_path / "r").exists()


def test_an_out_that_exists(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    refused(capsys, *pretrain("demo", tmp_path), words=["other files"])
    assert (tmp_path / "mine.txt").read_text() == "keep"
    refused(capsys, *pretrain("demo", tmp_path / "mine.txt"), words=["is a file"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write and read everything")
def test_no_permission(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    refused(capsys, *pretrain("demo", locked / "r"), words=["can't be created", "permissions"])
    secret = pictures(tmp_path / "secret")
    secret.chmod(0o000)
    refused(capsys, *pretrain(secret, tmp_path / "r"), words=["secret", "permission"])
    secret.chmod(0o700)


def test_no_permission_to_write(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for root, for whom the system's answer is put on."""
    monkeypatch.setattr("squint.runs.os.access", lambda *_: False)
    refused(capsys, *pretrain("demo", tmp_path / "r"), words=["can't be created", "permissions"])


def test_evaluating_or_resuming_what_is_no_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for verb in ("evaluate", "resume"):
        refused(capsys, verb, tmp_path, words=["is not a run", "squint pretrain"])


def test_names_too_long_for_a_file_are_answered_in_a_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    long = tmp_path / ("x" * 300)
    for verb in ("evaluate", "resume", "embed"):
        more = ["--out", "x.npz"] if verb == "embed" else []
        refused(capsys, verb, long, *more, words=["File name too long", "give another place"])
    refused(capsys, *pretrain("demo", long), words=["File name too long", "Give another name"])


def test_from_a_folder_to_an_evaluation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = small.source(tmp_path)
    run = squint.pretrain(data, recipe=small.recipe(), out=tmp_path / "run", quiet=True)
    assert main(["evaluate", str(run.path), "--protocols", "knn", "linear", "compression"]) == 0
    text = capsys.readouterr().out
    for word in ("kNN top-1", "linear top-1", "rate", "information", "random encoder"):
        assert word in text
    results = Run(run.path).evaluation()["results"]
    assert set(results) == {
        "knn_top1", "linear_top1", "rate_nats", "info_nats", "info_cap_nats"
    }  # fmt: skip
    assert all(entry["protocol"] for entry in results.values())
    assert 0 <= results["knn_top1"]["value"] <= 1 and 0 <= results["knn_top1"]["random"] <= 1

    assert main(["evaluate", str(run.path), "--protocols", "knn"]) == 0
    assert set(Run(run.path).evaluation()["results"]) == set(results), "earlier results stay"


def test_a_run_finds_its_images_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures(tmp_path / "demo").parent)
    settings = {"recipe": small.recipe(), "out": tmp_path / "run", "quiet": True, "batch_size": 16}
    run = squint.pretrain(Path("demo"), **settings)
    assert run.source == str(tmp_path / "demo"), "not the built-in images"
    monkeypatch.chdir(run.path)
    squint.resume(run, quiet=True)


def test_evaluating_without_labels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = pictures(tmp_path / "photos")
    run = squint.pretrain(
        data, recipe=small.recipe(), out=tmp_path / "run", quiet=True, batch_size=16
    )
    refused(capsys, "evaluate", run.path, words=["no labels", "--data"])


def test_ctrl_c_is_answered_with_a_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("squint.cli.listing.recipes", stopped)
    assert main(["recipes"]) == 130
    assert capsys.readouterr().err == "\nsquint recipes: stopped\n"


def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    command = f"set -o pipefail; {sys.executable} -u -m squint recipes | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "recipe" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("verb", ["recipes", "--help"])
def test_output_that_can_not_be_written_is_one_sentence(verb: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "squint", verb], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"squint {verb}: No space left on device. Make room")
    assert done.stderr.count("\n") == 1
