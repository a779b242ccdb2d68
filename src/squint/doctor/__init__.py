"""What stands in the way of training: the machine, the images, a recipe for both, and its time."""

from collections.abc import Callable
from typing import Any, Literal

from squint.data import Images, open_source
from squint.doctor import environment, source, suggestion, trial
from squint.doctor import images as looking
from squint.doctor.environment import Machine
from squint.doctor.findings import Finding, Report, Section, note
from squint.recipe import Recipe

__all__ = ["Finding", "Report", "Section", "examine"]


def examine(
    data: str | Images = "",
    *,
    recipe: str = "",
    channels: int = 3,
    with_trial: bool = False,
    sample: int | Literal["all"] = looking.SAMPLE,
    device: str = "auto",
    seconds: float = trial.SECONDS,
    show: Callable[[Section], Any] = lambda section: None,
) -> Report:
    """Look at the machine and, if there are any, at images.

    Args:
        data: a source or images already open; "" for the machine alone.
        recipe: METHOD[@SETTING] to look at; "" for one that is suggested.
        channels: in which a source is read, see `squint.data.open_source`.
        with_trial: whether to train for a few seconds, to tell how long training takes.
        sample: images to decode.
        device: auto, cpu, cuda, cuda:1 or mps.
        seconds: of the trial's measured steps.
        show: called with every section as soon as it is there.

    Raises:
        SquintError: there is no such source, recipe or device.
    """
    sections: list[Section] = []

    def add(section: Section) -> None:
        sections.append(section)
        show(section)

    given = _given(recipe, device) if recipe else None
    opened = open_source(data, channels=channels) if isinstance(data, str) and data else data
    machine = environment.look(device)
    add(environment.section(machine))
    if not isinstance(opened, Images):
        return Report(sections=tuple(sections))
    contents = looking.contents(opened)
    sampled = looking.look(opened, sample=sample, threads=machine.cores)
    found = _situation(machine, contents.training, sampled)
    if given:
        given = given.override(dict(found.input))
    advised = None if given or not sampled.readable else suggestion.suggest(found)
    taken = given or (advised.recipe if advised else Recipe())
    view = taken.views.size if given or advised else 0
    limit = taken.data.max_unreadable_percent
    add(source.section(contents, sampled, view=view, limit_percent=limit))
    if not sampled.readable:
        return Report(sections=tuple(sections))
    if given:
        told = suggestion.of_recipe(recipe, given, found, opened.name)
    else:
        told = suggestion.of_suggestion(advised, found, opened.name)
    add(told)
    if not Report(sections=tuple(sections)).prevents_training:
        add(
            _time(
                recipe or told.title.partition(": ")[2], opened, taken, device, with_trial, seconds
            )
        )
    return Report(sections=tuple(sections))


def _given(name: str, device: str) -> Recipe:
    from squint import presets

    return presets.recipe(name).override({"train.device": device})


def _situation(machine: Machine, training: int, sample: looking.Sample) -> suggestion.Situation:
    own = suggestion.input_of(sample.mean, sample.std) if len(sample.mean) != 3 else {}
    return suggestion.Situation(
        device=machine.device.partition(":")[0],
        precision=machine.precision,
        free_bytes=machine.free_bytes,
        images=training,
        side=min(sample.median),
        input=own,
    )


def _time(
    name: str, images: Images, recipe: Recipe, device: str, with_trial: bool, seconds: float
) -> Section:
    if with_trial:
        recipe = recipe.override({"train.device": device})
        return trial.section(name, images, recipe, seconds=seconds)
    told = note("how long training takes was not measured", "--trial trains for some seconds.")
    return Section(title=f"Time: {name}", findings=(told,), facts=None)
