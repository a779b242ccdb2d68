"""A real run on a few dozen small pictures, and all its numbers, once for every test that reads."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import squint
from squint import cli
from squint.runs import Run
from train import small

TRAIN, TEST = 20, 8
"""Pictures of each of three classes."""


class Measured(NamedTuple):
    """A run, its source, another source of the same classes, and what evaluation.json holds."""

    run: Run
    source: Path
    other: Path
    results: dict[str, Any]


def pictures(folder: Path, count: int, *, seed: int, names: tuple[str, ...]) -> Path:
    """Noise around a colour of each class, which is not quite enough to tell them apart."""
    random = np.random.default_rng(seed)
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.normal(110, 60, (24, 24, 3)) + 14 * (np.arange(3) == label)
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            picture.save(folder / name / f"{number:02}.png")
    return folder


FLAGS = """
    --protocols knn linear linear-sgd fewshot finetune transfer compare robustness pgd shifted
    --sgd.setting byol --sgd.epochs 3 --fewshot.shots 2 --fewshot.seed 3
    --finetune.labels 0.01 0.1 1.0 --finetune.epochs 2 --finetune.batch-size 16 --finetune.seed 5
    --robustness.images 12 --pgd.images 10 --pgd.steps 3 --pgd.eps 2 16
    --shifted.kind imagenet-r
"""


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Everything that reads labels, through the command line."""
    root = tmp_path_factory.mktemp("measured")
    names = ("n01", "n02", "n03")
    source = root / "source"
    pictures(source / "train", TRAIN, seed=0, names=names)
    pictures(source / "test", TEST, seed=1, names=names)
    other = pictures(root / "other", 6, seed=2, names=names[:2])
    both = pictures(root / "both", 10, seed=3, names=names)
    run = squint.pretrain(source, recipe=small.recipe("simclr"), out=root / "run", quiet=True)
    flags = [*FLAGS.split(), "--transfer.train-data", str(both), "--shifted.data", str(other)]
    flags += ["--compare.checkpoint", str(run.path)]
    assert cli.main(["evaluate", str(run.path), *flags]) == 0
    table = json.loads((run.path / "evaluation.json").read_text())
    return Measured(run, source, other, table["results"])
