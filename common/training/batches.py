"""From a training set to the batches of an objective: read, drawn for the whole batch, applied to this process's rows."""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from common.cli.errors import UserError
from common.data.images import Images
from common.training.distributed import share, world
from common.training.objective import Batch, Objective
from common.training.recipe import TrainRecipe
from common.training.seeds import derive, generator


class Batches:
    """The batches of each epoch of a run. Order and augmentation follow from the seed, the epoch and the step alone."""

    def __init__(self, images: Any, objective: Objective, recipe: TrainRecipe, seed: int, device: torch.device):
        self.recipe, self.seed, self.device, self.views = recipe, seed, device, objective.views
        self.per_epoch = _per_epoch(len(images), recipe)
        self.images = images.to(device) if isinstance(images, Images) else images
        self.masks = None if objective.masks is None else objective.masks.to(device)
        # A resized crop of a set that is read from files is cut from the file, not from the shrunk image; masks are as large as the latter.
        self.cuts_files = recipe.crop == "resized" and hasattr(images, "training_batches") and self.masks is None
        how = recipe.augmentation
        self.augmentation = replace(how, crop="none") if self.cuts_files else how

    def of_epoch(self, epoch: int, first: int, last: int) -> Iterator[Batch]:
        """Its batches from `first` up to but without `last`; this process's rows of each."""
        size = self.recipe.batch_size
        order = torch.randperm(len(self.images), generator=generator(self.seed, "order", epoch))
        batches = order[first * size : last * size].split(size)
        views = self.read([share(rows) for rows in batches], epoch)
        for step, rows, pixels in zip(itertools.count(epoch * self.per_epoch + first), batches, views):
            yield self.batch(step, rows, pixels)

    def read(self, batches: list[Tensor], epoch: int) -> Iterator[Iterable[Tensor]]:
        """The pixels of each of `batches`, rows of the training set: one tensor a view."""
        if self.cuts_files:
            seed, area = derive(self.seed, "decoding", epoch), (self.recipe.area_low, 1.0)
            return self.images.training_batches(batches, 0, seed, area, self.views)
        return ([pixels] * self.views for pixels in self.images.whole_batches(batches))

    def batch(self, step: int, rows: Tensor, views: Iterable[Tensor]) -> Batch:
        """`rows` are the global batch's, `views` are pixels of this process's part of it."""
        drawn, index = generator(self.seed, "augmentation", step), share(rows)
        masks = None if self.masks is None else self.masks.rows(index)
        made = []
        for pixels in views:
            draws = self.augmentation.draw(len(rows), tuple(self.images.size_px), drawn)
            mine = type(draws)(*(None if numbers is None else share(numbers) for numbers in draws))
            made.append(self.augmentation.apply(pixels.to(self.device, non_blocking=True), mine, masks))
        images, placed = zip(*made)
        if self.recipe.channels_last:
            images = [view.contiguous(memory_format=torch.channels_last) for view in images]
        labels = self.images.labels[index.to(self.images.labels.device)].to(self.device)
        return Batch(_stacked(images), labels, index, None if masks is None else _stacked(placed))


def _stacked(views: Iterable[Tensor]) -> Tensor:
    views = list(views)
    return views[0].unsqueeze(0) if len(views) == 1 else torch.stack(views)  # unsqueeze keeps the memory format


def _per_epoch(images: int, recipe: TrainRecipe) -> int:
    """Batches an epoch. Raises UserError where there is none, or where a process would go without an image."""
    size, last = recipe.batch_size, images % recipe.batch_size
    if min(size, size if recipe.drop_last or not last else last) < world():
        said = f"each of the {world()} processes needs an image in every batch: batch_size {size}, last batch"
        raise UserError(f"{said} {last or size}; try --drop-last")
    count = images // size if recipe.drop_last else math.ceil(images / size)
    if count == 0:
        raise UserError(f"batch_size must be at most the number of training images, {images}, got {size}")
    return count
