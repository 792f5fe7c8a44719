import argparse
from dataclasses import dataclass, replace

import pytest

from common.cli.errors import UserError
from common.cli.recipes import (
    add_arguments,
    as_plain,
    check,
    choice,
    digest,
    from_arguments,
    number,
    numbers,
    pick,
    switch,
)


@dataclass(frozen=True)
class Recipe:
    epochs: int = number(3, low=1, why="passes")
    lr: float = number(0.1, low=0, high=1, why="rate, 5 %")
    steps: int | None = number(None, low=1, why="instead of epochs")
    schedule: str = choice("step", ("step", "cosine"), why="of the rate")
    flip: bool = switch(True, why="mirror images")
    scales: tuple[float, ...] = numbers((0.5, 1.0), low=0.1, high=8, why="sizes")

    def __post_init__(self):
        check(self)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"epochs": 0}, "epochs must be >= 1, got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number, got 1.5"),
        ({"lr": float("nan")}, r"lr must be in \[0, 1\], got nan"),
        ({"lr": True}, r"lr must be in \[0, 1\], got True"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"schedule": "ramp"}, "schedule must be one of step, cosine, got 'ramp'"),
        ({"scales": (1.0, 9.0)}, r"scales must be in \[0.1, 8\], got 9.0"),
    ],
)
def test_a_value_out_of_its_range_is_named(changes, text):
    with pytest.raises(UserError, match=f"^{text}$"):
        Recipe(**changes)


def parsed(*words: str, omit: tuple[str, ...] = ()) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser, Recipe, omit=omit)
    return parser.parse_args(words)


def test_flags_that_are_given_replace_the_presets_values_and_no_others():
    preset = Recipe(epochs=7, lr=0.5)
    assert from_arguments(parsed(), preset) == preset
    given = parsed("--lr", "0.2", "--no-flip", "--scales", "1,2", "--steps", "4")
    assert from_arguments(given, preset) == replace(preset, lr=0.2, flip=False, scales=(1.0, 2.0), steps=4)


def test_help_has_unit_default_and_range_and_an_omitted_field_no_flag():
    parser = argparse.ArgumentParser()
    add_arguments(parser, Recipe, omit=("epochs",))
    said = " ".join(parser.format_help().split())
    assert (
        "rate, 5 % [0.1; in [0, 1]]" in said
        and "sizes [0.5,1]" in said
        and "[none; >= 1]" in said
        and "--epochs" not in said
    )
    with pytest.raises(SystemExit):
        parsed("--epochs", "2", omit=("epochs",))


def test_presets_are_picked_by_name_and_recipes_become_plain_values():
    assert pick({"a": Recipe()}, "a") == Recipe()
    with pytest.raises(UserError, match="^unknown preset 'b'; known: a$"):
        pick({"a": Recipe()}, "b")
    plain = as_plain(Recipe())
    assert plain["scales"] == [0.5, 1.0] and digest(plain) == digest(dict(reversed(plain.items()))) != digest({})
