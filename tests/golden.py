"""Golden vectors: numbers the official implementations gave on random inputs.

They lie beside the repository, in ../shared/golden (its README names every field), and are no
part of it: without them, tests that need them are skipped.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "golden"


class Case:
    """One case of a golden file: `case["loss"]` is an array, `case.settings` how it was made."""

    def __init__(self, file: str, name: str, settings: dict[str, Any]) -> None:
        self.file, self.name, self.settings = file, name, settings

    def __getitem__(self, field: str) -> Tensor:
        return torch.from_numpy(np.array(_read(self.file)[f"{self.name}/{field}"]))

    def __contains__(self, field: str) -> bool:
        return f"{self.name}/{field}" in _read(self.file)

    def fields(self) -> list[str]:
        """Every array of the file, as case/field."""
        return list(_read(self.file).files)

    def __repr__(self) -> str:
        return self.name


Wanted = Callable[[Case], bool]


def cases(file: str, wanted: Wanted = lambda case: True) -> list[Any]:
    """Cases of a file (name without .npz) for `pytest.mark.parametrize`; one skip if absent."""
    if not (FOLDER / f"{file}.npz").exists():
        reason = f"no golden vectors: {FOLDER / file}.npz is absent"
        return [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=reason))]
    every = json.loads(str(_read(file)["__meta__"]))
    found = [Case(file, name, settings) for name, settings in every.items()]
    found = [case for case in found if wanted(case)]
    assert found, f"no case of {file} is wanted: the filter is wrong"
    return [pytest.param(case, id=case.name) for case in found]


@cache
def _read(file: str) -> Any:
    return np.load(FOLDER / f"{file}.npz")
