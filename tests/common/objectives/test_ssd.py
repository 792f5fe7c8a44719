"""SSD+'s step. Its loss: test_contrastive.py; as a method: test_contract.py; its score: tests/common/scorers/test_gaussians.py."""

import csv
import json

import pytest
import torch
from small import batch_of, clock, images_of, made

from common import evaluate, pretrain
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


def test_the_command_trains_it_and_its_own_score_and_every_other_read_the_fitted_head(typed, tmp_path):
    small = ("--epochs", 1, "--limit", 64, "--batch-size", 32, "--lr", 0.01, "--warmup-lr", 0, "--warmup-epochs", 0)
    words = ("shapes", "--objective", "ssd+", *small, "--quiet", "--device", "cpu", "--out", tmp_path / "run")
    code, _, err = typed(pretrain, *words)
    assert code == 0, err
    how = ("--ood", "shapes-noise", "--limit", 40, "--quiet", "--device", "cpu")
    path = tmp_path / "run/checkpoint.pt"
    code, _, err = typed(evaluate, path, "--scorers", "own", "energy", *how)
    assert code == 0, err
    rows = list(csv.DictReader((tmp_path / "run/results.csv").open()))
    assert [(row["method"], row["scorer"]) for row in rows] == [("SSD+", "ssd"), ("SSD+", "energy")]
    recipe = json.loads(rows[0]["recipe"])
    assert (recipe["accuracy"], recipe["origin"]) == ("probe", "ours, changed")


def test_a_method_without_a_score_of_its_own_says_so(typed, finished):
    path = finished("plain.pt")
    code, _, err = typed(evaluate, path, "--scorers", "own", "--ood", "shapes-noise", "--device", "cpu")
    assert (code, err) == (2, f"error: {path}: m has no score of its own; name one instead of own\n")
