"""Presets: each builds, says where it comes from, and has the numbers of its source.

The numbers are those of the specification sheet beside the repository, ../shared/design/methods.md
(sections 14, 15 and 17), read from its tables: a wrong digit here or there is a failing test.
Without the sheet these tests are skipped. Over 300 lines because reading tables takes as many as
comparing does.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from squint import presets
from squint.configs import (
    BYOLConfig,
    CEBConfig,
    MoCoConfig,
    MoCoV3Config,
    OpenConfig,
    SimCLRConfig,
)
from squint.errors import RecipeError
from squint.recipe import Recipe, from_dict, leaves, to_dict

NAMES = list(presets.names())
COMPRESSED = [name for name in NAMES if name.startswith("c-")]
RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
SHEET = Path(__file__).resolve().parents[2] / "shared" / "design" / "methods.md"
sheet = pytest.mark.skipif(not SHEET.exists(), reason=f"no specification sheet: {SHEET} is absent")


# Every preset


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_survives_the_way_through_json(name: str) -> None:
    recipe = presets.recipe(name)
    assert from_dict(json.loads(json.dumps(to_dict(recipe)))) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_says_where_it_comes_from(name: str) -> None:
    preset = presets.load(name)
    assert preset.source and preset.expected
    method, _, setting = name.partition("@")
    # MoCo v1 and v2 are one method
    assert preset.recipe.name == re.sub(r"moco-v[12]", "moco", method)
    if setting != "tiny":
        assert "not run by us" in preset.expected


@pytest.mark.parametrize("method", presets.METHODS)
@pytest.mark.parametrize("setting", ["folder", "tiny", "cifar"])
def test_every_method_has_the_settings_that_need_no_publication(method: str, setting: str) -> None:
    assert f"{method}@{setting}" in NAMES


def plain_of(compressed: str) -> str:
    """Name of the recipe that a compressed one is to be compared with."""
    plain = compressed.removeprefix("c-")
    return plain.replace("@imagenet", "@imagenet-cvr") if plain.startswith("byol@i") else plain


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_compressed_recipe_differs_from_the_plain_one_in_the_bottleneck_only(name: str) -> None:
    compressed, plain = presets.recipe(name), presets.recipe(plain_of(name))
    assert isinstance(plain.compression, OpenConfig)
    assert isinstance(compressed.compression, CEBConfig)
    ours, theirs = leaves(compressed.replace(compression=plain.compression)), leaves(plain)
    different = {path for path in ours if ours[path] != theirs[path]}
    published = {"optim.lr"} if name.startswith("c-byol@imagenet") else set()
    assert different == published


@pytest.mark.parametrize("name", COMPRESSED)
def test_concentrations_follow_the_published_rule(name: str) -> None:
    recipe = presets.recipe(name)
    ceb = recipe.compression
    assert isinstance(ceb, CEBConfig)
    if isinstance(recipe.method, BYOLConfig):
        ours = name.endswith(("@tiny", "@cifar"))  # 16384 cost more there, see _parts.py
        assert (ceb.kappa_e, ceb.kappa_b) == (65536.0 if ours else 16384.0, 10.0)
    else:
        assert ceb.kappa_e == 1024.0
        assert ceb.kappa_b * recipe.method.temperature == pytest.approx(1.0)
    method, _, setting = name.partition("@")
    published = setting.startswith("imagenet") and method in ("c-simclr", "c-byol")
    assert (ceb.residual == "sampled") == published
    assert (
        published
        or setting == "tiny"
        or "bottleneck of" in presets.load(name).source
        or ("not published" in presets.load(name).source)
    )


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_counted_as_the_source_counts_them(name: str) -> None:
    method, _, setting = name.partition("@")
    released = setting.startswith("imagenet") and "moco" not in method
    expected = "whole_epochs"
    if released or name in ("simclr@cifar", "c-simclr@cifar"):
        expected = "simclr"
    if released and method == "byol" and "cvr" not in setting:
        expected = "byol"
    assert presets.recipe(name).train.step_count == expected


@pytest.mark.parametrize("name", [name for name in NAMES if "simclr@" in name])
def test_directions_are_added_as_released_in_the_released_settings(name: str) -> None:
    method = presets.recipe(name).method
    assert isinstance(method, SimCLRConfig)
    released = name.endswith("simclr@cifar") or "@imagenet" in name
    assert method.directions == ("sum" if released else "mean")


# The sheet


Row = dict[str, str]


@cache
def table(section: str) -> tuple[Row, ...]:
    """Rows of the first table of a section of the sheet, cells by the head of their column."""
    text = SHEET.read_text().partition(f"\n## {section}")[2].partition("\n## ")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert rows and all(len(row) == len(head) for row in rows), "the sheet's table has changed"
    return tuple(dict(zip(head, row, strict=True)) for row in rows)


def number(pattern: str, text: str, default: float | None = None) -> float | None:
    """The number in the first group of a pattern; the default where it does not occur."""
    found = re.search(pattern, text)
    return float(found[1]) if found else default


def at(cell: str, position: int) -> str:
    """Entry of a cell "a / b / c" that holds one per length, or one for all."""
    entries = [entry.strip() for entry in cell.split(" / ")]
    return entries[position] if len(entries) > 1 else entries[0]


CVR = "CVR SimCLR / C-SimCLR"
V3 = "MoCo v3 R50"
VIT = "MoCo v3 ViT-S, ViT-B"
OFFICIAL = [
    ("SimCLR v1 R50", 100, "simclr@imagenet-100ep"),
    *((CVR, e, f"{m}@imagenet-{e}ep") for e in (300, 1000) for m in ("simclr", "c-simclr")),
    *(("CVR BYOL", e, f"byol@imagenet-cvr-{e}ep") for e in (300, 1000)),
    *(("C-BYOL", e, f"c-byol@imagenet-{e}ep") for e in (300, 1000)),
    *(("BYOL", e, f"byol@imagenet-{e}ep") for e in (40, 100, 300, 1000)),
    ("MoCo v1 R50", 200, "moco-v1@imagenet-200ep"),
    *(("MoCo v2 R50", e, f"moco-v2@imagenet-{e}ep") for e in (200, 800)),
    *((V3, e, f"moco-v3@imagenet-{e}ep") for e in (100, 300, 1000)),
    *((VIT, 300, f"moco-v3@imagenet-vit-{size}") for size in "sb"),
]
"""Row of section 14, epochs, preset."""


def official_row(label: str, epochs: int) -> Row:
    """One row and length: epochs, lr, decay and other, of that length only."""
    other = ""
    for row in table("14. Official recipes"):
        other = other if row["other"] == "same" else row["other"]
        lengths = row["epochs"].split(" / ")
        if row["recipe"] != label or str(epochs) not in lengths:
            continue
        place = lengths.index(str(epochs))
        momentum = re.search(r"m0 ([\d.]+(?: / [\d.]+)*)", other)
        return {
            "lr": at(row["base lr"], place),
            "decay": at(row["decay"], place),
            "other": other,
            "m0": at(momentum[1], place) if momentum else "",
        }
    raise AssertionError(f"section 14 has no row {label!r} of {epochs} epochs")


@sheet
@pytest.mark.parametrize(("label", "epochs", "name"), OFFICIAL, ids=[n for *_, n in OFFICIAL])
def test_optimizers_are_those_of_the_sheet(label: str, epochs: int, name: str) -> None:
    row, recipe = official_row(label, epochs), presets.recipe(name)
    optim, other = recipe.optim, row["other"]
    moco = label.startswith(("MoCo v1", "MoCo v2"))
    assert recipe.train.epochs == epochs
    assert recipe.train.batch_size == (256 if "@256" in row["lr"] else 4096)
    assert optim.lr == float(row["lr"].split()[0])
    assert optim.weight_decay == float(row["decay"])
    assert optim.name == next((n for n in ("sgd", "adamw") if n in row["lr"].lower()), "lars")
    assert (optim.momentum, optim.trust_coefficient) == (0.9, 1e-3)
    assert optim.lr_scaling == ("sqrt" if "sqrt" in row["lr"] else "linear")
    if peak := number(r"= ([\d.]+)", row["lr"]):
        assert recipe.scaled_lr == pytest.approx(peak)
    assert optim.warmup_epochs == number(r"(\d+) warm-up", other, 0 if moco else 10)
    steps = re.search(r"steps ([\d,]+)", other)
    assert optim.decay_epochs == (tuple(map(float, steps[1].split(","))) if steps else ())
    expected = "steps" if steps else "epoch_cosine" if moco else "cosine"
    assert optim.schedule == expected
    # section 9: the forms of LARS, and what decays
    form = "byol" if label == "BYOL" else "mocov3" if label == V3 else "simclr"
    assert optim.lars_form == form
    assert optim.decay_norm_and_bias == (moco or label == VIT)


@sheet
@pytest.mark.parametrize(("label", "epochs", "name"), OFFICIAL, ids=[n for *_, n in OFFICIAL])
def test_methods_are_those_of_the_sheet(label: str, epochs: int, name: str) -> None:
    row, recipe = official_row(label, epochs), presets.recipe(name)
    other, method = row["other"], recipe.method
    if isinstance(method, BYOLConfig):
        weight = number(r"\bw ([\d.]+)", other, 1)
        assert method.kappa_d == 2 * weight  # section 8
        assert method.target_init == "independent" and method.target_schedule == "cosine"
        assert method.target_momentum == float(row["m0"])
        jax = label == "BYOL"  # section 7: Haiku's init; section 4: VarianceScaling
        assert method.projector.init == method.predictor.init == ("haiku" if jax else "cvr")
        assert recipe.encoder.init == ("haiku" if jax else "simclr")
    else:  # the CVR rows give kappa_b, which is 1 / tau
        tau = number(r"tau ([\d.]+)", other) or 1 / (number(r"k_b (\d+)", other) or 0)
        assert method.temperature == pytest.approx(tau)
    if isinstance(method, MoCoV3Config):
        assert method.target_momentum == float(row["m0"]) and method.target_schedule == "cosine"
        least = number(r"crop-min ([\d.]+)", other)
        assert recipe.views.first.crop.area == recipe.views.second.crop.area == (least, 1.0)
    if isinstance(method, MoCoConfig):
        text = official_row("MoCo v1 R50", 200)["other"]  # v2's row says what is other than v1
        assert method.queue_size == number(r"K (\d+)", text)
        assert method.target_momentum == number(r"m ([\d.]+)", text)
        assert method.projector.out_dim == number(r"dim (\d+)", text)
        assert method.target_schedule == "constant" and not method.symmetric
        assert method.projector.layers == (2 if "mlp" in other else 1)
        assert (recipe.views.first.blur.probability > 0) == ("aug+" in other)
    ceb = recipe.compression
    if isinstance(ceb, CEBConfig):
        text = other if "k_e" in other else official_row("C-BYOL", 300)["other"]
        found = {key: number(rf"\b{key} ([\d.]+)", text) for key in ("k_e", "k_b", "beta")}
        assert found == {"k_e": ceb.kappa_e, "k_b": ceb.kappa_b, "beta": ceb.beta}


@sheet
def test_every_official_recipe_of_the_sheet_has_a_preset_and_the_reverse() -> None:
    without = {"SimCLR TF defaults", "BYOL on imagenette 128px, R18"}
    lengths = {
        (row["recipe"], int(epochs))
        for row in table("14. Official recipes")
        for epochs in row["epochs"].split(" / ")
        if row["recipe"] not in without
    }
    assert lengths == {(label, epochs) for label, epochs, _ in OFFICIAL}
    ours = {name for name in NAMES if "@imagenet" in name and not name.startswith("c-moco")}
    assert ours == {name for *_, name in OFFICIAL}


@pytest.mark.parametrize("size", ["s", "b"])
def test_the_vits_have_a_third_projector_layer_and_their_own_predictor(size: str) -> None:
    vit, resnet = (presets.recipe(f"moco-v3@imagenet-{s}") for s in (f"vit-{size}", "300ep"))
    assert isinstance(vit.method, MoCoV3Config) and isinstance(resnet.method, MoCoV3Config)
    assert vit.encoder.freeze_patch and vit.encoder.name.startswith("mocov3_vit_" + size)
    layers = (vit.method.projector.layers, resnet.method.projector.layers)
    norms = (vit.method.predictor.output_norm, resnet.method.predictor.output_norm)
    assert layers == (3, 2) and norms == ("plain", "none")


FIGURES = {
    "simclr@imagenet-1000ep": ("CVR SimCLR R50 / x2", 0),
    "c-simclr@imagenet-1000ep": ("C-SimCLR R50 / x2", 0),
    "byol@imagenet-cvr-1000ep": ("CVR BYOL R50 / x2", 0),
    "c-byol@imagenet-1000ep": ("C-BYOL R50 / x2 / R101 / R152", 0),
    "byol@imagenet-1000ep": ("BYOL R50 / R200x2", 0),
    "moco-v1@imagenet-200ep": ("MoCo v1 / v2 R50", 0),
    "moco-v2@imagenet-200ep": ("MoCo v1 / v2 R50", 1),
    "moco-v2@imagenet-800ep": ("MoCo v2 R50", 0),
    "moco-v3@imagenet-100ep": ("MoCo v3 R50", 0),
    "moco-v3@imagenet-300ep": ("MoCo v3 R50", 1),
    "moco-v3@imagenet-1000ep": ("MoCo v3 R50", 2),
    "moco-v3@imagenet-vit-s": ("MoCo v3 ViT-S / ViT-B", 0),
    "moco-v3@imagenet-vit-b": ("MoCo v3 ViT-S / ViT-B", 1),
}


@sheet
@pytest.mark.parametrize("name", FIGURES)
def test_expected_figures_are_those_of_the_sheet(name: str) -> None:
    label, place = FIGURES[name]
    row = next(row for row in table("17. Results") if row["model"] == label)
    figure = number(r"([\d.]+)", at(row["top-1"].partition(";")[0], place))
    assert presets.load(name).expected.startswith(f"linear {figure} %")


# CIFAR


CIFAR = {
    "simclr": ("SimCLR", ["simclr@cifar"]),
    "solo": (
        "solo-learn",
        ["simclr@cifar-solo", "byol@cifar-solo", "moco-v2@cifar-solo", "moco-v3@cifar-solo"],
    ),
    "lightly": (
        "lightly",
        ["simclr@cifar-lightly", "moco-v2@cifar-lightly", "byol@cifar-lightly"],
    ),
}


def cifar_column(start: str) -> Row:
    """Cells of one column of section 15 by the name of their row."""
    rows = table("15. CIFAR-10")
    head = next(head for head in rows[0] if head.startswith(start))
    return {row[""]: row[head] for row in rows}


def recipes_of(key: str) -> tuple[Row, list[Recipe]]:
    start, names = CIFAR[key]
    return cifar_column(start), [presets.recipe(name) for name in names]


@sheet
@pytest.mark.parametrize("key", CIFAR)
def test_cifar_lengths_and_temperatures_are_those_of_the_sheet(key: str) -> None:
    column, recipes = recipes_of(key)
    epochs, batch = re.findall(r"(\d+)(?: \(or \d+\))?", column["epochs, batch"])
    for place, recipe in enumerate(recipes):
        assert (recipe.train.epochs, recipe.train.batch_size) == (int(epochs), int(batch))
        temperature = at(column["temperature"], place)
        if isinstance(recipe.method, BYOLConfig):
            assert temperature == "-"
        else:
            assert recipe.method.temperature == float(temperature)
        warmup = number(r"warm-up (\d+)", column["schedule"], 0)
        assert recipe.optim.warmup_epochs == warmup
        per_epoch = "per epoch" in column["schedule"]
        assert recipe.optim.schedule == ("epoch_cosine" if per_epoch else "cosine")
        assert recipe.encoder.name == "resnet18" and recipe.encoder.stem == "cifar"


@sheet
@pytest.mark.parametrize("key", CIFAR)
def test_cifar_optimizers_are_those_of_the_sheet(key: str) -> None:
    column, recipes = recipes_of(key)
    entries, _, tail = column["optimiser"].partition(";")
    for place, recipe in enumerate(recipes):
        entry = entries if key == "lightly" else at(entries, place)
        found = re.search(r"(LARS|SGD) (?:lr )?([\d.]+)", entry)
        assert found
        lr = float(found[2]) * (2 if "batch/128" in entry else 1)  # ours is for a batch of 256
        assert recipe.optim.name == found[1].lower() and recipe.optim.lr == lr
        assert recipe.optim.weight_decay == number(r"wd ([\de.-]+)", entry)
        if recipe.optim.name == "lars":
            assert recipe.optim.trust_coefficient == number(r"eta ([\d.]+)", tail, 1e-3)
            assert (recipe.optim.lars_form == "solo") == ("clip_lr" in tail)
        assert recipe.optim.decay_norm_and_bias == (recipe.optim.name == "sgd")


@sheet
@pytest.mark.parametrize("key", ["solo", "lightly"])
def test_cifar_heads_queues_and_targets_are_those_of_the_sheet(key: str) -> None:
    column, recipes = recipes_of(key)
    state = column["EMA, queue"]
    for place, recipe in enumerate(recipes):
        head, projector = at(column["heads"], place), recipe.method.projector
        widths = re.search(r"(?:512-)?(\d+)-(\d+)", head)
        assert widths and (projector.hidden_dim, projector.out_dim) == (
            int(widths[1]), int(widths[2])
        )  # fmt: skip
        assert projector.layers == 2 and projector.hidden_norm == ("no BN" not in head)
        assert (projector.output_norm == "affine") == ("BN both" in head)
        if isinstance(recipe.method, BYOLConfig):
            assert recipe.method.predictor.hidden_dim == number(r"pred (\d+)", head)
        if isinstance(recipe.method, MoCoConfig):
            assert recipe.method.queue_size == number(r"K[= ](\d+)", state)
            assert recipe.method.symmetric and "symmetric" in state
            assert recipe.method.norm_groups == number(r"split-BN (\d+)", state, 1)
        if isinstance(recipe.method, BYOLConfig | MoCoConfig | MoCoV3Config):
            assert recipe.method.target_momentum == 0.99 and "0.99" in state
            constant = key == "lightly"
            assert recipe.method.target_schedule == ("constant" if constant else "cosine")


@sheet
@pytest.mark.parametrize("key", ["solo", "lightly"])
def test_cifar_figures_are_those_of_the_sheet(key: str) -> None:
    text = SHEET.read_text().partition("\n## 17. Results")[2].partition("\n## ")[0]
    text = text.replace("\n", " ")
    start, end = {
        "solo": ("solo-learn 1000 ep:", "["),
        "lightly": ("lightly kNN 200 ep batch 128:", ";"),
    }[key]
    found: Any = text.partition(start)[2].partition(end)[0]
    shown = {"byol": "BYOL", "simclr": "SimCLR", "moco-v3": "MoCo v3"}
    shown["moco-v2"] = r"MoCo v2\+" if key == "solo" else "MoCo"
    for name in CIFAR[key][1]:
        figure = re.search(rf"{shown[name.partition('@')[0]]} ([\d.]+)", found)
        assert figure and f" {figure[1]} %" in presets.load(name).expected


@pytest.mark.parametrize("method", ["byol", "moco-v2", "moco-v3"])
def test_cifar_without_a_variant_is_solo_learns_but_for_simclr(method: str) -> None:
    assert presets.load(f"{method}@cifar") == presets.load(f"{method}@cifar-solo")
    assert presets.load("simclr@cifar") != presets.load("simclr@cifar-solo")


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("@tiny")])
def test_expected_figures_of_tiny_are_those_that_were_measured(name: str) -> None:
    method = name.removesuffix("@tiny")
    knn, linear = re.findall(r"(?:kNN|linear) ([\d.]+) %", presets.load(name).expected)
    if method in ("simclr", "c-simclr"):
        table = (RESULTS / "cifar10-tiny.md").read_text()
        column = ("simclr", "c-simclr").index(method) + 2
        rows = re.findall(r"^\| (?:kNN|linear) top-1 .*$", table, re.M)
        assert [row.split("|")[column + 1].strip() for row in rows] == [f"{knn} %", f"{linear} %"]
        return
    title = method.replace("moco-v", "MoCo v").replace("byol", "BYOL").replace("c-", "C-")
    table = (RESULTS / "cifar10-ten-methods.md").read_text()
    assert re.search(rf"^\| {title}(?: \(.*?\))? \| {knn} % \| {linear} % \|", table, re.M)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("xx", "'xx'. A recipe is"),
        ("resnet50", "'resnet50'. A recipe is"),
        ("SimCLR", "Did you mean simclr?"),
        ("mocov2@tiny", "Did you mean moco-v2@tiny?"),
        ("c-simclr@tinny", "Did you mean c-simclr@tiny?"),
        ("byol@nowhere", "'byol@nowhere'. byol exists @folder, @tiny"),
    ],
)
def test_only_a_name_that_is_close_is_suggested(name: str, said: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)):
        presets.load(name)
