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
    return objective.optimizer(groups, lr=recipe.lr, weight_decay=recipe.weight_decay, **momentum)


class LARS(torch.optim.SGD):
    """SGD whose every tensor p goes as far as is a share of its own length: the gradient, decay included, is multiplied by
    trust |p| / (|gradient| + decay |p| + eps) before momentum (You et al. 2017). As in the package torchlars; a tensor or gradient of zeros is left
    as it is."""

    TRUST, EPS = 0.001, 1e-8

    @torch.no_grad()
    def step(self, closure=None):
        decays = [group["weight_decay"] for group in self.param_groups]
        for group, decay in zip(self.param_groups, decays):
            for p in (p for p in group["params"] if p.grad is not None):
                own, length = torch.linalg.vector_norm(p), torch.linalg.vector_norm(p.grad)
                rate = torch.where((own > 0) & (length > 0), self.TRUST * own / (length + decay * own + self.EPS), 1.0)
                p.grad.add_(p, alpha=decay).mul_(rate)
            group["weight_decay"] = 0.0  # it is in the gradient
        super().step(closure)
        for group, decay in zip(self.param_groups, decays):
            group["weight_decay"] = decay
