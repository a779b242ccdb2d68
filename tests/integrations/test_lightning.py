"""Under Lightning's Trainer a recipe takes the steps of our own loop, to the bit on one CPU."""

import csv
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import squint
from squint.errors import CheckpointError, DataError, RecipeError, RunError
from squint.recipe import Recipe
from squint.runs import Run
from train import small

pytest.importorskip("lightning", reason="Lightning, an optional extra, is not installed")

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    GradientAccumulationScheduler,
    LearningRateMonitor,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy

from squint.integrations.lightning import LightningMethod, ViewsData

# Lightning 2.6 asks torch an old question about trees
HARMLESS = (r"`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning",)
pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in HARMLESS]
MOCO = {"method__queue_size": 32, "method__norm_groups": 2}
WARMUP = {"compression__beta_schedule": "warmup", "compression__beta_warmup_epochs": 0.5}
BYOL = {"method__predictor__hidden_dim": 16}


def trainer(**arguments: Any) -> Trainer:
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": -1,
    }
    return Trainer(**quiet | arguments)


def train(data: str, recipe: Recipe, ckpt: Path | None = None, **arguments: Any) -> LightningMethod:
    views = ViewsData(data, recipe)
    model = LightningMethod(recipe, images=views.images)
    trainer(**arguments).fit(model, views, ckpt_path=ckpt)
    return model


def assert_same_bits(run: Run, model: LightningMethod) -> None:
    """Every weight, buffer and optimizer state of our run, and its step."""
    state = run.state()
    ours = {f"method.{name}": value for name, value in state["method"].items()}
    theirs = {f"method.{name}": value for name, value in model.method.state_dict().items()}
    optimizer = model.trainer.optimizers[0].state_dict()["state"]
    for number, entry in state["optimizer"]["state"].items():
        ours |= {f"optimizer.{number}.{name}": value for name, value in entry.items()}
    for number, entry in optimizer.items():
        theirs |= {f"optimizer.{number}.{name}": value for name, value in entry.items()}
    assert ours.keys() == theirs.keys()
    different = [
        name
        for name, value in ours.items()
        if not torch.equal(torch.as_tensor(value), torch.as_tensor(theirs[name]))
    ]
    assert not different, f"{len(different)} of {len(ours)} tensors differ, first {different[0]}"
    assert model.trainer.global_step == state["position"]["step"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("simclr", {"optim__name": "lars"}),
        ("simclr", {"train__channels_last": False, "optim__clip_grad_norm": 0.01}),
        ("c-simclr", {"train__epochs": 1.5, **WARMUP}),
        ("c-simclr", {"train__batch_size": 20, "train__step_count": "simclr", **WARMUP}),
        ("c-simclr", {"train__precision": "bfloat16"}),
        ("moco-v2", MOCO),
        ("moco-v2", {**MOCO, "method__symmetric": True, "optim__name": "adamw"}),
        ("byol", BYOL),
        ("c-byol", {**BYOL, "method__target_init": "independent"}),
    ],
)
def test_weights_are_those_of_our_loop(tmp_path: Path, name: str, changes: dict) -> None:
    data, recipe = small.source(tmp_path), small.recipe(name, **changes)
    run = squint.pretrain(data, recipe=recipe, out=tmp_path / "run", quiet=True)
    precision = "bf16-mixed" if recipe.train.precision == "bfloat16" else "32-true"
    torch.manual_seed(123)  # whatever the process did before must not matter
    assert_same_bits(run, train(data, recipe, precision=precision))


