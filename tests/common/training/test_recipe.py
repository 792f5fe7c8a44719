"""The rate of baselines' recipes, and whose values a run says it has. Plain recipes: test_engine.py."""

import math
from dataclasses import replace

import pytest

from common.cli.errors import UserError
from common.training.recipe import BaselineRecipe, TrainRecipe

RECIPE = BaselineRecipe(lr=0.5, schedule="cosine", lr_end=0.0005)


def rates(recipe, steps=5000, per_epoch=10):
    return [recipe.lr * recipe.factor(step, steps, per_epoch) for step in range(steps)]


def cosine(share, last=0.0005):
    return last + (0.5 - last) * (1 + math.cos(math.pi * share)) / 2


def test_the_cosine_ends_at_its_rate_step_by_step_or_epoch_by_epoch():
    assert rates(RECIPE)[::1250] == pytest.approx([cosine(share) for share in (0, 0.25, 0.5, 0.75)])
    assert rates(RECIPE)[-1] == pytest.approx(0.0005, abs=1e-6)
    by_epoch = rates(replace(RECIPE, cosine_by="epoch"))
    assert by_epoch[1234] == pytest.approx(cosine(123 / 500)) and len(set(by_epoch)) == 500


@pytest.mark.parametrize("by", ["step", "epoch"])
def test_warm_up_rises_from_its_rate_to_where_the_cosine_stands_and_is_never_negative(by):
    """CIDER's public code, counted from epoch 0, begins at -0.04885 here."""
    recipe = replace(RECIPE, warmup_epochs=10, warmup_lr=0.001, cosine_by=by)
    got, end = rates(recipe), cosine(10 / 500)
    assert got[0] == pytest.approx(0.001) and got[50] == pytest.approx((0.001 + end) / 2)
    assert got[100] == pytest.approx(end) and got[100] > got[99] and min(got) >= 0
    assert max(rates(recipe, steps=40)) < end  # a run shorter than the warm-up


def test_other_schedules_and_a_recipe_without_own_values_are_as_before():
    for plain in (TrainRecipe(), TrainRecipe(schedule="one-cycle"), TrainRecipe(schedule="cosine", warmup_steps=7)):
        same = BaselineRecipe(schedule=plain.schedule, warmup_steps=plain.warmup_steps)
        assert rates(same, 100) == pytest.approx(rates(plain, 100), abs=1e-15)
    assert rates(replace(RECIPE, lr=0.0, lr_end=0.0, warmup_epochs=3), 40) == [0] * 40


def test_a_rate_above_the_highest_is_named():
    with pytest.raises(UserError, match="lr_end and warmup_lr must be at most lr, 0.0001, got 0.0005 and 0"):
        replace(RECIPE, lr=0.0001)


def test_fields_of_baselines_are_not_in_the_recipe_of_runs_that_are_there():
    assert not {"lr_end", "grey", "origin"} & set(TrainRecipe.__dataclass_fields__)
    assert BaselineRecipe(grey=0.2).augmentation == replace(TrainRecipe().augmentation, grey_probability=0.2)
