"""The newest feature vectors of each class, kept on the device: first in, first out."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from common.data.notes import note


class ClassQueues(nn.Module):
    """`rows`: the newest `length` vectors of each of `classes`, in a ring; `count`: how many each class has been given in all.

    Buffers, so they are in the checkpoint. Every process pushes the same rows (common.training.distributed.all_rows), so all have the same.
    """

    def __init__(self, classes: int, length: int, width: int):
        super().__init__()
        self.register_buffer("rows", torch.zeros(classes, length, width))
        self.register_buffer("count", torch.zeros(classes, dtype=torch.int64))

    @property
    def length(self) -> int:
        return self.rows.shape[1]

    def full(self) -> bool:
        """Whether every class has been given `length` vectors or more."""
        return bool((self.count >= self.length).all())

    @torch.no_grad()
    def push(self, vectors: Float[Tensor, "batch width"], labels: Int64[Tensor, " batch"]) -> None:
        """In the order of the batch; where a class has more in it than fit, the last of them stay."""
        place, given = rank_in_class(labels, len(self.count))
        slot = (self.count[labels] + place) % self.length
        if len(labels) > self.length:  # else no two rows meet in one slot
            kept = place >= given[labels] - self.length
            vectors, labels, slot = vectors[kept], labels[kept], slot[kept]
        self.rows[labels, slot] = vectors.detach().to(self.rows)
        self.count += given


def rank_in_class(
    labels: Int64[Tensor, " batch"], classes: int
) -> tuple[Int64[Tensor, " batch"], Int64[Tensor, " classes"]]:
    """How many earlier rows of the batch have each row's label, and how many rows each class has."""
    given = torch.zeros(classes, dtype=torch.int64, device=labels.device).scatter_add_(
        0, labels, torch.ones_like(labels)
    )
    order = labels.argsort(stable=True)
    first = given.cumsum(0) - given  # where each class begins among the sorted rows
    place = torch.empty_like(labels)
    place[order] = torch.arange(len(labels), device=labels.device) - first[labels[order]]
    return place, given


def say_if_without_outliers(name: str, recipe: Any, queues: ClassQueues) -> None:
    """A note where a finished run drew none, and would pass for a run of its method. `recipe` has steps, epochs and outliers_from."""
    short = recipe.steps is None and recipe.epochs <= recipe.outliers_from
    if short or not queues.full():
        begin = f"they begin in epoch {recipe.outliers_from}, counted from 0"
        note(f"{name}: this run had no outliers, for {begin if short else 'the queue of a class was never full'}")
