"""Views: two random versions of an image, drawn from a recipe.

`TwoViews` and `EvaluationView` are imported on first use, so that recipes (plain data) never pull
in torch.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name in ("TwoViews", "EvaluationView"):
        from squint.views import two_views

        return getattr(two_views, name)
    raise AttributeError(f"module 'squint.views' has no attribute {name!r}")
