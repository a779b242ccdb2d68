"""The least time a step could take on this device, the time it takes, and where the gap lies.

    python benchmarks/roofline.py [--recipes simclr@tiny] [--data SRC] [--quick] [--write]

What bound and parts are is said in `squint.train.roofline`, which measures them.
"""

import side_by_side
from step import METHODS

from squint.train import roofline


def main() -> None:
    """Measure the recipes asked for and print one table."""
    default = ",".join(f"{name}@tiny" for name in METHODS)
    options = side_by_side.options(__doc__, recipes=default, data="demo")
    rows = [row(name, options.data, options.seconds) for name in options.recipes.split(",")]
    head = ("recipe", "GFLOP", "MB", "bound ms", "step ms", "of bound", *roofline.PARTS)
    lines = [
        "# roofline",
        "",
        side_by_side.machine(),
        "",
        "Milliseconds per step; `of bound` is bound / step.",
        "",
        "| " + " | ".join(head) + " |",
        "|---" + "|---:" * (len(head) - 1) + "|",
        *rows,
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        (side_by_side.RESULTS / "roofline.md").write_text(text)


def row(name: str, data: str, seconds: float) -> str:
    """One recipe's line of the table."""
    found = roofline.measure(data, recipe=name, seconds=seconds)
    bound, whole, work = found.bound_seconds, found.step_seconds, found.work
    numbers = [f"{1e3 * found.parts[part]:.1f}" for part in roofline.PARTS]
    return (
        f"| {name} | {work.flops / 1e9:.1f} | {work.bytes / 1e6:.0f} | {1e3 * bound:.1f} | "
        f"{1e3 * whole:.1f} | {bound / whole:.2f} | " + " | ".join(numbers) + " |"
    )


if __name__ == "__main__":
    main()
