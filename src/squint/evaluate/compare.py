"""Is it worth it? This encoder beside a fresh one and, if given, published weights, by labels."""

from typing import Any

from squint.errors import RunError
from squint.evaluate.bench import Bench
from squint.evaluate.fewshot import few_label_top1
from squint.evaluate.inputs import Labelled, labelled_features
from squint.evaluate.linear import among
from squint.evaluate.options import SubjectOptions
from squint.evaluate.subject import open_subject

SHARES = (0.01, 0.1, 1.0)
"""Of the labels of train."""


def measured(bench: Bench) -> dict[str, Any]:
    """The protocol: linear probes at 1, 10 and 100 % of the labels, one row per encoder."""
    options, linear = bench.options.fewshot, bench.options.linear
    rows = {"random init": bench.features("random" if bench.subject.trained else "trained")}
    given = bench.options.compare.checkpoint
    if given:
        rows[given] = _features(bench, given)
    if bench.subject.trained:
        rows["this encoder"] = bench.features()
    table: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, float]] = {}
    draws: dict[str, dict[str, list[float]]] = {}
    for title, (train, test) in rows.items():
        found = {
            f"{share:.0%} labels": few_label_top1(
                train, test, share, draws=options.draws, seed=options.seed, linear=linear
            )
            for share in SHARES
        }
        table[title] = {column: spread.mean for column, spread in found.items()}
        intervals[title] = {column: spread.interval for column, spread in found.items()}
        draws[title] = {column: list(spread.draws) for column, spread in found.items()}
    protocol = (
        f"linear probes at 1, 10 and 100 % of the labels of {len(rows['random init'][0].labels)} "
        f"train images, class-balanced, mean of {options.draws} draws (seed {options.seed}; 100 % "
        f"has one), strength {among(linear.strengths)}, each encoder in its own input and "
        "normalisation, frozen; value: this encoder at 10 %"
    )
    last = next(reversed(table))
    entry = bench.entry(
        {"trained": table[last]["10% labels"]},
        protocol,
        interval=intervals[last]["10% labels"],
        table=table,
        intervals=intervals,
        draws=draws,
    )
    return {"compare_linear_top1": entry}


def _features(bench: Bench, target: str) -> tuple[Labelled, Labelled]:
    """Features of the train and test part by another encoder, in its own input."""
    other = open_subject(target, SubjectOptions(encoder=bench.options.compare.encoder))
    reads = other.encoder.config.in_channels
    if reads != bench.images.channels:
        raise RunError(
            f"{target} reads images of {reads} channels, and these were opened with "
            f"{bench.images.channels}. Compare encoders of as many channels."
        )
    train, test = (
        labelled_features(
            other.encoder.encoder,
            part,
            other.encoder.views,
            device=bench.device,
            precision=bench.precision,
        )
        for part in bench.parts[:2]
    )
    return train, test
