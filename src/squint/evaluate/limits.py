"""What settings of protocols must not be: checks that name the setting and its value."""

from squint.errors import RecipeError


def at_least(name: str, value: float | int, least: float | int) -> None:
    """Refuse a setting below the least.

    Raises:
        RecipeError: with the setting's name and value.
    """
    if not value >= least:
        raise RecipeError(f"{name}={value:g} must be at least {least:g}.")


def some(name: str, values: tuple[float | int, ...]) -> None:
    """Refuse a list without a value.

    Raises:
        RecipeError: with the setting's name.
    """
    if not values:
        raise RecipeError(f"{name} must have at least one value. Give some, or drop the flag.")


def above_zero(name: str, value: float | int) -> None:
    """Refuse a setting that is 0 or negative.

    Raises:
        RecipeError: with the setting's name and value.
    """
    if not value > 0:
        raise RecipeError(f"{name}={value:g} must be above 0.")
