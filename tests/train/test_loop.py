"""What a run does beside its steps: refuses, warns, records, stops before bad numbers."""

import json
import types
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

import squint
from squint import methods, presets
from squint.device import choose_device, choose_precision
from squint.errors import DataError, RecipeError, RunError
from squint.methods import SimCLR, Step
from squint.runs import Run
from squint.train import clock as clocks
from squint.train import feed, health
from squint.train.clock import Clock
from squint.train.schedule import cosine
from squint.train.verdict import Word
from train import small


def test_a_run_leaves_the_folder_it_promises(tmp_path: Path) -> None:
    run = squint.pretrain(
        small.source(tmp_path),
        recipe=small.recipe(train__knn_every_epochs=1),
        out=tmp_path / "run",
        quiet=True,
    )
    names = {path.name for path in run.path.iterdir() if "tfevents" not in path.name}
    assert names == {
        "recipe.json", "environment.json", "metrics.jsonl", "checkpoints",
        "encoder.safetensors", "encoder.json",
    }  # fmt: skip
    assert list(run.path.glob("events.out.tfevents*"))
    last = run.records()[-1]
    assert last["step"] == 6 and last["epoch"] == 1.0
    expected = {
        "loss", "contrast_nats", "rate_nats", "info_nats", "info_cap_nats", "contrast_top1",
        "beta", "lr", "grad_norm", "knn_top1", "images_per_second", "data_wait",
        "positive_cosine", "std_ratio", "effective_rank", "alignment", "uniformity",
        "negative_cosine",
    }  # fmt: skip
    assert expected <= last.keys()
    assert last.pop("health") in get_args(Word)
    assert all(np.isfinite(value) for value in last.values())
    manifest = json.loads((run.path / "recipe.json").read_text())
    assert manifest["derived"] == {
        "steps_per_epoch": 6, "total_steps": 6, "warmup_steps": 3, "images": 96,
        "lr": pytest.approx(0.6 * 16 / 256),
    }  # fmt: skip
    session = json.loads((run.path / "environment.json").read_text())["sessions"][0]
    assert session["precision"] == "float32" and session["versions"]["torch"]


@pytest.mark.parametrize("name", ["c-simclr", "moco-v2", "byol"])
def test_the_codes_are_looked_at_now_and_then_and_at_the_end(tmp_path: Path, name: str) -> None:
    recipe = small.recipe(name, train__health_every_steps=4)
    source = small.source(tmp_path)
    run = squint.pretrain(source, recipe=recipe, out=tmp_path / "run", quiet=True)
    looks = [record for record in run.records() if "health" in record]
    assert [look["step"] for look in looks] == [4, 6]
    for look in looks:
        assert 1 <= look["effective_rank"] <= 8 and -4 < look["uniformity"] <= 0
        assert 0 <= look["alignment"] <= 4 and -1 <= look["negative_cosine"] <= 1
        assert ("target_gap" in look) == (name != "c-simclr")
    never = recipe.override({"train.health_every_steps": 0})
    other = squint.pretrain(source, recipe=never, out=tmp_path / "never", quiet=True)
    assert not any("effective_rank" in record for record in other.records())
    small.assert_same_bits(run, other)  # looking moves nothing


def test_a_look_between_two_lines_is_a_line_of_its_own(tmp_path: Path) -> None:
    recipe = small.recipe(
        train__health_every_steps=2, train__log_every_steps=100, train__epochs=2.0
    )
    run = squint.pretrain(small.source(tmp_path), recipe=recipe, out=tmp_path / "run", quiet=True)
    records = run.records()
    assert [record["step"] for record in records] == [2, 4, 6, 8, 10, 12]
    assert all({"grad_norm", "info_nats", "health"} <= record.keys() for record in records)


def test_a_run_may_end_after_its_last_whole_epoch(tmp_path: Path) -> None:
    changes = {"train__batch_size": 20, "train__epochs": 2.0, "train__knn_every_epochs": 2}
    recipe = small.recipe(**changes, train__step_count="simclr", train__keep_every_epochs=2)
    run = squint.pretrain(small.source(tmp_path), recipe=recipe, out=tmp_path / "run", quiet=True)
    records = run.records()
    assert [record["step"] for record in records] == list(range(1, 11))  # 192 images, 9.6 batches
    assert records[-1]["epoch"] == 2.5  # epochs of 4 batches
    assert [record["step"] for record in records if "knn_top1" in record] == [8, 10]
    assert run.derived["total_steps"] == 10 and run.derived["warmup_steps"] == 48 // 20
    assert records[-1]["lr"] == pytest.approx(run.derived["lr"] * cosine(7 / 8))
    kept = {path.name for path in run.checkpoint.parent.iterdir()}
    assert kept == {"last.pt", "step-00000008.pt"}
    before = run.checkpoint.read_bytes()
    squint.resume(run, quiet=True)  # it has ended, whatever the epochs say
    assert run.checkpoint.read_bytes() == before and len(run.records()) == 10


