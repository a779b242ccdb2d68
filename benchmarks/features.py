"""Features of images by a small encoder: evaluation's way beside the encoder's own speed.

    python benchmarks/features.py --threads 1 --write

The encoder is that of the tiny recipes (ResNet-10, 0.69 M weights, 24 px), the images are 2,000 of
32 px in memory. `squint` resizes, normalises, runs the encoder and gathers features, as every
protocol does; the encoder alone is given finished images in the layout and number that suit it.
"""

import tempfile
from pathlib import Path

import numpy as np
import side_by_side
import torch
from side_by_side import Case, Section

from squint import presets
from squint.data import open_source
from squint.device import Precision
from squint.evaluate.features import evaluation_mode
from squint.evaluate.inputs import BATCH, seen_features
from squint.interop.encoder import build

IMAGES, PIECE = 2_000, 100


def main() -> None:
    chosen = side_by_side.options(__doc__)
    recipe = presets.recipe("c-simclr@tiny")
    plain = build(recipe.encoder).eval()
    last = build(recipe.encoder).eval()
    last.load_state_dict(plain.state_dict())
    last = last.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    side = recipe.views.evaluation.size
    finished = torch.randn(IMAGES, 3, side, side)
    cpu = torch.device("cpu")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        random = np.random.default_rng(0)
        np.save(path, random.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8))
        images = open_source(path)

        def ours(precision: Precision) -> torch.Tensor:
            return seen_features(
                last, images, recipe.views, device=cpu, precision=precision
            ).features

        def alone(encoder: torch.nn.Module, size: int, precision: Precision) -> None:
            layout = torch.channels_last if encoder is last else torch.contiguous_format
            lower = precision == "bfloat16"
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=lower):
                for part in finished.split(size):
                    encoder(part.contiguous(memory_format=layout))

        exact, lower = ours("float32"), ours("bfloat16")
        apart = (torch.nn.functional.cosine_similarity(exact, lower).min()).item()
        cases = [
            Case("squint, float32", lambda: ours("float32"), IMAGES),
            Case("encoder alone, float32, channels last, 100 at once",
                 lambda: alone(last, PIECE, "float32"), IMAGES),
            Case("encoder alone, float32, 500 at once",
                 lambda: alone(plain, BATCH, "float32"), IMAGES),
            Case("squint, bfloat16", lambda: ours("bfloat16"), IMAGES),
            Case("encoder alone, bfloat16, channels last, 100 at once",
                 lambda: alone(last, PIECE, "bfloat16"), IMAGES),
        ]  # fmt: skip
        with evaluation_mode(last):
            timings = side_by_side.measure(cases, seconds=chosen.seconds)
    notes = {"squint, bfloat16": f"cosine to float32 at least {apart:.5f}"}
    title = f"Features of {IMAGES:,} images, ResNet-10 at {side} px"
    sections = [Section(title, timings, against="squint, float32", notes=notes)]
    side_by_side.report("features", sections, chosen)


if __name__ == "__main__":
    main()
