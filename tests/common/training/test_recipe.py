"""A run's recipe.json, read again. What a recipe's values do is tested with the engine (test_engine.py)."""

import json

import pytest

from common.cli.errors import UserError
from common.cli.files import write_json
from common.training.recipe import read_recipe

WHOLE = {"recipe": {"lr": 0.1, "epochs": 2}, "seed": 0, "objective": "LBF", "data": "d" * 64}


def test_what_was_written_is_read(tmp_path):
    write_json(tmp_path / "recipe.json", WHOLE)
    assert read_recipe(tmp_path / "recipe.json") == WHOLE


def test_a_damaged_recipe_is_named_with_the_line(tmp_path):
    path = tmp_path / "recipe.json"
    write_json(path, WHOLE)
    path.write_text(path.read_text().replace('"lr": 0.1', '"lr": 0.1.1'))
    with pytest.raises(
        UserError, match=r"recipe\.json, line 6: not a whole recipe in JSON \(Expecting ',' delimiter\)"
    ):
        read_recipe(path)
    with pytest.raises(UserError, match="none.json cannot be read"):
        read_recipe(tmp_path / "none.json")


@pytest.mark.parametrize("name", WHOLE)
def test_a_part_that_is_missing_is_named(tmp_path, name):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({key: value for key, value in WHOLE.items() if key != name}))
    with pytest.raises(UserError, match=rf"recipe\.json is not a run's recipe: expected '{name}'"):
        read_recipe(path)
