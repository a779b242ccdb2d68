"""What a new user gets wrong: one sentence that says what to do, no traceback, nothing written."""

import shutil
from pathlib import Path

import pytest

from conftest import Measured, pictures
from squint import cli


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources as people have them."""
    root = tmp_path_factory.mktemp("odd")
    pictures(root / "two", 5, seed=0, names=("a", "b"))
    pictures(root / "one", 6, seed=0, names=("a",))
    pictures(root / "three", 1, seed=0, names=("a", "b", "c"))
    pictures(root / "single", 1, seed=0, names=("a",))
    pictures(root / "flat", 6, seed=0, names=("",))
    for split, names in (("train", ("a", "b")), ("test", ("b", "c"))):
        pictures(root / "others" / split, 4, seed=0, names=names)
    for split, names in (("train", ("a",)), ("test", ("a", "b"))):
        pictures(root / "single class" / split, 4, seed=0, names=names)
    shutil.copytree(root / "two", root / "stray")
    shutil.copy(root / "two" / "a" / "00.png", root / "stray" / "00.png")
    (root / "empty").mkdir()
    (root / "text").mkdir()
    (root / "text" / "a.txt").write_text("no picture")
    for name in ("a", "b"):
        (root / "broken" / name).mkdir(parents=True)
        for number in range(3):
            (root / "broken" / name / f"{number}.png").write_text("no picture")
    (root / "w.pt").write_bytes(b"abc")
    (root / "attributes.csv").write_text("path,angle\nnope.png,3\n")
    return root


def refused(capsys: pytest.CaptureFixture[str], target: object, *flags: str) -> str:
    """What the command line says, once it is known to be an answer and not a traceback."""
    capsys.readouterr()
    assert cli.main(["evaluate", str(target), *flags]) == cli.USER_ERROR
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return " ".join((said.err + said.out).split())


LABELLED = ("knn", "linear", "linear-sgd", "fewshot", "finetune", "compare", "robustness", "pgd")


@pytest.mark.parametrize("protocol", LABELLED)
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("flat", "flat has no labels"),
        ("one", "has no labels, and accuracy needs them. Sort all images into one folder per"),
        ("stray", "stray has no labels"),
        ("single", "single has 1 image, and evaluation learns from some"),
        ("three", "1 of 1 classes of the test images never occur among the train images"),
        ("others", "1 of 2 classes of the test images never occur among the train images (c)"),
        ("single class", "one class: a classifier needs at least two"),
        ("empty", "holds no images"),
        ("text", "holds no images"),
        ("nowhere", "There is no source"),
        ("broken", "can't be read"),
    ],
)
def test_odd_sources(
    measured: Measured,
    odd: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    words: str,
    protocol: str,
) -> None:
    out = tmp_path / "evaluation.json"
    flags = ["--protocols", protocol, "--data", str(odd / source), "--out", str(out)]
    assert words in refused(capsys, measured.run.path, *flags)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lacking", ["nuisance", "transfer", "shifted"])
def test_what_a_protocol_lacks_is_said_before_others_are_measured(
    measured: Measured, tmp_path: Path, capsys: pytest.CaptureFixture[str], lacking: str
) -> None:
    out = ["--out", str(tmp_path / "evaluation.json")]
    refused(capsys, measured.run.path, "--protocols", "knn", lacking, *out)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--protocols nkk", "invalid choice 'nkk'"),
        ("--protocols", "No protocol is named"),
        ("--protocols shifted", "--shifted.data"),
        ("--protocols transfer", "--transfer.train-data"),
        ("--protocols transfer --transfer.train-data ODD/two", "classes are matched by name"),
        ("--protocols transfer --transfer.train-data ODD/flat", "has no labels, and transfer"),
        ("--protocols transfer --transfer.train-data ODD/nowhere", "There is no source"),
        ("--protocols robustness --robustness.data ODD/two", "holds no corrupted images"),
        ("--protocols robustness --robustness.baseline alexnet", "1000 classes of ImageNet"),
        ("--protocols robustness --robustness.baseline ODD/x.json", "holds no errors"),
        ("--protocols nuisance", "records nothing of its images beside labels"),
        ("--protocols nuisance --nuisance.attributes ODD/attributes.csv", "names none of the"),
        ("--protocols nuisance --nuisance.attributes ODD/x.csv", "can't be read as a .csv"),
        ("--protocols surprise --surprise.other ODD/nowhere", "There is no source"),
        ("--protocols compare --compare.checkpoint ODD/nowhere", "There is no"),
        ("--protocols compare --compare.checkpoint ODD/w.pt", "which architecture"),
        ("--protocols fewshot --fewshot.shots 50", "Lower --fewshot.shots to 20"),
        ("--protocols fewshot --fewshot.shares", "fewshot.shots must have at least one value"),
        ("--protocols fewshot --fewshot.draws 1", "fewshot.draws=1 must be at least 2"),
        ("--protocols pgd --pgd.eps", "pgd.eps must have at least one value"),
        ("--protocols pgd --pgd.eps nan", "pgd.eps=nan must be above 0"),
        ("--protocols pgd --pgd.seed -1", "pgd.seed=-1 must be at least 0"),
        ("--protocols linear --linear.seed -1", "linear.seed=-1 must be at least 0"),
        ("--protocols linear --linear.held-out 1.5", "held_out=1.5 must be a share of train"),
        ("--protocols knn --knn.k 0", "knn.k=0 must be at least 1"),
        ("--protocols finetune --finetune.labels", "finetune.labels must have at least one value"),
        ("--protocols finetune --finetune.lr -1", "finetune.lr=-1 must be above 0"),
        ("--protocols finetune --finetune.ema 1", "finetune.ema=1 must be at least 0 and below 1"),
        ("--protocols finetune --finetune.layer-decay 0", "finetune.layer_decay=0 must be above"),
        ("--features.precision half", "'float32', 'bfloat16', 'auto'"),
        ("--size 16", "is a run, which knows its encoder, input and weights"),
        ("--encoder resnet18", "is a run, which knows its encoder, input and weights"),
        ("--device toaster", "Use auto, cpu, cuda, cuda:1 or mps"),
        ("--out ODD", "is a folder, or is in one that does not exist"),
        ("--out ODD/nowhere/e.json", "is a folder, or is in one that does not exist"),
    ],
)
def test_wrong_flags(
    measured: Measured,
    odd: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: str,
    words: str,
) -> None:
    given = flags.replace("ODD", str(odd)).split()
    out = [] if "--out" in given else ["--out", str(tmp_path / "evaluation.json")]
    assert words in refused(capsys, measured.run.path, *given, *out)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "flags", "words"),
    [
        ("ODD/nowhere", "", "There is no"),
        ("ODD/two", "", "is not a run"),
        ("ODD/w.pt", "", "does not say which architecture"),
        ("ODD/w.pt", "--encoder timm/resnet10t --data ODD/two", "can't be read as plain tensors"),
        ("timm:nonsense", "--data ODD/two", "is unknown. Did you mean"),
        ("timm:resnet10t", "", "has no images of its own: give --data"),
        ("timm:resnet10t", "--data ODD/two --size 0", "size=0 must be at least 1"),
        ("timm:resnet10t", "--data ODD/two --weights ODD/x.pt", "does not exist"),
    ],
)
def test_targets_that_are_none(
    odd: Path, capsys: pytest.CaptureFixture[str], target: str, flags: str, words: str
) -> None:
    here, given = (text.replace("ODD", str(odd)) for text in (target, flags))
    assert words in refused(capsys, here, *given.split())


def test_what_needs_no_labels_does_without(
    measured: Measured, odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--protocols", "compression", "--data", str(odd / "flat")]
    out = tmp_path / "evaluation.json"
    assert cli.main(["evaluate", str(measured.run.path), *flags, "--out", str(out)]) == 0
    assert "rate I(X;Z|Y)" in capsys.readouterr().out and out.exists()