def test_files_come_in_the_same_order_with_workers(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(40):
        pixels = torch.randint(256, (80, 90 + number, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    recipe = small.recipe("simclr", train__epochs=2.0, train__workers=1, views__size=16)
    run = squint.pretrain(folder, recipe=recipe, out=tmp_path / "run", quiet=True)
    assert_same_bits(run, train(str(folder), recipe))


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("step", [4, 6])
def test_a_checkpoint_amid_or_after_an_epoch_goes_on_to_the_same_bits(
    tmp_path: Path, step: int
) -> None:
    data = small.source(tmp_path)
    recipe = small.recipe("moco-v2", train__epochs=1.5, **MOCO)
    run = squint.pretrain(data, recipe=recipe, out=tmp_path / "run", quiet=True)
    keep = ModelCheckpoint(tmp_path / "kept", "{step}", every_n_train_steps=step, save_top_k=-1)
    saving = {"enable_checkpointing": True, "callbacks": [keep]}
    assert_same_bits(run, train(data, recipe, **saving))

    kept = tmp_path / "kept" / f"step={step}.ckpt"
    state = torch.load(kept, weights_only=True)["state_dict"]
    assert state["method.queue.pointer"] == step * small.BATCH % 32, "after_step is in it"
    assert_same_bits(run, train(data, recipe, kept, **saving))
    with pytest.raises(
        CheckpointError, match=r"not written by this recipe .* on 96 images \(optim"
    ):
        train(data, recipe.override({"optim.lr": 1.0}), kept, **saving)


def checkpoint_of(recipe: Recipe) -> dict[str, Any]:
    """What the adapter adds to a checkpoint."""
    checkpoint: dict[str, Any] = {}
    LightningMethod(recipe, images=96).on_save_checkpoint(checkpoint)
    return checkpoint


def test_a_checkpoint_of_an_earlier_version_goes_on() -> None:
    recipe = small.recipe("simclr")
    checkpoint = checkpoint_of(recipe)
    tree = checkpoint["squint"]["recipe"]
    for name in ("device", "workers", "precision", "knn_every_epochs", "log_every_steps"):
        del tree["train"][name]  # as the first adapter wrote it
    for name in ("step_count", "decode", "compile", "save_every_minutes", "keep_every_epochs"):
        del tree["train"][name]
    del tree["method"]["projector"]["bias"]
    LightningMethod(recipe, images=96).on_load_checkpoint(checkpoint)
    counted = recipe.override({"train.step_count": "byol"})
    with pytest.raises(CheckpointError, match=r"\(train\.step_count was whole_epochs, is byol\)"):
        LightningMethod(counted, images=96).on_load_checkpoint(checkpoint)


def test_what_moves_no_number_may_differ_from_the_checkpoint() -> None:
    checkpoint = checkpoint_of(small.recipe("simclr"))
    free = {"train__workers": 1, "train__keep_every_epochs": 2, "train__precision": "auto"}
    LightningMethod(small.recipe("simclr", **free), images=96).on_load_checkpoint(checkpoint)


def test_other_images_and_foreign_checkpoints_are_refused() -> None:
    recipe = small.recipe("simclr")
    model, checkpoint = LightningMethod(recipe, images=97), checkpoint_of(recipe)
    with pytest.raises(CheckpointError, match=r"on 97 images \(images was 96, is 97\)"):
        model.on_load_checkpoint(checkpoint)
    with pytest.raises(CheckpointError, match="names neither"):
        model.on_load_checkpoint({})
    checkpoint["squint"]["recipe"]["later"] = 1
    with pytest.raises(CheckpointError, match=r"can't be read: No field 'later'"):
        model.on_load_checkpoint(checkpoint)


def test_a_finished_checkpoint_takes_no_further_step(tmp_path: Path) -> None:
    data, recipe = small.source(tmp_path), small.recipe("simclr")
    model = train(data, recipe)
    model.trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = train(data, recipe, tmp_path / "last.ckpt")
    assert again.trainer.global_step == 6
    weights = model.method.state_dict()
    assert all(torch.equal(weights[name], v) for name, v in again.method.state_dict().items())


def test_loss_terms_and_learning_rate_are_logged_as_by_our_loop(tmp_path: Path) -> None:
    data, recipe = small.source(tmp_path), small.recipe(**WARMUP)
    run = squint.pretrain(data, recipe=recipe, out=tmp_path / "run", quiet=True)
    logger, monitor = CSVLogger(tmp_path, "logs"), LearningRateMonitor("step")
    train(data, recipe, logger=logger, log_every_n_steps=1, callbacks=[monitor])
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("loss", "contrast_nats", "rate_nats", "beta"):
        ours = [record[name] for record in run.records()]
        assert [float(row[name]) for row in rows if row[name]] == pytest.approx(ours, rel=1e-6)
    rate = next(name for name in rows[0] if name.startswith("lr-"))
    ours = [record["lr"] for record in run.records()]
    assert [float(row[rate]) for row in rows if row[rate]] == pytest.approx(ours)


def test_the_encoder_is_saved_as_a_run_saves_it(tmp_path: Path) -> None:
    data, recipe = small.source(tmp_path), small.recipe("simclr")
    run = squint.pretrain(data, recipe=recipe, out=tmp_path / "run", quiet=True)
    train(data, recipe).save_encoder(tmp_path / "encoder")
    for name in ("encoder.safetensors", "encoder.json"):
        assert (tmp_path / "encoder" / name).read_bytes() == (run.path / name).read_bytes()


@pytest.mark.filterwarnings(r"ignore:When using `Trainer\(accumulate_grad_batches != 1\)`")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"accumulate_grad_batches": 2}, r"accumulate_grad_batches=2.*train\.micro_batch_size"),
        ({"callbacks": [GradientAccumulationScheduler({0: 2})]}, r"accumulate_grad_batches=2"),
        ({"gradient_clip_val": 1.0}, r"gradient_clip_val=1\.0.*optim\.clip_grad_norm=off"),
        ({"precision": "bf16-mixed"}, r"train\.precision=float32 disagrees.*bfloat16"),
        ({"precision": "64-true"}, r"'64-true'.*32-true, bf16-mixed"),
        ({"max_epochs": 1}, r"stop after 6 steps.*after 12 .*max_epochs=-1"),
        ({"min_epochs": 3}, r"go on for at least 18 steps.*after 12\."),
        ({"max_steps": 5}, r"stop after 5 steps.*after 12 "),
    ],
)
def test_a_trainer_that_would_train_another_recipe_is_refused(
    tmp_path: Path, arguments: dict, words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        train(small.source(tmp_path), small.recipe("simclr", train__epochs=2.0), **arguments)


def test_a_trial_of_one_step_is_no_refusal(tmp_path: Path) -> None:
    model = train(small.source(tmp_path), small.recipe("simclr"), fast_dev_run=True)
    assert model.trainer.global_step == 1


def test_what_does_not_suit_lightning_is_refused_at_once() -> None:
    with pytest.raises(RecipeError, match=r"micro_batch_size=8 has no effect.*squint\.pretrain"):
        LightningMethod(small.recipe(train__micro_batch_size=8), images=96)
    with pytest.raises(RecipeError, match=r"compile=on has no effect.*off.*squint\.pretrain"):
        LightningMethod(small.recipe(train__compile="on"), images=96)
    with pytest.raises(DataError, match="5 images are fewer than one batch of 16"):
        LightningMethod(small.recipe(), images=5)


def test_a_loader_of_another_batch_size_is_refused() -> None:
    model = LightningMethod(small.recipe("simclr"), images=96)

    class Eights:
        def __iter__(self):
            yield [torch.zeros(8, 3, 16, 16)] * 2

    with pytest.raises(DataError, match=r"2 tensors of \[8, 8\].*2 views of 16.*ViewsData"):
        trainer().fit(model, Eights())


def test_nan_stops_before_the_step(tmp_path: Path) -> None:
    class Spoil(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            if trainer.global_step == 2:
                batch[0][:] = float("nan")

    recipe = small.recipe("simclr")
    views = ViewsData(small.source(tmp_path), recipe)
    model, where = LightningMethod(recipe, images=views.images), trainer(callbacks=[Spoil()])
    with pytest.raises(RunError, match=r"Step 3: contrast_nats.* not finite"):
        where.fit(model, views)
    assert where.global_step == 2
    assert all(weight.isfinite().all() for weight in model.method.parameters())


def test_nothing_is_sent_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"tried to reach {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    train(small.source(tmp_path), small.recipe("simclr"))


def test_without_lightning_one_sentence_says_what_to_install() -> None:
    probe = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'lightning': raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import squint.integrations\n"
        "try: import squint.integrations.lightning\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.stdout.endswith('an extra: pip install "squint[lightning]"\n'), done.stderr


def _weights_of_a_rank(data: str, recipe: Recipe) -> dict[str, torch.Tensor]:
    for text in HARMLESS:
        message, _ = text.rsplit(":", 1)
        warnings.filterwarnings("ignore", message, FutureWarning)
    os.environ["LOCAL_RANK"] = str(torch.distributed.get_rank())  # Lightning then starts no other
    try:
        model = train(data, recipe, devices=2, strategy=DDPStrategy(process_group_backend="gloo"))
    finally:
        del os.environ["LOCAL_RANK"]
    assert model.trainer.world_size == 2
    return {name: value.clone() for name, value in model.method.state_dict().items()}


@pytest.mark.ranks
@pytest.mark.parametrize(("name", "changes"), [("c-simclr", {}), ("moco-v2", MOCO)])
def test_two_ranks_are_one_process_on_the_global_batch(
    tmp_path: Path, ranks: Callable[..., list], name: str, changes: dict
) -> None:
    data, recipe = small.source(tmp_path), small.recipe(name, train__epochs=0.5, **changes)
    run = squint.pretrain(data, recipe=recipe, out=tmp_path / "run", quiet=True)
    first, second = ranks(_weights_of_a_rank, data, recipe)
    for key, value in run.state()["method"].items():
        if "running_" in key and changes:
            continue  # norm groups lie on different ranks
        torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-5)
        assert torch.equal(first[key], second[key])
