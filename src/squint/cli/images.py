"""Verbs about images alone: pack."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from squint.cli.flags import parse
from squint.errors import RunError


def pack(arguments: list[str]) -> None:
    """A small copy of large images."""

    @dataclass(frozen=True, kw_only=True)
    class PackFlags:
        """Write a small copy of a source, a folder of JPEG files that trains like the original."""

        data: str
        """Images: directory, pattern, .txt list, archive, .npz, .npy, torchvision:, hf:, demo."""
        out: Path
        """Folder to make; nothing is overwritten."""
        side: int = 256
        """Pixels that the shorter side is reduced to; smaller images keep their size."""
        quality: int = 90
        """Of the JPEG files, 1 to 95."""
        workers: int = os.cpu_count() or 1
        """Threads."""

    flags = parse(PackFlags, arguments, verb="pack")
    from squint.data import open_source
    from squint.data.copy import UNREADABLE, copy

    images = open_source(flags.data)
    if Path(flags.data).resolve() in flags.out.resolve().parents:
        raise RunError(
            f"--out {flags.out} lies inside --data {flags.data}, which would then hold every image "
            "twice. Give a folder outside."
        )
    options = {"side": flags.side, "quality": flags.quality, "workers": flags.workers}
    bads = copy(images, flags.out, **options)
    left_out = f"; {len(bads):,} unreadable, see {flags.out / UNREADABLE}" if bads else ""
    print(f"{len(images) - len(bads):,} images in {flags.out}{left_out}")
    print(f"Train on them with --data {shlex.quote(str(flags.out))}")
