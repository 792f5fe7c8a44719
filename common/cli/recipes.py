"""Recipes: frozen dataclasses whose fields carry their own bounds, unit and source. Flags, errors and help come from that one place."""

import argparse
import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from common.cli.errors import UserError, unknown

R = TypeVar("R")
Bound = float | int | None  # None = no bound
MOST = 2**63 - 1  # of a whole number: what torch and NumPy hold


def _field(kind: str, default: Any, **said: Any) -> Any:
    return dataclasses.field(default=default, metadata={"kind": kind, **said})


def number(default: Bound, *, low: Bound = None, high: Bound = None, why: str) -> Any:
    """A finite number in [low, high]. `why` is its unit and source, shown by --help. A default of None means "not set"."""
    return _field("number", default, low=low, high=high, why=why)


def numbers(default: tuple[float, ...], *, low: Bound = None, high: Bound = None, why: str) -> Any:
    """A tuple of numbers, each in [low, high]; on the command line separated by commas."""
    return _field("numbers", default, low=low, high=high, why=why)


def choice(default: str, options: tuple[str, ...], *, why: str) -> Any:
    """One of a few words."""
    return _field("choice", default, options=options, why=why)


def switch(default: bool, *, why: str) -> Any:
    """On or off: --name / --no-name."""
    return _field("switch", default, why=why)


def _range(low: Bound, high: Bound) -> str:
    if low is None or high is None:
        return f">= {low:g}" if low is not None else f"<= {high:g}" if high is not None else "a number"
    return f"in [{low:g}, {high:g}]"


def check_number(name: str, value: Any, low: Bound = None, high: Bound = None, whole: bool = False) -> None:
    """Raise UserError that names the value where it is no finite number in [low, high]."""
    fine = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Written as "low <= value <= high" so that NaN fails.
    if not (fine and (-math.inf if low is None else low) <= value <= (math.inf if high is None else high)):
        raise UserError(f"{name} must be {_range(low, high)}, got {value}")
    if not abs(value) <= MOST:
        raise UserError(f"{name} must be {_range(low, high)} and finite, below 2^63, got {value}")
    if whole and int(value) != value:
        raise UserError(f"{name} must be a whole number, got {value}")


def check(recipe: Any) -> None:
    """Raise UserError if a field lies outside its declared range. Call it from __post_init__."""
    for field in dataclasses.fields(recipe):
        meta, value = field.metadata, getattr(recipe, field.name)
        kind = meta.get("kind")
        if kind == "number" and not (value is None and field.default is None):
            whole = field_type(type(recipe), field.name) is int
            check_number(field.name, value, meta["low"], meta["high"], whole)
        elif kind == "numbers":
            for item in value:
                check_number(field.name, item, meta["low"], meta["high"])
        elif kind == "choice" and value not in meta["options"]:
            raise UserError(f"{field.name} must be one of {', '.join(meta['options'])}, got {value!r}")


def ranged(kind: type, low: Bound = None, high: Bound = None) -> Callable[[str], Any]:
    """The `type` of a flag that belongs to no recipe: an int or a float that is checked as a recipe's."""

    def parse(word: str) -> Any:
        value = kind(word)
        try:
            check_number("it", value, low, high)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix("it ")) from None
        return value

    parse.__name__ = kind.__name__  # for argparse's own message: "invalid int value"
    return parse


def field_type(cls: type, name: str) -> type:
    """The plain type of a field: int for `int` and for `int | None`."""
    hint = typing.get_type_hints(cls)[name]
    if isinstance(hint, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not type(None))
    return hint


def _list_of_numbers(words: str) -> tuple[float, ...]:
    return tuple(float(word) for word in words.split(",") if word)


def add_arguments(parser: argparse.ArgumentParser, recipe: type, *, omit: tuple[str, ...] = ()) -> None:
    """One flag a field, but for those in `omit`. Flags default to "not given", so that a preset's value stands unless the user says otherwise."""
    said = "each value overrides the preset's; defaults are those of the class where a preset is silent"
    add_fields(parser.add_argument_group("recipe", said), recipe, omit=omit)


def add_fields(group: Any, recipe: type, *, omit: tuple[str, ...] = ()) -> None:
    """The flags themselves, of any dataclass with such fields. `group`: a parser or a group of one."""
    for field in dataclasses.fields(recipe):
        meta, default = field.metadata, field.default
        if "kind" not in meta or field.name in omit:
            continue
        shown = ",".join(f"{v:g}" for v in default) if isinstance(default, tuple) else default
        shown = "none" if default is None else shown
        options: dict[str, Any] = {}
        match meta["kind"]:
            case "number":
                options = {"type": field_type(recipe, field.name), "metavar": "X"}
                shown = f"{shown}; {_range(meta['low'], meta['high'])}"
            case "numbers":
                options = {"type": _list_of_numbers, "metavar": "X,X"}
            case "choice":
                options = {"choices": meta["options"]}
            case "switch":
                options = {"action": argparse.BooleanOptionalAction}
        flag, said = "--" + field.name.replace("_", "-"), f"{meta['why']} [{shown}]".replace("%", "%%")
        group.add_argument(flag, default=argparse.SUPPRESS, help=said, **options)


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
