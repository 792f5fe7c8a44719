"""VOS's losses and outliers. As a method: test_contract.py."""

import pytest
import torch
import torch.nn.functional as F
from small import batch_of, clock, images_of, made

from common.cli.errors import UserError
from common.objectives.vos import VOS, VOSRecipe, class_gaussians, least_likely, virtual_outliers, weighted_energy

F64 = torch.float64
INSIDE, OUTSIDE = torch.tensor([[2, 1, 0], [0, 3, 1]], dtype=F64), torch.tensor([[0.5, 0.2, 0.1]], dtype=F64)
WEIGHTS = torch.tensor([1, 0.5, -0.3], dtype=F64)


def test_the_uncertainty_loss_has_its_worked_value():
    assert weighted_energy(INSIDE, WEIGHTS).tolist() == pytest.approx([2.168848, 2.401776], abs=1e-6)
    assert weighted_energy(OUTSIDE, WEIGHTS).tolist() == pytest.approx([0.815109], abs=1e-6)
    objective = VOS(VOSRecipe())
    objective.weights, objective.phi = torch.nn.Parameter(WEIGHTS), torch.nn.Linear(1, 2, dtype=F64)
    with torch.no_grad():
        objective.phi.weight.copy_(torch.tensor([[-0.5], [0.5]])), objective.phi.bias.copy_(torch.tensor([0.1, -0.1]))
    loss, right, odd_right = objective.uncertainty(INSIDE, OUTSIDE)
    total = F.cross_entropy(INSIDE, torch.tensor([0, 1])) + 0.1 * loss
    assert (loss.item(), total.item()) == pytest.approx((0.427623, 0.331488), abs=1e-6)
    assert (int(right), int(odd_right)) == (2, 0)


def test_the_least_likely_draw_is_the_longest_and_has_its_worked_place():
    queue = torch.tensor([[[1, 0], [-1, 0], [0, 2], [0, -2]]], dtype=F64) + torch.tensor([1, 2])
    means, factor = class_gaussians(queue)
    assert torch.allclose(factor @ factor.T, torch.diag(torch.tensor([0.5001, 2.0001], dtype=F64)))
    draws = torch.tensor([[0.5, 0.5], [2, -1], [-0.3, 1.5]], dtype=F64)
    points = means + draws @ factor.T
    density = torch.distributions.MultivariateNormal(means[0], scale_tril=factor).log_prob(points)
    assert density.tolist() == pytest.approx([-2.088002, -4.338002, -3.008002], abs=1e-6)
    got = least_likely(means[0], factor, draws, 1)
    assert got.flatten().tolist() == pytest.approx([2.414355, 0.585751], abs=1e-6)
    two = least_likely(means[0], factor, draws, 2)
    assert torch.allclose(two, points[density.argsort()[:2]])


def test_outliers_lie_around_their_class_and_are_the_same_for_the_same_draws():
    queues = torch.randn(3, 50, 4, generator=torch.Generator().manual_seed(0)) + 100 * torch.arange(3).view(3, 1, 1)
    first, again = (virtual_outliers(queues, 1000, 2, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (6, 4)
    away = first.view(3, 2, 4) - queues.mean(1)[:, None]
    assert away.norm(dim=2).min() > 3 and away.norm(dim=2).max() < 9, (
        "of 1,000 draws in 4 dimensions the longest are near 4"
    )


def test_a_covariance_that_is_not_full_is_decomposed_and_one_that_is_none_named():
    flat = torch.zeros(2, 10, 3)
    flat[:, :, 0] = 1e4 * torch.arange(10)
    assert class_gaussians(flat)[1].isfinite().all()
    with pytest.raises(UserError, match="VOS: the features have no covariance"):
        class_gaussians(flat * torch.nan)


def test_energy_stays_finite_with_negative_weights_and_large_logits():
    f = torch.tensor([[300.0, -300.0]], requires_grad=True)
    for weights in (torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 1.0])):
        w = weights.requires_grad_()
        weighted_energy(f, w).sum().backward()
        assert f.grad.isfinite().all() and w.grad.isfinite().all()
    assert weighted_energy(f, torch.ones(2)).item() == pytest.approx(300)


def test_before_the_queues_are_full_or_the_epoch_has_come_the_step_is_cross_entropy():
    for changes in ({"queue": 7}, {"outliers_from": 1, "queue": 4}):
        model, objective, _ = made("vos")
        objective.recipe = VOSRecipe(**changes)
        objective.build(model)
        batch = batch_of(images_of(torch.arange(24) % 4, 4), 1)
        loss, logs = objective(model.eval(), batch, clock())
        assert loss.item() == pytest.approx(F.cross_entropy(model(batch.flat), batch.labels).item(), rel=1e-6)
        loss.backward()
        assert "uncertainty" not in logs and objective.weights.grad is None and objective.phi.weight.grad is None


def test_once_they_are_the_gradient_reaches_body_head_weights_and_phi():
    model, objective, _ = made("vos")
    batch = batch_of(images_of(torch.arange(24) % 4, 4), 1)
    loss, logs = objective(model.eval(), batch, clock())
    ce = F.cross_entropy(model(batch.flat), batch.labels)
    assert loss.item() == pytest.approx(ce.item() + 0.1 * logs["uncertainty"].item(), rel=1e-6)
    (loss - ce).backward()
    for parameter in (next(model.body.parameters()), model.head.weight, objective.weights, objective.phi.weight):
        assert parameter.grad.abs().max() > 1e-8
    assert 0 <= logs["phi_accuracy"][0] <= logs["phi_accuracy"][1] == 24
    with pytest.raises(UserError, match="select must be at most draws, 10, got 11"):
        VOSRecipe(draws=10, select=11)
