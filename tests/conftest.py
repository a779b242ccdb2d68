"""What every test folder shares; `golden.py` and `ranks.py` beside this file are importable."""

import pytest
import torch

from ranks import RankPool

torch.set_num_threads(1)  # tiny tensors: a second thread only waits, longest on a busy machine
_POOL = RankPool()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the ranks start up in the background while the first tests run."""
    wanted = any(item.get_closest_marker("ranks") for item in session.items)
    if wanted and not session.config.option.collectonly:
        _POOL.start()


def pytest_sessionfinish() -> None:
    _POOL.stop()


@pytest.fixture
def ranks() -> RankPool:
    """`ranks(function, *args)` -> [result of rank 0, result of rank 1]; see `ranks.py`."""
    return _POOL
