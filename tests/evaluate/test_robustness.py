"""Errors under corruption, their means, the folders they can be read from, and attacks."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from squint.data import Images, open_source
from squint.errors import DataError, RunError
from squint.evaluate import mce, pgd, robustness, robustness_data, shifted
from squint.evaluate.bench import Bench
from squint.evaluate.corruptions import COMMON, NAMES, corrupt
from squint.evaluate.inputs import labelled_squares
from squint.evaluate.options import Options, PGDOptions, RobustnessOptions, ShiftedOptions
from squint.evaluate.subject import Subject, open_subject
from squint.runs import Run
from squint.train.pretrain import pretrain
from squint.views.two_views import EvaluationView
from train import small

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    root = tmp_path_factory.mktemp("robust")
    images = open_source(small.source(root))
    pretrain(images, recipe=small.recipe("simclr"), out=root / "run")
    return open_subject(Run(root / "run"))


def bench(subject: Subject, images: Images, **options: Any) -> Bench:
    return Bench(subject, images, CPU, Options(**options))


def coloured(root: Path, classes: tuple[str, ...] = ("a", "b"), count: int = 8) -> Images:
    """Classes told apart by colour, whatever an encoder does."""
    random = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for k in range(count):
            pixels = random.integers(0, 60, (40, 40, 3)) + 190 * (np.arange(3) == number % 3)
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{k}.png")
    return open_source(root)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return coloured(tmp_path / "images")


@pytest.fixture
def halves(tmp_path: Path) -> Images:
    """The same with train and test splits, 8 and 4 images of each class."""
    for split, count in (("train", 8), ("test", 4)):
        coloured(tmp_path / "halves" / split, count=count)
    return open_source(tmp_path / "halves")


def uneven(factor: float, clean: float = 0.1) -> mce.Errors:
    cells = {
        name: {str(s): clean + factor * (k + s) / 100 for s in range(1, 6)}
        for k, name in enumerate(NAMES)
    }
    return cells | {"clean": {"0": clean}}


def test_means_are_the_published_formulas() -> None:
    ours, base = uneven(1.0), uneven(3.0, clean=0.2)
    ce = [sum(ours[c].values()) / sum(base[c].values()) for c in COMMON]
    relative = [
        sum(e - 0.1 for e in ours[c].values()) / sum(e - 0.2 for e in base[c].values())
        for c in COMMON
    ]
    found = mce.mean_over_baseline(ours, base, relative=False)
    assert found == pytest.approx(sum(ce) / 15)
    found = mce.mean_over_baseline(ours, base, relative=True)
    assert found == pytest.approx(sum(relative) / 15) == pytest.approx(1 / 3)
    assert mce.mean_error(ours) == pytest.approx(np.mean([list(ours[c].values()) for c in COMMON]))


def test_a_baseline_that_loses_nothing_divides_nothing() -> None:
    assert mce.mean_over_baseline(uneven(1.0), uneven(0.0), relative=True) is None
    assert mce.mean_over_baseline(uneven(1.0), uneven(0.0), relative=False) is not None


def test_alexnet_against_itself_is_one() -> None:
    base = {name: {"mean": error} for name, error in mce._ALEXNET.items()}
    errors: mce.Errors = {n: {str(s): e["mean"] for s in range(1, 6)} for n, e in base.items()}
    errors["clean"] = base["clean"] = {"0": mce._ALEXNET_CLEAN}
    assert mce.mean_over_baseline(errors, base, relative=False) == pytest.approx(1)
    assert mce.mean_over_baseline(errors, base, relative=True) == pytest.approx(1)
    assert tuple(mce._ALEXNET) == COMMON


def test_the_protocol_counts_what_a_loop_over_images_counts(
    subject: Subject, images: Images
) -> None:
    options = RobustnessOptions(images=0, seed=3)
    table = robustness.measured(test := bench(subject, images, robustness=options))
    entry = table["corrupted_error"]
    probe = robustness.probe_of(test)
    ((numbers, pixels, labels),) = labelled_squares(test.parts.test, test.views, limit=None)
    encoder = test.module("trained").eval()
    wrong = 0
    for number, image, label in zip(numbers, pixels, labels, strict=True):
        worse = corrupt(image[None], "contrast", 5, rows=number[None], seed=3)
        mean, std = torch.tensor(test.views.mean), torch.tensor(test.views.std)
        x = (worse / 255 - mean[:, None, None]) / std[:, None, None]
        with torch.no_grad():
            wrong += int((encoder(x) @ probe.weight.T + probe.bias).argmax() != label)
    assert entry["errors"]["trained"]["contrast"]["5"] == wrong / len(labels)
    again = mce.mean_error(entry["errors"]["trained"])
    assert entry["value"] == again == json.loads(json.dumps(entry))["value"]
    assert entry["random"] == mce.mean_error(entry["errors"]["random"])
    assert "constants of 32 px" in entry["protocol"]
    assert "seed 3" in entry["protocol"] and "all test images" in entry["protocol"]
    assert {p.name for p in (subject.out.parent / "figures").iterdir()} >= {
        "robustness.png",
        "robustness-dark.png",
    }


def test_grey_images_are_corrupted_by_luminance() -> None:
    grey = torch.full((2, 1, 32, 32), 100, dtype=torch.uint8)
    out = robustness_data._corrupt(grey, "brightness", 3, torch.arange(2), 0)
    assert out.shape == grey.shape
    assert (out == 138).all()  # 100 + 0.15 * 255, cut


def cifar_c(root: Path, labels: np.ndarray, names: tuple[str, ...] = COMMON) -> Path:
    root.mkdir()
    np.save(root / "labels.npy", np.tile(labels, 5))
    for name in names:
        pixels = np.zeros((5 * len(labels), 32, 32, 3), dtype=np.uint8)
        for severity in range(5):
            pixels[severity * len(labels) :][: len(labels)] = 10 * severity
        np.save(root / f"{name}.npy", pixels)
    return root


LABELS = np.repeat([0, 1], 4)
"""Of the test images of `halves`."""


def test_reads_the_arrays_of_cifar_c(subject: Subject, halves: Images, tmp_path: Path) -> None:
    folder = cifar_c(tmp_path / "c", LABELS)
    options = RobustnessOptions(data=str(folder), images=3)
    test = bench(subject, halves, robustness=options)
    pieces = [p for p in robustness_data.corrupted_in(test, folder) if p.name != "clean"]
    assert [(p.name, p.severity) for p in pieces] == [(c, s) for c in COMMON for s in range(1, 6)]
    for piece in pieces:
        assert (piece.pixels == 10 * (piece.severity - 1)).all()
        assert len(piece.labels) == 3
    assert len({tuple(p.labels.tolist()) for p in pieces}) == 1  # the same images everywhere
    table = robustness.measured(test)
    assert f"on 3 images for each corruption and severity, read from {folder}" in (
        said := table["corrupted_error"]["protocol"]
    )
    assert "fitted on clean images of the train part" in said
    assert "test split" not in said and "test images" not in said
    assert "3 of 8" in table["clean_error"]["protocol"]
    assert "test on the test split" in table["clean_error"]["protocol"]


def test_reads_the_folders_of_imagenet_c(subject: Subject, halves: Images, tmp_path: Path) -> None:
    for group, name in (("noise", "gaussian_noise"), ("extra", "spatter")):
        for severity in range(1, 6):
            coloured(tmp_path / "c" / group / name / str(severity), count=2)
    test = bench(subject, halves, robustness=RobustnessOptions(data=str(tmp_path / "c")))
    pieces = list(robustness_data.corrupted_in(test, tmp_path / "c"))
    found = {(p.name, p.severity) for p in pieces}
    assert found == {("clean", 0)} | {
        (n, s) for n in ("gaussian_noise", "spatter") for s in range(1, 6)
    }
    assert all(p.labels.tolist() == [0, 0, 1, 1] for p in pieces if p.name != "clean")
    with pytest.raises(RunError, match=r"lacks shot_noise.*Complete the folder"):
        robustness.measured(test)


def test_corrupted_copies_of_what_the_probe_is_fitted_on_are_refused(
    subject: Subject, images: Images, halves: Images, tmp_path: Path
) -> None:
    folder = cifar_c(tmp_path / "c", LABELS, names=("fog",))
    with pytest.raises(DataError, match=r"no train and test splits.*Give the data set with both"):
        list(robustness_data.corrupted_in(bench(subject, images), folder))
    for labels in (LABELS[1:], np.tile(LABELS, 2)):
        np.save(folder / "labels.npy", np.tile(labels, 5))
        with pytest.raises(DataError, match=r"has 8 images: they must be the same images"):
            list(robustness_data.corrupted_in(bench(subject, halves), folder))


def test_images_in_another_order_are_the_same_only_all_together(
    subject: Subject, halves: Images, tmp_path: Path
) -> None:
    """CIFAR-10 as class folders, beside CIFAR-10-C in the order of the data set."""
    folder = cifar_c(tmp_path / "c", LABELS[::-1].copy(), names=("fog",))
    for number in (0, 8, 1000):
        options = RobustnessOptions(images=number)
        pieces = list(
            robustness_data.corrupted_in(bench(subject, halves, robustness=options), folder)
        )
        assert sum(len(piece.labels) for piece in pieces if piece.name == "fog") == 5 * 8
    some = bench(subject, halves, robustness=RobustnessOptions(images=3))
    with pytest.raises(DataError, match=r"in another order, so 3 of them.*--robustness.images 0"):
        list(robustness_data.corrupted_in(some, folder))


def test_files_of_imagenet_c_are_cut_once(
    subject: Subject, halves: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    whole = random.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    for severity, side in ((1, 224), (2, 40)):
        for name in ("a", "b"):
            (folder := tmp_path / "c" / "fog" / str(severity) / name).mkdir(parents=True)
            Image.fromarray(whole[:side, :side]).save(folder / "1.png")
    for severity in (3, 4, 5):
        coloured(tmp_path / "c" / "fog" / str(severity), count=1)
    test = bench(subject, halves)
    for crop, share in ((0.875, 1.0), (1.0, 1.0), (0.7, 0.8)):
        view = replace(test.views.evaluation, size=224, crop=crop)
        views = replace(test.views, evaluation=view)
        monkeypatch.setattr(subject.encoder, "views", views)
        pieces = [p for p in robustness_data.corrupted_in(test, tmp_path / "c") if p.name == "fog"]
        uncut = replace(views, evaluation=replace(view, crop=share))
        pixels = torch.from_numpy(whole).permute(2, 0, 1)
        expected = EvaluationView(uncut).square(pixels)
        assert torch.equal(pieces[0].pixels[0], expected)
        assert (share < 1) or torch.equal(expected, pixels)
        small_ones = EvaluationView(views).square(pixels[:, :40, :40])
        assert torch.equal(pieces[1].pixels[0], small_ones)
        said = robustness_data.describe(test, tmp_path / "c")
        assert f"the central {100 * share:g} % are shown" in said


def test_unfit_folders_are_named(subject: Subject, halves: Images, tmp_path: Path) -> None:
    test = bench(subject, halves)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no corrupted images"):
        list(robustness_data.corrupted_in(test, tmp_path / "none"))
    ten = cifar_c(tmp_path / "ten", np.arange(10), names=("fog",))
    with pytest.raises(DataError, match="has 10 classes"):
        list(robustness_data.corrupted_in(test, ten))
    np.save(ten / "labels.npy", np.zeros(7, dtype=np.int64))
    with pytest.raises(DataError, match="7 labels"):
        list(robustness_data.corrupted_in(test, ten))
    np.save(ten / "labels.npy", np.array(["a", "b"] * 5))
    with pytest.raises(DataError, match=r"10 labels of type <U1"):
        list(robustness_data.corrupted_in(test, ten))
    two = cifar_c(tmp_path / "two", LABELS, names=("fog",))
    for name in ("fog.npy", "labels.npy"):
        whole = (two / name).read_bytes()
        for part in (whole[:-1], whole[:50], b"", b"PK\3\4"):
            (two / name).write_bytes(part)
            with pytest.raises(DataError, match=rf"{name} can't be read .*Get it again"):
                list(robustness_data.corrupted_in(test, two))
        (two / name).write_bytes(whole)
    for severity in range(1, 6):
        coloured(tmp_path / "other" / "fog" / str(severity), ("a", "x"), count=1)
    with pytest.raises(DataError, match=r"train images lack \(x\)"):
        list(robustness_data.corrupted_in(test, tmp_path / "other"))


def test_baselines(subject: Subject, images: Images, tmp_path: Path) -> None:
    def chosen(what: str) -> Any:
        return mce.recorded_baseline(
            bench(subject, images, robustness=RobustnessOptions(baseline=what))
        )

    assert chosen("random") is None  # it is measured beside
    with pytest.raises(RunError, match="1000 classes of ImageNet"):
        chosen("alexnet")
    path = tmp_path / "evaluation.json"

    def write(*tables: dict[str, Any]) -> None:
        made = [
            {"results": {"corrupted_error": {"errors": {"trained": uneven(4.0)}} | table}}
            for table in tables
        ]
        path.write_text(json.dumps(made[0] | {"others": made[1:]}))

    here = mce.conditions(bench(subject, images))
    write({"conditions": here})
    assert chosen(str(path))[1] == uneven(4.0)
    for name, value in {"fingerprint": "x", "images": 50, "size": 224, "seed": 1}.items():
        write({"conditions": (strange := here | {name: value})})
        with pytest.raises(RunError, match=rf"other images \({name} {value!r} there, [^;]*\)"):
            chosen(str(path))
        write({"conditions": strange}, {"conditions": here})
        assert chosen(str(path))[1] == uneven(4.0)
    write({})
    with pytest.raises(RunError, match="does not say on which images"):
        chosen(str(path))
    path.write_text("{}")
    with pytest.raises(RunError, match="holds no errors on corrupted images"):
        chosen(str(path))


class Linear:
    """Two classes, one hyperplane: the best attack is known."""

    def __init__(self, size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.w = torch.randn(size, generator=generator, dtype=torch.float64)

    def __call__(self, images: Tensor) -> Tensor:
        score = (images - 0.5).flatten(1) @ self.w
        return torch.stack([torch.zeros_like(score), score], dim=1)


@pytest.mark.parametrize(
    ("norm", "begin", "least"),
    [
        ("linf", "centre", 1.0),
        ("linf", "random", 1.0),
        ("l2", "centre", 1.0),
        # steps of 2.5 eps in all turn a random direction to the best one but for a small angle
        ("l2", "random", 0.97),
    ],
)
@pytest.mark.parametrize("label", [0, 1])
def test_the_attack_on_a_linear_model_is_the_closed_form(
    norm: pgd.Norm, begin: str, least: float, label: int
) -> None:
    model = Linear(3 * 8 * 8)
    images = torch.full((4, 3, 8, 8), 0.5, dtype=torch.float64)
    labels = torch.full((4,), label)
    start = pgd.random_start(images, torch.arange(4), norm, seed=0) * (begin == "random")
    worst = pgd.attack(model, images, labels, norm=norm, eps=0.1, steps=40, start=start)
    score = model(worst)[:, 1] * (1 - 2 * label)
    best = 0.1 * (model.w.abs().sum() if norm == "linf" else model.w.norm())
    assert (score <= best * (1 + 1e-9)).all()
    assert (score >= least * best * (1 - 1e-9)).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_attacks_stay_in_the_ball_and_among_images(norm: pgd.Norm) -> None:
    model = Linear(3 * 8 * 8)
    images = torch.rand(
        16, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    labels = torch.arange(16) % 2
    start = pgd.random_start(images, torch.arange(16), norm, seed=0)
    unit = start.flatten(1)
    lengths = unit.abs().amax(1) if norm == "linf" else unit.norm(dim=1)
    assert (lengths <= 1).all() and lengths.min() > 0.9
    worst = pgd.attack(model, images, labels, norm=norm, eps=0.3, steps=5, start=start)
    change = (worst - images).flatten(1)
    lengths = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert (lengths <= 0.3 + 1e-9).all()
    assert worst.min() >= 0 and worst.max() <= 1
    assert torch.equal(
        pgd.attack(model, images, labels, norm=norm, eps=0.0, steps=5, start=start), images
    )
    rows = torch.tensor([3, 9])
    assert torch.equal(pgd.random_start(images[rows], rows, norm, seed=0), start[rows])


def test_accuracy_falls_with_the_radius(subject: Subject, images: Images) -> None:
    options = PGDOptions(eps=(1.0, 64.0), steps=4, images=0)
    test = bench(subject, images, pgd=options)
    entry = pgd.measured(test)["pgd_top1"]
    top1 = [row["top1"] for row in entry["table"].values()]
    assert top1[0] == pytest.approx(robustness.probe_of(test).top1)
    assert top1 == sorted(top1, reverse=True)
    assert entry["value"] == top1[-1]
    assert "eps 64/255" in entry["protocol"]


def imagenet(images: Images) -> Images:
    """The images as the first of 1000 classes, named like ImageNet's."""
    return replace(images, classes=tuple(f"n{number:08d}" for number in range(1000)))


