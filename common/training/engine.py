"""The engine: epochs, optimizer, schedule, precision, logging, saving, resuming. It knows no method; a method is an Objective.

A run's folder holds recipe.json, log.jsonl (one line an epoch) and checkpoint.pt (complete at every moment). A killed run goes on from its checkpoint and
ends with the tensors of an undisturbed one (on a CPU, with as many threads and processes); a finished one is not trained again; another run's folder is refused
(common.training.command moves it aside first). A damaged checkpoint is set aside. SIGINT, SIGTERM and SIGHUP end a run after the step at hand, saved.
"""

import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from common import checkpoint
from common.backbones.classifier import Classifier
from common.cli.errors import UserError
from common.cli.files import free_name, write_json
from common.cli.recipes import as_plain, digest
from common.cli.signals import Interrupted, held
from common.data.transforms import Transform
from common.training.batches import Batches
from common.training.distributed import average, is_main, rank, synchronise_batch_norm, wait, world
from common.training.log import Log, append_log
from common.training.objective import Batch, Clock, Objective
from common.training.optimizer import make_optimizer
from common.training.recipe import TrainRecipe
from common.training.seeds import derive, generator, threads_of


def fit(
    model: Classifier, objective: Objective, images: Any, recipe: TrainRecipe, *,
    run: Path, seed: int, device: torch.device, facts: dict[str, Any] | None = None, save_every_s: float = 60.0, progress: bool = True,
) -> Classifier:  # fmt: skip
    """Train `model` on `images` under `objective`; returns it in eval mode on `device`.

    Writes `run`/recipe.json, log.jsonl, checkpoint.pt; goes on where a killed run stopped, and returns at once where it is finished.
    `facts`: plain values for the checkpoint (checkpoint.FACTS). Raises UserError where the loss stops being finite, and where `run` holds another run.
    """
    here = Run(model, objective, images, recipe, run, seed, device, facts or {}, save_every_s)
    known, damage = here.resume()
    wait()  # all have read the checkpoint before one of them writes
    if damage:
        here.set_aside(damage, begun=known == "going on")
    if known == "finished":
        return model.eval()
    here.write_recipe()
    if known == "new":
        objective.prepare(model, here.batches.images)
    network, per_epoch = here.network(), here.batches.per_epoch
    shown = {"desc": run.name, "unit": "step", "disable": not (progress and is_main()), "mininterval": 1.0}
    with tqdm(total=here.steps, initial=here.step, **shown) as bar, held() as stops:
        for epoch in range(here.step // per_epoch, here.epochs):
            set_mode(model, objective, recipe)
            first, last = here.step - epoch * per_epoch, min(per_epoch, here.steps - epoch * per_epoch)
            for batch in here.batches.of_epoch(epoch, first, last):
                here.train_step(network, batch, epoch)
                bar.update()
                if here.step % per_epoch:  # at an epoch's end the log's line comes first
                    here.save_if_due(stops)
            here.check_finite()
            bar.set_postfix_str(here.end_epoch(epoch))
            here.save_if_due(stops)
        objective.finish(model.eval(), here.batches.images)
        here.save(finished=True)
        stops.clear()  # there is nothing left to stop
    wait()  # who returns may read the checkpoint
    return model.eval()


def run_words(model: Classifier, objective: Objective, images: Any, recipe: TrainRecipe, seed: int) -> dict[str, Any]:
    """What decides a run's tensors, as plain values. `model` is the one it starts with. Their digest is the fact run_identity."""
    start = checkpoint.weights_digest(model)
    name, plain = type(objective).__name__, as_plain(recipe)
    return {"objective": name, "recipe": plain, "seed": seed, "data": images.digest, "start": start}


class Step(nn.Module):
    """Network and objective as one module, so that a data-parallel wrapper sees every parameter that is used."""

    def __init__(self, model: Classifier, objective: Objective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        return self.objective(self.model, batch, clock)


def set_mode(model: Classifier, objective: Objective, recipe: TrainRecipe) -> None:
    """Training mode; with bn frozen, batch norm keeps its running statistics (its scale and shift are still trained)."""
    model.train()
    if recipe.bn == "frozen":
        for module in (*model.modules(), *objective.modules()):
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def running_statistics(*parts: nn.Module) -> list[Tensor]:
    """Those that a forward pass in training has changed: of batch norm that is not frozen."""
    every = [m for part in parts for m in part.modules()]
    norms = [m for m in every if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    return [buffer for m in norms if m.track_running_stats for buffer in (m.running_mean, m.running_var)]


class Run:
    """One training run: what it is made of, where it stands, how it is saved."""

    def __init__(
        self, model: Classifier, objective: Objective, images: Any, recipe: TrainRecipe, folder: Path, seed: int,
        device: torch.device, facts: dict[str, Any], save_every_s: float,
    ):  # fmt: skip
        self.folder, self.path, self.seed = folder, folder / "checkpoint.pt", seed
        self.device, self.recipe = device, recipe
        self.batches = Batches(images, objective, recipe, seed, device)
        self.steps = recipe.steps or recipe.epochs * self.batches.per_epoch
        self.epochs = math.ceil(self.steps / self.batches.per_epoch)
        self.identity = digest(*run_words(model, objective, images, recipe, seed).values())
        self.facts = facts_of(images, objective) | facts | {"seed": seed, "run_identity": self.identity}
        self.facts["threads"] = threads_of(device, [], self.path)
        checkpoint.check_facts(self.facts, self.path)
        if recipe.sync_bn:
            synchronise_batch_norm(device, model, objective)
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = model.to(device, memory_format=layout)
        self.model.bf16 = recipe.precision == "bf16"
        self.objective = objective.to(device)
        self.optimizer = make_optimizer(self.model, self.objective, recipe)
        self.step, self.log = 0, Log()
        self.save_every_s, self.saved, self.started = save_every_s, time.monotonic(), time.monotonic()
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=device)

    def network(self) -> nn.Module:
        """Model and objective, wrapped where there are several processes."""
        network = Step(self.model, self.objective)
        if world() == 1:
            return network
        devices = [self.device.index] if self.device.type == "cuda" else None
        # Buffers are not sent about before each step, as is torch's default: those of batch norm are the same in all processes by then (see
        # `train_step`), an objective's own if it makes them of `all_rows`; queues of features are too large to send.
        unused = not (self.objective.uses_head and self.objective.uses_all)
        how = {"broadcast_buffers": False, "find_unused_parameters": unused}
        return DistributedDataParallel(network, device_ids=devices, **how)

    # --- a step and an epoch ---------------------------------------------------------------------------------------------------------

    def train_step(self, network: nn.Module, batch: Batch, epoch: int) -> None:
        factor = self.factor(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * group["lr_scale"] * factor
        # Layers that draw, such as dropout, cannot be given a generator.
        torch.manual_seed(derive(self.seed, f"dropout {rank()}" if rank() else "dropout", self.step))
        clock = self.clock(epoch)
        loss, logs = network(batch, clock)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if not self.recipe.sync_bn:
            # Each process normalised its own rows and saw their statistics alone; what is kept is those of the global batch.
            average(running_statistics(self.model, self.objective), len(batch.labels))
        self.objective.after_step(self.model, clock)
        total = self.log.add({"loss": loss.detach(), **logs})["loss"]
        # Over all processes: one whose own part is finite must not save weights that another's gradient has spoiled.
        self.first_bad = torch.where((self.first_bad < 0) & ~total[0].isfinite(), self.step, self.first_bad)
        self.step += 1

    def factor(self, step: int) -> float:
        return self.recipe.factor(step, self.steps, self.batches.per_epoch)

    def clock(self, epoch: int) -> Clock:
        draw = generator(self.seed, "objective", self.step, self.device)
        return Clock(epoch, self.epochs, self.step, self.batches.per_epoch, draw)

    def check_finite(self) -> None:
        bad = int(self.first_bad)  # the same in all processes
        if bad >= 0:
            rate = self.recipe.lr * self.factor(bad)
            epoch = bad // self.batches.per_epoch
            where = f"step {bad} (epoch {epoch}), learning rate {rate:g}"
            raise UserError(f"the loss is not finite at {where}; try a lower lr")

    def end_epoch(self, epoch: int) -> str:
        """Log the epoch; returns the few words for the progress bar."""
        self.objective.after_epoch(self.model, self.clock(epoch))
        rate = self.recipe.lr * self.factor(self.step - 1)
        means, seconds = self.log.means(), round(time.monotonic() - self.started, 1)
        if is_main():
            line = {"epoch": epoch, "steps": self.step, "lr": rate, **means, "seconds": seconds}
            append_log(self.folder / "log.jsonl", epoch, line)
        self.log = Log()
        shown = [f"{name} {means[name]:.3f}" for name in ("loss", "train_accuracy") if means.get(name) is not None]
        return " ".join([f"epoch {epoch + 1}/{self.epochs}", *shown])

    # --- files -----------------------------------------------------------------------------------------------------------------------

    def write_recipe(self) -> None:
        names = {"objective": type(self.objective).__name__, "data": self.batches.images.digest}
        if is_main():
            write_json(self.folder / "recipe.json", {"recipe": as_plain(self.recipe), "seed": self.seed, **names})

    def save_if_due(self, stops: list[Interrupted]) -> None:
        """Save where it is time, or where a signal has come, which then ends the run."""
        if self.step < self.steps and (stops or time.monotonic() - self.saved >= self.save_every_s):
            self.save(finished=False)
            for stop in stops:
                stop.where = f" at step {self.step} of {self.steps}, saved in {self.path}"
                raise stop

    def save(self, finished: bool) -> None:
        self.check_finite()
        if not is_main():
            return
        seconds = time.monotonic() - self.started
        state = {
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,  # position in the run; order, augmentation and dropout are derived from it and the seed
            "log": self.log.sums,
            "seconds": seconds,
        }
        checkpoint.save(
            self.path, self.model, recipe=as_plain(self.recipe), training=None if finished else state,
            objective=self.objective.state_dict(), seconds=seconds, **self.facts,
        )  # fmt: skip
        self.saved = time.monotonic()

    def resume(self) -> tuple[str, str]:
        """("new" | "going on" | "finished", what is wrong with the checkpoint), with the run brought to where the checkpoint stands.

        Raises UserError for another run's, and where it cannot be read just now, which is no reason to train anew.
        """
        if not os.path.lexists(self.path):
            return "new", ""
        try:
            saved, facts = checkpoint.load(self.path)
            own = checkpoint.load_objective_state(self.path)  # {} in older checkpoints
            state = None if facts["finished"] else checkpoint.load_training(self.path)
        except UserError as error:
            if isinstance(error.__cause__, (OSError, MemoryError, UserError)):
                raise
            return "new", str(error)
        if facts.get("run_identity") != self.identity:
            said = "another run's: recipe, seed, data or start weights differ; write elsewhere"
            raise UserError(f"{self.path} is {said}")
        try:
            self.restore(saved.state_dict(), own, state)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            return "going on", f"{self.path} does not fit its run ({type(error).__name__}: {error})"
        if state is None:
            print(f"{self.path}: finished already with this recipe, seed, data and start", file=sys.stderr)
            return "finished", ""
        print(f"{self.path}: going on from step {self.step} of {self.steps}", file=sys.stderr)
        self.facts["threads"] = threads_of(self.device, facts.get("threads", []), self.path)
        return "going on", ""

    def restore(self, weights: dict[str, Tensor], own: dict[str, Tensor], state: dict[str, Any] | None) -> None:
        """The network's weights, the objective's own state and, where training is under way, what goes with it."""
        self.model.load_state_dict(weights)
        if own or state:
            self.objective.load_state_dict(own)
        if not state:
            return
        if not 0 <= state["step"] < self.steps:
            raise ValueError(f"step {state['step']} of {self.steps}")
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter, kept in self.optimizer.state.items():
            # In the parameter's memory format: rounding must be that of an undisturbed run.
            tensors = {name: t for name, t in kept.items() if isinstance(t, Tensor)}
            kept.update({name: torch.empty_like(parameter).copy_(t.view_as(parameter)) for name, t in tensors.items()})
        self.step, self.started = state["step"], time.monotonic() - state["seconds"]
        self.log = Log({name: pair.to(self.device) for name, pair in state["log"].items()})

    def set_aside(self, damage: str, begun: bool) -> None:
        """Keep the damaged checkpoint under another name. Raises UserError where a part of it is in the network already."""
        if is_main():
            self.path.rename(aside := free_name(self.path.with_name("checkpoint.pt.damaged")))
            damage = f"{damage}; it is kept as {aside.name}"
        if begun:
            raise UserError(f"{damage}; type the same command again to train from the start")
        if is_main():
            print(f"{damage}; training from the start", file=sys.stderr)


def facts_of(images: Any, objective: Objective) -> dict[str, Any]:
    """What a checkpoint says of itself where a command does not say more."""
    as_they_are = Transform(max(images.size_px), "none").facts()
    return {
        "method": type(objective).__name__, "id_set": images.name, "classes": list(images.classes),
        "transform": images.facts.get("transform") or as_they_are, "data_facts": images.facts,
        "extra_classes": objective.extra_classes, "train_data": images.name, "train_data_sha256": images.digest,
    }  # fmt: skip