@pytest.mark.parametrize(("directions", "factor"), [("mean", 1), ("sum", 2)])
def test_the_logged_terms_add_up_to_the_loss(tmp_path: Path, directions: str, factor: int) -> None:
    recipe = small.recipe(
        method__directions=directions,
        compression__beta=0.3,
        compression__beta_schedule="warmup",
        compression__beta_warmup_epochs=0.5,
    )
    run = squint.pretrain(small.source(tmp_path), recipe=recipe, out=tmp_path / "r", quiet=True)
    betas = []
    for record in run.records():
        total = record["contrast_nats"] + record["beta"] * record["rate_nats"]
        assert record["loss"] == pytest.approx(factor * total, rel=1e-5)
        assert record["info_nats"] == pytest.approx(
            record["info_cap_nats"] - record["contrast_nats"], abs=1e-4
        )
        betas.append(record["beta"])
    assert betas == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.3, 0.3], abs=1e-6)


def test_beta_rises_over_whole_steps(tmp_path: Path) -> None:
    recipe = small.recipe(
        train__batch_size=20,
        train__epochs=2.0,
        train__step_count="simclr",
        compression__beta=0.3,
        compression__beta_schedule="warmup",
        compression__beta_warmup_epochs=0.7,
    )
    run = squint.pretrain(small.source(tmp_path), recipe=recipe, out=tmp_path / "r", quiet=True)
    betas = [record["beta"] for record in run.records()]
    assert betas == pytest.approx([0.0, 0.1, 0.2, *[0.3] * 7], abs=1e-6)  # 67 images, 3 batches


