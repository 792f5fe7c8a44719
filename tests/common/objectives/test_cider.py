"""CIDER's prototypes and step. Losses before the update: test_contrastive.py; as a method: test_contract.py."""

import pytest
import torch
import torch.nn.functional as F
from small import batch_of, clock, images_of, made

from common.objectives import METHODS
from common.objectives.cider import class_directions, updated
from common.objectives.contrastive import compactness_loss, dispersion_loss

F64 = torch.float64
PROTOTYPES = F.normalize(torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 1]], dtype=F64), dim=1)
ROWS = F.normalize(torch.tensor([[2, 1, 0], [0, 1, 1], [1, 1, 2], [1, 0, 1]], dtype=F64), dim=1)
LABELS = torch.tensor([0, 1, 2, 0])


def test_the_update_row_by_row_and_the_losses_after_it_have_their_worked_values():
    got = updated(PROTOTYPES, ROWS, LABELS, 0.5, "sequential")
    expected = [0.914483, 0.125036, 0.384821, 0, 0.923880, 0.382683, 0.5, 0.5, 0.707107]
    assert got.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    dispersion, compactness = dispersion_loss(got, 0.1).item(), compactness_loss(ROWS, got, LABELS, 0.1).item()
    assert (dispersion, compactness) == pytest.approx((7.179094, 0.271228), abs=1e-6)
    totals = [dispersion + w * factor * compactness for factor in (0.1 / 0.07, 1) for w in (1, 2)]
    assert totals == pytest.approx([7.566563, 7.954032, 7.450322, 7.721551], abs=2e-6)
    mean = updated(PROTOTYPES, ROWS, LABELS, 0.5, "mean")
    assert mean[0].tolist() == pytest.approx([0.974062, 0.120952, 0.191242], abs=1e-6)
    assert torch.allclose(mean[1:], got[1:]), "classes of one row are the same either way"


def loop(prototypes, z, labels, alpha):
    """As it is written in the public code."""
    rows = list(prototypes)
    for row, label in zip(z, labels.tolist()):
        rows[label] = F.normalize(alpha * rows[label] + (1 - alpha) * row, dim=0)
    return torch.stack(rows)


def test_the_update_and_its_gradient_are_those_of_the_loop():
    drawn = torch.Generator().manual_seed(0)
    start = F.normalize(torch.randn(5, 7, dtype=F64, generator=drawn), dim=1)
    z = F.normalize(torch.randn(40, 7, dtype=F64, generator=drawn), dim=1)
    labels = torch.randint(0, 4, (40,), generator=drawn)  # the last class has no row
    gradients = []
    for how in (lambda z: updated(start, z, labels, 0.8, "sequential"), lambda z: loop(start, z, labels, 0.8)):
        rows = z.clone().requires_grad_()
        made_ = how(rows)
        dispersion_loss(made_, 0.1).backward()
        gradients.append((made_.detach(), rows.grad))
    assert torch.equal(gradients[0][0][4], start[4]) and gradients[0][1].abs().max() > 1e-3
    for ours, theirs in zip(*gradients):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    assert not updated(start, z, labels, 0.8, "mean")[4].ne(start[4]).any()


def test_prototypes_begin_as_directions_of_the_training_images():
    model, objective, _ = made("cider")
    images = images_of(torch.arange(12) % 4, 4)
    objective.prepare(model, images)
    z = objective.project(model.eval().pool(model.feature_map(images.pixels.float() / 255)))
    expected = torch.stack([F.normalize(z[images.labels == k].mean(0), dim=0) for k in range(4)])
    assert torch.allclose(objective.prototypes, expected, atol=1e-6)
    assert not class_directions(z, images.labels, 6)[4:].any()


def test_a_step_moves_the_prototypes_in_training_alone_and_keeps_no_graph():
    model, objective, recipe = made("cider")
    images = images_of(torch.arange(12) % 4, 4)
    objective.prepare(model, images)
    before, batch = objective.prototypes.clone(), batch_of(images, 2)
    first, logs = objective.eval()(model.eval(), batch, clock())
    assert torch.equal(objective.prototypes, before)
    loss, _ = objective.train()(model, batch, clock())
    z = objective.project(model.pool(model.feature_map(batch.flat)))
    after = updated(before, z, batch.labels.repeat(2), recipe.alpha, "sequential")
    assert torch.allclose(objective.prototypes, after, atol=1e-6) and not objective.prototypes.requires_grad
    expected = dispersion_loss(after, 0.1) + 2 * 0.1 / 0.07 * compactness_loss(z, after, batch.labels.repeat(2), 0.1)
    assert first.item() == pytest.approx(loss.item()) == pytest.approx(expected.item(), rel=1e-6)
    assert -1 / 3 - 1e-6 <= logs["cosine_prototypes"] <= 1 and "prototypes" in objective.state_dict()


def test_presets_have_the_values_of_the_public_code():
    ten, hundred = (METHODS["cider"].presets[name] for name in ("cifar10", "cifar100"))
    r = ten.recipe
    assert (r.epochs, r.warmup_epochs, r.batch_size, r.lr, r.lr_end, r.warmup_lr) == (500, 10, 512, 0.5, 5e-4, 0.001)
    assert (r.momentum, r.nesterov, r.weight_decay, r.cosine_by, r.tau) == (0.9, True, 1e-4, "epoch", 0.1)
    assert (r.alpha, r.weight, hundred.recipe.alpha, hundred.recipe.weight) == (0.95, 2, 0.5, 1)
    assert (ten.score, hundred.score) == ("knn:k=100", "knn:k=300")
