"""`squint.pretrain` and `squint.resume`: one run from images to a run folder.

Over 300 lines because starting and resuming make the same promises and are read side by side.
"""

import contextlib
import dataclasses
import hashlib
import json
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from squint import earlier, methods, presets, runs
from squint.data import Images, from_anywhere, open_source
from squint.data.quarantine import Overfull
from squint.environment import environment
from squint.errors import CheckpointError
from squint.interop import encoder as encoder_file
from squint.methods import Method
from squint.recipe import SHORT_NAMES, Recipe, leaves
from squint.runs import Run
from squint.train import checkpoint, optim
from squint.train.checkpoint import Position
from squint.train.compiling import check_graphs, compile_encoders
from squint.train.feed import Feed, Readable, check_decode, prepare
from squint.train.initial import load_initial
from squint.train.log import Log, Silent, display
from squint.train.loop import Events, fit
from squint.train.online import online_knn
from squint.train.pieces import memory_errors_explained, pieces_of
from squint.train.runtime import Runtime, seed_everything, start
from squint.train.schedule import Plan
from squint.train.signals import Interrupted, watch
from squint.train.trackers import Trackers, check_trackers
from squint.train.verdict import Health
from squint.views.paths import pick


def pretrain(
    data: str | Path | Images,
    *,
    recipe: str | Recipe = "simclr",
    out: str | Path,
    overwrite: bool = False,
    quiet: bool = False,
    **changes: Any,
) -> Run:
    """Train a recipe on images and leave a run folder; labels are never needed.

    Ctrl-C and SIGTERM save a checkpoint first; `resume` then goes on exactly. Under `torchrun`
    every rank calls this, and the batch is shared among them.

    Args:
        data: a source (see `squint.data.open_source`) or images already open; its `train` split
            if it has one.
        recipe: METHOD[@SETTING] or a recipe.
        out: folder of the run; new or empty, unless `overwrite`.
        overwrite: delete a run that is already there.
        quiet: show no progress.
        **changes: epochs, batch_size, lr, seed, device or workers.

    Raises:
        SquintError: what is wrong with recipe, images or folder, before anything is written.
        Interrupted: a KeyboardInterrupt; the run was stopped and has saved.
    """
    chosen = presets.recipe(recipe) if isinstance(recipe, str) else recipe
    chosen = chosen.override(
        {SHORT_NAMES.get(name, name): value for name, value in changes.items()}
    )
    folder = Path(out)
    with start(chosen.train) as runtime:
        if runtime.is_main:
            runs.check_out(folder, overwrite=overwrite)
        images = open_images(data, chosen)
        setup = _set_up(chosen, images, prepare(images, chosen), runtime)
        begun = load_initial(setup.method, chosen)
        if runtime.is_main:
            derived = dataclasses.asdict(setup.plan) | {"images": setup.count}
            runs.create(folder, chosen, source=_source(data), derived=derived, overwrite=overwrite)
        runtime.barrier()  # the others wait for the folder
        return _train(Run(folder), setup, None, begun=begun, quiet=quiet)


