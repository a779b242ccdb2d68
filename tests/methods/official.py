"""The stand-in networks of the golden files of MoCo, and their state dicts in our names."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from golden import Case


def encoder(width_in: int, width: int) -> nn.Module:
    """Linear, batch norm, ReLU on (n, width_in, 1, 1)."""
    return nn.Sequential(
        OrderedDict(
            flat=nn.Flatten(),
            lin=nn.Linear(width_in, width),
            bn=nn.BatchNorm1d(width),
            relu=nn.ReLU(),
        )
    )


def image(x: Tensor) -> Tensor:
    """Rows as images of one pixel, (n, d) -> (n, d, 1, 1)."""
    return x[:, :, None, None]


def state(case: Case, when: str, theirs: str, head: str) -> tuple[dict, dict]:
    """State of the encoder and of the head inside the network `theirs`."""
    prefix = f"{case.name}/{when}/{theirs}."
    found = {
        key.removeprefix(prefix): case[f"{when}/{theirs}.{key.removeprefix(prefix)}"]
        for key in case.fields()
        if key.startswith(prefix)
    }
    body = {key: value for key, value in found.items() if not key.startswith(head)}
    top = {key.removeprefix(f"{head}."): v for key, v in found.items() if key.startswith(head)}
    return body, top


def load(
    encoder: nn.Module, head: nn.Module, case: Case, when: str, theirs: str, name: str
) -> None:
    """Fill both parts; every number of the file must find its place."""
    body, top = state(case, when, theirs, name)
    encoder.load_state_dict(body)
    if isinstance(head, nn.Sequential) and len(head) == 1:
        top = {f"0.{key}": value for key, value in top.items()}
    head.load_state_dict(top)


def assert_state(
    encoder: nn.Module, head: nn.Module, case: Case, when: str, theirs: str, name: str
) -> None:
    """Both parts hold the file's numbers."""
    body, top = state(case, when, theirs, name)
    if isinstance(head, nn.Sequential) and len(head) == 1:
        top = {f"0.{key}": value for key, value in top.items()}
    for ours, theirs_state in ((encoder.state_dict(), body), (head.state_dict(), top)):
        for key, value in theirs_state.items():
            torch.testing.assert_close(ours[key], value, rtol=1e-10, atol=1e-12)
