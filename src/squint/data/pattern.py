"""Images whose paths match a pattern: `photos/*.jpg`, `photos/**/2024-*.png`."""

import glob
from pathlib import Path

from squint.data.directory import Files
from squint.data.images import Images, endings, passing_over
from squint.data.layout import is_image, laid_out, nothing_found
from squint.errors import DataError

_WILD = frozenset("*?[")


def is_pattern(text: str) -> bool:
    """Whether the text has a wildcard in it: `*`, `**` for folders of any depth, `?` or `[...]`."""
    return not _WILD.isdisjoint(text)


def open_pattern(text: str, channels: int) -> Images:
    """Every image that matches, sorted by name; folders below the first wildcard are as elsewhere.

    Raises:
        DataError: If nothing matches, or no image does.
    """
    parts = Path(text).expanduser().parts
    fixed = next(k for k, part in enumerate(parts) if is_pattern(part))
    root = Path(*parts[:fixed])
    matches = glob.glob(str(Path(*parts[fixed:])), root_dir=root, recursive=True)  # noqa: PTH207
    files = sorted(match for match in matches if (root / match).is_file())
    if not files:
        raise DataError(
            f"No file matches {text}. A pattern is put in quotes, so that the shell leaves it "
            "alone, and * does not look into folders: photos/**/*.jpg does. Check it, or give the "
            "folder."
        )
    names = tuple(filter(is_image, files))
    others = [name for name in files if not is_image(name)]
    if not names:
        raise nothing_found(text, others)
    found = laid_out(text, names, Files(root.absolute(), names), channels)
    return passing_over(found, endings(others))
