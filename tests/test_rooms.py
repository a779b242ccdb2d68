"""Rooms import downward only, and nothing heavy is imported before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "squint"

# What a room may import, beside itself. Rooms are folders or top-level modules of the package.
BELOW = {
    "errors": set(),
    "shapes": set(),
    "files": {"errors"},
    "native": {"errors", "shapes"},
    "ops": {"errors", "shapes", "native", "device", "trial"},
    "data": {"errors", "shapes", "files", "native"},
    "views": {"errors", "shapes", "native", "data", "device", "trial"},
    "codec": {"errors"},
    "device": {"errors"},
    "trial": set(),
    "environment": set(),
    "configs": {"errors"},
    "recipe": {"errors", "codec", "configs", "views"},
    "presets": {"errors", "configs", "recipe", "views"},
    "nn": {"errors", "shapes", "ops"},
    "compression": {"errors", "shapes", "ops", "nn"},
    "methods": {"errors", "shapes", "ops", "nn", "compression", "configs", "recipe"},
    "earlier": {"codec", "configs", "views"},
    "runs": {"errors", "files", "codec", "recipe", "earlier"},
    "interop": {
        "errors",
        "shapes",
        "files",
        "codec",
        "earlier",
        "data",
        "views",
        "nn",
        "configs",
        "recipe",
        "runs",
    },
}
BELOW["evaluate"] = set(BELOW) - {"presets"}
# names and colours of results, which load nothing heavy
BELOW["report"] = {"errors", "files", "codec", "runs", "evaluate"}
BELOW["pictures"] = {"errors", "files", "runs", "data", "views", "recipe", "evaluate"}
BELOW["train"] = set(BELOW) - {"pictures", "report"}
BELOW["demo"] = set(BELOW)
BELOW["sweep_plan"] = {"errors", "configs", "recipe", "data", "evaluate"}
BELOW["sweep"] = set(BELOW)
BELOW["doctor"] = set(BELOW)
BELOW["cli"] = set(BELOW)
BELOW["integrations"] = set(BELOW) - {"cli"}  # on top, and nothing may import it


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("squint.")}
    return rooms


FILES = sorted(p for p in SOURCE.rglob("*.py") if room_of(p) not in ("__init__", "__main__"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_room_imports_only_what_lies_below(path: Path) -> None:
    room = room_of(path)
    assert room in BELOW, f"{room} is a new room: say here what it may import"
    above = imported_rooms(path) - BELOW[room] - {room, "__version__"}
    assert not above, f"{path.relative_to(SOURCE)} reaches up to {', '.join(sorted(above))}"


def test_only_the_command_line_knows_tyro() -> None:
    users = [p for p in SOURCE.rglob("*.py") if "import tyro" in p.read_text()]
    assert users and {room_of(path) for path in users} == {"cli"}


@pytest.mark.parametrize(
    "code",
    [
        "import squint",
        "import squint; squint.recipe('c-simclr@tiny')",
        "from squint.cli import main; main(['--help'])",
        "from squint.cli import main; main(['recipes'])",
        "from squint.cli import main; main('pretrain simclr@tiny --data no --out x'.split())",
        *(
            f"from squint.cli import main; main({command!r}.split())"
            for command in (
                "demo --help",
                "demo --epoch 3",
                "sweep c-simclr@tiny --over compression.bta 1 --data demo --out x",
                "sweep c-simclr@tiny --over compression.beta 1 --data no --out x",
                "sweep c-simclr@tiny --over compression.beta 1 --data demo --out /dev/null/x",
                "embed no --out x.npz",
                "doctor --help",
                "doctor --data no",
                "report no",
                "neighbors no --out x.png",
                "neighbors no --k 0 --out x.png",
                "views simclr@tiny --data demo --out x.bmp",
                "views simclr@tiny --data demo --out x.png --only no",
                "export no --format timm --out x.pth",
                "export . --format timm --out x.onnx",
                "import no --out x.safetensors",
                "import /dev/null --out x.pth",
                "evaluate no",
            )
        ),
        "from squint.data import open_source",
    ],
)
def test_torch_is_not_loaded_before_it_is_needed(code: str) -> None:
    probe = f"{code}\nimport sys; assert 'torch' not in sys.modules, 'torch was imported'"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_public_names_stay_functions_although_rooms_share_their_names() -> None:
    probe = (
        "import squint, squint.presets\n"
        "import squint.recipe\n"
        "from squint.recipe import Recipe\n"
        "assert isinstance(squint.recipe('simclr'), Recipe)\n"
        "import squint.evaluate.knn\n"
        "assert callable(squint.evaluate)\n"
        "for name in squint.__all__: getattr(squint, name)\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
