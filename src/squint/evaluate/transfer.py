"""Transfer: kNN and linear probe learned on one source, counted on another of the same classes.

Classes are matched by name. What changes between the sources (camera, style, year) is what the
number shows; the ordinary kNN and linear numbers of the test source stand beside it.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from squint.data import Images, open_source
from squint.errors import DataError, RunError
from squint.evaluate.bench import Bench
from squint.evaluate.inputs import labelled_features
from squint.evaluate.knn import knn_protocol, knn_top1
from squint.evaluate.linear import linear_probe
from squint.evaluate.parts import halves


def check(bench: Bench) -> None:
    """Refuse to begin without a source to train on.

    Raises:
        RunError: none was given.
    """
    if not bench.options.transfer.train_data:
        raise RunError(
            "The protocol transfer learns on one source and tests on another (--data): name the "
            "first with --transfer.train-data SRC."
        )


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: train part of `--transfer.train-data`, test part of `--data`.

    Raises:
        RunError: no source to train on was given.
        DataError: the sources do not share their classes.
    """
    check(bench)
    text, channels = bench.options.transfer.train_data, bench.encoder.config.in_channels
    source = open_source(text, channels=channels)
    part = halves(source).train if "train" in source.splits else source
    train_images = renumbered(part, bench.images)
    options = bench.options.knn
    knn: dict[str, float] = {}
    linear: dict[str, float] = {}
    said = ""
    for which in bench.kinds:
        module = bench.module(which)
        train = labelled_features(
            module, train_images, bench.views, device=bench.device, precision=bench.precision
        )
        test = bench.features(which)[1]
        knn[which] = knn_top1(
            *train,
            *test,
            k=options.k,
            temperature=options.temperature,
            num_classes=bench.classes,
            device=bench.device,
        )
        probe = linear_probe(
            *train,
            *test,
            strengths=bench.options.linear.strengths,
            held_out=bench.options.linear.held_out,
            seed=bench.options.linear.seed,
            device=bench.device,
        )
        linear[which] = probe.top1
        said = said or probe.protocol
    how = knn_protocol(
        k=options.k,
        temperature=options.temperature,
        bank_images=len(train_images),
    )
    note = f"learned on {train_images.name}, tested on {bench.parts.test.name}"
    return {
        "transfer_knn_top1": bench.entry(knn, f"{how}; {note}"),
        "transfer_linear_top1": bench.entry(linear, f"{said}; {note}"),
    }


def renumbered(train: Images, test: Images) -> Images:
    """The images of `train` whose class `test` has too, with the labels of `test`.

    Raises:
        DataError: a source has no labels, or a class of `test` is not in `train`.
    """
    for images in (train, test):
        if images.labels is None:
            raise DataError(
                f"{images.name} has no labels, and transfer needs them in both sources. Sort the "
                "images into one folder per class."
            )
    missing = [name for name in test.classes if name not in train.classes]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(test.classes)} classes of {test.name} are not in "
            f"{train.name} ({', '.join(missing[:5])}), which has {', '.join(train.classes[:5])}: "
            "classes are matched by name. Give both the same class folders."
        )
    assert train.labels is not None, "checked above"
    number = np.array(
        [test.classes.index(name) if name in test.classes else -1 for name in train.classes]
    )
    targets = number[train.labels]
    kept = replace(train, targets=targets, classes=test.classes)
    return kept.select(np.flatnonzero(targets >= 0))
