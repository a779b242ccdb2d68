"""A strict codec between trees of frozen dataclasses and JSON values.

Strict means: every field is present, none is unknown, each has the annotated type. A union of
dataclasses is told apart by their class attribute `kind`, which is written beside the fields.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from squint.errors import RecipeError

Added = Mapping[type, Mapping[str, Any]]
NOTHING_ADDED: Added = types.MappingProxyType({})


def encode(value: Any) -> Any:
    """A dataclass tree as JSON values: dicts, lists, numbers, strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = getattr(type(value), "kind", None)
        tag = {} if kind is None else {"kind": kind}
        return tag | {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [encode(item) for item in value] if isinstance(value, tuple) else value


def leaves(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every field of an encoded tree by its dotted name, in order; tags (`kind`) are no fields."""
    found: dict[str, Any] = {}
    for name, value in node.items():
        if name == "kind":
            continue
        path = prefix + name
        found |= leaves(value, path + ".") if isinstance(value, dict) else {path: value}
    return found


def decode(kind: Any, value: Any, path: str = "", *, added: Added = NOTHING_ADDED) -> Any:
    """`value` as an instance of the annotated type `kind`, read strictly.

    Args:
        kind: a dataclass, or the annotation of one of its fields.
        value: what `encode` gave for such an instance.
        path: dotted name of the value, for errors.
        added: fields of dataclasses that may be missing, and the value they then have.

    Raises:
        RecipeError: an unknown, missing or ill-typed field.
    """
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(kind, value, path, added)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, path, added)
    if origin is Literal and any(value == o and type(value) is type(o) for o in options):
        return value
    if origin is tuple and isinstance(value, list | tuple):
        each = options[:1] * len(value) if options[-1] is Ellipsis else options
        if len(each) == len(value):
            pairs = zip(each, value, strict=True)
            return tuple(decode(t, v, path, added=added) for t, v in pairs)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind in (int, bool, str) and type(value) is kind:
        return value
    raise _wrong_kind(kind, value, path)


def _wrong_kind(kind: Any, value: Any, path: str) -> RecipeError:
    expected = _called(kind)
    return RecipeError(f"{path}={value!r} is not of the right kind: it must be {expected}.")


def _called(kind: Any) -> str:
    """An annotation in words: int or 'auto'."""
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_called, options))
    if origin is Literal:
        return " or ".join(map(repr, options))
    return str(kind) if origin else getattr(kind, "__name__", str(kind))


def _decode_union(kind: Any, value: Any, path: str, added: Added) -> Any:
    options = typing.get_args(kind)
    tagged: dict[Any, Any] = {o.kind: o for o in options if hasattr(o, "kind")}
    if tagged:
        tag = value.get("kind") if isinstance(value, Mapping) else value
        if not isinstance(tag, str) or tag not in tagged:
            raise RecipeError(f"{path}.kind={tag!r} must be one of {', '.join(tagged)}.")
        return _decode_dataclass(tagged[tag], value, path, added)
    for option in options:
        try:
            return decode(option, value, path, added=added)
        except RecipeError:
            continue
    raise _wrong_kind(kind, value, path)


def _decode_dataclass(kind: Any, value: Any, path: str, added: Added) -> Any:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{path or 'recipe'}={value!r} must be a group of fields.")
    given = dict(value)
    if hasattr(kind, "kind") and given.pop("kind", kind.kind) != kind.kind:
        raise RecipeError(f"{path}.kind={value['kind']!r} must be {kind.kind!r} here.")
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    if unknown := [name for name in given if name not in names]:
        where = f"{path}." if path else ""
        raise RecipeError(
            f"No field {where + unknown[0]!r} in a recipe.{nearest(unknown[0], names)}"
        )
    given = dict(added.get(kind, {})) | given
    if missing := [name for name in names if name not in given]:
        raise RecipeError(f"{path or 'recipe'} lacks {', '.join(missing)}: a recipe is complete.")
    prefix = f"{path}." if path else ""
    fields = {n: decode(hints[n], given[n], prefix + n, added=added) for n in names}
    try:
        return kind(**fields)
    except RecipeError as error:
        if str(error).partition("=")[0] not in names:
            raise
        # a dataclass that stands in several places knows only the field's own name
        raise RecipeError(f"{prefix}{error}") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that names the most similar of the known names, or nothing.

    One that ends in the whole name, after a dot, is the most similar.
    """
    known = list(known)
    inside = [path for path in known if path.endswith(f".{name}")]
    matches = inside or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {matches[0]}?" if matches else ""
