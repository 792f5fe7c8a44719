"""The worked example: 3 images, 2 channels, 2 x 2 locations, 3 classes; every number by hand (float64, 1e-6)."""

import math

import pytest
import torch
import torch.nn.functional as F

from common.cli.errors import UserError
from lbf.loss import background_mask, background_norm_loss, local_norms

F64 = torch.float64
MAP = torch.tensor(
    [
        [[[3, 0], [0.5, 0]], [[0, 2], [1.5, 0]]],
        [[[0.5, 1], [2, 0]], [[2, 1.5], [0, 3]]],
        [[[2, 1], [1.5, 3]], [[0, 0.5], [0, 1]]],
    ],
    dtype=F64,
)
WEIGHT = torch.tensor([[2, 0], [0, 2], [-1, 1]], dtype=F64)
BIAS = torch.tensor([0.1, -0.2, 0.3], dtype=F64)
LABELS = torch.tensor([0, 1, 0])


def local_logits(feature_map=MAP, weight=WEIGHT, bias=BIAS):
    return F.conv2d(feature_map, weight[:, :, None, None], bias)


def mask(delta, **head):
    return background_mask(local_logits(**head), LABELS, delta)


@pytest.mark.parametrize(
    "delta, expected",
    [
        (0.2, [[[0, 1], [1, 0]], [[0, 0], [1, 0]], [[0, 0], [0, 0]]]),
        (0.335, [[[0, 1], [1, 0]], [[0, 0], [1, 0]], [[0, 0], [0, 0]]]),
        (0.35, [[[0, 1], [1, 1]], [[0, 0], [1, 0]], [[0, 0], [0, 0]]]),
        (0.001, [[[0, 0], [0, 0]]] * 3),
        (1.01, [[[1, 1], [1, 1]]] * 3),
    ],
)
def test_eq5_selects_the_hand_worked_locations(delta, expected):
    assert mask(delta).int().tolist() == expected


def test_the_bias_counts_at_every_location():
    without = mask(0.335, bias=torch.zeros(3, dtype=F64))
    assert without.sum() == 4 and mask(0.335).sum() == 3


def test_a_tie_is_not_selected():
    tie = background_mask(torch.zeros(1, 4, 1, 1), torch.tensor([2]), 0.25)
    assert not tie.any()


def test_eq5_with_another_head_selects_what_a_frozen_network_would():
    frozen = mask(0.2, weight=torch.tensor([[0, 2], [2, 0], [-1, 1]], dtype=F64), bias=torch.zeros(3, dtype=F64))
    assert frozen.int().tolist() == [[[1, 0], [0, 0]], [[1, 0], [0, 1]], [[1, 0], [1, 1]]]
    assert background_norm_loss(MAP, frozen, 1.0).item() == pytest.approx(1.453972, abs=1e-6)
    assert background_norm_loss(MAP, frozen, 1.0, "image").item() == pytest.approx(1.583845, abs=1e-6)


@pytest.mark.parametrize(
    "delta, mu, batch, image",
    [
        (0.2, 0.0, 1.860380, 1.895285),
        (0.2, 1.0, 0.860380, 0.895285),
        (0.2, 1.75, 0.166667, 0.187500),
        (0.2, 2.0, 0.0, 0.0),
        (0.35, 0.0, 1.395285, 1.596856),
        (0.35, 1.0, 0.645285, 0.763523),
        (0.35, 1.75, 0.125000, 0.166667),
        (0.001, 1.0, 0.0, 0.0),
        (1.01, 1.0, 1.018815, 1.018815),
    ],
)
def test_eq6_gives_the_hand_worked_losses(delta, mu, batch, image):
    assert background_norm_loss(MAP, mask(delta), mu).item() == pytest.approx(batch, abs=1e-6)
    assert background_norm_loss(MAP, mask(delta), mu, "image").item() == pytest.approx(image, abs=1e-6)


def gradient(delta, reduction="batch", feature_map=MAP):
    z = feature_map.clone().requires_grad_()
    (g,) = torch.autograd.grad(
        background_norm_loss(z, background_mask(local_logits(z), LABELS, delta), 1.0, reduction), z
    )
    return g


@pytest.mark.parametrize(
    "reduction, values",
    [("batch", (0.333333, 0.105409, 0.316228, 0.333333)), ("image", (0.25, 0.079057, 0.237171, 0.5))],
)
def test_eq6_has_the_hand_worked_gradient(reduction, values):
    expected = torch.zeros_like(MAP)
    expected[0, 1, 0, 1], expected[0, 0, 1, 0], expected[0, 1, 1, 0], expected[1, 0, 1, 0] = values
    assert torch.allclose(gradient(0.2, reduction), expected, atol=1e-6)


def test_a_selected_zero_vector_has_zero_gradient():
    g = gradient(0.35)
    assert torch.allclose(g, gradient(0.2) * 0.75, atol=1e-12) and g[0, :, 1, 1].tolist() == [0, 0]


def test_empty_mask_gives_zero_with_gradient():
    assert gradient(0.001).abs().sum() == 0


def test_no_gradient_reaches_the_head():
    weight, bias = WEIGHT.clone().requires_grad_(), BIAS.clone().requires_grad_()
    z = MAP.clone().requires_grad_()
    loss = background_norm_loss(z, background_mask(local_logits(z, weight, bias), LABELS, 0.2), 1.0)
    assert torch.autograd.grad(loss, (weight, bias), allow_unused=True) == (None, None)


