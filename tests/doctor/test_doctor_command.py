"""squint doctor as a person meets it."""

import json
from pathlib import Path

import numpy as np
import pytest

from doctor import photos
from squint import doctor, presets
from squint.cli import main
from squint.doctor import trial


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = main(["doctor", *map(str, arguments)])
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert all(len(line) <= 100 for line in shown.out.splitlines())
    return status, shown.out + shown.err


def test_the_machine_alone(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = run(capsys)
    assert status == 0
    assert said.startswith("Environment\n") and "torch 2" in said and "Images" not in said


def test_built_in_images(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    status, said = run(capsys, "--data", "demo", "--json", out, "--device", "cpu")
    assert status == 0
    assert "squint pretrain simclr@tiny --data demo --out runs/first --epochs 320" in said
    assert "a rule of thumb" in said and "--trial" in said
    tree = json.loads(out.read_text())
    assert set(tree["sections"]) == {"environment", "images", "suggestion", "time"}
    assert tree["prevents_training"] is False
    assert tree["sections"]["images"]["facts"]["contents"]["images"] == 6000
    assert tree["sections"]["images"]["facts"]["sample"]["looked_at"] == 500
    assert tree["sections"]["suggestion"]["command"].startswith("squint pretrain simclr@tiny")
    status, said = run(capsys, "--data", "demo", "--json", out)
    assert status == 2 and "is there already" in said
    status, _ = run(capsys, "--json", out, "--overwrite")
    assert status == 0 and set(json.loads(out.read_text())["sections"]) == {"environment"}


def test_images_of_five_channels_get_flags_that_train(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    array = random.integers(0, 256, (40, 16, 16, 5), dtype=np.uint8)
    np.save(tmp_path / "five.npy", array)
    given = ["--data", tmp_path / "five.npy", "--device", "cpu"]
    assert main(["doctor", *map(str, given)]) == 2
    assert "has images of 5 channels, not of 3" in capsys.readouterr().err
    given += ["--encoder.in-channels", "5"]
    status, said = run(capsys, *given)
    assert status == 0 and "stored as arrays, 5 channels (40)" in said
    command = said.partition("  squint pretrain")[2].partition("\n\n")[0].replace("\\", "")
    flags = [*command.split(), "--epochs", "1", "--encoder.width", "0.125", "--overwrite"]
    flags[flags.index("--out") + 1] = str(tmp_path / "run")
    assert main(["pretrain", *flags, "--optim.warmup-epochs", "0"]) == 0
    capsys.readouterr()
    status, said = run(capsys, *given, "--recipe", "c-byol@tiny")
    assert status == 2 and "fewer than one batch" in said  # and the recipe fits the channels


def test_what_prevents_training_is_told_by_the_exit_status(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = photos.folder(tmp_path / "photos", 40)
    status, said = run(capsys, "--data", folder)
    assert status == 0 and "No problems found." in said
    status, said = run(capsys, "--data", folder, "--recipe", "simclr@folder")
    assert status == 2
    assert "40 images to train on are fewer than one batch of 256" in said
    assert "1 problem; it has to be mended before training can work." in said
    assert "Time" not in said
    for number in range(3):
        (folder / f"broken{number}.jpg").write_text("?")
    status, said = run(capsys, "--data", folder, "--trial")
    assert status == 2 and "3 can't be read (7 %)" in said and "Time" not in said


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--data nowhere", "There is no source 'nowhere'"),
        ("--trial", "--trial is about images"),
        ("--recipe simclr", "--recipe is about images"),
        ("--data demo --recipe simclr@tny", "Did you mean simclr@tiny"),
        ("--data demo --sample 0", "--sample 0 must be 1 or more"),
        ("--data demo --sampl 9", "Did you mean --sample"),
        ("--json no/such/folder.json", "does not exist"),
        ("--device cuda:99", "is not on this machine"),
    ],
)
def test_wrong_flags_get_one_sentence(
    capsys: pytest.CaptureFixture[str], flags: str, words: str
) -> None:
    status, said = run(capsys, *flags.split())
    assert status == 2 and words in said


def test_a_trial_tells_the_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "noise.npy", pixels)
    report = doctor.examine(str(tmp_path / "noise.npy"), with_trial=True, device="cpu", seconds=0.1)
    time = report.sections[-1]
    assert time.title == "Time: simclr@tiny" and not report.prevents_training
    facts = time.facts
    assert facts["batch_size"] == facts["measured_batch_size"] == 32
    assert facts["total_steps"] == 800
    assert facts["step_seconds"] == pytest.approx(sum(facts["parts"].values()))
    assert facts["training_seconds"] == pytest.approx(800 * facts["step_seconds"])
    assert 0 < facts["bound_seconds"] < facts["step_seconds"]
    assert "images a second on cpu" in time.findings[0].text
    assert "backward" in time.findings[1].text


def test_a_long_step_is_tried_on_fewer_images() -> None:
    large = presets.recipe("moco-v2@folder")
    part = trial._part_of(large, 1, on_cpu=True)
    assert part.train.batch_size == 16 and part.method == large.method
    assert trial._part_of(large, 4, on_cpu=False).train.batch_size == 64
    assert trial._part_of(large, 1, on_cpu=False) is large
    tiny = presets.recipe("simclr@tiny")
    assert trial._part_of(tiny, 1, on_cpu=True) is tiny


def test_a_trial_that_can_not_be_made_says_why(tmp_path: Path) -> None:
    report = doctor.examine(
        str(photos.folder(tmp_path / "photos", 40)),
        recipe="simclr@tiny",
        with_trial=True,
        device="cpu",
    )
    assert report.prevents_training and report.sections[-1].title == "Recipe: simclr@tiny"
