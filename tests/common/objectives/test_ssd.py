"""SSD+'s step. Its loss: test_contrastive.py; as a method: test_contract.py; its score: tests/common/scorers/test_gaussians.py."""

import pytest
import torch
from small import batch_of, clock, images_of, made

from common.objectives import METHODS
from common.objectives.contrastive import supervised_contrastive_loss


def test_the_step_is_the_loss_of_both_views_times_tau_over_its_base():
    model, objective, _ = made("ssd+")
    batch = batch_of(images_of(torch.arange(10) % 4, 4), 2)
    loss, logs = objective(model.eval(), batch, clock())
    z = objective.project(model.pool(model.feature_map(batch.flat)))
    expected = supervised_contrastive_loss(z, batch.labels.repeat(2), 0.1) * 0.1 / 0.07
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6) and logs.keys() == {"cosine_within"}
    loss.backward()
    assert model.head.weight.grad is None and next(model.body.parameters()).grad.abs().max() > 0


def test_presets_have_the_values_of_the_public_code():
    r = METHODS["ssd+"].presets["cifar10"].recipe
    assert (r.epochs, r.warmup_epochs, r.batch_size, r.lr, r.lr_end, r.warmup_lr) == (510, 10, 512, 0.5, 1e-4, 0.01)
    assert (r.momentum, r.nesterov, r.weight_decay, r.schedule, r.cosine_by) == (0.9, False, 1e-4, "cosine", "step")
    assert (r.crop, r.area_low, r.jitter, r.grey, r.tau, r.width) == ("resized", 0.2, True, 0.2, 0.1, 128)
