"""`squint.pretrain` and `squint.resume`: one run from images to a run folder.

Over 300 lines because starting and resuming make the same promises and are read side by side.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from squint import methods, presets, runs
from squint.data import Images, open_source
from squint.errors import CheckpointError
from squint.interop import encoder as encoder_file
from squint.methods import Method
from squint.recipe import SHORT_NAMES, Recipe
from squint.runs import Run
from squint.train import checkpoint, optim
from squint.train.accumulate import pieces_of
from squint.train.checkpoint import Position
from squint.train.compiling import check_graphs, compile_encoders
from squint.train.feed import Feed, Readable, prepare
from squint.train.log import Log, Silent, display
from squint.train.loop import Events, Plan, fit
from squint.train.online import online_knn
from squint.train.runtime import Runtime, seed_everything, start
from squint.train.signals import Interrupted, watch
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
        readable = prepare(images, chosen)
        method, pieces = _fresh(chosen, len(readable.images), runtime)
        if runtime.is_main:
            plan = dataclasses.asdict(Plan.of(chosen, len(readable.images)))
            derived = plan | {"images": len(readable.images)}
            runs.create(folder, chosen, source=_source(data), derived=derived, overwrite=overwrite)
        runtime.any_rank(False)  # the others wait for the folder
        run = Run(folder)
        return _train(run, chosen, images, readable, method, pieces, runtime, None, quiet=quiet)


def resume(
    run: str | Path | Run,
    *,
    data: str | Path | Images | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> Run:
    """Continue a run from its last checkpoint, as if it had never stopped: bit for bit on a CPU.

    Args:
        run: the run folder.
        data: where the images are now, if they have moved; same names in the same order.
        device: another device than the run began on.
        quiet: show no progress.

    Raises:
        SquintError: there is no such run or checkpoint, or the images are others.
        Interrupted: stopped again.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    recipe = run.recipe
    train = dataclasses.replace(recipe.train, device=device or recipe.train.device)
    state = run.state()
    position = checkpoint.position_of(state)
    with start(train, precision=position.precision) as runtime:
        images = open_images(run.source if data is None else data, recipe)
        readable = prepare(images, recipe)
        if (len(readable.images), _fingerprint(readable.images)) != position[1:3]:
            raise CheckpointError(
                f"The images are not those {run.path} was trained on: there were "
                f"{position.images:,}, now there are {len(readable.images):,}, or others. "
                "Going on would not continue the same run. Restore them, say where they are with "
                "--data, or start a new run."
            )
        method, pieces = _fresh(recipe, len(readable.images), runtime)
        return _train(run, recipe, images, readable, method, pieces, runtime, state, quiet=quiet)


def _fresh(recipe: Recipe, images: int, runtime: Runtime) -> tuple[Method, int]:
    """The method with its first weights in place, and the pieces in which a batch goes through it.

    Made before anything is written: a recipe that can't be built leaves no folder behind.
    """
    pick(recipe.train.views_path, runtime.device)  # says what is missing
    check_graphs(recipe, runtime)
    seed_everything(recipe.train.seed, -1)
    method = methods.build(recipe, images=images)
    pieces = pieces_of(method, recipe, runtime)
    runtime.place(method)
    return method, pieces


