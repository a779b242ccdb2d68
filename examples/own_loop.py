"""C-SimCLR in a training loop of your own: Squint's views, method and bottleneck, your optimizer.

python examples/own_loop.py
"""

from collections.abc import Iterator

import numpy as np
import torch

from squint.compression import CEB
from squint.data import open_source, pack
from squint.methods import SimCLR
from squint.nn import encoders, mlp
from squint.views import TwoViews
from squint.views.recipes import simclr_32

EPOCHS, BATCH, TEMPERATURE = 4, 128, 0.2


def main(epochs: int = EPOCHS) -> list[float]:
    """Train on the built-in images; returns the contrast of every epoch, in nats."""
    torch.manual_seed(0)
    packed = pack(open_source("demo").split("train"))  # or any uint8 tensor (N, 3, h, w)
    assert packed is not None, "the images are small, and all of one size"
    pixels = torch.from_numpy(np.array(packed.pixels)).permute(0, 3, 1, 2)

    encoder = encoders.build("resnet10", stem="cifar", width=0.25)
    method = SimCLR(
        encoder,
        mlp(encoder.dim, 256, 128),
        temperature=TEMPERATURE,
        # leave the bottleneck out for plain SimCLR; kappa_b is what the contrast compares by
        bottleneck=CEB(beta=0.1, kappa_b=1 / TEMPERATURE),
    )
    views = TwoViews(simclr_32(), seed=0)  # a function of (seed, epoch, image) alone
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)

    history: list[float] = []
    for epoch in range(epochs):
        seen: list[dict[str, torch.Tensor]] = []
        for rows in batches(len(pixels)):
            out = method(views(pixels[rows], rows, epoch), progress=epoch / epochs)
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
            method.after_step(out, progress=epoch / epochs)  # a target moves, a queue takes keys in
            seen.append(out.logs)
        mean = {name: sum(float(logs[name]) for logs in seen) / len(seen) for name in seen[0]}
        print(f"epoch {epoch + 1}:", ", ".join(f"{name} {mean[name]:.2f}" for name in mean))
        history.append(mean["contrast_nats"])
    return history


def batches(images: int) -> Iterator[torch.Tensor]:
    """Whole batches of image numbers, in a new order."""
    yield from torch.randperm(images).split(BATCH)[: images // BATCH]


if __name__ == "__main__":
    main()
