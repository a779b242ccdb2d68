"""What made a number: versions, commit, machine and command."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from squint import __version__


def environment() -> dict[str, Any]:
    """Versions, commit, machine and command of this process."""
    packages = ("torch", "torchvision", "timm", "numpy", "pillow")
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "directory": str(Path.cwd()),
        "versions": {"python": platform.python_version(), "squint": __version__}
        | {name: metadata.version(name) for name in packages},
        "commit": commit_of(Path(__file__).parent),
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
    }


def commit_of(package: Path) -> str:
    """The commit a package is run from, or "" for one that no repository tracks.

    An installed one may lie inside another project's repository, whose commit is not its own.
    """
    try:
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        return _git(package, "describe", "--always", "--dirty")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    """What git says of a folder; fails where git does."""
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    return done.stdout.strip()
