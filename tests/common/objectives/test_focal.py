"""DML+'s first network. As a method: test_contract.py; the score of the pair: tests/common/scoring/test_second.py."""

import pytest
import torch
import torch.nn.functional as F
from small import batch_of, clock, images_of, made

from common.objectives.focal import focal_loss

F64 = torch.float64


def test_the_focal_loss_has_its_worked_values_and_is_cross_entropy_without_gamma():
    for p, expected in ((0.9, 0.001054), (0.5, 0.173287)):
        logits = torch.tensor([[p, 1 - p]], dtype=F64).log()
        assert focal_loss(logits, torch.tensor([0]), 2.0).item() == pytest.approx(expected, abs=1e-6)
    f = torch.randn(9, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(9) % 4
    assert focal_loss(f, y, 0.0).item() == pytest.approx(F.cross_entropy(f, y).item(), rel=1e-9)
    p = f.softmax(1)[torch.arange(9), y]
    assert focal_loss(f, y, 1.5).item() == pytest.approx((-((1 - p) ** 1.5) * p.log()).mean().item(), rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_images_that_are_sure_have_a_finite_gradient(gamma):
    f = torch.tensor([[200.0, 0], [0, 200.0], [0, 0]], requires_grad=True)
    focal_loss(f, torch.tensor([0, 0, 1]), gamma).backward()
    assert f.grad.isfinite().all() and not f.grad[0].any() and f.grad[1:].abs().max() > 0.1


def test_the_step_is_the_focal_loss_of_cosines_times_the_length():
    model, objective, recipe = made("dml-focal")
    batch = batch_of(images_of(torch.arange(8) % 4, 4), 1)
    loss, logs = objective(model.eval(), batch, clock())
    cosines = F.cosine_similarity(model.penultimate(batch.flat)[:, None], model.head.weight[None], dim=2)
    assert loss.item() == pytest.approx(focal_loss(40 * cosines, batch.labels, 2.0).item(), rel=1e-5)
    assert logs["max_cosine"][0].item() == pytest.approx(cosines.amax(1).sum().item(), rel=1e-5)
    loss.backward()
    assert model.head.weight.grad.abs().max() > 0 and model.head.bias.grad is None and not model.head.bias.any()


@pytest.mark.parametrize("name", ["dml-focal", "dml-centre"])
def test_the_finished_heads_rows_have_length_1_and_its_logits_are_length_times_cosine(name):
    model, objective, _ = made(name)
    images = images_of(torch.arange(8) % 4, 4)
    objective.finish(model.eval(), images)
    h = model.penultimate(images.pixels.float() / 255)
    assert torch.allclose(model.head.weight.norm(dim=1), torch.ones(4)) and not model.head.bias.any()
    cosines = F.cosine_similarity(h[:, None], model.head.weight[None], dim=2)
    assert torch.allclose(model(images.pixels.float() / 255), h.norm(dim=1)[:, None] * cosines, atol=1e-5)
