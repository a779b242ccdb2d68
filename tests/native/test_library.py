"""Whether the library is taken that is there."""

import re
from pathlib import Path

import pytest

from squint import native
from squint.errors import RunError


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
