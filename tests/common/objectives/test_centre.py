"""DML+'s second network. What it has in common with the first: test_focal.py; as a method: test_contract.py."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small import batch_of, clock, images_of, made

from common.cli.errors import UserError
from common.objectives.centre import CentreRecipe, centre_loss, moved
from common.training.objective import Clock

F64 = torch.float64
ROWS, LABELS = torch.tensor([[3, 4], [1, 0], [0, 0]], dtype=F64), torch.tensor([0, 1, 0])
CENTRES = torch.tensor([[0, 0], [1, 2], [5, 5]], dtype=F64)


def test_the_centre_loss_is_the_mean_squared_distance_to_the_own_centre():
    assert centre_loss(ROWS, CENTRES, LABELS).item() == pytest.approx((25 + 4 + 0) / 3)
    h = ROWS.clone().requires_grad_()
    centre_loss(h, CENTRES, LABELS).backward()
    assert torch.allclose(h.grad, torch.tensor([[2, 8 / 3], [0, -4 / 3], [0, 0]], dtype=F64))
    assert centre_loss(1e7 * ROWS, CENTRES, LABELS).item() == pytest.approx((2e12 + 4e-0) / 3, rel=1e-6)


def test_centres_move_as_plain_sgd_moves_them_and_those_without_images_stay():
    centres = CENTRES.clone().requires_grad_()
    optimizer = torch.optim.SGD([centres], lr=0.5)
    weight = 0.005
    (weight * centre_loss(ROWS, centres, LABELS)).backward()
    centres.grad /= weight  # as in the public code
    optimizer.step()
    assert torch.allclose(moved(CENTRES, ROWS, LABELS, 0.5), centres.detach(), rtol=0, atol=1e-12)
    assert torch.equal(centres[2], CENTRES[2]) and (centres != CENTRES).any()


def test_the_weight_rises_with_the_epochs():
    recipe = CentreRecipe()
    weights = [recipe.weight(epoch, 100) for epoch in (0, 59, 60, 79, 80, 99)]
    assert weights == [0, 0, 0.001, 0.001, 0.005, 0.005] and recipe.weight(5, 10) == 0 and recipe.weight(6, 10) == 0.001
    for changes in ({"centre_begins": (0.5,)}, {"centre_begins": (0.8, 0.6)}):
        with pytest.raises(UserError, match="centre_begins must be as many as centre_weights, 2, and rise, got"):
            replace(recipe, **changes)


def test_the_step_is_cross_entropy_and_from_its_epoch_on_the_weighted_centre_loss():
    model, objective, recipe = made("dml-centre")
    objective.recipe = replace(recipe, centre_weights=(0.25,), centre_begins=(0.5,))
    batch, before = batch_of(images_of(torch.arange(8) % 4, 4), 1), objective.centres.clone()
    losses = []
    for epoch in (0, 1):
        at = Clock(epoch, 2, epoch, 1, clock().generator)
        losses.append(objective(model.eval(), batch, at)[0].item())
        assert torch.equal(objective.centres, before) == (epoch == 0)
    h = model.penultimate(batch.flat)
    ce = F.cross_entropy(h @ F.normalize(model.head.weight, dim=1).T, batch.labels).item()
    assert losses == pytest.approx([ce, ce + 0.25 * centre_loss(h, before, batch.labels).item()], rel=1e-5)
    assert torch.allclose(objective.centres, moved(before, h.detach(), batch.labels, 0.5), atol=1e-5)
    held = objective.centres.clone()
    objective.eval()(model, batch, at)
    assert torch.equal(objective.centres, held) and "centres" in objective.state_dict()
