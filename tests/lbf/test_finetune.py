import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from common.backbones import build
from common.checkpoint import load, weights_digest
from common.cli.errors import UserError
from common.data import shapes
from common.data.images import balanced_subset
from common.data.masks import true_masks
from common.objectives.cross_entropy import CrossEntropy
from common.training.batches import Batches
from common.training.engine import fit
from common.training.objective import Batch, Clock
from lbf.finetune import LBF, PRESETS, LBFRecipe, location_masks, quiet_norm, selected_share, selection_numbers
from lbf.locations import lowest_like, random_like, select_locations
from lbf.loss import background_mask, background_norm_loss

CPU = torch.device("cpu")
RECIPE = replace(PRESETS["shapes"], epochs=1, batch_size=16)


@pytest.fixture(scope="module")
def images():
    return shapes.load("shapes", "train", limit=48)


def network():
    torch.manual_seed(0)
    return build("resnet8", 8)


def batch_of(images, count=16):
    return Batch((images.pixels[:count].float() / 255).unsqueeze(0), images.labels[:count], torch.arange(count))


def clock(seed=0):
    return Clock(0, 1, 0, 3, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "name, epochs, lr, delta, mu",
    [("cifar10", 30, 0.1, 0.1, 1.0), ("cifar100", 30, 0.1, 0.01, 2.0), ("imagenet100", 10, 5e-5, 0.01, 3.0)],
)
def test_presets_hold_the_papers_values(name, epochs, lr, delta, mu):
    recipe = PRESETS[name]
    assert (recipe.epochs, recipe.lr, recipe.delta, recipe.mu, recipe.lam) == (epochs, lr, delta, mu, 1.0)
    assert (recipe.momentum, recipe.weight_decay, recipe.drops, recipe.jitter, recipe.flip) == (
        0.9,
        1e-4,
        (0.5,),
        False,
        True,
    )


def test_the_step_is_cross_entropy_plus_lambda_times_eq6(images):
    model, batch, recipe = network(), batch_of(images), replace(RECIPE, lam=0.7, mu=0.3)
    loss, logs = LBF(recipe, model)(model.eval(), batch, clock())
    feature_map = model.feature_map(batch.flat)
    mask = background_mask(model.local_logits(feature_map), batch.labels, 1 / 8)
    ce = torch.nn.functional.cross_entropy(model(batch.flat), batch.labels)
    assert 0 < mask.sum() < mask.numel()
    assert torch.allclose(loss, ce + 0.7 * background_norm_loss(feature_map, mask, 0.3), atol=1e-6)
    assert torch.allclose(logs["selected_share"][0], mask.sum().float())


def test_with_lambda_zero_the_run_is_plain_cross_entropy_bit_for_bit(tmp_path, images):
    ends = []
    for name, make in (
        ("control", lambda model: LBF(replace(RECIPE, lam=0.0), model)),
        ("plain", lambda model: CrossEntropy()),
    ):
        model = network()
        ends.append(
            weights_digest(
                fit(model, make(model), images, RECIPE, run=tmp_path / name, seed=0, device=CPU, progress=False)
            )
        )
    assert ends[0] == ends[1]


def test_the_penalty_changes_the_run_and_its_log_says_what_was_selected(tmp_path, images):
    control, model = network(), network()
    fit(
        model,
        LBF(replace(RECIPE, mu=0.1), model),
        images,
        RECIPE,
        run=tmp_path / "lbf",
        seed=0,
        device=CPU,
        progress=False,
    )
    fit(
        control,
        LBF(replace(RECIPE, lam=0.0), control),
        images,
        RECIPE,
        run=tmp_path / "control",
        seed=0,
        device=CPU,
        progress=False,
    )
    assert weights_digest(model) != weights_digest(control)
    line = json.loads((tmp_path / "lbf" / "log.jsonl").read_text())
    assert (
        0 < line["selected_share"] < 1
        and line["lff"] > 0
        and 0 <= line["images_all_selected"] <= 1
        and line["norm_selected"] > 0
    )


def test_a_frozen_selector_is_left_as_it_was_and_equals_live_at_the_start(images):
    model, batch = network(), batch_of(images)
    model.train()(batch.flat)  # running statistics that are not the initial ones
    model.eval()
    frozen = LBF(replace(RECIPE, selector="frozen"), model)
    before = weights_digest(frozen._frozen[0])
    live_mask = LBF(RECIPE, model).select(model, model.feature_map(batch.flat), batch, clock())
    assert torch.equal(frozen.select(model, model.feature_map(batch.flat), batch, clock()), live_mask)
    assert not list(frozen.parameters()) and not frozen.state_dict()
    model.train()
    loss, _ = frozen(model, batch, clock())
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.5 * p.grad
    assert weights_digest(frozen._frozen[0]) == before
    assert not torch.equal(
        LBF(RECIPE, model).select(model, model.feature_map(batch.flat), batch, clock()),
        frozen.select(model, model.feature_map(batch.flat), batch, clock()),
    )


