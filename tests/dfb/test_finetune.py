"""The dense objective's step, the start of stage 2, and training that goes on to the same tensors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.backbones import build
from common.checkpoint import load, weights_digest
from common.cli.errors import UserError
from common.data import shapes
from common.data.masks import IGNORE, StoredMasks, pack
from common.training.batches import Batches
from common.training.engine import fit
from common.training.objective import Clock
from dfb.finetune import DFB, PRESETS, DFBRecipe, dense_network, other_masks, pixel_targets

CPU = torch.device("cpu")
RECIPE = replace(PRESETS["shapes"], epochs=1, batch_size=16)


@pytest.fixture(scope="module")
def images():
    return shapes.load("shapes", "train", limit=48)


@pytest.fixture(scope="module")
def stage1():
    torch.manual_seed(0)
    return build("resnet8", 8)


def augmented(images, objective, recipe, rows):
    """One batch of these rows as the engine hands it to the objective."""
    return Batches(images, objective, recipe, 3, CPU).batch(0, rows, [images.pixels[rows]])


def start_of(stage1, recipe=RECIPE, **facts):
    return dense_network(stage1, {"method": "pre-trained", "start": "from scratch"} | facts, recipe, None, 0)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_presets_hold_the_papers_values(name):
    r = PRESETS[name]
    assert (r.steps, r.batch_size, r.lr, r.momentum, r.drops, r.scale_low, r.scale_high, r.flip) == (
        20_000,
        128,
        0.003,
        0.9,
        (0.3, 0.6, 0.9),
        0.5,
        2.0,
        True,
    )
    assert (r.warmup_steps, r.weight_decay, r.stage2_init, r.head_start, r.empty_mask, r.loss_reduction) == (
        500,
        0.0,
        "in21k",
        "zeros",
        "keep",
        "pixels",
    )
    assert not r.align_corners and not r.drop_last


def test_pixel_labels_by_hand():
    placed = torch.tensor([[[1, 0], [IGNORE, 1]], [[0, 0], [1, IGNORE]]])
    assert pixel_targets(placed, torch.tensor([4, 7]), 9).tolist() == [[[4, 9], [IGNORE, 4]], [[9, 9], [7, IGNORE]]]


def test_the_step_is_pixel_cross_entropy_of_the_upsampled_logits(images, stage1):
    model = start_of(stage1).eval()
    objective = DFB(RECIPE, other_masks(images, "truth"))
    batch = augmented(images, objective, RECIPE, torch.arange(16))
    pixels, placed = batch.flat, batch.flat_masks
    loss, logs = objective(model, batch, Clock(0, 1, 0, 3, torch.Generator()))
    wide = F.interpolate(model.local_logits(model.feature_map(pixels)), size=(48, 48), mode="bilinear")
    targets = torch.where(placed == 1, images.labels[:16, None, None], 8).masked_fill(placed == IGNORE, IGNORE)
    assert torch.allclose(loss, F.cross_entropy(wide, targets, ignore_index=IGNORE), atol=1e-6)
    top, bottom = logs["padding_share"]
    assert top == (placed == IGNORE).sum() > 0 and bottom == placed.numel()
    top, bottom = logs["foreground_share"]
    assert top / bottom == (placed == 1).sum() / (placed != IGNORE).sum()
    assert torch.equal(logs["train_accuracy"][0], (model(pixels)[:, :8].argmax(1) == images.labels[:16]).sum().float())


def test_an_image_without_foreground_is_background_left_out_or_foreground(images, stage1):
    masks = images.masks[:4].clone()
    masks[1] = False
    stored = StoredMasks(torch.from_numpy(pack(masks.numpy())), (48, 48), {"identity": "toy"})
    still = replace(RECIPE, scale_low=1.0, scale_high=1.0, flip=False)
    model, seen = start_of(stage1).eval(), []
    patch = pytest.MonkeyPatch()
    patch.setattr("dfb.finetune.dense_loss", lambda local, targets, **_: seen.append(targets) or local.sum())
    for how, expected in (("keep", 8), ("drop", IGNORE), ("whole_image", int(images.labels[1]))):
        objective = DFB(replace(still, empty_mask=how), stored)
        assert not objective.state_dict()
        objective(model, augmented(images, objective, still, torch.arange(4)), Clock(0, 1, 0, 3, torch.Generator()))
        assert (seen[-1][1] == expected).all()
        assert torch.equal(seen[-1][0], torch.where(masks[0], images.labels[0], 8))
    patch.undo()


def test_masks_follow_their_images_through_a_shuffled_order(images):
    still = replace(RECIPE, scale_low=1.0, scale_high=1.0, flip=False)
    objective = DFB(still, other_masks(images, "truth"))
    index = torch.tensor([7, 2, 40])
    batch = augmented(images, objective, still, index)
    assert torch.equal(batch.flat_masks, images.masks[index].long())
    assert torch.allclose(batch.flat, images.pixels[index].float() / 255)


def test_stage_two_starts_where_the_recipe_says(stage1, tmp_path):
    kept = start_of(stage1)
    assert kept.classes == 9 and not kept.head.weight[8].any() and torch.equal(kept.head.weight[:8], stage1.head.weight)
    assert weights_digest(kept.body) == weights_digest(stage1.body)
    zeros = start_of(stage1, replace(RECIPE, head_start="zeros"))
    assert not zeros.head.weight.any() and not zeros.head.bias.any()
    torch.manual_seed(9)
    other = build("resnet8", 3)
    torch.save(other.body.state_dict(), tmp_path / "body.pt")
    in21k = dense_network(
        stage1,
        {"method": "pre-trained", "start": str(tmp_path / "body.pt")},
        replace(RECIPE, stage2_init="in21k"),
        None,
        0,
    )
    assert weights_digest(in21k.body) == weights_digest(other.body)
    with pytest.raises(UserError, match="stage2_init in21k needs weights, and stage 1 names none it began with"):
        start_of(stage1, replace(RECIPE, stage2_init="in21k"))
    with pytest.raises(
        UserError, match="stage 1 names none it began with"
    ):  # what LBF started from is a network, and no file
        dense_network(stage1, {"method": "LBF", "start": "0efe552a"}, replace(RECIPE, stage2_init="in21k"), None, 0)


def test_bad_recipes_are_refused():
    with pytest.raises(UserError, match=r"scale_high must be >= scale_low \(0.5\), got 0.4"):
        DFBRecipe(scale_high=0.4)
    with pytest.raises(UserError, match="crop must be one of none, got 'pad'"):
        DFBRecipe(crop="pad")


def test_training_lowers_the_loss_adds_no_parameter_and_resumes_to_the_same_tensors(images, stage1, tmp_path):
    masks, recipe = other_masks(images, "truth"), replace(RECIPE, epochs=2, lr=0.02)

    def trained(name, after=None):
        model, objective = start_of(stage1), DFB(recipe, masks)
        if after is not None:
            objective.after_step = lambda model, clock: (
                (_ for _ in ()).throw(KeyboardInterrupt) if clock.step == after else None
            )
        return fit(
            model, objective, images, recipe, run=tmp_path / name, seed=1, device=CPU, save_every_s=0.0, progress=False
        )

    whole = trained("whole")
    with pytest.raises(KeyboardInterrupt):
        trained("cut", after=3)
    assert weights_digest(trained("cut")) == weights_digest(whole)
    lines = (tmp_path / "whole/log.jsonl").read_text().splitlines()
    losses = [float(line.split('"loss": ')[1].split(",")[0]) for line in lines]
    assert losses[-1] < losses[0]
    converted, _ = load(tmp_path / "whole/checkpoint.pt")
    assert dict(converted.named_parameters()).keys() == dict(build("resnet8", 9).named_parameters()).keys()


def test_masks_of_a_set_without_truth_are_refused(images):
    bare = replace(images.subset(torch.arange(4)), masks=None)
    with pytest.raises(UserError, match="shapes has no true masks"):
        other_masks(bare, "truth")
    assert other_masks(bare, "foreground").rows(torch.arange(4)).all()


def test_a_foreground_only_control_never_trains_the_background(images, stage1):
    recipe = replace(RECIPE, pixel_labels="foreground")
    objective = DFB(recipe, other_masks(images, "foreground"))
    placed = augmented(images, objective, recipe, torch.arange(8)).flat_masks
    assert set(np.unique(placed)) <= {1, IGNORE} and (placed == 1).any()


def test_a_frozen_body_stays_as_it_was_while_the_head_learns(tmp_path, images, stage1):
    recipe = replace(RECIPE, body="frozen", bn="frozen")
    model = start_of(stage1, recipe)
    fit(
        model,
        DFB(recipe, other_masks(images, "truth")),
        images,
        recipe,
        run=tmp_path,
        seed=0,
        device=CPU,
        progress=False,
    )
    body, kept = model.body.state_dict(), stage1.body.state_dict()
    assert (
        all(torch.equal(tensor, kept[name]) for name, tensor in body.items()) and model.head.weight[8].abs().sum() > 0
    )
    with pytest.raises(UserError, match="body frozen needs bn frozen too"):
        replace(RECIPE, body="frozen")
