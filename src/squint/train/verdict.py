"""Is it training, or dead? A word for every look at a run, from signs that need no labels.

A loss that rises is no sign by itself: MoCo's does while its queue fills, BYOL's while its target
moves on. What a word was measured on is in docs/metrics.md.
"""

import math
from collections import deque
from collections.abc import Mapping
from statistics import mean, median
from typing import Any, Literal

from squint.configs import BYOLConfig, CEBConfig, MoCoConfig
from squint.recipe import Recipe

Word = Literal[
    "full collapse",  # all images get one code
    "dimensional collapse",  # codes lie in few dimensions
    "diverging",  # it loses what it had learned, or its gradient explodes
    "at chance",  # it guesses blindly
    "warming up",
    "plateau",  # nothing moves any more, as is usual towards the end
    "healthy",
]
ILL: tuple[Word, ...] = ("full collapse", "dimensional collapse", "diverging", "at chance")
"""The words that call for advice, worst first."""

PERSISTENCE = 3
"""Looks in a row that must show an illness before it is named."""
SAME_CODE = -0.01
"""Uniformity above which all images have one code: their squared distances are below 0.005."""
FEW_DIMENSIONS = 2.0
"""Effective rank below which codes lie on little more than a line."""
LOST_DIMENSIONS = 0.25
"""Share of its greatest effective rank that a run may fall to."""
CHANCE = 0.02
"""Share of the cap below which the information found is that of a blind guess."""
LOST_INFORMATION = 0.5
"""Share of its greatest information that a run may fall to."""
EXPLODED = 30.0
"""Times its median that a gradient may grow to."""
SIGNS = frozenset(("effective_rank", "uniformity", "alignment", "info_nats"))
"""Those that move while a run learns."""
WINDOW, STILL = 10, 0.02
"""Looks that are compared with as many before, and the share of all movement that is none."""


class Health:
    """Gives every look of a run its word: a function of the looks so far, so the same on resume.

    Args:
        recipe: of the run.
        warmup_steps: of its learning rate. Until then, and while a queue fills, all is warming up.
    """

    def __init__(self, recipe: Recipe, *, warmup_steps: int) -> None:
        self._recipe = recipe
        queue = recipe.method.queue_size if isinstance(recipe.method, MoCoConfig) else 0
        self._quiet = max(warmup_steps, queue // recipe.train.batch_size)
        self._look: dict[str, float] = {}
        self._shown: deque[set[Word]] = deque(maxlen=PERSISTENCE)
        self._recent: deque[dict[str, float]] = deque(maxlen=2 * WINDOW)
        self._least: dict[str, float] = {}
        self._greatest: dict[str, float] = {}

    def judge(self, record: Mapping[str, Any]) -> Word:
        """The word for a record of metrics.jsonl with signs in it, which is remembered."""
        if record["step"] <= self._quiet:
            return "warming up"
        numbers = (int, float)
        self._remember({k: float(v) for k, v in record.items() if isinstance(v, numbers)})
        if len(self._shown) < PERSISTENCE:
            return "warming up"
        if all(self._shown):
            return min(self._shown[-1], key=ILL.index)
        return "plateau" if self._is_still() else "healthy"

    def advice(self, word: Word) -> str:
        """What an illness means here and what to try; empty for the other words."""
        if word not in ILL:
            return ""
        look = self._look
        meaning = {
            "full collapse": "all images get nearly the same code "
            f"(uniformity {look['uniformity']:.3f})",
            "dimensional collapse": f"codes use {look['effective_rank']:.1f} dimensions of "
            f"{self._recipe.method.projector.out_dim}",
            "diverging": "the run loses what it had learned, or its gradient explodes "
            f"(norm {look['grad_norm']:.3g})",
            "at chance": f"the loss is that of a blind guess ({look.get('info_nats', 0):.2f} of "
            f"{look.get('info_cap_nats', 0):.1f} nats found)",
        }[word]
        return f"{word} at step {look['step']:.0f}: {meaning}. {self._remedy(word)}"

    def _remember(self, look: dict[str, float]) -> None:
        for name in look.keys() & SIGNS:
            self._least[name] = min(look[name], self._least.get(name, look[name]))
            self._greatest[name] = max(look[name], self._greatest.get(name, look[name]))
        self._shown.append({word for word in ILL if self._shows(word, look)})
        self._recent.append(look)
        self._look = look

    def _shows(self, word: Word, look: Mapping[str, float]) -> bool:
        """Whether one look shows an illness."""
        match word:
            case "full collapse":
                return look["uniformity"] > SAME_CODE
            case "dimensional collapse":
                rank, best = look["effective_rank"], self._greatest["effective_rank"]
                return rank < FEW_DIMENSIONS or rank < LOST_DIMENSIONS * best
            case "diverging":
                norms = [each["grad_norm"] for each in self._recent] or [math.inf]
                return look["grad_norm"] > EXPLODED * median(norms) or self._has_lost(look)
            case "at chance":
                return look.get("info_nats", 1.0) < CHANCE * look.get("info_cap_nats", 0.0)
            case _:
                return False

    def _has_lost(self, look: Mapping[str, float]) -> bool:
        if "info_nats" not in look:
            return False
        best = self._greatest["info_nats"]
        learned = best > 5 * CHANCE * look["info_cap_nats"]
        return learned and look["info_nats"] < LOST_INFORMATION * best

    def _is_still(self) -> bool:
        """Whether no sign has moved over the last looks, compared with how far it ever moved."""
        if len(self._recent) < 2 * WINDOW:
            return False
        return all(self._stands(name) for name in SIGNS & self._look.keys())

    def _stands(self, name: str) -> bool:
        values = [look[name] for look in self._recent]
        moved = abs(mean(values[WINDOW:]) - mean(values[:WINDOW]))
        return moved <= STILL * (self._greatest[name] - self._least[name])

    def _remedy(self, word: Word) -> str:
        """What to try: the setting that is most likely at fault."""
        recipe, optim = self._recipe, self._recipe.optim
        if optim.name == "adamw" and optim.lr > 5e-3:
            return f"--lr {optim.lr:g} is a rate for SGD or LARS; adamw wants about 1e-3."
        if word == "dimensional collapse" and isinstance(recipe.compression, CEBConfig):
            return (
                f"--compression.beta {recipe.compression.beta:g} may squeeze too hard: try a tenth "
                "of it."
            )
        target = getattr(recipe.method, "target_momentum", None)
        slower = (
            f", a slower target (--method.target-momentum {(9 + target) / 10:g})"
            if isinstance(recipe.method, BYOLConfig) and target is not None
            else ""
        )
        return (
            f"It seldom mends itself. Begin anew with --lr {optim.lr / 3:.2g} or a longer "
            f"--optim.warmup-epochs{slower}, and look at the views."
        )
