"""What moves a run's parameters: SGD, or what the objective asks for."""

import torch

from common.backbones.classifier import Classifier
from common.training.objective import Objective
from common.training.recipe import TrainRecipe


def make_optimizer(model: Classifier, objective: Objective, recipe: TrainRecipe) -> torch.optim.SGD:
    """Over the network's parameters, without a head that the objective does not use, and over the objective's own."""
    used = [p for name, p in model.named_parameters() if objective.uses_head or not name.startswith("head.")]
    groups = [{"params": used, "lr_scale": 1.0}, *objective.groups()]
    momentum = {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
    return torch.optim.SGD(groups, lr=recipe.lr, weight_decay=recipe.weight_decay, **momentum)