def test_same_seed_same_bits_other_seed_other_bits(tmp_path: Path) -> None:
    data = small.source(tmp_path)
    first, again, other = (
        squint.pretrain(data, recipe=small.recipe(), out=tmp_path / name, seed=seed, quiet=True)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    small.assert_same_bits(first, again)
    assert small.curve(first) != small.curve(other)


@pytest.mark.parametrize("wait", [True, False], ids=["at once", "a step later"])
@pytest.mark.parametrize("where", ["contrast_nats", "rate_nats", "gradient"])
def test_nan_stops_before_anything_is_saved_and_names_the_term(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, wait: bool
) -> None:
    watch = health.Watch
    monkeypatch.setattr(health, "Watch", lambda method, **_: watch(method, wait=wait))
    whole = SimCLR.forward
    calls = 0

    def spoiled(self: SimCLR, views, progress: float = 1.0) -> Step:
        nonlocal calls
        calls += 1
        step = whole(self, views, progress)
        if calls < 9:
            return step
        nan = torch.full_like(step.loss, float("nan"))
        if where == "gradient":
            weight = next(self.projector.parameters())
            return step._replace(loss=step.loss + (weight - weight.detach()).sum().sqrt())
        return step._replace(loss=step.loss * nan, logs=step.logs | {where: nan})

    monkeypatch.setattr(SimCLR, "forward", spoiled)
    word = "the gradient" if where == "gradient" else where  # later, all gradients are bad
    if where == "gradient" and wait:
        word = "projector.0.weight"
    with pytest.raises(RunError, match=rf"Step 9: .*{word}.* not finite"):
        squint.pretrain(
            small.source(tmp_path),
            recipe=small.recipe(train__epochs=2.0),
            out=tmp_path / "run",
            quiet=True,
        )
    state = Run(tmp_path / "run").state()
    assert state["position"]["step"] == 6, "the checkpoint of the first epoch stands"
    assert all(value.isfinite().all() for value in state["method"].values())
    assert [step for step, _ in small.curve(Run(tmp_path / "run"))] == list(range(1, 9))


@pytest.mark.parametrize(
    ("images", "changes", "fewer"),
    [
        (100, {"method.norm_groups": 8}, 24),
        (20, {"method.norm_groups": 8}, 16),
        (10, {"method.norm_groups": 8}, 0),
        (100, {"method.norm_groups": 1, "train.micro_batch_size": 32}, 32),
        (3, {"method.norm_groups": 1}, 2),
        (1, {"method.norm_groups": 1}, 0),
    ],
)
def test_the_batch_size_that_is_advised_may_be_asked_for(images, changes, fewer) -> None:
    recipe = presets.recipe("moco-v2@tiny").override(changes)
    assert feed._smaller_batch(recipe, images) == fewer
    if fewer:
        recipe.override({"train.batch_size": fewer})


def test_a_batch_larger_than_the_source_is_refused_before_anything_is_written(tmp_path) -> None:
    with pytest.raises(DataError, match=r"96 readable images, fewer than .* 128.*--batch-size"):
        squint.pretrain(
            small.source(tmp_path), recipe=small.recipe(), batch_size=128, out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_a_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = torch.save, 0

    def full(state: object, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            Path(path).write_bytes(b"half")
            raise RuntimeError("PytorchStreamWriter failed writing file")
        save(state, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match=r"could not be written.*squint resume"):
        squint.pretrain(
            small.source(tmp_path),
            recipe=small.recipe(train__epochs=2.0),
            out=tmp_path / "run",
            quiet=True,
        )
    run = Run(tmp_path / "run")
    assert run.state()["position"]["step"] == 6
    assert [path.name for path in run.checkpoint.parent.iterdir()] == ["last.pt"]


def test_too_many_unreadable_images_save_the_run_and_a_higher_limit_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(24):
        noise = rng.integers(0, 256, (70 + k, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{k:02d}.jpg", quality=95)
    for k in (5, 17):  # headers are whole, so that only decoding finds out
        path = folder / f"{k:02d}.jpg"
        path.write_bytes(path.read_bytes()[:-2000])
    changes = {"train__workers": 0, "views__size": 16, "train__batch_size": 4, "train__epochs": 1.0}
    limit = {"data__max_unreadable_percent": 5.0}
    out = tmp_path / "run"
    with pytest.raises(DataError, match=r"2 of 24 .*At most 5 %.*squint resume .*percent 15"):
        squint.pretrain(folder, recipe=small.recipe(**changes, **limit), out=out, quiet=True)
    assert Run(out).state()["position"]["step"] > 0
    listed = (out / "quarantine.txt").read_text()
    assert {line.partition("\t")[0] for line in listed.splitlines()} == {"05.jpg", "17.jpg"}

    parts = squint.resume(out, max_unreadable_percent=10.0, quiet=True)
    assert (out / "quarantine.txt").read_text() == listed
    limit["data__max_unreadable_percent"] = 10.0
    recipe = small.recipe(**changes, **limit)
    small.assert_same_bits(
        squint.pretrain(folder, recipe=recipe, out=tmp_path / "whole", quiet=True), parts
    )


def test_files_train_like_pixels_in_memory_and_list_what_was_unreadable(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        size = (90 + number, 80)
        noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number:02}.png")
    (folder / "broken.jpg").write_text("no picture")
    changes = {"data__max_unreadable_percent": 5.0, "train__workers": 0, "views__size": 16}
    run = squint.pretrain(folder, recipe=small.recipe(**changes), out=tmp_path / "run", quiet=True)
    assert len(small.curve(run)) == 41 // small.BATCH
    bad = (run.path / "quarantine.txt").read_text().splitlines()
    assert len(bad) == 1 and bad[0].startswith("broken.jpg\t")

    with_workers = small.recipe(**changes | {"train__workers": 2})
    other = squint.pretrain(folder, recipe=with_workers, out=tmp_path / "other", quiet=True)
    small.assert_same_bits(run, other)


def test_beta_zero_without_sampling_is_the_plain_method_bit_for_bit(tmp_path: Path) -> None:
    data = small.source(tmp_path)
    plain = squint.pretrain(data, recipe=small.recipe("simclr"), out=tmp_path / "a", quiet=True)
    recipe = small.recipe("c-simclr", compression__beta=0.0, compression__sampling=False)
    compressed = squint.pretrain(data, recipe=recipe, out=tmp_path / "b", quiet=True)
    small.assert_same_bits(plain, compressed)
    assert small.curve(plain) == small.curve(compressed)


def test_unknown_devices_are_refused() -> None:
    with pytest.raises(RecipeError, match="toaster"):
        choose_device("toaster")
    if not torch.cuda.is_available():
        with pytest.raises(RunError, match="--device cpu"):
            choose_device("cuda")


def test_precision_is_taken_at_its_word() -> None:
    cpu = torch.device("cpu")
    assert choose_precision("float32", cpu) == "float32"
    assert choose_precision("bfloat16", cpu) == "bfloat16"
    assert choose_precision("auto", cpu) in ("float32", "bfloat16")


def test_initial_weights_depend_on_the_seed_only() -> None:
    torch.manual_seed(7)
    first = methods.build(small.recipe())
    torch.manual_seed(7)
    second = methods.build(small.recipe())
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_recipe_that_cannot_be_built_leaves_the_old_run_alone(tmp_path: Path) -> None:
    data = small.source(tmp_path)
    run = squint.pretrain(data, recipe=small.recipe(), out=tmp_path / "run", quiet=True)
    before = run.checkpoint.read_bytes()
    vit = {"encoder.name": "mocov3_vit_small", "encoder.stem": "imagenet", "encoder.width": 1.0}
    recipe = small.recipe("moco-v2").override(vit)
    with pytest.raises(RecipeError, match="norm-groups 1"):
        squint.pretrain(data, recipe=recipe, out=tmp_path / "run", overwrite=True, quiet=True)
    assert run.checkpoint.read_bytes() == before


@pytest.mark.parametrize(("step", "last"), [(5, 6), (11, 12)])
def test_a_bad_step_just_before_a_checkpoint_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, last: int
) -> None:
    watch = health.Watch
    monkeypatch.setattr(health, "Watch", lambda method, **_: watch(method, wait=False))
    whole, calls = SimCLR.forward, 0

    def spoiled(self: SimCLR, views, progress: float = 1.0) -> Step:
        nonlocal calls
        calls += 1
        out = whole(self, views, progress)
        return out._replace(loss=out.loss * float("nan")) if calls == step + 1 else out

    monkeypatch.setattr(SimCLR, "forward", spoiled)
    recipe = small.recipe(train__epochs=2.0, train__log_every_steps=100)
    with pytest.raises(RunError, match=rf"Step {last}: .* not finite"):
        squint.pretrain(small.source(tmp_path), recipe=recipe, out=tmp_path / "run", quiet=True)
    checkpoint = Run(tmp_path / "run").checkpoint
    if last == 6:
        assert not checkpoint.exists()
    else:
        assert Run(tmp_path / "run").state()["position"]["step"] == 6


def test_as_many_bad_images_as_allowed_stop_neither_knn_nor_evaluation(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, bad in (("train", 3), ("test", 2)):
        for name in "ab":
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(20):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02}.png")
            for number in range(bad):
                (folder / f"{number:02}.png").write_bytes(b"no picture")
    recipe = small.recipe(
        data__max_unreadable_percent=20.0, train__knn_every_epochs=1, train__batch_size=16
    )
    run = squint.pretrain(tmp_path / "photos", recipe=recipe, out=tmp_path / "run", quiet=True)
    assert "knn_top1" in run.records()[-1]
    table = squint.evaluate(run, protocols=("knn",))
    assert "among 34 train images" in table["results"]["knn_top1"]["protocol"]


def test_contradictions_are_found_in_the_recipe() -> None:
    with pytest.raises(RecipeError, match="lars_form=mocov3"):
        small.recipe(optim__name="lars", optim__lars_form="mocov3", optim__decay_norm_and_bias=True)
    other = small.recipe("moco-v2", method__norm_groups=4)
    with pytest.raises(RecipeError, match=r"train\.micro_batch_size=4"):
        other.override({"train.micro_batch_size": 4})


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Seconds on the loop's clock."""
    now = types.SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(clocks.time, "monotonic", lambda: now.seconds)
    return now


def test_the_time_between_checkpoints_starts_with_each_of_them(now: types.SimpleNamespace) -> None:
    clock = Clock(batch_size=8, save_every_minutes=10.0)
    now.seconds += 599
    assert not clock.save_is_due(epoch_end=False)
    now.seconds += 1
    assert all(clock.save_is_due(epoch_end=False) for _ in range(2)), "asking changes nothing"
    with clock.saving():
        now.seconds += 3
    now.seconds += 599
    assert not clock.save_is_due(epoch_end=False)
    never = Clock(batch_size=8, save_every_minutes=0.0)
    now.seconds += 10_000
    assert not never.save_is_due(epoch_end=False)


def test_short_epochs_end_without_a_checkpoint_where_it_would_cost_much(
    now: types.SimpleNamespace,
) -> None:
    clock = Clock(batch_size=8, save_every_minutes=10.0)
    assert clock.save_is_due(epoch_end=True), "the first one says what they cost"
    with clock.saving():
        now.seconds += 0.5
    now.seconds += 24
    assert not clock.save_is_due(epoch_end=True)
    now.seconds += 1.1  # 0.5 s are a fiftieth of 25 s
    assert clock.save_is_due(epoch_end=True)


def test_checkpoints_that_are_to_be_kept_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "SAVING_SHARE", 0.0)  # none at the end of an epoch for its own sake
    recipe = small.recipe("simclr", train__epochs=3.0, train__keep_every_epochs=1)
    run = squint.pretrain(small.source(tmp_path), recipe=recipe, out=tmp_path / "run", quiet=True)
    kept = sorted(path.name for path in run.checkpoint.parent.glob("step-*.pt"))
    assert kept == ["step-00000006.pt", "step-00000012.pt", "step-00000018.pt"]


def test_a_gradient_that_overflows_only_in_its_norm_is_called_that() -> None:
    layer = torch.nn.Linear(3, 3)
    for parameter in layer.parameters():
        parameter.grad = torch.full_like(parameter, 1e30)
    norm = torch.nn.utils.get_total_norm([p.grad for p in layer.parameters()])
    with pytest.raises(RunError, match="the norm of the whole gradient is not finite"):
        health.check_finite(Step(torch.tensor(1.0), {}), norm, layer, 0)
