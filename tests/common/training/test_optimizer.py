"""What moves a run's parameters. Over a whole run: test_engine.py."""

import torch

from common.backbones import build
from common.objectives.cross_entropy import CrossEntropy
from common.training.optimizer import make_optimizer
from common.training.recipe import TrainRecipe


class Headless(CrossEntropy):
    uses_head = False

    def __init__(self):
        super().__init__()
        self.own = torch.nn.Linear(2, 2)


def test_the_head_is_left_out_where_it_is_not_used_and_the_objectives_own_come_behind():
    model, recipe = build("resnet8", 3), TrainRecipe(lr=0.3, momentum=0.8, weight_decay=0.01)
    objective = Headless()
    plain, other = (make_optimizer(model, objective, recipe) for objective in (CrossEntropy(), objective))
    assert len(plain.param_groups) == 1 and len(plain.param_groups[0]["params"]) == len(list(model.parameters()))
    body, own = other.param_groups
    assert len(body["params"]) == len(list(model.body.parameters()))
    assert own["params"] == list(objective.parameters()) and own["lr_scale"] == 1
    assert all((g["lr"], g["momentum"], g["weight_decay"]) == (0.3, 0.8, 0.01) for g in other.param_groups)
