"""Queues of features a class."""

import torch

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
