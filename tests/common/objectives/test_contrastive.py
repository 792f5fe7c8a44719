"""The contrastive losses, by numbers and against plain loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from small import batch_of, images_of, made

from common.objectives.contrastive import compactness_loss, cosine_within, dispersion_loss, supervised_contrastive_loss

F64 = torch.float64


def unit(rows) -> torch.Tensor:
    return F.normalize(torch.tensor(rows, dtype=F64), dim=1)


VIEWS, LABELS = unit([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1]]), torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize("tau, expected, times", [(0.1, 0.392252, 0.560359), (0.5, 0.706676, 5.047688)])
def test_the_supervised_contrastive_loss_has_its_worked_values(tau, expected, times):
    loss = supervised_contrastive_loss(VIEWS, LABELS, tau).item()
    assert (loss, loss * tau / 0.07) == pytest.approx((expected, times), abs=1e-6)


def test_the_supervised_contrastive_loss_is_that_of_a_loop_over_rows_and_positives():
    z = F.normalize(torch.randn(14, 6, dtype=F64, generator=torch.Generator().manual_seed(0)), dim=1)
    labels, rows = torch.tensor([0, 1, 2, 0, 0, 3, 1, 0, 1, 2, 0, 0, 4, 1]), []  # 3 and 4 have one row each
    for i in range(14):
        others = [j for j in range(14) if j != i]
        positive = [j for j in others if labels[j] == labels[i]]
        total = math.log(sum(math.exp(z[i] @ z[j] / 0.2) for j in others))
        rows += [-sum(float(z[i] @ z[p]) / 0.2 - total for p in positive) / len(positive)] if positive else []
    assert len(rows) == 12
    assert supervised_contrastive_loss(z, labels, 0.2).item() == pytest.approx(sum(rows) / 12, abs=1e-9)


def test_low_temperatures_and_equal_rows_stay_finite():
    z = F.normalize(torch.ones(6, 4), dim=1).requires_grad_()
    loss = supervised_contrastive_loss(z, torch.tensor([0, 0, 1, 1, 2, 2]), 0.005)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(5), abs=1e-4) and z.grad.isfinite().all()
    alone = supervised_contrastive_loss(z, torch.arange(6), 0.1)
    assert alone.item() == 0 and alone.requires_grad


def test_dispersion_and_compactness_have_their_worked_values_before_the_update():
    prototypes = unit([[1, 0, 0], [0, 1, 0], [1, 1, 1]])
    z, labels = unit([[2, 1, 0], [0, 1, 1], [1, 1, 2], [1, 0, 1]]), torch.tensor([0, 1, 2, 0])
    assert dispersion_loss(prototypes, 0.1).item() == pytest.approx(5.313474, abs=1e-6)
    assert compactness_loss(z, prototypes, labels, 0.1).item() == pytest.approx(0.761963, abs=1e-6)
    rows = [compactness_loss(z[[i]], prototypes, labels[[i]], 0.1).item() for i in range(4)]
    assert rows == pytest.approx([0.272412, 1.382974, 0.009493, 1.382974], abs=1e-6)


def test_the_logged_cosine_is_the_mean_over_pairs_of_a_class():
    top, bottom = cosine_within(VIEWS, LABELS).tolist()
    pairs = [VIEWS[0] @ VIEWS[2], VIEWS[1] @ VIEWS[3]]
    assert top / bottom == pytest.approx(float(sum(pairs)) / 2) and bottom == 4


@pytest.mark.parametrize("name", ["ssd+", "cider", "npos"])
def test_rows_are_views_first_of_length_1_and_the_factor_can_be_left_out(name):
    model, objective, recipe = made(name)
    batch = batch_of(images_of(torch.arange(6) % 4, 4), 2)
    features = model.pool(model.feature_map(batch.flat))
    z, labels = objective.rows(features, batch)
    assert z.shape == (12, 128) and labels.tolist() == 2 * batch.labels.tolist()
    assert torch.equal(z, objective.project(features)) and torch.allclose(z.norm(dim=1), torch.ones(12))
    assert recipe.factor_of_loss == pytest.approx(0.1 / 0.07) and recipe.accuracy == "probe"
    assert type(recipe)(scale=False).factor_of_loss == 1
