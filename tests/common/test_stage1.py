"""DFB's first stage: the preset's values, the window cut from enlarged images, mixup, and the command at a small size."""

import sys

import pytest
import torch
import torch.nn.functional as F

from common import pretrain
from common.backbones import build
from common.checkpoint import load
from common.cli.errors import UserError
from common.objectives import METHODS
from common.objectives.mixup import Mixup, mixup
from common.training.augment import Augmentation
from common.training.objective import Batch, Clock


def test_presets_hold_the_papers_values():
    for name, id_set in (("dfb-cifar10", "cifar10"), ("dfb-cifar100", "cifar100")):
        preset = METHODS["mixup"].presets[name]
        r = preset.recipe
        assert (preset.id_set, preset.backbone, r.steps, r.batch_size, r.lr, r.momentum, r.drops) == (
            id_set,
            "bit-r50x1",
            20_000,
            128,
            0.003,
            0.9,
            (0.3, 0.6, 0.9),
        )
        assert (r.resize_px, preset.transform.size_px, preset.transform.rule, r.mixup, r.weight_decay) == (
            160,
            128,
            "squeeze",
            0.1,
            0.0,
        )


def test_a_window_is_a_part_of_the_image():
    images = torch.arange(2 * 3 * 9 * 9).remainder(251).view(2, 3, 9, 9).to(torch.uint8)
    how = Augmentation(crop="window", window_px=6, flip=False)
    got, _ = how.apply(images, how.draw(2, (9, 9), torch.Generator().manual_seed(0)))
    places = [
        [
            (i, j)
            for i in range(4)
            for j in range(4)
            if torch.equal((got[n] * 255).round().byte(), images[n, :, i : i + 6, j : j + 6])
        ]
        for n in range(2)
    ]
    assert got.shape == (2, 3, 6, 6) and all(len(found) == 1 for found in places) and places[0] != places[1]


def test_the_mixup_step_mixes_images_and_losses_by_one_share():
    torch.manual_seed(0)
    model, images, labels = build("resnet8", 4).eval(), torch.rand(6, 3, 16, 16), torch.arange(6) % 4
    clock = lambda: Clock(0, 1, 0, 1, torch.Generator().manual_seed(5))  # noqa: E731
    loss, _ = Mixup(1.0)(model, Batch(images[None], labels, torch.arange(6)), clock())
    mixed, partner, share = mixup(images, 1.0, clock().generator)
    logits = model(mixed)
    expected = share * F.cross_entropy(logits, labels) + (1 - share) * F.cross_entropy(logits, labels[partner])
    assert 0.01 < share < 0.99 and torch.allclose(loss.double(), expected.double(), atol=1e-6)


def test_the_command_runs_at_a_small_size_and_refuses_flags_that_are_not_the_presets(monkeypatch, tmp_path):
    def typed(*words):
        monkeypatch.setattr(
            sys, "argv", ["common.pretrain", *map(str, words), "--quiet", "--device", "cpu", "--limit", "32"]
        )
        pretrain.main()

    small = (
        "--id",
        "shapes",
        "--backbone",
        "resnet8",
        "--image-size",
        40,
        "--resize-px",
        50,
        "--steps",
        2,
        "--batch-size",
        16,
    )
    typed("dfb-cifar10", *small, "--out", tmp_path / "run")
    model, facts = load(tmp_path / "run/checkpoint.pt")
    assert (
        facts["transform"]["size_px"] == 40
        and facts["recipe"]["mixup"] == 0.1
        and model.normalise.mean.flatten().tolist() == [0.5] * 3
    )
    with pytest.raises(UserError, match="--mixup belongs to the presets dfb-cifar10 and dfb-cifar100, not to shapes"):
        typed("shapes", "--mixup", 0.2, "--out", tmp_path / "no")
    with pytest.raises(UserError, match="resize_px must be >= the images' final side, 128, got 100"):
        typed("dfb-cifar10", "--id", "shapes", "--resize-px", 100, "--out", tmp_path / "no")
    assert not (tmp_path / "no").exists()