def resume(
    run: str | Path | Run,
    *,
    data: str | Path | Images | None = None,
    device: str | None = None,
    max_unreadable_percent: float | None = None,
    quiet: bool = False,
) -> Run:
    """Continue a run from its last checkpoint, as if it had never stopped: bit for bit on a CPU.

    Args:
        run: the run folder.
        data: where the images are now, if they have moved; same names in the same order.
        device: another device than the run began on.
        max_unreadable_percent: another limit than the run began with, 0 to 100.
        quiet: show no progress.

    Raises:
        SquintError: there is no such run or checkpoint, or the images are others.
        Interrupted: stopped again.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    recipe = run.recipe
    if max_unreadable_percent is not None:
        recipe = recipe.override({"data.max_unreadable_percent": max_unreadable_percent})
    train = dataclasses.replace(recipe.train, device=device or recipe.train.device)
    state = run.state()
    position = checkpoint.position_of(state)
    _check_unchanged(run, recipe, state)
    with start(train, precision=position.precision) as runtime:
        images = open_images(run.source if data is None else data, recipe)
        readable = prepare(images, recipe)
        found = (len(readable.images), _fingerprint(readable.images))
        if found != (position.images, position.fingerprint):
            raise CheckpointError(
                f"The images are not those {run.path} was trained on: there were "
                f"{position.images:,}, now there are {len(readable.images):,}, or others. "
                "Going on would not continue the same run. Restore them, say where they are with "
                "--data, or start a new run."
            )
        setup = _set_up(recipe, images, readable, runtime, pieces_before=position.pieces)
        return _train(run, setup, state, begun="", quiet=quiet)


FREE = frozenset(
    (
        *("train.device", "train.workers", "train.knn_every_epochs", "train.log_every_steps"),
        *("train.save_every_minutes", "train.keep_every_epochs", "train.health_every_steps"),
        "train.trackers",
        "data.max_unreadable_percent",
    )
)
"""Fields that may be changed in recipe.json: they move no number of the training."""


def _check_unchanged(run: Run, recipe: Recipe, state: Mapping[str, Any]) -> None:
    """Refuse a recipe.json that is no longer that of the checkpoint.

    Raises:
        CheckpointError: names what differs.
    """
    trained, _ = earlier.decode(Recipe, json.loads(state["recipe"]))
    then, now = leaves(trained), leaves(recipe)
    changed = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if changed := [name for name in changed if name not in FREE]:
        said = ", ".join(f"{name} was {then.get(name)}, is {now.get(name)}" for name in changed[:3])
        raise CheckpointError(
            f"{run.path / 'recipe.json'} was changed since its checkpoint was written ({said}). "
            "Going on would not be the same run: put it back, or start a new run."
        )


def train_or_resume(
    images: Images, *, recipe: Recipe, out: Path, quiet: bool = False
) -> Run | None:
    """The finished run of a recipe in a folder: trained there, resumed, or found finished.

    Returns:
        The run; None if the folder holds one of another recipe, which is left alone.

    Raises:
        SquintError: as `pretrain` and `resume` do.
        Interrupted: stopped, and saved.
    """
    run = Run(out)
    if not (out / "recipe.json").exists():
        return pretrain(images, recipe=recipe, out=out, quiet=quiet)
    if run.recipe != recipe:
        return None
    if not run.checkpoint.exists():  # it was stopped before its first checkpoint
        return pretrain(images, recipe=recipe, out=out, overwrite=True, quiet=quiet)
    if checkpoint.position_of(run.state()).step >= run.derived["total_steps"]:
        return run
    return resume(run, data=images, quiet=quiet)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Setup:
    """All that a run needs beside its folder, in place and not yet trained."""

    recipe: Recipe
    images: Images
    readable: Readable
    method: Method
    optimizer: torch.optim.Optimizer
    pieces: int
    """Parts in which a batch goes through the encoder."""
    runtime: Runtime

    @property
    def count(self) -> int:
        """Images that are trained on."""
        return len(self.readable.images)

    @property
    def plan(self) -> Plan:
        """The numbers of the run."""
        return Plan.of(self.recipe, self.count)


def _set_up(
    recipe: Recipe, images: Images, readable: Readable, runtime: Runtime, *, pieces_before: int = 0
) -> _Setup:
    """What a recipe asks for, made; the method with its first weights.

    Before anything is written: a recipe that can't be made leaves no folder behind.
    """
    pick(recipe.train.views_path, runtime.device)  # says what is missing
    check_graphs(recipe, runtime)
    check_decode(recipe, runtime)
    check_trackers(recipe)
    seed_everything(recipe.train.seed, -1)
    method = methods.build(recipe, images=len(readable.images))
    pieces = pieces_of(method, recipe, runtime, pieces_before=pieces_before)
    runtime.place(method)
    return _Setup(
        recipe=recipe,
        images=images,
        readable=readable,
        method=method,
        optimizer=optimizer_of(method, recipe),
        pieces=pieces,
        runtime=runtime,
    )


def _train(
    run: Run, setup: _Setup, state: Mapping[str, Any] | None, *, begun: str, quiet: bool
) -> Run:
    """The part that a new and a resumed run share."""
    recipe, method, runtime, plan = setup.recipe, setup.method, setup.runtime, setup.plan
    first_step = 0
    if state is not None:  # resuming
        first_step = checkpoint.position_of(state).step
        _restore(state, method, setup.optimizer)
    with contextlib.ExitStack() as stack:
        if runtime.is_main:
            stack.enter_context(runs.alone(run))
        stop = stack.enter_context(watch(run, quiet=quiet or not runtime.is_main))
        feed = Feed(setup.readable, recipe, runtime)
        log = None
        if runtime.is_main:
            _write_environment(run, runtime)
            screen = Silent() if quiet else display(plan.total_steps, first_step)
            health = Health(recipe, warmup_steps=plan.warmup_steps)
            log = Log(
                run,
                screen,
                first_step=first_step,
                advice=feed.advice,
                health=health,
                trackers=Trackers(run, recipe),
            )
            stack.enter_context(log)
            log.say(_banner(run, setup, first_step, feed.where))
            if begun:
                log.say(f"  weights  {begun}")
        compiled = compile_encoders(method, recipe, runtime, pieces=setup.pieces)
        if log and compiled:
            log.say(f"  encoder  {compiled}")
        stack.enter_context(memory_errors_explained(recipe, runtime, setup.pieces))
        stack.enter_context(_unreadable_explained(run, recipe, feed, main=runtime.is_main))
        done = fit(
            method,
            setup.optimizer,
            feed.batches(first_step),
            first_step=first_step,
            recipe=recipe,
            plan=plan,
            pieces=setup.pieces,
            runtime=runtime,
            log=log,
            events=Events(
                save=_saver(run, setup, feed),
                online_knn=online_knn(method.encoder, setup.images, recipe, runtime),
            ),
            stop=stop,
        )
        if log and done == plan.total_steps:
            log.say(_farewell(run))
    if done < plan.total_steps:
        raise Interrupted(
            f"stopped after step {done} of {plan.total_steps} and saved. "
            f"Go on with: squint resume {run.path}",
            stop.signal or signal.SIGTERM,  # 0: the signal came to another rank
        )
    if stop.asked:  # in the last step: nothing is left to do, and no more is begun
        raise Interrupted(f"stopped after the last step: {run.path} is finished.", stop.signal)
    return run


@contextlib.contextmanager
def _unreadable_explained(run: Run, recipe: Recipe, feed: Feed, *, main: bool) -> Iterator[None]:
    """Where too many images can't be read: list them, and say how the run goes on.

    Raises:
        Overfull: the same, with a remedy that does not end the run.
    """
    try:
        yield
    except Overfull as error:
        if main:
            feed.write_quarantine(run.path / "quarantine.txt")
        if not run.checkpoint.exists():
            raise
        limit = recipe.data.max_unreadable_percent
        higher = min(100.0, max(2.0, 3 * limit))
        raise error.with_rule(
            f"At most {limit:g} % may be. What was trained is saved. If their disk is gone, mend "
            f"that and go on with: squint resume {run.path}. If they are damaged, leave them where "
            "they are, as without them it would be another run, and go on with a higher limit: "
            f"squint resume {run.path} --max-unreadable-percent {higher:g}."
        ) from None


def _farewell(run: Run) -> str:
    """What a finished run says last."""
    quarantine = run.path / "quarantine.txt"
    bad = len(quarantine.read_text(encoding="utf-8").splitlines()) if quarantine.exists() else 0
    aside = f"; unreadable images: {bad:,}, listed in {quarantine}" if bad else ""
    words = [record["health"] for record in run.records() if "health" in record]
    health = f", {words[-1]}" if words else ""
    return f"finished{health}: {run.encoder}{aside}. Measure it with: squint evaluate {run.path}"


def optimizer_of(method: Method, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer a recipe asks for, over all that is trained in its method."""
    config = recipe.optim
    return optim.build(
        method,
        config.name,
        lr=recipe.scaled_lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        decay_norm_and_bias=config.decay_norm_and_bias,
        form=config.lars_form,
        trust_coefficient=config.trust_coefficient,
    )