def test_mean_of_local_logits_is_the_image_logits_and_eq2_eq7_follow():
    logits = F.linear(MAP.mean((2, 3)), WEIGHT, BIAS)
    assert torch.allclose(local_logits().mean((2, 3)), logits, atol=1e-12)
    ce = F.cross_entropy(logits, LABELS).item()
    assert ce == pytest.approx(0.358004, abs=1e-6)
    lff = background_norm_loss(MAP, mask(0.2), 1.0).item()
    assert [ce + lam * lff for lam in (0.5, 1)] == pytest.approx([0.788194, 1.218384], abs=1e-6)


def test_an_image_may_be_all_background_and_still_be_classified():
    local = torch.tensor([[5.0, 10, 0], [5, 0, 10]], dtype=F64).T.reshape(1, 3, 1, 2)
    assert background_mask(local, torch.tensor([0]), 0.1).all()
    assert local.mean((2, 3)).softmax(1)[0, 0].item() == pytest.approx(1 / 3)
    assert local.log_softmax(1)[0, 0].mean().exp().item() == pytest.approx(0.006693, abs=1e-6)


def random_case(seed=0, batch=6, channels=5, classes=4, side=3):
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(batch, channels, side, side, generator=g, dtype=F64).relu()
    return z, torch.randn(classes, channels, generator=g, dtype=F64), torch.randint(0, classes, (batch,), generator=g)


def lff(z, weight, labels, delta=0.25, mu=0.3, reduction="batch"):
    return background_norm_loss(z, background_mask(F.conv2d(z, weight[:, :, None, None]), labels, delta), mu, reduction)


@pytest.mark.parametrize("reduction", ["batch", "image"])
def test_permuting_images_locations_or_classes_changes_nothing(reduction):
    z, weight, labels = random_case()
    value = lff(z, weight, labels, reduction=reduction)
    images, classes = torch.randperm(6, generator=torch.Generator().manual_seed(1)), torch.tensor([2, 0, 3, 1])
    assert torch.allclose(lff(z[images], weight, labels[images], reduction=reduction), value)
    assert torch.allclose(lff(z.flip(2).transpose(2, 3), weight, labels, reduction=reduction), value)
    assert torch.allclose(lff(z, weight[classes], classes.argsort()[labels], reduction=reduction), value)


def test_the_selection_grows_with_delta_and_the_loss_falls_with_mu():
    z, weight, labels = random_case()
    local = F.conv2d(z, weight[:, :, None, None])
    counts = [int(background_mask(local, labels, d).sum()) for d in (0.0, 0.1, 0.25, 0.5, 1.01)]
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == local[:, 0].numel() and len(set(counts)) > 3
    losses = [lff(z, weight, labels, mu=mu).item() for mu in (0.0, 0.5, 1.0, 2.0)]
    assert losses == sorted(losses, reverse=True) and losses[0] > losses[-1]


def test_everything_selected_at_mu_zero_is_the_mean_norm():
    z, weight, labels = random_case()
    assert torch.allclose(lff(z, weight, labels, delta=1.01, mu=0.0), local_norms(z).mean())


def test_scaling_features_down_and_the_head_up_keeps_the_mask_and_lowers_the_loss():
    z, weight, labels = random_case()
    assert torch.allclose(lff(z / 2, weight * 2, labels, mu=0.0), lff(z, weight, labels, mu=0.0) / 2)


def test_both_reductions_agree_where_every_image_has_as_many():
    z, _, _ = random_case()
    chosen = torch.zeros(6, 3, 3, dtype=torch.bool)
    chosen[:4, 0, 1:] = True
    assert torch.allclose(background_norm_loss(z, chosen, 0.1), background_norm_loss(z, chosen, 0.1, "image"))


def test_the_gradient_agrees_with_finite_differences():
    z, weight, labels = random_case(batch=2, side=2)
    chosen = background_mask(F.conv2d(z, weight[:, :, None, None]), labels, 0.3)
    assert chosen.any()
    assert torch.autograd.gradcheck(lambda m: background_norm_loss(m, chosen, 0.05), (z + 0.1).requires_grad_())


def test_norms_above_the_range_of_half_precision_stay_finite():
    z = torch.full((1, 8, 1, 1), 300.0, dtype=torch.float16, requires_grad=True)
    loss = background_norm_loss(z, torch.ones(1, 1, 1, dtype=torch.bool), 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(300 * math.sqrt(8) - 1, rel=1e-5) and z.grad.isfinite().all()


@pytest.mark.parametrize("delta", [-0.1, float("nan")])
def test_a_delta_that_is_no_share_is_refused(delta):
    with pytest.raises(UserError, match=f"delta must be >= 0, got {delta}"):
        mask(delta)


def test_an_unknown_reduction_is_refused():
    with pytest.raises(UserError, match="reduction must be one of batch, image, got 'sum'"):
        background_norm_loss(MAP, mask(0.2), 1.0, "sum")


def test_the_l1_norm_is_scaled_to_stay_below_l2():
    maps = torch.tensor([3.0, -4, 0, 0], dtype=F64).view(1, 4, 1, 1)
    everywhere = torch.ones(1, 1, 1, dtype=torch.bool)
    assert background_norm_loss(maps, everywhere, 1.0, norm="l1").item() == pytest.approx(2.5) and background_norm_loss(
        maps, everywhere, 1.0
    ).item() == pytest.approx(4.0)
    assert local_norms(torch.full((1, 9, 1, 1), 2.0), "l1").item() == pytest.approx(
        local_norms(torch.full((1, 9, 1, 1), 2.0)).item()
    )
