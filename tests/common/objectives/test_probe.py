"""The head that is fitted at the end."""

import pytest
import torch
import torch.nn.functional as F
from small import images_of, made

from common import pretrain
from common.checkpoint import load_finished, weights_digest
from common.cli.errors import UserError
from common.data.masks import read_masks
from common.objectives.probe import fit_head, put_head, training_features
from dfb import masks
from lbf import finetune


def clouds(images: int = 300):
    drawn = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (images,), generator=drawn)
    features = torch.randn(images, 5, generator=drawn) * torch.tensor([1, 3, 0.5, 1, 0]) + labels[:, None] / 2
    return features, labels


def test_the_head_is_where_the_gradient_of_its_loss_on_standardised_features_vanishes():
    """The loss is convex: there is one such place."""
    h, y = clouds()
    h[:, 4] = 7  # a unit that is dead in training
    weight, bias = fit_head(h, y, 3, decay=0.01)
    standard = (h[:, :4].double() - h[:, :4].double().mean(0)) / h[:, :4].double().std(0, correction=0)
    w = (weight[:, :4] * h[:, :4].double().std(0, correction=0)).requires_grad_()
    b = (bias + weight @ h.double().mean(0)).requires_grad_()
    (F.cross_entropy(standard @ w.T + b, y) + 0.005 * w.square().sum()).backward()
    assert w.detach().norm() > 0.5 and max(w.grad.abs().max(), b.grad.abs().max()) < 1e-6
    assert not weight[:, 4].any() and ((h.double() @ weight.T + bias).argmax(1) == y).double().mean() > 0.45


def test_more_decay_gives_a_smaller_head_and_a_class_without_images_is_borne():
    h, y = clouds()
    sizes = [fit_head(h, y, 4, decay)[0].norm() for decay in (1e-3, 1e-1)]
    weight, bias = fit_head(h, y, 4, 1e-3)
    assert (
        sizes[0] > 2 * sizes[1]
        and weight.isfinite().all()
        and not ((h.double() @ weight.T + bias).argmax(1) == 3).any()
    )
    h[:, 3] *= 1e-6  # a unit that hardly varies gets no weight that would blow it up
    assert fit_head(h, y, 3, 1e-3)[0][:, 3].abs().max() < weight.abs().max()
    h[0, 0] = torch.nan
    with pytest.raises(UserError, match="features are not finite"):
        fit_head(h, y, 3, 1e-3)


def test_features_are_those_of_eval_mode_and_the_network_keeps_its_mode_and_its_body():
    model, _, _ = made("logitnorm")
    images = images_of(torch.arange(12) % 4, 4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    features, labels = training_features(model.train(), images)
    assert model.training and torch.equal(labels, images.labels) and not features.requires_grad
    expected = model.eval().pool(model.feature_map(images.pixels.float() / 255))
    assert torch.allclose(features, expected, atol=1e-6)
    put_head(model, images, 1e-3)
    after = model.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == {"head.weight", "head.bias"}
    assert (model(images.pixels.float() / 255).argmax(1) == images.labels).all()


@pytest.mark.parametrize("name", ["npos", "csi"])
def test_both_methods_of_this_suite_go_on_from_a_network_whose_head_was_fitted(typed, tmp_path, name):
    small = ("--epochs", 1, "--batch-size", 32, "--quiet", "--device", "cpu", "--out")
    words = ("shapes", "--objective", name, "--limit", 64, "--warmup-epochs", 0, *small, tmp_path / "run")
    start = tmp_path / "run/checkpoint.pt"
    for module, given in (
        (pretrain, words),
        (finetune, (start, *small, tmp_path / "lbf")),
        (masks, (start, "--cam-scales", 1.0, "--quiet", "--device", "cpu", "--out", tmp_path / "masks")),
    ):
        code, _, err = typed(module, *given)
        assert code == 0, err
    network, facts = load_finished(start)
    assert facts["recipe"]["accuracy"] == "probe" and network.head.weight.abs().max() > 0
    tuned, facts = load_finished(tmp_path / "lbf/checkpoint.pt")
    assert (
        facts["start"] == weights_digest(network) != weights_digest(tuned)
        and facts["start_recipe"]["accuracy"] == "probe"
    )
    assert len(read_masks(tmp_path / "masks").rows(torch.arange(64))) == 64
