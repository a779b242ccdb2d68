"""Train a recipe under Lightning's Trainer: the same steps as `squint.pretrain`, in its loop.

Over 300 lines because method, data and checkpoints of one adapter are useless apart.

    recipe = squint.recipe("c-simclr")
    data = ViewsData("photos/", recipe)
    model = LightningMethod(recipe, images=data.images)
    Trainer(max_epochs=-1).fit(model, data)  # ends by itself when the recipe's epochs are over
    model.save_encoder("encoder/")           # what squint.evaluate and squint.load_encoder read

Weights after every step, resumed or not, are those of `squint.pretrain`: bit for bit on one CPU.

Device, ranks, precision, logging and checkpoints are the Trainer's; all that decides the numbers
of a step is the recipe's. A Trainer argument that would change them is refused, not followed.
(One file, though a long one: all of it needs Lightning, and nothing else may.)
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from squint import earlier, methods
from squint.data import Images
from squint.errors import CheckpointError, DataError, RecipeError
from squint.interop import encoder as encoder_file
from squint.methods import Step
from squint.recipe import Recipe, leaves, to_dict
from squint.shapes import Image
from squint.train import health
from squint.train.feed import Batch, Feed, check_decode, prepare
from squint.train.initial import load_initial
from squint.train.loop import clip_gradient
from squint.train.pretrain import FREE, open_images
from squint.train.runtime import Precision, Runtime, seed_everything
from squint.train.schedule import Plan, lr_factor
from squint.train.setup import optimizer_of

try:
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer
    from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
except ModuleNotFoundError as error:
    if error.name != "lightning":
        raise
    raise ModuleNotFoundError(
        'squint.integrations.lightning needs Lightning, an extra: pip install "squint[lightning]"',
        name="lightning",
    ) from None

_PRECISIONS: Mapping[str, Precision] = {"32-true": "float32", "bf16-mixed": "bfloat16"}
_NOT_COMPARED = FREE | {"train.precision", "train.compile"}
"""Fields that may differ from a checkpoint's: besides those that move no number, the Trainer's
precision, and compile, which earlier versions took and ignored."""


class LightningMethod(LightningModule):
    """A recipe's method, optimizer and schedules as a LightningModule.

    A batch is two views of the same images, as `ViewsData` gives them or any loader whose views
    are alike in size and number. Over several ranks (DDP) batch norm is joined as in
    `squint.pretrain`; `Trainer(sync_batchnorm=True)` is not needed.

    Attributes:
        recipe: what is trained.
        plan: its steps and learning rate on so many images.
        method: the method; `method.encoder` is what training is for.
    """

    def __init__(self, recipe: Recipe, *, images: int) -> None:
        """Draw the weights that `squint.pretrain` starts from; seeds torch's default generators.

        Args:
            recipe: any; how long, how fast and from which seed is read from it.
            images: number of images in an epoch, from which the plan follows.

        Raises:
            RecipeError: the recipe wants its batch in pieces or its encoders compiled, or can't
                be built.
            DataError: fewer images than one batch.
        """
        super().__init__()
        if recipe.train.micro_batch_size != "off":
            raise RecipeError(
                f"train.micro_batch_size={recipe.train.micro_batch_size} has no effect under "
                "Lightning: its loop passes a batch through the encoder whole. Set it to off, or "
                "train with squint.pretrain."
            )
        if recipe.train.compile != "off":
            raise RecipeError(
                f"train.compile={recipe.train.compile} has no effect under Lightning: its loop "
                "runs the encoders as they are written. Set it to off, or train with "
                "squint.pretrain."
            )
        if images < recipe.train.batch_size:
            raise DataError(
                f"{images:,} images are fewer than one batch of {recipe.train.batch_size}: no "
                "step could be taken. Give more images, or a smaller train.batch_size."
            )
        self.recipe = recipe
        self.images = images
        self.plan = Plan.of(recipe, images)
        seed_everything(recipe.train.seed, -1)
        self.method = methods.build(recipe, images=images)
        load_initial(self.method, recipe)
        self._step: Step | None = None

    def setup(self, stage: str) -> None:
        """Refuse what would change the recipe; lay out the weights, and join batch norm."""
        if stage == "fit":
            _check(self.trainer, self.recipe)
            _runtime(self.trainer, self.recipe).place(self.method)

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer, its learning rate written before every step."""
        optimizer = optimizer_of(self.method, self.recipe)
        recipe, plan = self.recipe, self.plan
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: lr_factor(recipe, plan, step)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_train_start(self) -> None:
        """Refuse a Trainer that would stop amid the schedules, or go on after them."""
        trainer, steps = self.trainer, self.plan.total_steps
        reach = trainer.max_steps if trainer.max_steps != -1 else math.inf
        if trainer.max_epochs not in (None, -1):
            reach = min(reach, trainer.max_epochs * trainer.num_training_batches)
        trial = trainer.fast_dev_run  # pyright: ignore[reportAttributeAccessIssue]
        if reach < steps and not trial:
            raise RecipeError(
                f"The Trainer would stop after {reach:g} steps, but the recipe's schedules end "
                f"after {steps} ({self.recipe.train.epochs:g} epochs of {self.images:,} images). "
                "Shorten train.epochs, or give Trainer(max_epochs=-1): training ends by itself."
            )
        least = max(trainer.min_steps or 0, (trainer.min_epochs or 0) * self.plan.steps_per_epoch)
        if least > steps:
            raise RecipeError(
                f"The Trainer would go on for at least {least} steps, but the recipe's schedules "
                f"end after {steps}. Leave min_epochs and min_steps out, or raise train.epochs."
            )
        trainer.should_stop = trainer.should_stop or trainer.global_step >= steps

    def on_train_epoch_start(self) -> None:
        """Refuse accumulation, which a callback may also switch on between epochs."""
        pieces = self.trainer.accumulate_grad_batches
        if pieces != 1:
            raise RecipeError(
                f"Trainer(accumulate_grad_batches={pieces}) is another method: negatives, queue "
                f"and batch norm would see {pieces} small batches. Leave it at 1; where memory is "
                "short, train with squint.pretrain and train.micro_batch_size, which keeps the "
                "step of the whole batch."
            )

    def training_step(self, batch: Sequence[Image], batch_idx: int) -> Tensor:
        """The upper half of the method's box: its loss, mean over this rank's images."""
        trainer, recipe = self.trainer, self.recipe
        runtime = _runtime(trainer, recipe)
        _check_batch(batch, recipe.train.batch_size, runtime.world_size)
        views = [view.contiguous(memory_format=runtime.memory_format) for view in batch]
        seed_everything(recipe.train.seed, trainer.global_step)
        step = self.method(views, self._progress())
        loss, over_ranks = step.loss.detach(), runtime.world_size > 1
        self._step = step._replace(loss=loss)
        self.log("loss", loss, prog_bar=True, sync_dist=over_ranks)
        self.log_dict(step.logs, sync_dist=over_ranks)
        return step.loss

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the recipe says; stop if loss or gradient are not finite."""
        assert self._step is not None, "the gradient comes from a training step"
        grad_norm = clip_gradient(self.method, self.recipe)
        health.check_finite(self._step, grad_norm, self.method, self.trainer.global_step)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Forward, backward and step (all in the closure); then the lower half of the box.

        Not in on_train_batch_end: Lightning writes its checkpoints before that.
        """
        progress = self._progress()  # global_step moves after this
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        assert self._step is not None, "the closure ran a training step"
        self.method.after_step(self._step, progress)
        self._step = None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """End training when the plan does, also amid an epoch."""
        if self.trainer.global_step >= self.plan.total_steps:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the weights belong to."""
        checkpoint["squint"] = {"images": self.images, "recipe": to_dict(self.recipe)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another recipe, or of other images.

        Fields that were added to recipes since it was written count as what was done then.
        """
        if changed := self._changed(checkpoint.get("squint")):
            raise CheckpointError(
                f"The checkpoint was not written by this recipe ({self.recipe.name}) on "
                f"{self.images:,} images ({', '.join(changed[:3])}): going on would not continue "
                "the same run. Restore both, or start a new run."
            )

    def save_encoder(self, folder: str | Path) -> None:
        """Write encoder.safetensors and encoder.json; call it on one rank.

        Raises:
            RunError: they can't be written.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        encoder_file.save(Path(folder), self.method.encoder, self.recipe)

    def _progress(self) -> float:
        return self.trainer.global_step / self.plan.total_steps

    def _changed(self, written: Mapping[str, Any] | None) -> list[str]:
        """What decides the numbers of a run and is not as `on_save_checkpoint` wrote it."""
        if written is None:
            return ["it names neither"]
        tree = written["recipe"]
        # earlier versions left out what is not compared
        train = {
            name: value
            for name, value in to_dict(self.recipe)["train"].items()
            if f"train.{name}" in _NOT_COMPARED
        }
        try:
            trained, _ = earlier.decode(Recipe, {**tree, "train": train | tree["train"]})
        except RecipeError as error:
            return [f"its recipe can't be read: {str(error).removesuffix('.')}"]
        then = leaves(trained) | {"images": written["images"]}
        now = leaves(self.recipe) | {"images": self.images}
        return [
            f"{name} was {then.get(name)}, is {now.get(name)}"
            for name in {**then, **now}
            if then.get(name) != now.get(name) and name not in _NOT_COMPARED
        ]


class ViewsData(LightningDataModule):
    """Images as batches of two views, the same in the same order as `squint.pretrain` has them.

    Order and views are functions of (seed, step), so a resumed run goes on amid an epoch, and
    every rank gets its share of the global batch without a sampler.

    Attributes:
        images: number of readable images.
    """

    def __init__(self, data: str | Path | Images, recipe: Recipe) -> None:
        """Look at the source.

        Args:
            data: a source (see `squint.data.open_source`) or images already open; its `train`
                split if it has one.
            recipe: the one that is trained; views, batch size, seed and workers are read.

        Raises:
            DataError: the source can't be read, or has fewer images than one batch.
        """
        super().__init__()
        self._readable = prepare(open_images(data, recipe), recipe)
        self._recipe = recipe
        self._epochs: Epochs | None = None
        self.images = len(self._readable.images)

    def train_dataloader(self) -> "Epochs":
        """Epochs of this rank's batches, on its device.

        Raises:
            RecipeError: the recipe asks for nvJPEG on another device than CUDA.
        """
        trainer = cast(Trainer, self.trainer)
        runtime = _runtime(trainer, self._recipe)
        check_decode(self._recipe, runtime)
        feed = Feed(self._readable, self._recipe, runtime)
        self._epochs = Epochs(feed, trainer, self._recipe.steps_per_epoch(self.images))
        return self._epochs

    def teardown(self, stage: str) -> None:
        """End the workers; the Trainer would keep them."""
        if self._epochs is not None:
            self._epochs.close()


class Epochs:
    """One epoch of batches for each `iter()`, from wherever the Trainer is."""

    def __init__(self, feed: Feed, trainer: Trainer, steps_per_epoch: int) -> None:
        self._feed = feed
        self._trainer = trainer
        self._steps_per_epoch = steps_per_epoch
        self._batches: Iterator[Batch] = iter(())
        self._next_step = -1

    def __len__(self) -> int:
        return self._steps_per_epoch

    def __iter__(self) -> Iterator[tuple[Image, Image]]:
        # runs when the first batch is asked for; by then a checkpoint has been read
        if self._next_step != self._trainer.global_step:
            self._next_step = self._trainer.global_step
            self._batches = self._feed.batches(self._next_step)
        for batch in self._batches:  # workers live on into the next epoch
            self._next_step += 1
            yield batch.views
            if self._next_step % self._steps_per_epoch == 0:
                return

    def close(self) -> None:
        """End the workers."""
        self._batches, self._next_step = iter(()), -1

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the Trainer's step is all. Tells Lightning that epochs go on where they were."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing, see `state_dict`."""


