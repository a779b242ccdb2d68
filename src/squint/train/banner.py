"""What a run says first and last."""

from squint.runs import Run
from squint.train.setup import Setup
from squint.views.paths import pick


def banner(run: Run, setup: Setup, first_step: int, where: str) -> str:
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


def farewell(run: Run) -> str:
    """What a finished run says last."""
    quarantine = run.path / "quarantine.txt"
    bad = len(quarantine.read_text(encoding="utf-8").splitlines()) if quarantine.exists() else 0
    aside = f"; unreadable images: {bad:,}, listed in {quarantine}" if bad else ""
    words = [record["health"] for record in run.records() if "health" in record]
    health = f", {words[-1]}" if words and words[-1] != "warming up" else ""
    return f"finished{health}: {run.encoder}{aside}. Measure it with: squint evaluate {run.quoted}"