def test_random_locations_are_as_many_in_every_image(images):
    mask = torch.rand(9, 4, 5, generator=torch.Generator().manual_seed(1)) < 0.4
    mask[0] = False
    drawn = random_like(mask, torch.Generator().manual_seed(2))
    assert torch.equal(drawn.sum((1, 2)), mask.sum((1, 2))) and not torch.equal(drawn, mask)


def test_the_lowest_are_as_many_in_every_image_and_of_equal_ones_the_first():
    mask = torch.tensor([[[1, 0], [0, 1]], [[0, 0], [0, 0]], [[1, 1], [1, 0]]]).bool()
    values = torch.tensor([[[3.0, 1], [2, 0]], [[0, 0], [0, 0]], [[5, 5], [0, 5]]])
    assert lowest_like(mask, values).int().tolist() == [[[0, 1], [0, 1]], [[0, 0], [0, 0]], [[1, 1], [1, 0]]]


@pytest.mark.parametrize("locations", ["background", "all", "random", "foreground"])
def test_each_choice_of_locations_selects_what_it_says(images, locations):
    model, batch = network().eval(), batch_of(images)
    feature_map = model.feature_map(batch.flat).detach()
    chosen = LBF(replace(RECIPE, locations=locations), model).select(model, feature_map, batch, clock())
    own = background_mask(model.local_logits(feature_map), batch.labels, 1 / 8)
    same = {"background": own, "all": torch.ones_like(own), "foreground": ~own, "random": chosen}[locations]
    assert torch.equal(chosen, same) and (locations != "random" or chosen.sum() == own.sum())


def test_locations_by_class_map_and_by_masks_by_hand():
    model = build("resnet8", 2)
    with torch.no_grad():
        model.head.weight.zero_(), model.head.bias.fill_(9)
        model.head.weight[1, 0] = 2
    feature_map = torch.zeros(2, 128, 2, 2)
    feature_map[1, 0] = torch.tensor([[4.0, 1.9], [2, -1]])
    labels, draw = torch.tensor([0, 1]), torch.Generator()
    cam = select_locations("cam", model, feature_map, labels, 0.5, None, draw)
    assert cam.tolist() == [
        [[True, True], [True, True]],
        [[False, True], [False, True]],
    ]  # no peak: no object; half the maximum is object
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, :2, :1], masks[1, :1, 2] = True, True  # half of the first cell; a quarter of the second
    found = select_locations("masks", model, feature_map, labels, 0.5, masks, draw)
    assert found.tolist() == [[[False, True], [True, True]], [[True, True], [True, True]]]


def test_low_norm_and_eq5_on_and_off_the_object_by_hand():
    """Head A = [[2, 0], [0, 2]] and b = 0: p of the true class 0 is below a half where the second channel is the larger one."""
    model = build("resnet8", 2)
    with torch.no_grad():
        model.head.weight.zero_(), model.head.bias.zero_()
        model.head.weight[0, 0], model.head.weight[1, 1] = 2, 2
    feature_map = torch.zeros(1, 128, 2, 2)
    feature_map[0, :2] = torch.tensor(
        [[[0.0, 0], [1, 3]], [[5, 1], [0, 0]]]
    )  # Eq. 5 selects the upper row; norms 5, 1; 1, 3
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    masks[0, :, :2] = True  # the object is the left column
    found = {
        which: select_locations(which, model, feature_map, torch.tensor([0]), 0.5, masks, torch.Generator())[0].int()
        for which in ("background", "low-norm", "truth", "eq5-truth", "eq5-object")
    }
    assert {which: mask.tolist() for which, mask in found.items()} == {
        "background": [[1, 1], [0, 0]], "low-norm": [[0, 1], [1, 0]], "truth": [[0, 1], [0, 1]],
        "eq5-truth": [[0, 1], [0, 0]], "eq5-object": [[1, 0], [0, 0]],
    }  # fmt: skip


@pytest.mark.parametrize("locations", ["truth", "eq5-truth", "eq5-object"])
def test_locations_of_the_truth_take_the_sets_own_masks_and_refuse_a_set_without(images, locations):
    recipe = replace(RECIPE, locations=locations)
    assert torch.equal(location_masks(recipe, None, images, network()).rows(torch.arange(48)), images.masks)
    with pytest.raises(UserError, match="shapes has no true masks"):
        location_masks(recipe, None, replace(images, masks=None), network())