def _train(
    run: Run,
    recipe: Recipe,
    images: Images,
    readable: Readable,
    method: Method,
    pieces: int,
    runtime: Runtime,
    state: Mapping[str, Any] | None,
    *,
    quiet: bool,
) -> Run:
    """The part that a new and a resumed run share."""
    plan = Plan.of(recipe, len(readable.images))
    optimizer = optimizer_of(method, recipe)
    first_step = 0
    if state is not None:
        first_step = checkpoint.position_of(state).step
        _restore(state, method, optimizer)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(watch())
        feed = Feed(readable, recipe, runtime)
        log = None
        if runtime.is_main:
            _write_environment(run, runtime)
            screen = Silent() if quiet else display(plan.total_steps, first_step)
            log = stack.enter_context(Log(run, screen, first_step=first_step, advice=feed.advice))
            log.say(_banner(run, recipe, plan, readable, method, runtime, pieces, first_step))
        compiled = compile_encoders(method, recipe, runtime, pieces=pieces)
        if log and compiled:
            log.say(f"  encoder  {compiled}")
        done = fit(
            method,
            optimizer,
            feed.batches(first_step),
            first_step=first_step,
            recipe=recipe,
            plan=plan,
            pieces=pieces,
            runtime=runtime,
            log=log,
            events=Events(
                save=_saver(run, method, optimizer, recipe, readable, feed, runtime),
                online_knn=online_knn(method.encoder, images, recipe, runtime),
            ),
            stop=stop,
        )
    if done < plan.total_steps:
        raise Interrupted(
            f"stopped after step {done} of {plan.total_steps} and saved. "
            f"Go on with: squint resume {run.path}",
            stop.signal,
        )
    return run


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
            f"The checkpoint does not fit the run's recipe ({error}). recipe.json or last.pt was "
            "changed; restore them."
        ) from None


def _saver(
    run: Run,
    method: Method,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    readable: Readable,
    feed: Feed,
    runtime: Runtime,
) -> Callable[[int], None]:
    """What writes checkpoint, encoder and quarantine after a step; nothing on other ranks."""
    fingerprint = _fingerprint(readable.images)
    keep_every = recipe.train.keep_every_epochs * recipe.steps_per_epoch(len(readable.images))

    def save(step: int) -> None:
        if not runtime.is_main:
            return
        position = Position(step, len(readable.images), fingerprint, runtime.precision)
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
    text = data.name if isinstance(data, Images) else str(data)
    return str(Path(text).resolve()) if Path(text).exists() and text != "demo" else text


def _fingerprint(images: Images) -> str:
    """Identity of a source for resuming: the names in their order, wherever they lie now."""
    return hashlib.sha256("\n".join(images.paths).encode()).hexdigest()


def _write_environment(run: Run, runtime: Runtime) -> None:
    """Add this session to environment.json; a resumed run has several."""
    path = run.path / "environment.json"
    sessions: list[Any] = []
    if path.exists():
        with contextlib.suppress(ValueError, KeyError, OSError):
            sessions = json.loads(path.read_text())["sessions"]
    session = runs.environment() | {
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


def _banner(
    run: Run,
    recipe: Recipe,
    plan: Plan,
    readable: Readable,
    method: Method,
    runtime: Runtime,
    pieces: int,
    first_step: int,
) -> str:
    """What a run is about to do, in a few lines."""
    weights = sum(p.numel() for p in method.encoder.parameters())
    batch = recipe.train.batch_size
    ranks = f" over {runtime.world_size} ranks" if runtime.world_size > 1 else ""
    negatives = f"{recipe.negatives:,} negatives" if recipe.negatives else "no negatives"
    parts = f" in pieces of {batch // pieces}" if pieces > 1 else ""
    where = "in memory" if readable.packed else "decoded by workers"
    unreadable = f", {len(readable.bad)} unreadable set aside" if readable.bad else ""
    start_word = f"resuming {run.path} at step {first_step}" if first_step else f"{run.path}"
    return (
        f"{recipe.name}  {start_word}\n"
        f"  images   {len(readable.images):,} {where}{unreadable}\n"
        f"  encoder  {recipe.encoder.name}, width {recipe.encoder.width:g}, {weights / 1e6:.2f} M "
        f"weights, {runtime.device}, {runtime.precision}\n"
        f"  views    {pick(recipe.train.views_path, runtime.device).why}\n"
        f"  batch    {batch} images{ranks}{parts}, {negatives} for each code\n"
        f"  length   {recipe.train.epochs:g} epochs, {plan.total_steps} steps, learning rate up to "
        f"{plan.lr:g} ({recipe.optim.name})"
    )