def test_folders_of_wordnet_ids(subject: Subject, tmp_path: Path) -> None:
    known = coloured(tmp_path / "train", ("n01", "n02", "n03"))
    test = bench(subject, known)
    coloured(tmp_path / "a", ("n03", "n01"), count=2)
    found = shifted.open_shifted("imagenet-a", str(tmp_path / "a"), test)
    assert found.images.classes == ("n01", "n03")
    assert found.right.tolist() == [[True, False, False], [False, False, True]]
    assert found.allowed.tolist() == [True, False, True]
    coloured(tmp_path / "other", ("cat", "n01"), count=1)
    with pytest.raises(DataError, match=r"1 of 2 class folders .* lack \(cat\)"):
        shifted.open_shifted("imagenet-r", str(tmp_path / "other"), test)
    Image.new("RGB", (40, 40)).save(tmp_path / "a" / "stray.png")
    for flat in ("a", "a/n01"):  # one picture beside the folders, and no folders at all
        with pytest.raises(DataError, match="no class folders, or images beside them"):
            shifted.open_shifted("imagenet-sketch", str(tmp_path / flat), test)
    with pytest.raises(DataError, match="There is no source"):
        shifted.open_shifted("imagenet-sketch", str(tmp_path / "nowhere"), test)


def test_folders_of_numbers_are_places_among_imagenets_classes(
    subject: Subject, images: Images, tmp_path: Path
) -> None:
    coloured(tmp_path / "v2", ("0", "2", "10"), count=1)
    test = bench(subject, imagenet(images))
    found = shifted.open_shifted("imagenet-v2", str(tmp_path / "v2"), test)
    assert found.images.classes == ("0", "2", "10")
    assert found.right.nonzero().tolist() == [[0, 0], [1, 2], [2, 10]]
    coloured(tmp_path / "odd", ("0", "1000", "n01"), count=1)
    with pytest.raises(DataError, match="numbers from 0 to 999, and it has 1000, n01"):
        shifted.open_shifted("imagenet-v2", str(tmp_path / "odd"), test)
    with pytest.raises(DataError, match=r"1000 classes of ImageNet, and .* has 2"):
        shifted.open_shifted("imagenet-v2", str(tmp_path / "v2"), bench(subject, images))