def test_masks_are_cropped_and_mirrored_with_their_images(images):
    pixels = (255 * images.masks[:, None].expand(-1, 3, -1, -1)).to(torch.uint8)
    drawn = replace(images, pixels=pixels, digest="")  # images that show their masks
    model, objective = network(), LBF(replace(RECIPE, locations="truth"), network(), true_masks(images))
    for crop in ("pad", "resized"):
        recipe = replace(RECIPE, crop=crop)
        plain, jittered = (
            next(iter(Batches(drawn, objective, r, 0, CPU).of_epoch(0, 0, 1)))
            for r in (recipe, replace(recipe, jitter=True))
        )
        assert torch.equal(plain.images[:, :, 0] >= 0.5, plain.masks) and torch.equal(plain.masks, jittered.masks)
        assert not torch.equal(plain.masks[0], images.masks[plain.index]) and torch.equal(
            plain.labels, images.labels[plain.index]
        )
    loss, logs = objective(model, plain, clock())
    assert (
        logs["selected_share"][0] == (torch.nn.functional.avg_pool2d(plain.masks[0].float()[:, None], 8) < 0.5).sum()
        and loss.isfinite()
    )


def test_masks_of_others_and_masks_without_a_use_are_refused(images, tmp_path):
    model = network()
    with pytest.raises(
        UserError, match="--masks DIR goes with --locations masks, and only with it; got locations background"
    ):
        location_masks(RECIPE, tmp_path, images, model)
    with pytest.raises(UserError, match="got locations masks"):
        location_masks(replace(RECIPE, locations="masks"), None, images, model)
    with pytest.raises(UserError, match="no masks in"):
        location_masks(replace(RECIPE, locations="masks"), tmp_path, images, model)
    assert location_masks(RECIPE, None, images, model) is None and torch.equal(
        location_masks(replace(RECIPE, locations="truth"), None, images, model).rows(torch.arange(48)), images.masks
    )


def test_logged_numbers_of_a_selection_worked_by_hand():
    feature_map = torch.tensor([[[[3.0, 0.0]], [[4.0, 1.0]]], [[[0.0, 2.0]], [[0.0, 0.0]]]])  # norms 5, 1; 0, 2
    mask = torch.tensor([[[True, True]], [[False, False]]])
    numbers = {name: (pair[0] / pair[1]).item() for name, pair in selection_numbers(feature_map, mask, 1.0).items()}
    assert numbers == pytest.approx({
        "selected_share": 0.5, "images_none_selected": 0.5, "images_all_selected": 0.5, "selected_above_mu": 0.5,
        "norm_selected": 3.0, "norm_others": 1.0, "norm_pooled": ((1.5**2 + 2.5**2) ** 0.5 + 1) / 2,
    })  # fmt: skip


def test_dropout_off_batch_norm_frozen_and_half_precision_all_give_finite_gradients(tmp_path, images):
    recipe = replace(RECIPE, bn="frozen", precision="bf16")
    model = network()
    fit(model, LBF(recipe, model), images, recipe, run=tmp_path, seed=0, device=CPU, progress=False)
    assert all(p.isfinite().all() for p in load(tmp_path / "checkpoint.pt")[0].parameters())


def test_delta_is_one_over_k_where_it_is_not_given():
    assert LBF(LBFRecipe(), network()).delta == 1 / 8 and LBF(LBFRecipe(delta=0.3), network()).delta == 0.3


def test_a_mu_of_ones_own_images_is_a_quartile_of_local_norms_over_all_classes(images):
    model = network().eval()
    order = images.labels.argsort()  # by class, as a folder is read
    with torch.no_grad():
        chosen = images.subset(order).subset(
            balanced_subset(images.labels[order], 16, torch.Generator().manual_seed(0))
        )
        norms = model.feature_map(chosen.pixels.float() / 255).norm(dim=1)
    assert chosen.labels.bincount().tolist() == [2] * 8
    found = quiet_norm(model, images.subset(order), count=16)
    assert found == pytest.approx(np.quantile(norms.numpy(), 0.25), rel=0.05) and len(f"{found:g}".strip("0.")) <= 2


def test_the_share_at_the_start_is_of_all_classes_also_where_images_lie_class_by_class(images):
    """The network is sure of class 0 alone: of its images Eq. 5 selects nothing, of the others everything."""
    model = build("resnet8", 8, image_size=48).eval()
    torch.nn.init.zeros_(model.head.weight)
    model.head.bias.data = torch.tensor([9.0] + 7 * [0.0])
    by_class = images.subset(torch.argsort(images.labels, stable=True))
    assert selected_share(model, by_class, 0.125, count=8) == pytest.approx(7 / 8)
