"""CSI's first run. As a method: test_contract.py; the second run: test_csi_linear.py."""

import pytest
import torch
import torch.nn.functional as F
from small import batch_of, clock, images_of, made

from common.objectives import METHODS
from common.objectives.contrastive import supervised_contrastive_loss
from common.objectives.csi import all_turned, published_loss, turned_labels
from common.training.objective import Batch
from common.training.optimizer import LARS

Z = F.normalize(torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1]], dtype=torch.float64), dim=1)


@pytest.mark.parametrize("tau, rows, mean", [
    (0.07, (9.210382, 9.556924, 9.569721, 9.235653), 9.393170), (0.5, (9.408463, 9.614273, 9.699665, 9.532313), 9.563678),
])  # fmt: skip
def test_the_published_loss_has_the_values_of_loops_over_rows(tau, rows, mean):
    """Numbers by loops in plain Python, written from the description of the public code before this function was there."""
    labels = torch.tensor([0, 1, 0, 1])
    assert (
        published_loss(Z, labels, tau).item() == pytest.approx(mean, abs=1e-6) == pytest.approx(sum(rows) / 4, abs=1e-6)
    )
    assert published_loss(Z, labels, tau).item() != pytest.approx(
        supervised_contrastive_loss(Z, labels, tau).item(), abs=1
    )


def test_the_published_loss_is_supcon_with_one_positive_more_of_probability_1e_8():
    z = F.normalize(torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.arange(12) % 3  # four rows each: three positives, and itself
    expected = (3 * supervised_contrastive_loss(z, labels, 0.5) + 18.420681) / 4
    assert published_loss(z, labels, 0.5).item() == pytest.approx(expected.item(), abs=1e-5)


def test_views_are_turned_one_after_the_other_and_labelled_by_class_and_turn():
    views = torch.rand(8, 2, 3, 4, 4)
    rows = all_turned(views)
    for v in range(8):
        assert torch.equal(rows[2 * v : 2 * v + 2], torch.rot90(views[v], v % 4, (2, 3)))
    labels = turned_labels(torch.tensor([2, 0]).expand(8, -1), 3)
    assert labels.tolist() == 2 * [2, 0, 5, 3, 8, 6, 11, 9]


def test_the_step_is_supcon_of_turned_views_and_labels():
    model, objective, recipe = made("csi")
    images = images_of(torch.arange(6) % 4, 4)
    batch = batch_of(images, 8)
    loss, logs = objective(model.eval(), batch, clock())
    rows = torch.cat([torch.rot90(batch.images[v], v % 4, (2, 3)) for v in range(8)])
    labels = torch.cat([images.labels + 4 * (v % 4) for v in range(8)])
    z = objective.project(model.pool(model.feature_map(rows)))
    expected = supervised_contrastive_loss(z, labels, 0.2) * 0.2 / 0.07
    assert (
        loss.item() == pytest.approx(expected.item(), rel=1e-5)
        and logs["cosine_within"][1] == (labels[:, None] == labels).sum() - 48
    )
    turned = Batch(torch.rot90(batch.images, 1, (3, 4)), batch.labels, batch.index)
    assert objective(model, turned, clock())[0].item() != pytest.approx(loss.item(), rel=1e-6)
    objective.recipe = type(recipe)(loss="as_published")
    assert objective(model, batch, clock())[0].item() == pytest.approx(published_loss(z, labels, 0.07).item(), rel=1e-5)


def test_presets_have_the_values_of_the_public_code_and_the_optimizer_is_lars():
    r = METHODS["csi"].presets["cifar10"].recipe
    assert (r.epochs, r.batch_size, r.lr, r.warmup_lr, r.warmup_epochs, r.weight_decay) == (
        700,
        128,
        1.0,
        0.1,
        10,
        1e-6,
    )
    assert (r.momentum, r.nesterov, r.schedule, r.tau, r.area_low, r.loss) == (
        0.9,
        False,
        "cosine",
        0.07,
        0.08,
        "supcon",
    )
    assert r.factor_of_loss == pytest.approx(1)
    _, objective, _ = made("csi")
    assert objective.optimizer is LARS and objective.views == 8
    objective.recipe = METHODS["csi"].presets["cifar10-short"].recipe
    assert objective.optimizer is torch.optim.SGD and objective.recipe.epochs == 100
