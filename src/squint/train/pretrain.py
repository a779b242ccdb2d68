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

from squint import earlier, presets, runs
from squint.data import Images, from_anywhere, open_source
from squint.data.quarantine import Overfull
from squint.environment import environment
from squint.errors import CheckpointError
from squint.interop import encoder as encoder_file
from squint.recipe import SHORT_NAMES, Recipe, leaves
from squint.runs import Run
from squint.train import checkpoint
from squint.train.banner import banner, farewell
from squint.train.checkpoint import Position
from squint.train.compiling import compile_encoders
from squint.train.feed import Feed, prepare
from squint.train.initial import load_initial
from squint.train.log import Log, Silent, display
from squint.train.loop import Events, fit
from squint.train.online import online_knn
from squint.train.pieces import memory_errors_explained
from squint.train.runtime import Runtime, start
from squint.train.setup import Setup, restore, set_up
from squint.train.signals import Interrupted, watch
from squint.train.trackers import Trackers
from squint.train.verdict import Health


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
        setup = set_up(chosen, images, prepare(images, chosen), runtime)
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
        setup = set_up(recipe, images, readable, runtime, pieces_before=position.pieces)
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


def _train(
    run: Run, setup: Setup, state: Mapping[str, Any] | None, *, begun: str, quiet: bool
) -> Run:
    """The part that a new and a resumed run share."""
    recipe, method, runtime, plan = setup.recipe, setup.method, setup.runtime, setup.plan
    first_step = 0
    if state is not None:  # resuming
        first_step = checkpoint.position_of(state).step
        restore(state, method, setup.optimizer)
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
            log.say(banner(run, setup, first_step, feed.where))
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
            log.say(farewell(run))
    if done < plan.total_steps:
        raise Interrupted(
            f"stopped after step {done} of {plan.total_steps} and saved. "
            f"Go on with: squint resume {run.quoted}",
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
            f"that and go on with: squint resume {run.quoted}. If they are damaged, leave them "
            "where they are, as without them it would be another run, and go on with a higher "
            f"limit: squint resume {run.quoted} --max-unreadable-percent {higher:g}."
        ) from None


def _saver(run: Run, setup: Setup, feed: Feed) -> Callable[[int], None]:
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
