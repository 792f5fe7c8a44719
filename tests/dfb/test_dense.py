"""Eq. 3-5 by hand, against torch's own resize and a plain loop, and the conditions under which the conversion is exact."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from common.backbones import build
from common.backbones.classifier import Classifier
from common.cli.errors import UserError
from dfb.dense import IGNORE, dense_logits, dense_loss, upsample, upsampling_matrix

G = torch.tensor([[[1.0, 2], [0, 3]], [[2, 0], [1, 1]]], dtype=torch.float64)  # dfb.md 8.3
W = torch.tensor([[1.0, 0], [0, 1], [0.5, 0.5]], dtype=torch.float64)
B = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
LOCAL = (torch.einsum("kc,cij->kij", W, G) + B[:, None, None]).unsqueeze(0)


def plain_loss(logits, targets, align_corners=False, reduction="pixels"):
    """Eq. 3 as it reads: upsample, softmax, minus log of the target's probability, pixel by pixel."""
    probabilities = F.interpolate(logits, size=targets.shape[1:], mode="bilinear", align_corners=align_corners).softmax(
        1
    )
    of_images = []
    for image, target in zip(probabilities, targets):
        of_images.append(
            [-image[k, i, j].log() for i, row in enumerate(target.tolist()) for j, k in enumerate(row) if k != IGNORE]
        )
    if reduction == "pixels":
        return torch.stack([value for values in of_images for value in values]).mean()
    return torch.stack([torch.stack(values).mean() for values in of_images if values]).mean()


def random_case(seed, batch=3, classes=4, small=(3, 2), large=(7, 5), dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(batch, classes, *small, generator=generator, dtype=dtype)
    targets = torch.randint(0, classes, (batch, *large), generator=generator)
    targets[torch.rand(targets.shape, generator=generator) < 0.3] = IGNORE
    return logits, targets


# --- upsampling -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("small", "large"), [((4, 4), (128, 128)), ((3, 5), (77, 64)), ((1, 2), (6, 9)), ((7, 7), (7, 3))]
)
def test_two_matrix_products_are_the_librarys_resize(small, large, align_corners):
    maps = torch.randn(2, 3, *small, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = F.interpolate(maps, size=large, mode="bilinear", align_corners=align_corners)
    assert (upsample(maps, large, align_corners=align_corners) - expected).abs().max() < 1e-12


def whole_columns(source: int, target: int) -> list[int]:
    """Column sums of U times 2 target, in whole numbers: the position (t + 1/2) source / target - 1/2 has that denominator."""
    unit, columns = 2 * target, [0] * source
    for t in range(target):
        low, rest = divmod(max((2 * t + 1) * source - target, 0), unit)
        columns[low] += unit - rest
        columns[min(low + 1, source - 1)] += rest
    return columns


def test_columns_are_equal_exactly_where_twice_the_factor_is_whole():
    for source in range(2, 17):
        for target in range(1, 161):
            columns = whole_columns(source, target)
            assert (len(set(columns)) == 1) == (2 * target % source == 0), (source, target)
            made = upsampling_matrix(source, target).sum(0) * 2 * target
            assert (made - torch.tensor(columns)).abs().max() < 1e-9 * target


@pytest.mark.parametrize(
    ("source", "target", "relative"),
    [
        (4, 128, [1, 1, 1, 1]),
        (4, 130, [1, 1, 1, 1]),
        (3, 77, [0.999831, 1.000337, 0.999831]),
        (4, 127, [0.999938, 1.000062, 1.000062, 0.999938]),
        (3, 4, [1.03125, 0.9375, 1.03125]),
    ],
)
def test_column_weights_of_the_specification(source, target, relative):
    columns = upsampling_matrix(source, target).sum(0) * source / target
    assert columns.tolist() == pytest.approx(relative, abs=1e-6)


def test_align_corners_weighs_the_centre_more():
    columns = upsampling_matrix(4, 128, align_corners=True).sum(0)
    assert columns.tolist() == pytest.approx([21.669291, 42.330708, 42.330708, 21.669291], abs=1e-6)


def test_one_row_by_hand():
    row = torch.tensor([0.0, 3, 0], dtype=torch.float64)
    assert (upsampling_matrix(3, 6) @ row).tolist() == pytest.approx([0, 0.75, 2.25, 2.25, 0.75, 0])
    assert (upsampling_matrix(3, 6, align_corners=True) @ row).tolist() == pytest.approx([0, 1.2, 2.4, 2.4, 1.2, 0])
    assert (upsampling_matrix(3, 4) @ row).mean().item() == pytest.approx(0.9375)


# --- the conversion (Eq. 5) -----------------------------------------------------------------------------------------------------------


def test_dense_logits_and_the_converted_classifier_by_hand():
    dense = upsample(LOCAL, (4, 4))[0]
    one = [[1.1, 1.35, 1.85, 2.1], [0.85, 1.225, 1.975, 2.35], [0.35, 0.975, 2.225, 2.85], [0.1, 0.85, 2.35, 3.1]]
    background = [[1.8, 1.675, 1.425, 1.3], [1.55, 1.55, 1.55, 1.55], [1.05, 1.3, 1.8, 2.05], [0.8, 1.175, 1.925, 2.3]]
    assert (dense[0] - torch.tensor(one, dtype=torch.float64)).abs().max() < 1e-12
    assert (dense[2] - torch.tensor(background, dtype=torch.float64)).abs().max() < 1e-12
    assert dense.mean((1, 2)).tolist() == pytest.approx([1.6, 0.8, 1.55], abs=1e-12)
    pooled = W @ G.mean((1, 2)) + B
    assert pooled.tolist() == pytest.approx([1.6, 0.8, 1.55]) and pooled.softmax(0).tolist() == pytest.approx(
        [0.41657, 0.187177, 0.396253], abs=1e-6
    )


def test_softmax_does_not_commute_with_pooling():
    assert upsample(LOCAL, (4, 4)).softmax(1).mean((2, 3))[0].tolist() == pytest.approx(
        [0.419991, 0.216049, 0.363960], abs=1e-6
    )


def network(name: str, classes: int, dtype: torch.dtype, output_stride: int | None = None) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(classes)
        model = build(name, classes, output_stride=output_stride).eval().to(dtype)
        torch.nn.init.normal_(model.head.bias)
    return model


def random_images(size: int, dtype: torch.dtype):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    ("name", "size", "classes"),
    [
        ("resnet8", 32, 3),
        ("resnet8", 24, 101),
        ("resnet18", 32, 11),
        ("bit-r50x1", 96, 3),
        ("timm:resnet10t", 96, 4),
        ("timm:resnet10t", 64, 101),
    ],
)
def test_mean_of_dense_logits_is_the_converted_classifiers_logit_vector(name, size, classes, dtype, bound):
    model, images = network(name, classes, dtype), random_images(size, dtype)
    with torch.no_grad():
        dense, pooled = dense_logits(model, images), model(images)
    scale = max(1.0, float(pooled.abs().max()))
    assert dense.shape == (2, classes, size, size)
    assert (dense.mean((2, 3)) - pooled).abs().max() < bound * scale


