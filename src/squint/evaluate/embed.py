"""`squint.embed`: features of every image, with its path, label and residual information."""

from pathlib import Path

import torch
from torch import Tensor

from squint.data import Images
from squint.evaluate import compression, embed_file
from squint.evaluate.bench import Bench
from squint.evaluate.embed_file import Embedding
from squint.evaluate.features import evaluation_mode
from squint.evaluate.inputs import view_pairs
from squint.evaluate.options import Options, SubjectOptions
from squint.evaluate.protocols import device_of, images_of
from squint.evaluate.subject import open_subject
from squint.methods import Method
from squint.runs import Run
from squint.views.recipes import ViewsConfig


def embed(
    target: str | Path | Run,
    *,
    data: str | Path | Images | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    subject: SubjectOptions | None = None,
    overwrite: bool = False,
) -> Embedding:
    """Features of every readable image of a source, written to a file if one is named.

    Args:
        target: a run folder, or whatever else `squint.evaluate` takes.
        data: images, with or without labels; by default those of the run.
        out: FILE.npz, .csv or .parquet; written whole or not at all.
        device: auto (CUDA or the CPU), cpu, cuda, cuda:1, mps.
        subject: architecture, weights and size of a target that is no run.
        overwrite: replace the file that is at `out`.

    Raises:
        SquintError: no such run or images, a file that can't be written or is there already, or
            .parquet without pyarrow.
    """
    if out is not None:
        embed_file.check(Path(out), overwrite=overwrite)
    under_test = open_subject(target, subject)
    bench = Bench(under_test, images_of(under_test, data), device_of(device), Options())
    seen = bench.features_of_all()
    rate = None
    if under_test.run is not None:
        method = compression.method_of(bench, "embed")
        views = under_test.run.recipe.views
        rate = rates(method, seen.images, views, device=bench.device).cpu().numpy()
    embedding = Embedding(
        paths=seen.images.paths,
        features=seen.features.numpy(),
        labels=seen.images.labels,
        classes=seen.images.classes,
        rate_nats=rate,
    )
    if out is not None:
        embed_file.write(Path(out), embedding)
    return embedding


def rates(method: Method, images: Images, views: ViewsConfig, *, device: torch.device) -> Tensor:
    """Mean closed-form rate of every image in nats, (n,) float32; see `Embedding`."""
    coder = compression.coder_of(method)
    passes: list[Tensor] = []
    with evaluation_mode(method), torch.no_grad():
        for epoch in range(compression.PAIRS):
            pairs = view_pairs(images, views, device=device, limit=None, epoch=epoch)
            passes.append(torch.cat([compression.rates_of(coder, batch) for batch in pairs]))
    return torch.stack(passes).mean(dim=0)
