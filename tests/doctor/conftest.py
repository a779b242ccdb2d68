from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's own caches."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("SQUINT_CACHE", str(directory))
    return directory
