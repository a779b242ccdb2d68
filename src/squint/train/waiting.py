"""Why training steps wait for their images, and what helps."""

from squint.data.pace import Lately

BUSY = 0.6
"""Share of the workers' time that the processor works where neither disk nor other programs slow
them down."""

_PACK = "train on a small copy: squint pack --data SRC --out DIR"


def advice(lately: Lately | None, workers: int, cores: int) -> str:
    """One clause with the numbers, and the one thing to change.

    Args:
        lately: what the workers did; None without workers.
        workers: of this rank.
        cores: that this rank may use.
    """
    if not workers or lately is None:
        return f"they are read between steps, so give --workers {max(1, cores - 1)}"
    idle = max(0.0, cores - lately.cores)
    made = f"{workers} worker{'s' * (workers > 1)} made {lately.images_per_second:,.0f} per second"
    if lately.working < BUSY and idle >= 1:
        return (
            f"{made} and stood still for {1 - lately.working:.0%} of their time, so copy the "
            "images to a disk nearby, or leave the cores to this run if other programs use them"
        )
    if idle >= 1:
        return (
            f"{made} while {idle:.1f} of {cores} cores were idle, so give --workers "
            f"{workers + int(idle)}"
        )
    return f"{made} and all {cores} cores were in use, so {_PACK}"


def advice_on_nvjpeg(lately: Lately | None, cores: int) -> str:
    """As `advice`, of images that the GPU decodes.

    Args:
        lately: how fast they came; None if too little is known.
        cores: that this rank may use.
    """
    made = f"nvJPEG made {lately.images_per_second:,.0f} per second" if lately else "nvJPEG is slow"
    idle = cores - lately.cores if lately else 0.0
    if idle >= 2:
        return f"{made} while {idle:.1f} of {cores} cores were idle, so try --train.decode workers"
    return f"{made}, so {_PACK}"
