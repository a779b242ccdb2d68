"""Recipes: strict reading, clear refusals, derived values."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squint import codec, earlier, presets
from squint.configs import CEBConfig, SimCLRConfig
from squint.errors import RecipeError
from squint.recipe import Recipe, from_dict, leaves, to_dict

EARLIER = sorted((Path(__file__).parent / "earlier_recipes").glob("*.json"))


@pytest.mark.parametrize(
    ("setting", "lr", "decay", "epochs"),
    [("imagenet-300ep", 0.3, 1e-6, 300), ("imagenet-1000ep", 0.2, 1.5e-6, 1000)],
)
def test_imagenet_recipes_are_the_published_ones(
    setting: str, lr: float, decay: float, epochs: int
) -> None:
    recipe = presets.recipe(f"c-simclr@{setting}")
    assert recipe.optim.name == "lars" and recipe.optim.lr == lr
    assert recipe.optim.weight_decay == decay and recipe.train.epochs == epochs
    assert recipe.train.batch_size == 4096 and recipe.scaled_lr == pytest.approx(lr * 16)
    assert recipe.method.temperature == 0.1
    assert recipe.compression == CEBConfig(
        beta=1.0, kappa_e=1024.0, kappa_b=10.0, residual="sampled"
    )
    assert recipe.method.projector.out_dim == 256 and recipe.method.projector.hidden_dim == 4096


def test_steps_follow_from_images_and_batch() -> None:
    recipe = Recipe().override(
        {"train.epochs": 3.0, "train.batch_size": 256, "optim.warmup_epochs": 1.5}
    )
    assert recipe.steps_per_epoch(1000) == 3
    assert recipe.total_steps(1000) == 9
    assert recipe.warmup_steps(1000) == round(4.5)


@pytest.mark.parametrize(
    ("step_count", "total", "warmup"),
    [("whole_epochs", 9, 4), ("byol", 11, 5), ("simclr", 12, 5)],
)
def test_steps_are_counted_by_whole_epochs_or_by_images(
    step_count: str, total: int, warmup: int
) -> None:
    settings = {
        "train.epochs": 3.0,
        "train.batch_size": 256,
        "optim.warmup_epochs": 1.5,
        "train.step_count": step_count,
    }
    recipe = Recipe().override(settings)
    assert recipe.total_steps(1000) == total  # 3000 images are 11.7 batches
    assert recipe.warmup_steps(1000) == warmup  # 1500 images are 5.9
    short = recipe.override({"train.epochs": 0.01, "optim.warmup_epochs": 0.0})
    assert short.total_steps(1000) == 1


def test_beta_rises_over_steps_where_the_images_are_known() -> None:
    settings = {
        "train.epochs": 3.0,
        "train.batch_size": 256,
        "optim.warmup_epochs": 0.0,
        "compression.beta_schedule": "warmup",
        "compression.beta_warmup_epochs": 0.5,
    }
    recipe = Recipe(compression=CEBConfig()).override(settings)
    assert recipe.beta_warmup() == 0.5 / 3
    assert recipe.beta_warmup(1000) == round(1.5) / 9
    released = recipe.override({"train.step_count": "simclr"})
    assert released.beta_warmup(1000) == 1 / 12
    assert released.beta_warmup(300) == 1 / 4, "half a step is one: there is a warm-up"
    assert recipe.override({"compression.beta_warmup_epochs": 3.0}).beta_warmup(1000) == 1.0
    assert Recipe().beta_warmup(1000) == 0.0


def test_a_schedule_by_epochs_needs_a_run_of_whole_epochs() -> None:
    with pytest.raises(RecipeError, match=r"epoch_cosine.*step_count=simclr.*--train\.step-count"):
        Recipe().override({"optim.schedule": "epoch_cosine", "train.step_count": "simclr"})


def test_learning_rate_rules() -> None:
    for rule, factor in (("linear", 2.0), ("sqrt", 512**0.5), ("none", 1.0)):
        recipe = Recipe().override(
            {"optim.lr": 0.5, "optim.lr_scaling": rule, "train.batch_size": 512}
        )
        assert recipe.scaled_lr == pytest.approx(0.5 * factor)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train.epoch": 3}, ["train.epoch", "Did you mean train.epochs"]),
        ({"nonsense": 3}, ["nonsense"]),
        ({"lr": 3}, ["No field 'lr'", "Did you mean optim.lr"]),
        ({"train.seed": "zero"}, ["train.seed", "'zero'", "int"]),
        ({"train.seed": True}, ["train.seed", "int"]),
        ({"optim.name": "sdg"}, ["optim.name", "'sgd'", "'lars'"]),
        ({"train.batch_size": 1}, ["train.batch_size=1", "at least 2"]),
        ({"train.epochs": float("nan")}, ["train.epochs"]),
        ({"method.temperature": 0.0}, ["method.temperature=0"]),
        ({"optim.warmup_epochs": 1e6}, ["optim.warmup_epochs", "train.epochs"]),
        (
            {"optim.schedule": "steps", "optim.decay_epochs": (30.0, 120.0)},
            ["optim.decay_epochs=(30.0, 120.0)", "train.epochs=100", "--optim.decay-epochs 60 80"],
        ),
        ({"train.workers": "many"}, ["train.workers='many'", "must be int or 'auto'."]),
        ({"train.micro_batch_size": 0.5}, ["must be int or 'auto' or 'off'."]),
        ({"optim.clip_grad_norm": "on"}, ["must be float or 'off'."]),
        ({"optim.decay_epochs": 3}, ["must be tuple[float, ...]."]),
        ({"views.first.flip": 1.5}, ["views.first.flip=1.5", "probability"]),
        ({"views.second.crop.area": (0.9, 0.1)}, ["views.second.crop.area=0.9", "low to high"]),
        ({"views.second.jitter.hue": 0.6}, ["views.second.jitter.hue=0.6"]),
        ({"views.first.jitter.contrast": -1.0}, ["views.first.jitter.contrast=-1.0"]),
        ({"views.evaluation.size": 1}, ["views.evaluation.size=1"]),
        ({"method.projector.layers": 0}, ["method.projector.layers=0"]),
        ({"method.projector.hidden_dim": 0}, ["method.projector.hidden_dim=0"]),
        ({"method.projector.out_dim": 0}, ["method.projector.out_dim=0"]),
        ({"views.mean": (0.5, 0.5)}, ["views.mean"]),
        ({"views.std": (1.0, 1.0)}, ["views.std"]),
        ({"encoder.in_channels": 4}, ["encoder.in_channels=4", "squint doctor"]),
        ({"data.max_unreadable_percent": 101.0}, ["max_unreadable_percent"]),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name(change: dict, words: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe().override(change)
    for word in words:
        assert word in str(caught.value)


def test_temperature_and_kappa_b_cannot_contradict_each_other() -> None:
    with pytest.raises(
        RecipeError, match=r"temperature=0\.1 disagrees with .*kappa_b=20"
    ) as caught:
        Recipe(method=SimCLRConfig(temperature=0.1), compression=CEBConfig(kappa_b=20.0))
    assert "--compression.kappa-b 10" in str(caught.value)
    assert "--method.temperature 0.05" in str(caught.value)
    Recipe(method=SimCLRConfig(temperature=0.07), compression=CEBConfig(kappa_b=1 / 0.07))


@pytest.mark.parametrize("temperature", [0.06, 0.07, 0.3, 0.35, 0.6, 0.7, 0.9])
def test_the_kappa_b_that_is_advised_is_taken(temperature: float) -> None:
    with pytest.raises(RecipeError, match="disagrees") as caught:
        Recipe(method=SimCLRConfig(temperature=temperature), compression=CEBConfig(kappa_b=999.0))
    advised = re.search(r"--compression.kappa-b ([\d.e+]+) as", str(caught.value))
    assert advised is not None
    kappa_b = float(advised[1])
    Recipe(method=SimCLRConfig(temperature=temperature), compression=CEBConfig(kappa_b=kappa_b))


def test_a_warm_up_of_beta_ends_before_training_does() -> None:
    with pytest.raises(
        RecipeError, match=r"beta_warmup_epochs=101 is longer than train.epochs=100"
    ):
        Recipe(compression=CEBConfig(beta_schedule="warmup", beta_warmup_epochs=101.0))


def test_missing_and_unknown_keys_are_refused() -> None:
    tree = to_dict(Recipe())
    del tree["optim"]["lr"]
    with pytest.raises(RecipeError, match="lacks lr"):
        from_dict(tree)
    with pytest.raises(RecipeError, match="must be one of open, ceb"):
        from_dict(to_dict(Recipe()) | {"compression": {"kind": "vib"}})


@pytest.mark.parametrize("name", ["simclr@tinny", "simcrl", "", "simclr@", "moco@tiny", "@tiny"])
def test_an_unknown_recipe_names_the_known_ones(name: str) -> None:
    with pytest.raises(RecipeError, match="METHOD"):
        presets.recipe(name)


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().train.epochs = 3  # type: ignore[misc]


@given(st.sampled_from(sorted(leaves(Recipe()))), st.sampled_from([object(), None, {}, [], "?"]))
def test_no_field_takes_a_value_of_another_kind(path: str, value: object) -> None:
    if path in ("encoder.name", "train.device", "train.initial_weights") and value == "?":
        return  # any text is a name; who takes it refuses unknown ones
    if path in ("optim.decay_epochs", "train.trackers") and value == []:
        return  # none is what it has already
    with pytest.raises(RecipeError):
        Recipe().override({path: value})


@pytest.mark.parametrize("text", EARLIER, ids=lambda path: path.stem)
def test_the_recipe_of_an_earlier_run_can_be_read(text: Path) -> None:
    """A field that came later needs its line in earlier.py, or every older run is refused."""
    written = json.loads(text.read_text())["recipe"]
    recipe, filled = earlier.decode(Recipe, written)
    now, then = leaves(recipe), codec.leaves(written)
    assert {name: now[name] for name in then} == then
    assert {entry.partition("=")[0] for entry in filled} == set(now) - set(then)


@pytest.mark.parametrize("damaged", [[], {"kind": []}, {"kind": {}}, 3, None])
def test_a_method_that_is_none_is_said_to_be(damaged: object) -> None:
    with pytest.raises(RecipeError, match="method"):
        from_dict(to_dict(Recipe()) | {"method": damaged})


def test_a_run_has_to_end() -> None:
    with pytest.raises(RecipeError, match=r"train\.epochs=1e\+300 must be at most 1,000,000"):
        presets.recipe("simclr").override({"train.epochs": 1e300})
