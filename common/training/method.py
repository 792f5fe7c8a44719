"""What one command trains: an objective, the presets of its recipe, and how a run of it begins."""

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from common import checkpoint
from common.backbones import build
from common.backbones.classifier import Classifier, Normalise
from common.cli.flags import RunOptions
from common.data.datasets import training_images
from common.data.transforms import Transform
from common.training.objective import Objective
from common.training.recipe import TrainRecipe
from common.training.seeds import seeded
from common.training.start import stats_of


@dataclass(frozen=True)
class Preset:
    """A data set, the network that is usual for it, and a recipe."""

    id_set: str
    backbone: str
    recipe: TrainRecipe
    source: str
    transform: Transform | None = None  # of every image that is scored; None = the set's own
    score: str = ""  # what the method's authors score it with, options included; "" = nothing of its own


USUAL = {"cifar10": "resnet34", "cifar100": "resnet34", "imagenet100": "resnet50", "shapes": "resnet8"}


def presets_of(score: str, recipes: dict[str, tuple[TrainRecipe, str]], **scores: str) -> dict[str, Preset]:
    """A baseline's presets by name: that of its ID set, or the set's with -short behind it, on the network that is usual for the set (USUAL).

    `recipes`: name -> the recipe and whose it is. `scores`: by name, the score where it is another than `score`.
    """
    sets = {name: name.removesuffix("-short") for name in recipes}
    return {
        name: Preset(sets[name], USUAL[sets[name]], recipe, source, score=scores.get(name, score))
        for name, (recipe, source) in recipes.items()
    }


@dataclass(frozen=True)
class Given:
    """What a command was told, looked up: what a method begins a run with."""

    method: "Method"
    recipe: TrainRecipe
    preset: str
    id_set: str
    transform: Transform  # of every image that will be scored
    run: RunOptions
    device: torch.device
    own: dict[str, Any] = field(default_factory=dict)  # all flags' values by name, the method's own among them
    start: Classifier | None = None  # the finished network it goes on from, and the facts of its checkpoint
    start_facts: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)  # fields of the recipe that were given by flags

    @property
    def score(self) -> str:
        return getattr(self.method.presets[self.preset], "score", "")

    def of_start(self) -> dict[str, Any]:
        """Facts that name the network it goes on from; {} where there is none."""
        if self.start is None or self.method.from_checkpoint:  # the latter names it itself, with more
            return {}
        facts = self.start_facts
        return {
            "start": checkpoint.weights_digest(self.start), "start_recipe": facts["recipe"],
            "start_upstream": checkpoint.upstream(facts), "start_seed": facts["seed"],
        }  # fmt: skip

    def images(self, transform: Transform | None = None):
        """The training images under `transform`, else under that of the images to be scored."""
        run = self.run
        how = {"root": run.data, "limit": run.limit, "on_corrupt": run.on_corrupt}
        known = self.start_facts.get("classes") if self.start_facts.get("id_set") == self.id_set else None
        return training_images(self.id_set, transform or self.transform, classes=known, **how)

    def new_network(self, images) -> Classifier:
        """Fresh weights from the run's seed, the body's from --weights or all from --start, where given; an output for each class, and for those
        that the objective adds."""
        side = self.transform.size_px or max(images.size_px)
        classes = len(images.classes) + self.method.objective.extra_classes
        with seeded(self.run.seed, "initialisation"):
            model = build(self.own["backbone"], classes, weights=self.own["weights"], image_size=side)
        model.normalise = Normalise(stats_of(images))
        if self.start is not None:
            start = copy.deepcopy(self.start)
            model.body, model.normalise, model.output_stride = start.body, start.normalise, start.output_stride
            if list(images.classes) == self.start_facts["classes"] and start.classes == classes:
                model.head = start.head
        return model


@dataclass(frozen=True)
class Training:
    """What the engine is handed. `facts` go into the checkpoint, beside or in the place of what the command knows (checkpoint.FACTS)."""

    model: Classifier
    objective: Objective
    images: Any
    recipe: TrainRecipe
    facts: dict[str, Any] = field(default_factory=dict)
    measure: Callable[[], tuple[dict[str, Any], str]] | None = (
        None  # more facts, and how to say them: left alone where the run is done
    )


def begin_with_new_network(given: Given) -> Training:
    """From scratch, or from the weights of a body."""
    images = given.images()
    model = given.new_network(images)
    with seeded(given.run.seed, "objective start"):
        objective = given.method.objective(given.recipe)
        objective.build(model)
    return Training(model, objective, images, given.recipe)


@dataclass(frozen=True, eq=False)
class Method:
    """An entry of METHODS (common.objectives), or of a command of its own.

    The objective's class says the recipe's class (`Recipe`), how many views and outputs it wants, and whether it uses the head. `begin` makes
    network, objective and images of what the command was given. A method with `from_checkpoint` goes on from a finished network; its presets
    are recipes alone.
    """

    name: str  # --objective NAME
    objective: type[Objective]
    presets: dict[str, Preset] | dict[str, TrainRecipe]
    title: str = ""  # what a row of results calls it; "" = name
    begin: Callable[[Given], Training] = begin_with_new_network
    from_checkpoint: bool = False
    by_name: bool = False  # True: its presets are meant only where --objective names it
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None  # flags beside the recipe's
