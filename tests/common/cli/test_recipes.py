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
    ranged,
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
        ({"lr": float("-inf")}, r"lr must be in \[0, 1\], got -inf"),
        ({"epochs": float("inf")}, r"epochs must be >= 1 and finite, below 2\^63, got inf"),
        ({"epochs": 10**20}, r"epochs must be >= 1 and finite, below 2\^63, got 1" + "0" * 20),
        ({"scales": (1.0, float("nan"))}, r"scales must be in \[0.1, 8\], got nan"),
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


@pytest.mark.parametrize(
    "kind, word, said",
    [
        (int, "0", "argument --n: must be >= 1, got 0"),
        (int, "-3", "argument --n: must be >= 1, got -3"),
        (int, "1e20", "argument --n: invalid int value: '1e20'"),
        (int, "1" + "0" * 20, "must be >= 1 and finite, below 2^63"),
        (float, "nan", "argument --n: must be >= 1, got nan"),
        (float, "inf", "must be >= 1 and finite, below 2^63, got inf"),
    ],
)
def test_a_flag_of_no_recipe_is_checked_as_one(kind, word, said, capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=ranged(kind, low=1))
    assert parser.parse_args(["--n", "2"]).n == 2
    with pytest.raises(SystemExit) as stop:
        parser.parse_args([f"--n={word}"])
    assert stop.value.code == 2 and said in capsys.readouterr().err