@pytest.mark.parametrize(
    ("name", "size", "stride"), [("resnet8", 32, 4), ("resnet8", 24, 2), ("timm:resnet10t", 64, 8)]
)
def test_the_conversion_is_exact_at_a_finer_output_stride(name, size, stride):
    model, images = network(name, 4, torch.float64, stride), random_images(size, torch.float64)
    with torch.no_grad():
        assert model.feature_map(images).shape[-1] == size // stride
        assert (dense_logits(model, images).mean((2, 3)) - model(images)).abs().max() < 1e-12 * max(
            1.0, float(model(images).abs().max())
        )


def test_align_corners_breaks_the_conversion():
    model, images = network("resnet8", 3, torch.float64), random_images(32, torch.float64)
    with torch.no_grad():
        assert (dense_logits(model, images, align_corners=True).mean((2, 3)) - model(images)).abs().max() > 1e-3


def test_an_odd_size_is_inexact():
    model, images = network("resnet8", 3, torch.float64), random_images(20, torch.float64)  # 3 locations to 20 pixels
    with torch.no_grad():
        gap = (dense_logits(model, images).mean((2, 3)) - model(images)).abs().max()
    assert 1e-8 < gap < 1e-2


def test_head_first_equals_features_first_in_outputs_and_gradients():
    model, images = network("resnet8", 5, torch.float64), random_images(32, torch.float64)
    targets = torch.randint(0, 5, (2, 32, 32), generator=torch.Generator().manual_seed(2))
    found = []
    for features_first in (True, False):
        model.zero_grad()
        feature_map = model.feature_map(images)
        if features_first:
            wide = model.local_logits(F.interpolate(feature_map, size=(32, 32), mode="bilinear"))
            F.cross_entropy(wide, targets).backward()
        else:
            wide = upsample(model.local_logits(feature_map), (32, 32))
            dense_loss(model.local_logits(feature_map), targets).backward()
        found.append([wide.detach(), *(p.grad.clone() for p in model.parameters())])
    assert max((a - b).abs().max() for a, b in zip(*found)) < 1e-10


