"""Views: two random versions of an image, drawn from a recipe.

`TwoViews` is imported on first use, so that recipes (plain data) never pull in torch.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "TwoViews":
        from squint.views.two_views import TwoViews

        return TwoViews
    raise AttributeError(f"module 'squint.views' has no attribute {name!r}")