def _restore(state: Mapping[str, Any], method: Method, optimizer: torch.optim.Optimizer) -> None:
    try:
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            "The checkpoint does not fit the run's recipe: recipe.json or last.pt was changed. "
            f"Restore them. ({str(error).splitlines()[-1].strip()})"
        ) from None


def _saver(run: Run, setup: _Setup, feed: Feed) -> Callable[[int], None]:
    """What writes checkpoint, encoder and quarantine after a step; nothing on other ranks."""
    recipe, method, optimizer = setup.recipe, setup.method, setup.optimizer
    fingerprint = _fingerprint(setup.readable.images)
    keep_every = recipe.train.keep_every_epochs * setup.plan.steps_per_epoch

    def save(step: int) -> None:
        if not setup.runtime.is_main:
            return
        position = Position(step, setup.count, fingerprint, setup.runtime.precision, setup.pieces)
        checkpoint.save(run.checkpoint, method, optimizer, position, recipe)
        if keep_every and step % keep_every == 0:
            kept = run.checkpoint.with_name(f"step-{step:08d}.pt")
            checkpoint.save(kept, method, optimizer, position, recipe)
        encoder_file.save(run.path, method.encoder, recipe)
        feed.write_quarantine(run.path / "quarantine.txt")

    return save


def open_images(data: str | Path | Images, recipe: Recipe) -> Images:
    """The images of a source, in as many channels as the recipe's encoder takes."""
    if isinstance(data, Images):
        return data
    return open_source(data, channels=recipe.encoder.in_channels)


