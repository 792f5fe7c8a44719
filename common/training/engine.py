"""The engine: epochs, optimizer, schedule, precision, logging, saving, resuming. It knows no method; a method is an Objective.

A run's folder holds recipe.json, log.jsonl (one line an epoch) and checkpoint.pt (complete at every moment). A run that was killed goes
on from its checkpoint and ends with the tensors of an undisturbed one; a finished run with the same recipe, seed, data and start is not
trained again; one whose recipe, seed, data or start has changed is.
"""

import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from common import checkpoint
from common.backbones.classifier import Classifier
from common.cli.errors import UserError
from common.cli.files import write_atomically, write_json
from common.cli.recipes import as_plain, digest
from common.data.images import Images
from common.training.distributed import global_sum, is_main, rank, share, wait, world
from common.training.objective import Batch, Clock, Objective, named_parameters
from common.training.recipe import TrainRecipe, learning_rate_factor
from common.training.seeds import derive, generator


def whole(mine: Tensor, count: int) -> Tensor:
    """A global batch of `count` images with this process's in their places and zeros elsewhere: every process draws for all images, so that
    each image gets what it would have got in one process. Augmenting zeros costs little beside the network."""
    if world() == 1:
        return mine
    rows = share(torch.arange(count))
    return torch.zeros((count, *mine.shape[1:]), dtype=mine.dtype, device=mine.device).index_copy_(
        0, rows.to(mine.device), mine
    )


