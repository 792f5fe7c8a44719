"""CSI's second run, and both together. As a method: test_contract.py."""

import csv
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import batch_of, clock, images_of, made
from torch import nn

from common import evaluate, pretrain
from common.backbones.classifier import Classifier
from common.backbones.rotated import Rotated
from common.checkpoint import load_finished, load_objective_state
from common.cli.errors import UserError
from common.objectives.csi_linear import CSILinear, CSILinearRecipe

SMALL = ("--epochs", 1, "--limit", 48, "--batch-size", 24, "--quiet", "--device", "cpu")


class UpperLeft(nn.Module):
    def forward(self, images):
        return images[:, :1, :1, :1]


def test_the_finished_networks_logits_are_the_rotation_averaged_joint_logits():
    """By hand: corners 0.1, 0.2, 0.3, 0.4 clockwise are seen in this order; joint logits (1, 1), (2, -1), (0, 3), (-1.5, 1.5) of the four turns."""
    model = Classifier("rotated:corner", Rotated(UpperLeft()), 4, 2, lambda body: [])
    model.normalise = nn.Identity()
    objective = CSILinear(CSILinearRecipe())
    objective.build(model)
    with torch.no_grad():
        objective.joint.weight.copy_(torch.tensor([10.0, 0, 5, -5, 0, 10, -5, 5])[:, None])
        objective.joint.bias.copy_(torch.tensor([0, 1, 1, 0, 0, 0, 0.5, -0.5]))
    objective.finish(model, None)
    image = torch.tensor([[0.1, 0.2], [0.4, 0.3]]).expand(1, 3, 2, 2)
    assert model(image).flatten().tolist() == pytest.approx([0.375, 1.125], abs=1e-6)
    assert model(image).softmax(1).max().item() == pytest.approx(0.679179, abs=1e-6)


def test_they_are_those_of_four_passes_and_rows_of_the_joint_head():
    model, objective, _ = made("csi-linear")
    images = images_of(torch.arange(6) % 4, 4)
    objective.finish(model.eval(), images)
    x, total = images.pixels.numpy() / np.float32(255), 0
    for r in range(4):
        turned = torch.from_numpy(np.rot90(x, r, axes=(2, 3)).copy())
        h = model.body.body(model.normalise(turned)).mean((2, 3))
        total = total + (objective.joint(h)[:, 4 * r : 4 * r + 4]) / 4
    assert torch.allclose(model(torch.from_numpy(x)), total, atol=1e-6)


def test_the_step_trains_the_joint_head_alone_by_class_and_turn():
    model, objective, _ = made("csi-linear")
    batch = batch_of(images_of(torch.arange(6) % 4, 4), 4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loss, logs = objective(model.train(), batch, clock())
    loss.backward()
    rows = torch.cat([torch.rot90(batch.images[r], r, (2, 3)) for r in range(4)])
    logits = objective.joint(model.body.body(model.normalise(rows)).mean((2, 3)))
    labels = torch.cat([batch.labels + 4 * r for r in range(4)])
    assert loss.item() == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert logs["joint_accuracy"].tolist() == [(logits.argmax(1) == labels).sum(), 24]
    averaged = sum(logits[6 * r : 6 * r + 6, 4 * r : 4 * r + 4] for r in range(4))
    assert logs["train_accuracy"].tolist() == [(averaged.argmax(1) == batch.labels).sum(), 6]
    assert objective.joint.weight.grad.abs().max() > 0 and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items()), "no statistics either"


def test_a_network_that_is_not_turned_is_refused():
    model, _, _ = made("logitnorm")
    with pytest.raises(UserError, match="csi-linear wants a network of four turns, rotated:resnet8, got resnet8"):
        CSILinear(CSILinearRecipe()).build(model)


def test_both_runs_by_command_and_every_kind_of_score_on_what_they_leave(typed, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    code, _, err = typed(pretrain, "shapes", "--objective", "csi", *SMALL, "--warmup-epochs", 0, "--out", one)
    assert code == 0, err
    code, _, err = typed(
        pretrain, "shapes", "--objective", "csi-linear", "--start", one / "checkpoint.pt", *SMALL, "--out", two
    )
    assert code == 0, err
    (first, _), (second, facts) = (load_finished(folder / "checkpoint.pt") for folder in (one, two))
    assert second.name == "rotated:resnet8" and load_objective_state(two / "checkpoint.pt")["joint.weight"].shape == (
        32,
        128,
    )
    assert all(
        torch.equal(a, b) for a, b in zip(first.body.state_dict().values(), second.body.body.state_dict().values())
    )
    assert facts["method"] == "CSI" and facts["start_recipe"]["optimizer"] == "sgd"
    how = ("--ood", "shapes-noise", "--limit", 24, "--quiet", "--device", "cpu")
    code, _, err = typed(evaluate, two / "checkpoint.pt", "--scorers", "own", "react", "featurenorm", *how)
    assert code == 0, err
    rows = list(csv.DictReader((two / "results.csv").open()))
    assert [(row["method"], row["scorer"]) for row in rows] == [
        ("CSI", "msp"),
        ("CSI", "react"),
        ("CSI", "featurenorm"),
    ]
    assert json.loads(rows[0]["upstream"])["start"]["tau"] == 0.1


@pytest.mark.parametrize("words, said", [
    ((), "csi-linear goes on from a finished run of csi: give it as --start CHECKPOINT, got none"),
    (("--start", "plain.pt"), "csi-linear goes on from a finished run of csi: give it as --start CHECKPOINT, got one of m"),
])  # fmt: skip
def test_it_wants_the_first_run(typed, finished, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    finished("plain.pt")
    code, _, err = typed(pretrain, "shapes", "--objective", "csi-linear", *words, *SMALL, "--out", "run")
    assert (code, err) == (2, f"error: {said}\n") and not (tmp_path / "run").exists()