def test_a_part_of_a_published_set_is_said(subject: Subject, tmp_path: Path) -> None:
    known = coloured(tmp_path / "train", ("n01", "n02", "n03"))
    coloured(tmp_path / "r", ("n01", "n02"), count=2)
    options = ShiftedOptions(data=str(tmp_path / "r"), kind="imagenet-r")
    entry = shifted.measured(bench(subject, known, shifted=options))["shifted_top1"]
    assert "4 images of imagenet-r (2 of its 200 class folders)" in entry["protocol"]
    assert "answers among 2 classes" in entry["protocol"] and entry["value"] in (
        0,
        0.25,
        0.5,
        0.75,
        1,
    )


def objectnet(root: Path) -> Path:
    """Four folders: two with a class in ImageNet, one of them with two, and two without.

    Names are in the order of the development kit; by WordNet ids wall clock is first, then analog
    clock, then coffee mug.
    """
    folders = {"air_pump": "Air pump", "clock": "Clock", "mug": "Mug", "spoon": "Spoon"}
    for name in folders:
        (root / "images" / name).mkdir(parents=True)
        pixels = np.full((44, 44, 3), 50, dtype=np.uint8)
        pixels[:2] = pixels[-2:] = pixels[:, :2] = pixels[:, -2:] = (255, 0, 0)
        Image.fromarray(pixels).save(root / "images" / name / "1.png")
    mappings = root / "mappings"
    mappings.mkdir()
    overlap = {"Clock": "analog clock; wall clock", "Mug": "coffee mug"}
    (mappings / "folder_to_objectnet_label.json").write_text(json.dumps(folders))
    (mappings / "objectnet_to_imagenet_1k.json").write_text(json.dumps(overlap))
    (mappings / "imagenet_to_label_2012_v2").write_text("analog clock\ncoffee mug\nwall clock\n")
    kit = {"0": 2, "1": 0, "2": 1}
    (mappings / "pytorch_to_imagenet_2012_id.json").write_text(json.dumps(kit))
    return root