class Step(nn.Module):
    """Network and objective as one module, so that a data-parallel wrapper sees every parameter that is used."""

    def __init__(self, model: Classifier, objective: Objective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        return self.objective(self.model, batch, clock)


class Log:
    """Sums of logged numbers over an epoch and over all processes, kept on the device: no host synchronisation in the step."""

    def __init__(self, sums: dict[str, Tensor] | None = None):
        self.sums = sums or {}

    def add(self, numbers_: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add a step's numbers; returns their pairs, summed over processes."""
        pairs = [
            value.double() if value.ndim else torch.stack([value.double(), torch.ones_like(value, dtype=torch.float64)])
            for value in numbers_.values()
        ]
        summed = dict(zip(numbers_, global_sum(torch.stack(pairs)), strict=True))
        self.sums = {name: self.sums[name] + pair if name in self.sums else pair for name, pair in summed.items()}
        return summed

    def means(self) -> dict[str, float | None]:
        """None where nothing was counted (no location selected in a whole epoch, say)."""
        pairs = {name: pair.tolist() for name, pair in self.sums.items()}
        return {name: top / bottom if bottom else None for name, (top, bottom) in pairs.items()}


def make_optimizer(model: Classifier, objective: Objective, recipe: TrainRecipe) -> torch.optim.SGD:
    groups = [{"params": [p for _, p in named_parameters(model, objective)], "lr_scale": 1.0}, *objective.groups()]
    options = {
        "lr": recipe.lr,
        "momentum": recipe.momentum,
        "weight_decay": recipe.weight_decay,
        "nesterov": recipe.nesterov,
    }
    return torch.optim.SGD(groups, **options)


def set_mode(model: Classifier, recipe: TrainRecipe) -> None:
    """Training mode; with bn frozen, batch norm keeps its running statistics (its scale and shift are still trained)."""
    model.train()
    if recipe.bn == "frozen":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


class Run:
    """One training run: what it is made of, where it stands, how it is saved."""

    def __init__(
        self,
        model: Classifier,
        objective: Objective,
        images: Any,
        recipe: TrainRecipe,
        folder: Path,
        seed: int,
        device: torch.device,
    ):
        self.folder, self.seed, self.device, self.recipe = folder, seed, device, recipe
        self.batches = (
            len(images) // recipe.batch_size if recipe.drop_last else math.ceil(len(images) / recipe.batch_size)
        )
        last = len(images) % recipe.batch_size
        if min(recipe.batch_size, recipe.batch_size if recipe.drop_last or not last else last) < world():
            raise UserError(
                f"each of the {world()} processes needs an image in every batch: batch_size {recipe.batch_size}, last batch {last or recipe.batch_size}; try --drop-last"
            )
        if self.batches == 0:
            raise UserError(
                f"batch_size must be at most the number of training images, {len(images)}, got {recipe.batch_size}"
            )
        self.steps = recipe.steps or recipe.epochs * self.batches
        self.epochs = math.ceil(self.steps / self.batches)
        start = checkpoint.weights_digest(model)
        self.identity = digest(type(objective).__name__, as_plain(recipe), seed, images.digest, start)
        self.images = images.to(device) if isinstance(images, Images) else images
        # A resized crop of a set that is read from files is cut from the file, not from the shrunk image.
        self.cuts_files = recipe.crop == "resized" and not isinstance(images, Images) and not objective.whole_images
        if recipe.sync_bn and world() > 1:
            if device.type != "cuda":
                raise UserError(
                    f"sync_bn needs a GPU a process, got device {device.type}; torch synchronises batch norm on GPUs only"
                )
            model.body = nn.SyncBatchNorm.convert_sync_batchnorm(model.body)
        self.model = model.to(
            device, memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format
        )
        self.model.bf16 = recipe.precision == "bf16"
        self.objective = objective.to(device)
        self.optimizer = make_optimizer(self.model, self.objective, recipe)
        self.step, self.log, self.seconds = 0, Log(), 0.0
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=device)

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def state(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state_dict(),
            "step": self.step,  # position in the run; order, augmentation and dropout are derived from it and the seed
            "log": self.log.sums,
            "seconds": self.seconds,
        }

    def restore(self, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict(state["optimizer"])
        for (
            parameter,
            kept,
        ) in (
            self.optimizer.state.items()
        ):  # in the parameter's memory format: rounding must be that of an undisturbed run
            kept.update(
                {name: torch.empty_like(parameter).copy_(t) for name, t in kept.items() if isinstance(t, Tensor)}
            )
        self.objective.load_state_dict(state["objective"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.log = Log({name: pair.to(self.device) for name, pair in state["log"].items()})

    def check_finite(self) -> None:
        bad = int(self.first_bad)  # the same in all processes
        if bad >= 0:
            rate = self.recipe.lr * learning_rate_factor(self.recipe, bad, self.steps)
            raise UserError(
                f"the loss is not finite at step {bad} (epoch {bad // self.batches}), learning rate {rate:g}; try a lower lr"
            )

    def train_epoch(self, epoch: int, network: nn.Module, after_batch) -> None:
        """The rest of one epoch, from the step where the run stands."""
        set_mode(self.model, self.recipe)
        size, done = self.recipe.batch_size, self.step - epoch * self.batches
        last = min(self.batches, self.steps - epoch * self.batches)
        order = torch.randperm(len(self.images), generator=generator(self.seed, "order", epoch))[
            done * size : last * size
        ]
        mine = [share(rows) for rows in order.split(size)]
        for index, pixels in zip(order.split(size), self.read(mine, epoch), strict=True):
            self.train_step(network, index, pixels, epoch)
            after_batch()

    def read(self, batches: list[Tensor], epoch: int) -> Iterator[Tensor]:
        """The pixels of each of `batches`, rows of the training set."""
        if self.cuts_files:
            return self.images.training_batches(
                batches, 0, derive(self.seed, "decoding", epoch), (self.recipe.area_low, 1.0)
            )
        return self.images.whole_batches(batches)

    def train_step(self, network: nn.Module, index: Tensor, pixels: Tensor, epoch: int) -> None:
        factor = learning_rate_factor(self.recipe, self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * group["lr_scale"] * factor
        torch.manual_seed(
            derive(self.seed, f"dropout {rank()}" if rank() else "dropout", self.step)
        )  # layers that draw cannot be given a generator
        clock = Clock(
            epoch, self.epochs, self.step, self.batches, generator(self.seed, "objective", self.step, self.device)
        )
        loss, logs = network(self.batch(index, pixels), clock)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.objective.after_step(self.model, clock)
        total = self.log.add({"loss": loss.detach(), **logs})["loss"]
        # Over all processes: one whose own part is finite must not save weights that another's gradient has spoiled.
        self.first_bad = torch.where((self.first_bad < 0) & ~total[0].isfinite(), self.step, self.first_bad)
        self.step += 1

    def batch(self, index: Tensor, pixels: Tensor) -> Batch:
        draw = generator(self.seed, "augmentation", self.step, self.device)
        pixels = whole(pixels.to(self.device, non_blocking=True), len(index))
        how = replace(self.recipe.augmentation, crop="none") if self.cuts_files else self.recipe.augmentation
        views, masks = zip(*(self.objective.augment(pixels, index, how, draw) for _ in range(self.objective.views)))
        views, masks = [share(view) for view in views], [None if mask is None else share(mask) for mask in masks]
        index = share(index)
        if self.recipe.channels_last:
            views = [view.contiguous(memory_format=torch.channels_last) for view in views]
        images = views[0].unsqueeze(0) if len(views) == 1 else torch.stack(views)
        labels = self.images.labels[index.to(self.images.labels.device)].to(self.device)
        return Batch(images, labels, index, masks[0])


def fit(
    model: Classifier, objective: Objective, images: Any, recipe: TrainRecipe, *,
    run: Path, seed: int, device: torch.device, facts: dict[str, Any] | None = None, save_every_s: float = 60.0, progress: bool = True,
) -> Classifier:  # fmt: skip
    """Train `model` on `images` under `objective`; returns it in eval mode on `device`.

    Writes `run`/recipe.json, log.jsonl, checkpoint.pt; goes on where a killed run stopped, and returns at once where it is finished.
    `facts` are plain values kept in the checkpoint. Raises UserError where the loss stops being finite.
    """
    here = Run(model, objective, images, recipe, run, seed, device)
    known = _resume(here)
    wait()  # all have read the checkpoint before one of them writes
    if known == "finished":
        return model.eval()
    if is_main():
        write_json(
            run / "recipe.json",
            {"recipe": as_plain(recipe), "seed": seed, "objective": type(objective).__name__, "data": images.digest},
        )
    facts = {
        **(facts or {}),
        "seed": seed,
        "train_data": images.name,
        "train_data_sha256": images.digest,
        "run_identity": here.identity,
    }
    if known == "new":
        objective.prepare(model, here.images)
    network: nn.Module = Step(model, objective)
    if world() > 1:
        devices = [device.index] if device.type == "cuda" else None
        network = DistributedDataParallel(network, device_ids=devices, find_unused_parameters=not objective.uses_head)
    clock = {"saved": time.monotonic(), "started": time.monotonic() - here.seconds}
    bar = tqdm(
        total=here.steps,
        initial=here.step,
        desc=run.name,
        unit="step",
        disable=not (progress and is_main()),
        file=sys.stderr,
        mininterval=1.0,
    )

    def save(training: bool) -> None:
        here.check_finite()
        if not is_main():
            return
        here.seconds = time.monotonic() - clock["started"]
        checkpoint.save(
            here.path,
            model,
            recipe=as_plain(recipe),
            training=here.state() if training else None,
            seconds=here.seconds,
            **facts,
        )
        clock["saved"] = time.monotonic()

    def save_if_due() -> None:
        if here.step < here.steps and time.monotonic() - clock["saved"] >= save_every_s:
            save(training=True)

    def after_batch() -> None:
        bar.update()
        if here.step % here.batches:  # at an epoch's end the log's line comes first
            save_if_due()

    with bar:
        for epoch in range(here.step // here.batches, here.epochs):
            here.train_epoch(epoch, network, after_batch)
            here.check_finite()
            line = _end_of_epoch(here, epoch, clock["started"])
            shown = [f"{name} {line[name]:.3f}" for name in ("loss", "train_accuracy") if line.get(name) is not None]
            bar.set_postfix_str(f"epoch {epoch + 1}/{here.epochs} " + " ".join(shown))
            save_if_due()
    save(training=False)
    wait()  # who returns may read the checkpoint
    return model.eval()


def _end_of_epoch(here: Run, epoch: int, started: float) -> dict[str, Any]:
    here.objective.after_epoch(
        here.model, Clock(epoch, here.epochs, here.step, here.batches, generator(here.seed, "objective", here.step))
    )
    rate = here.recipe.lr * learning_rate_factor(here.recipe, here.step - 1, here.steps)
    line = {
        "epoch": epoch,
        "steps": here.step,
        "lr": rate,
        **here.log.means(),
        "seconds": round(time.monotonic() - started, 1),
    }
    if is_main():
        append_log(here.folder / "log.jsonl", epoch, line)
    here.log = Log()
    return line


def _resume(here: Run) -> str:
    """ "new", "going on" or "finished", with the run brought to where its checkpoint stands. A stale or unreadable checkpoint is left behind."""
    if not here.path.exists():
        return "new"
    try:
        saved, facts = checkpoint.load(here.path)
    except UserError as error:
        print(f"{error}; training from the start", file=sys.stderr)
        return "new"
    if facts.get("run_identity") != here.identity:
        wait()
        if not is_main():
            return "new"
        here.path.replace(here.path.with_name("checkpoint.old.pt"))
        print(
            f"{here.path}: recipe, seed, data or start weights have changed; it is now checkpoint.old.pt, training from the start",
            file=sys.stderr,
        )
        return "new"
    if facts["finished"]:
        here.model.load_state_dict(saved.state_dict())
        print(f"{here.path}: finished already with this recipe, seed, data and start", file=sys.stderr)
        return "finished"
    here.restore(saved.state_dict(), checkpoint.load_training(here.path))
    print(f"{here.path}: going on from step {here.step} of {here.steps}", file=sys.stderr)
    return "going on"


def append_log(path: Path, epoch: int, line: dict[str, Any]) -> None:
    """Add an epoch's line; lines of this or later epochs, left by a run that was killed after them, are dropped."""
    lines = path.read_text().splitlines() if path.exists() and epoch > 0 else []
    lines = [text for text in lines if json.loads(text)["epoch"] < epoch] + [json.dumps(line)]
    write_atomically(path, lambda part: part.write_text("\n".join(lines) + "\n"))