def _source(data: str | Path | Images) -> str:
    """The source as `resume` can open it again from another working folder."""
    return from_anywhere(data.name if isinstance(data, Images) else data)


def _fingerprint(images: Images) -> str:
    """Identity of a source for resuming: the names in their order, wherever they lie now."""
    return hashlib.sha256("\n".join(images.paths).encode()).hexdigest()


def _write_environment(run: Run, runtime: Runtime) -> None:
    """Add this session to environment.json; a resumed run has several."""
    path = run.path / "environment.json"
    sessions: list[Any] = []
    if path.exists():
        with contextlib.suppress(ValueError, KeyError, OSError):
            sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"]
    session = environment() | {
        "device": _device_name(runtime),
        "world_size": runtime.world_size,
        "precision": runtime.precision,
        "threads": torch.get_num_threads(),
    }
    runs.write_json(path, {"sessions": [*sessions, session]})


def _device_name(runtime: Runtime) -> str:
    if runtime.device.type == "cuda":
        return f"{runtime.device} ({torch.cuda.get_device_name(runtime.device)})"
    return str(runtime.device)


def _banner(run: Run, setup: _Setup, first_step: int, where: str) -> str:
    """What a run is about to do, in a few lines."""
    recipe, runtime, plan = setup.recipe, setup.runtime, setup.plan
    weights = sum(p.numel() for p in setup.method.encoder.parameters())
    batch, bad = recipe.train.batch_size, len(setup.readable.bad)
    ranks = f" over {runtime.world_size} ranks" if runtime.world_size > 1 else ""
    negatives = f"{recipe.negatives:,} negatives" if recipe.negatives else "no negatives"
    parts = f" in pieces of {batch // setup.pieces}" if setup.pieces > 1 else ""
    unreadable = f", {bad} unreadable set aside" if bad else ""
    rising = ", all of it warm-up" if plan.warmup_steps >= plan.total_steps else ""
    start_word = f"resuming {run.path} at step {first_step}" if first_step else f"{run.path}"
    return (
        f"{recipe.name}  {start_word}\n"
        f"  images   {setup.count:,} {where}{unreadable}\n"
        f"  encoder  {recipe.encoder.name}, width {recipe.encoder.width:g}, {weights / 1e6:.2f} M "
        f"weights, {runtime.device}, {runtime.precision}\n"
        f"  views    {pick(recipe.train.views_path, runtime.device).description}\n"
        f"  batch    {batch} images{ranks}{parts}, {negatives} for each code\n"
        f"  length   {plan.total_steps} steps, epochs: {recipe.train.epochs:g}, learning rate up "
        f"to {plan.lr:g} ({recipe.optim.name}){rising}"
    )