def test_objectnet_by_its_own_mappings(subject: Subject, tmp_path: Path) -> None:
    known = coloured(tmp_path / "train", ("n01", "n02", "n03"))
    options = ShiftedOptions(data=str(objectnet(tmp_path / "o")), kind="objectnet")
    test = bench(subject, known, shifted=options)
    found = shifted.open_shifted("objectnet", options.data, test)
    assert found.images.classes == ("clock", "mug")
    assert found.right.tolist() == [[True, True, False], [False, False, True]]
    assert len(found.images) == 2
    assert found.images.read(0).shape == (40, 40, 3)  # the red border is gone
    assert (found.images.read(0) == 50).all()
    entry = shifted.measured(test)["shifted_top1"]
    assert 0 <= entry["value"] <= 1 and "2 images of objectnet" in entry["protocol"]
    assert "(2 of its 113 class folders)" in entry["protocol"]


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("objectnet_to_imagenet_1k.json", None, r"images/ and mappings/"),
        ("pytorch_to_imagenet_2012_id.json", None, r"images/ and mappings/"),
        ("folder_to_objectnet_label.json", "{", r"images/ and mappings/"),
        ("imagenet_to_label_2012_v2", "analog clock\n", "names 1 classes and numbers 3"),
        ("objectnet_to_imagenet_1k.json", '{"Mug": "beaker"}', "no ImageNet class .* 'beaker'"),
        ("objectnet_to_imagenet_1k.json", "{}", "None of the 4 folders"),
    ],
)
def test_objectnet_without_its_mappings_is_named(
    subject: Subject, tmp_path: Path, name: str, text: str | None, match: str
) -> None:
    test = bench(subject, coloured(tmp_path / "train", ("n01", "n02", "n03")))
    path = objectnet(tmp_path / "o") / "mappings" / name
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=match):
        shifted.open_shifted("objectnet", str(tmp_path / "o"), test)


def test_a_shifted_test_set_must_be_given(subject: Subject, images: Images) -> None:
    with pytest.raises(RunError, match=r"--shifted\.data"):
        shifted.measured(bench(subject, images))
