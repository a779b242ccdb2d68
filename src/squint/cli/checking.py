"""The verb that looks before training: doctor."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from squint.cli.flags import parse
from squint.errors import RunError


def doctor(arguments: list[str]) -> None:
    """Environment, images, duplicates, a suggested recipe and its time."""
    import tyro

    @dataclass(frozen=True, kw_only=True)
    class Encoder:
        in_channels: int = 3
        """Channels to look at images in: 1, 3, or all of a .npy or .npz array that has others."""

    @dataclass(frozen=True, kw_only=True)
    class DoctorFlags:
        """Look at this machine and at images, suggest a recipe, say how long it takes.

        Exit status 2 if something found has to be mended before training can work, else 0.
        """

        data: str = ""
        """Images, as for `squint pretrain`; without them, the machine alone."""
        recipe: str = ""
        """METHOD[@SETTING] to look at, in place of one that is suggested."""
        encoder: Encoder = field(default_factory=Encoder)
        trial: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
        """Train for some seconds, in memory, to tell how long training takes."""
        sample: int | Literal["all"] = 500
        """Images to decode and to compare; always the same ones."""
        device: str = "auto"
        """auto, cpu, cuda, cuda:1, mps."""
        json: str = ""
        """File to write all findings to, with every pair of duplicates."""
        overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
        """Replace the file that is at --json."""

    flags = parse(DoctorFlags, arguments, verb="doctor")
    if not flags.data and (flags.trial or flags.recipe):
        flag = "--trial" if flags.trial else "--recipe"
        raise RunError(f"{flag} is about images, and none are given. Name them with --data.")
    if flags.sample != "all" and flags.sample < 1:
        raise RunError(f"--sample {flags.sample} must be 1 or more, or all.")

    from squint import files, presets
    from squint.data import open_source
    from squint.doctor import examine, text

    if flags.json:
        files.check_file(Path(flags.json), overwrite=flags.overwrite, flag="--json")
    if flags.recipe:
        presets.recipe(flags.recipe)  # says what is wrong with it before images are looked for
    report = examine(
        open_source(flags.data, channels=flags.encoder.in_channels) if flags.data else "",
        recipe=flags.recipe,
        with_trial=flags.trial,
        sample=flags.sample,
        device=flags.device,
        show=lambda section: print(text.of_section(section), flush=True),
    )
    print(text.verdict(report))
    if flags.json:
        text.write_json(Path(flags.json), report)
    sys.stdout.flush()
    if report.prevents_training:
        raise SystemExit(2)
