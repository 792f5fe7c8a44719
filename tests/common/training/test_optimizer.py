"""What moves a run's parameters. Over a whole run: test_engine.py."""

import pytest
import torch

from common.backbones import build
from common.objectives.cross_entropy import CrossEntropy
from common.training.optimizer import LARS, make_optimizer
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


def test_lars_goes_a_share_of_each_tensors_length():
    """Two steps by numpy, from torchlars's rule: the gradient, decay included, times 0.001 |p| / (|g| + decay |p| + 1e-8), then momentum."""
    p, still = (torch.nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in ([3.0, 4], [0.0, 0]))
    optimizer = LARS([p, still], lr=0.5, momentum=0.9, weight_decay=0.01)
    for gradient, expected, zeros in (([0.6, 0.8], [2.9985, 3.998], 1.0), ([0.0, 2], [2.99711345, 3.99371343], 0.0)):
        p.grad, still.grad = torch.tensor(gradient, dtype=torch.float64), torch.tensor([zeros, 0], dtype=torch.float64)
        optimizer.step()
        assert p.tolist() == pytest.approx(expected, abs=1e-8)
        assert still.tolist()[0] == pytest.approx(-0.5 if zeros else -0.9475), (
            "a tensor of zeros goes as far as SGD says"
        )
    assert optimizer.param_groups[0]["weight_decay"] == 0.01


def test_an_objective_may_ask_for_it():
    objective = Headless()
    objective.optimizer = LARS
    assert type(make_optimizer(build("resnet8", 3), objective, TrainRecipe())) is LARS
