"""Recipes: frozen dataclasses whose fields carry their own bounds, unit and source. Flags, errors and help come from that one place."""

import argparse
import dataclasses
import hashlib
import json
import math
import types
import typing
from typing import Any, TypeVar

from common.cli.errors import UserError, unknown

R = TypeVar("R")


def number(
    default: float | int | None, *, low: float | int | None = None, high: float | int | None = None, why: str
) -> Any:
    """A number in [low, high] (None = no bound). `why` is its unit and source, shown by --help. A default of None means "not set"."""
    return dataclasses.field(default=default, metadata={"kind": "number", "low": low, "high": high, "why": why})


def choice(default: str, options: tuple[str, ...], *, why: str) -> Any:
    """One of a few words."""
    return dataclasses.field(default=default, metadata={"kind": "choice", "options": options, "why": why})


def switch(default: bool, *, why: str) -> Any:
    """On or off: --name / --no-name."""
    return dataclasses.field(default=default, metadata={"kind": "switch", "why": why})


def numbers(
    default: tuple[float, ...], *, low: float | int | None = None, high: float | int | None = None, why: str
) -> Any:
    """A tuple of numbers, each in [low, high]; on the command line separated by commas."""
    return dataclasses.field(default=default, metadata={"kind": "numbers", "low": low, "high": high, "why": why})


def text(default: str, *, why: str) -> Any:
    return dataclasses.field(default=default, metadata={"kind": "text", "why": why})


def _range(low: float | int | None, high: float | int | None) -> str:
    if low is None and high is None:
        return "any"
    if high is None:
        return f">= {low:g}"
    if low is None:
        return f"<= {high:g}"
    return f"in [{low:g}, {high:g}]"


def _check_number(name: str, value: Any, low: float | int | None, high: float | int | None) -> None:
    # Written as "low <= value <= high" so that NaN fails.
    fine = isinstance(value, (int, float)) and not isinstance(value, bool)
    fine = fine and (-math.inf if low is None else low) <= value <= (math.inf if high is None else high)
    if not fine:
        raise UserError(f"{name} must be {_range(low, high)}, got {value}")


def check(recipe: Any) -> None:
    """Raise UserError if a field lies outside its declared range. Call it from __post_init__."""
    for field in dataclasses.fields(recipe):
        meta, value = field.metadata, getattr(recipe, field.name)
        kind = meta.get("kind")
        if kind == "number":
            if value is None and field.default is None:
                continue
            _check_number(field.name, value, meta["low"], meta["high"])
            if field_type(type(recipe), field.name) is int and int(value) != value:
                raise UserError(f"{field.name} must be a whole number, got {value}")
        elif kind == "numbers":
            for item in value:
                _check_number(field.name, item, meta["low"], meta["high"])
        elif kind == "choice" and value not in meta["options"]:
            raise UserError(f"{field.name} must be one of {', '.join(meta['options'])}, got {value!r}")


def field_type(cls: type, name: str) -> type:
    """The plain type of a field: int for `int` and for `int | None`."""
    hint = typing.get_type_hints(cls)[name]
    if isinstance(hint, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not type(None))
    return hint


def _tuple_of(kind: type, low: float | int | None, high: float | int | None):
    def parse(words: str) -> tuple:
        return tuple(kind(word) for word in words.split(",") if word)

    parse.__name__ = "list of numbers"
    return parse


def add_arguments(parser: argparse.ArgumentParser, recipe: type, *, omit: tuple[str, ...] = ()) -> None:
    """One flag a field, but for those in `omit`. Flags default to "not given", so that a preset's value stands unless the user says otherwise."""
    group = parser.add_argument_group(
        "recipe", "each value overrides the preset's; defaults are those of the class where a preset is silent"
    )
    for field in dataclasses.fields(recipe):
        meta = field.metadata
        if "kind" not in meta or field.name in omit:
            continue
        flag = "--" + field.name.replace("_", "-")
        default = field.default
        said = (
            "none"
            if default is None
            else ",".join(f"{v:g}" for v in default)
            if isinstance(default, tuple)
            else default
        )
        options: dict[str, Any] = {"default": argparse.SUPPRESS, "dest": field.name}
        kind = meta["kind"]
        if kind == "number":
            options |= {"type": field_type(recipe, field.name), "metavar": "X"}
            said = f"{said}; {_range(meta['low'], meta['high'])}"
        elif kind == "numbers":
            options |= {"type": _tuple_of(float, meta["low"], meta["high"]), "metavar": "X,X"}
        elif kind == "choice":
            options |= {"choices": meta["options"]}
        elif kind == "switch":
            options |= {"action": argparse.BooleanOptionalAction}
        group.add_argument(flag, help=f"{meta['why']} [{said}]".replace("%", "%%"), **options)


def given(arguments: Any, recipe: Any) -> dict[str, Any]:
    """Those of the recipe's fields whose flags the user gave; `arguments` is what argparse made."""
    return {f.name: getattr(arguments, f.name) for f in dataclasses.fields(recipe) if hasattr(arguments, f.name)}


def from_arguments(arguments: Any, preset: R) -> R:
    """The preset with every flag the user gave put in its place."""
    return dataclasses.replace(preset, **given(arguments, preset))


def pick(presets: dict[str, R], name: str) -> R:
    """A preset by name. Raises UserError that lists the known ones."""
    if name not in presets:
        raise unknown("preset", name, presets)
    return presets[name]


def as_plain(recipe: Any) -> dict[str, Any]:
    """Plain values only (tuples as lists), for recipe.json and checkpoints."""
    return json.loads(json.dumps(dataclasses.asdict(recipe)))


def digest(*parts: Any) -> str:
    """SHA-256 of plain values, the same for equal values on any machine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
