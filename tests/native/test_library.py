"""Whether the library is taken that is there."""

import ast
import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from squint import native
from squint.errors import RunError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    native.library.cache_clear()


def test_c_and_python_name_the_same_interface() -> None:
    header = native.PATH.with_name("squint.h").read_text()
    assert re.search(r"#define INTERFACE (\d+)", header)[1] == str(native.INTERFACE)  # type: ignore[index]


def test_a_missing_library_is_no_error_until_it_is_demanded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(native, "PATH", tmp_path / "_kernels.so")
    assert native.library() is None
    with pytest.raises(RunError, match="install a C compiler"):
        native.demand()
    native.library.cache_clear()


@pytest.mark.skipif(not native.PATH.exists(), reason="the kernels are not built")
def test_a_library_of_other_sources_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "INTERFACE", native.INTERFACE + 1)
    assert native.library() is None
    native.library.cache_clear()


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
def test_where_there_is_a_compiler_the_kernels_are_built() -> None:
    """Else every test of them would be skipped, and training be slow, without a word."""
    assert native.library() is not None


def _flags() -> list[str]:
    tree = ast.parse((ROOT / "setup.py").read_text())
    (flags,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLAGS"
    )
    return ast.literal_eval(flags)


@pytest.mark.parametrize("compiler", ["gcc", "gcc-11", "clang"])
def test_any_compiler_builds_the_kernels(compiler: str, tmp_path: Path) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"there is no {compiler}")
    sources = [path for path in native.PATH.parent.glob("*.c") if path.name != "jpeg.c"]
    library = tmp_path / "kernels.so"
    command = [compiler, *_flags(), "-shared", "-fPIC", "-o", str(library)]
    built = subprocess.run([*command, *sources, "-lm"], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert ctypes.CDLL(str(library)).squint_interface() == native.INTERFACE