# --- the loss (Eq. 3) -----------------------------------------------------------------------------------------------------------------

PIXELS = (
    torch.tensor([[[2, 0, 1], [0.5, 0.5, 1.5]], [[0, -1, 2], [1, 0, 1]]], dtype=torch.float64)
    .permute(2, 0, 1)
    .unsqueeze(0)
)


def test_loss_by_hand():
    targets = torch.tensor([[[0, 2], [2, 0]]])
    assert dense_loss(PIXELS, targets).item() == pytest.approx(0.497723, abs=1e-6)
    targets[0, 1, 1] = IGNORE
    assert dense_loss(PIXELS, targets).item() == pytest.approx(0.376299, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10**6), st.booleans(), st.sampled_from(["pixels", "images"]), st.sampled_from([1, 300, 700, 1 << 20])
)
def test_loss_and_gradient_equal_a_plain_loop_whatever_the_chunks(seed, align_corners, reduction, chunk_bytes):
    logits, targets = random_case(seed)
    targets[0] = IGNORE  # an image of padding alone
    plain, fast = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    expected = plain_loss(plain, targets, align_corners, reduction)
    got = dense_loss(fast, targets, align_corners=align_corners, reduction=reduction, chunk_bytes=chunk_bytes)
    (3 * expected).backward(), (3 * got).backward()
    assert abs(got - expected) < 1e-12 and (plain.grad - fast.grad).abs().max() < 1e-12


def test_gradient_by_finite_differences():
    logits, targets = random_case(3, batch=1, classes=3, small=(2, 2), large=(5, 4))
    assert torch.autograd.gradcheck(lambda x: dense_loss(x, targets), logits.requires_grad_())


def test_the_two_reductions_agree_without_padding_and_differ_with_it():
    logits, targets = random_case(4)
    assert abs(dense_loss(logits, targets) - dense_loss(logits, targets, reduction="images")) > 1e-6
    targets = targets.clamp_min(0)
    assert abs(dense_loss(logits, targets) - dense_loss(logits, targets, reduction="images")) < 1e-12


def test_very_large_logits_stay_finite_and_exact():
    logits = torch.tensor(
        [[[[300.0, 0]], [[0, 300]], [[-300, -300]]]], requires_grad=True
    )  # at the middle both classes tie, 150 below the ends
    targets = torch.tensor([[[0, 0, 1, 1]]])
    dense_loss(logits, targets).backward()
    assert torch.isfinite(logits.grad).all() and dense_loss(logits, targets) < 1e-6


def test_nothing_counted_gives_zero_with_zero_gradient():
    logits, targets = random_case(5)
    logits.requires_grad_()
    for reduction in ("pixels", "images"):
        loss = dense_loss(logits, torch.full_like(targets, IGNORE), reduction=reduction)
        loss.backward()
        assert loss == 0 and not logits.grad.any()


class Largest(TorchDispatchMode):
    """The largest tensor any operation returns, in bytes."""

    bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.bytes = max(self.bytes, out.numel() * out.element_size())
        return out


def test_memory_bound_holds_for_many_classes():
    logits = torch.zeros(4, 1001, 4, 4, requires_grad=True)
    targets = torch.zeros(4, 128, 128, dtype=torch.int64)  # upsampled at once: 262 MB
    with Largest() as seen:
        dense_loss(logits, targets, chunk_bytes=2 << 20)
    assert seen.bytes <= 2 << 20


def test_bad_input_is_refused():
    logits, targets = random_case(6)
    with pytest.raises(UserError, match="reduction must be one of pixels, images, got 'mean'"):
        dense_loss(logits, targets, reduction="mean")
    with pytest.raises(UserError, match=r"targets must be in 0..3 or -100, got 0..4"):
        dense_loss(logits, targets.clamp_min(0).index_fill(2, torch.tensor([0]), 4))