def _runtime(trainer: Trainer, recipe: Recipe) -> Runtime:
    """Where the Trainer runs, as the rest of Squint has it."""
    return Runtime(
        rank=trainer.global_rank,
        world_size=trainer.world_size,
        device=trainer.strategy.root_device,
        precision=_PRECISIONS[str(trainer.precision)],
        channels_last=recipe.train.channels_last,
    )


def _check(trainer: Trainer, recipe: Recipe) -> None:
    """Refuse what would make the step another than the recipe's."""
    precision = _PRECISIONS.get(str(trainer.precision))
    if precision is None:
        raise RecipeError(
            f"Trainer(precision={trainer.precision!r}) is none that recipes are trained in. Give "
            f"one of {', '.join(_PRECISIONS)}."
        )
    if recipe.train.precision not in ("auto", precision):
        raise RecipeError(
            f"train.precision={recipe.train.precision} disagrees with Trainer(precision="
            f"{trainer.precision!r}), which is {precision}. Set train.precision to auto, or make "
            "them agree."
        )
    if trainer.gradient_clip_val:
        raise RecipeError(
            f"Trainer(gradient_clip_val={trainer.gradient_clip_val}) is left to the recipe here, "
            f"which has optim.clip_grad_norm={recipe.optim.clip_grad_norm}. Set that instead."
        )
    if type(trainer.strategy) not in (SingleDeviceStrategy, DDPStrategy):
        raise RecipeError(
            f"{type(trainer.strategy).__name__} may hold only a part of the weights, which target "
            "and LARS need whole. Train on one device, or with Trainer(strategy='ddp')."
        )


def _check_batch(batch: Sequence[Image], batch_size: int, ranks: int) -> None:
    rows = [len(view) for view in batch]
    if rows != [batch_size // ranks] * 2:
        raise DataError(
            f"A batch has {len(rows)} tensors of {rows} images, but train.batch_size={batch_size} "
            f"over {ranks} ranks asks for 2 views of {batch_size // ranks} images. Give the loader "
            "this batch size and drop the last incomplete batch, or use ViewsData."
        )
