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
        "commit": _commit(),
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
    }


def _commit() -> str:
    """The commit this package was run from, or "" for an installed one."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
