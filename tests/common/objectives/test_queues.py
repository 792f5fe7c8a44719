"""Queues of features a class."""

from dataclasses import replace

import pytest
import torch
from small import batch_of, clock, images_of, made

from common.objectives.queues import ClassQueues, rank_in_class


def test_the_rank_of_each_row_within_its_class():
    place, given = rank_in_class(torch.tensor([2, 0, 2, 2, 0, 3]), 5)
    assert place.tolist() == [0, 0, 1, 2, 1, 0] and given.tolist() == [2, 0, 3, 1, 0]


def test_the_newest_of_each_class_stay_whatever_the_batches():
    """Against lists, with batches smaller and larger than a queue."""
    drawn = torch.Generator().manual_seed(0)
    queues, lists = ClassQueues(3, 4, 2), {k: [] for k in range(3)}
    for size in (1, 3, 17, 2, 40, 4, 5):
        labels, vectors = torch.randint(0, 3, (size,), generator=drawn), torch.rand(size, 2, generator=drawn)
        queues.push(vectors.requires_grad_(), labels)
        for vector, label in zip(vectors.tolist(), labels.tolist()):
            lists[label] = [*lists[label], vector][-4:]
        assert queues.full() == all(len(kept) == 4 for kept in lists.values())
        for k, kept in lists.items():
            held = queues.rows[k][: len(kept)].tolist()
            assert sorted(held) == sorted(kept) and not queues.rows[k][len(kept) :].any()
    assert queues.full() and not queues.rows.requires_grad


@pytest.mark.parametrize("name", ["vos", "npos"])
@pytest.mark.parametrize("changes, said", [
    ({}, ""), ({"outliers_from": 2}, "they begin in epoch 2, counted from 0"), ({"queue": 20}, "the queue of a class was never full"),
])  # fmt: skip
def test_a_run_without_outliers_says_so(capsys, name, changes, said):
    model, objective, recipe = made(name)
    objective.recipe = replace(recipe, **changes)
    objective.build(model)
    images = images_of(torch.arange(24) % 4, 4)
    objective(model.train(), batch_of(images, objective.views), clock())
    objective.finish(model.eval(), images)
    err = capsys.readouterr().err
    assert (f"{name}: this run had no outliers, for {said}" in err) if said else "outliers" not in err
