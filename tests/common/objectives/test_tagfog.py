"""TagFog's step and command. SupCon: test_contrastive.py; anchors: test_anchors.py; jigsawed images: tests/common/data/test_jigsaw.py."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import batch_of, clock, images_of, made

from common import evaluate, pretrain
from common.checkpoint import load_finished, load_objective_state
from common.data import shapes
from common.data.jigsaw import with_jigsaw
from common.objectives import METHODS
from common.objectives.contrastive import supervised_contrastive_loss
from common.objectives.tagfog import text_loss
from common.training.engine import running_statistics, set_mode

SMALL = ("--epochs", 1, "--limit", 64, "--batch-size", 64, "--quiet", "--device", "cpu")


def test_the_text_loss_has_its_worked_values_and_counts_jigsawed_rows():
    anchors = torch.eye(2, dtype=torch.float64)
    v = F.normalize(torch.tensor([[2, 1], [1, 3], [1, 1]], dtype=torch.float64), dim=1)
    labels = torch.tensor([0, 1, 2])
    rows = [3 * text_loss(v, anchors, torch.where(torch.arange(3) == i, labels, 2), 0.1).item() for i in range(3)]
    assert rows == pytest.approx([0.011358, 0.001790, 0], abs=1e-6)
    assert text_loss(v, anchors, labels, 0.1).item() == pytest.approx(0.004383, abs=1e-6)
    assert text_loss(v[:2], anchors, labels[:2], 0.1).item() == pytest.approx(0.006574, abs=1e-6)


def test_the_step_is_cross_entropy_of_all_classes_and_one_more_plus_text_plus_supcon():
    model, objective, _ = made("tagfog")
    images = with_jigsaw(images_of(torch.arange(8) % 4, 4), 4, 1, 0)
    batch = batch_of(images, 2)
    loss, logs = objective.eval()(model.eval(), batch, clock())
    h, labels = model.pool(model.feature_map(batch.flat)), images.labels.repeat(2)
    assert labels.tolist() == 2 * [0, 1, 2, 3, 0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 4]
    weight = torch.cat([model.head.weight, objective.fog.weight])  # the head of K + 1
    logits = h @ weight.T + torch.cat([model.head.bias, objective.fog.bias])
    v = F.normalize(objective.project(h), dim=1)
    own = labels < 4
    text = F.cross_entropy(v[own] @ objective.anchors.T / 0.1, labels[own]) / 2  # half of the rows are jigsawed
    supcon = supervised_contrastive_loss(v, labels, 0.1) * 0.1 / 0.07
    parts = [F.cross_entropy(logits, labels), text, supcon]
    assert [logs[name].item() for name in ("ce", "text", "supcon")] == pytest.approx(
        [p.item() for p in parts], rel=1e-5
    )
    assert loss.item() == pytest.approx(sum(parts).item(), rel=1e-6)
    assert logs["jigsaw_recall"][1] == logs["train_accuracy"][1] == 16
    right = logits.argmax(1) == labels
    assert logs["jigsaw_recall"][0] == right[~own].sum() and logs["train_accuracy"][0] == right[own].sum()
    loss.backward()
    for parameter in (model.head.weight, objective.fog.weight, objective.project[0].weight):
        assert parameter.grad.abs().max() > 1e-8
    assert objective.anchors.requires_grad is False and "anchors" in objective.state_dict()


def test_the_weights_of_both_terms_can_be_changed():
    batch = batch_of(images_of(torch.arange(8) % 4, 4), 2)
    model, objective, recipe = made("tagfog")
    whole, logs = objective.eval()(model.eval(), batch, clock())
    objective.recipe = type(recipe)(width=16, alpha=0.5, beta=0.25, scale=False)
    less, _ = objective(model, batch, clock())
    expected = logs["ce"] + 0.5 * logs["text"] + 0.25 * 0.07 / 0.1 * logs["supcon"]
    assert less.item() == pytest.approx(expected.item(), rel=1e-5) and less < whole


def test_the_projections_batch_norm_is_frozen_and_averaged_with_the_networks():
    model, objective, recipe = made("tagfog")
    set_mode(model, objective, recipe)
    norm = objective.project[1]
    assert any(buffer is norm.running_mean for buffer in running_statistics(model, objective))
    set_mode(model, objective, replace(recipe, bn="frozen"))
    assert not norm.training and not running_statistics(model, objective)


def test_presets_have_the_values_of_the_public_code():
    ten, hundred, net = (METHODS["tagfog"].presets[name] for name in ("cifar10", "cifar100", "imagenet100"))
    r = ten.recipe
    assert (r.epochs, r.batch_size, r.lr, r.warmup_epochs, r.warmup_lr) == (200, 512, 0.05, 10, 0.01)
    assert (r.momentum, r.nesterov, r.weight_decay, r.schedule, r.drops) == (0.9, False, 1e-4, "step", (0.75, 0.9))
    assert (r.pieces, r.copies, r.alpha, r.beta, r.tau, r.width) == (4, 2, 1, 1, 0.1, 768)
    assert (hundred.recipe.copies, hundred.recipe.drops) == (1, (0.75,))
    r = net.recipe
    assert (r.batch_size, r.warmup_epochs, r.drops, r.pieces, r.copies) == (128, 0, (0.5, 0.75, 0.9), 8, 1)


def test_the_command_trains_on_jigsawed_images_and_leaves_a_network_of_the_sets_classes(typed, tmp_path):
    code, _, err = typed(pretrain, "shapes", "--objective", "tagfog", *SMALL, "--out", tmp_path / "run")
    assert code == 0, err
    model, facts = load_finished(tmp_path / "run/checkpoint.pt")
    assert (
        model.classes == 8
        and facts["recipe"]["anchored_by"] == "random"
        and facts["recipe"]["origin"] == "ours, changed"
    )
    assert facts["train_data_sha256"] == shapes.load("shapes", "train", 64).digest, "of the images themselves"
    line = json.loads((tmp_path / "run/log.jsonl").read_text())
    assert line["steps"] == 2 and line["jigsaw_recall"] is not None, "64 images and 64 jigsawed ones"
    state = load_objective_state(tmp_path / "run/checkpoint.pt")
    assert torch.allclose(state["anchors"] @ state["anchors"].T, torch.eye(8), atol=1e-5)
    how = ("--ood", "shapes-noise", "--limit", 40, "--quiet", "--device", "cpu")
    code, _, err = typed(evaluate, tmp_path / "run/checkpoint.pt", "--scorers", "own", "msp", *how)
    assert code == 0, err
    rows = list(csv.DictReader((tmp_path / "run/results.csv").open()))
    assert [(row["method"], row["scorer"]) for row in rows] == [("TagFog", "react"), ("TagFog", "msp")]


def test_anchors_of_a_file_are_part_of_the_run(typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(8, 5))
    order = [3, 1, 0, 2, 7, 6, 5, 4]
    names = np.array(list(shapes.CLASSES))[order]
    np.savez("mine.npz", anchors=rows[order], classes=names, source="made by hand")
    words = ("shapes", "--objective", "tagfog", *SMALL, "--out", "run", "--anchors")
    code, _, err = typed(pretrain, *words, "mine.npz")
    assert code == 0, err
    facts, state = (
        load_finished(tmp_path / "run/checkpoint.pt")[1],
        load_objective_state(tmp_path / "run/checkpoint.pt"),
    )
    assert np.allclose(state["anchors"], rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-6)
    assert state["project.3.weight"].shape[0] == 5 == facts["recipe"]["width"]
    assert facts["anchors_source"] == "made by hand" and len(facts["recipe"]["anchored_by"]) == 64
    np.savez("mine.npz", anchors=rows[order] + 0.1, classes=names, source="made by hand")
    code, _, err = typed(pretrain, *words, "mine.npz")
    other = load_finished(tmp_path / "run/checkpoint.pt")[1]
    assert code == 0 and other["run_identity"] != facts["run_identity"], "other anchors are another run"


def test_the_authors_presets_want_anchors_and_random_ones_change_them(typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = (
        "cifar10",
        "--id",
        "shapes",
        "--backbone",
        "resnet8",
        "--objective",
        "tagfog",
        *SMALL,
        "--out",
        "run",
        "--no-sync-bn",
    )
    code, _, err = typed(pretrain, *words)
    assert code == 2 and err.startswith("error: tagfog wants --anchors: an .npz with anchors") and err.count("\n") == 1
    assert not (tmp_path / "run").exists()
    code, _, err = typed(pretrain, *words, "--pieces", 5, "--anchors", "random")
    assert (code, err) == (2, "error: pieces must be in 2..16 and divide the images' side, 48 px, got 5\n")
    code, _, err = typed(pretrain, *words, "--anchors", "nothing.npz")
    assert (
        code == 2
        and err.startswith("error: no file nothing.npz; expected an .npz with anchors")
        and err.count("\n") == 1
    )
