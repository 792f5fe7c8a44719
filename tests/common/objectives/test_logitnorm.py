"""LogitNorm's loss. As a method: test_contract.py."""

import math

import pytest
import torch
import torch.nn.functional as F

from common.objectives.logitnorm import logit_norm_loss

F64 = torch.float64
LOGITS, LABELS = torch.tensor([[2, 1, -1], [0, 3, 4], [1, 1, 1]], dtype=F64), torch.arange(3)


@pytest.mark.parametrize("tau, rows, mean", [
    (1.0, (0.672254, 1.018925, 1.098612), 0.929930), (0.04, (0.000037, 5.006715, 1.098612), 2.035121),
])  # fmt: skip
def test_the_loss_has_its_worked_values(tau, rows, mean):
    assert float(logit_norm_loss(LOGITS, LABELS, tau)) == pytest.approx(mean, abs=1e-6)
    each = [float(logit_norm_loss(LOGITS[[i]], LABELS[[i]], tau)) for i in range(3)]
    assert each == pytest.approx(rows, abs=1e-6)
    assert mean != pytest.approx(float(F.cross_entropy(LOGITS, LABELS)), abs=1e-3)


def test_the_length_of_the_logits_does_not_count_and_no_gradient_goes_along_it():
    f = LOGITS.clone().requires_grad_()
    loss = logit_norm_loss(f, LABELS, 0.04)
    loss.backward()
    assert loss.item() == pytest.approx(float(logit_norm_loss(1000 * LOGITS, LABELS, 0.04)), abs=1e-5)
    assert f.grad.abs().max() > 1 and (f * f.grad).sum(1).abs().max() < 1e-5


def test_the_loss_has_its_sharp_lower_bound():
    """log(1 + (K - 1) exp(-sqrt(K / (K - 1)) / tau)), at f_y = sqrt((K - 1) / K) and the others equal."""
    best = torch.tensor([[math.sqrt(2 / 3), -1 / math.sqrt(6), -1 / math.sqrt(6)]], dtype=F64)
    assert float(logit_norm_loss(best, torch.tensor([0]), 1.0)) == pytest.approx(0.462265, abs=1e-6)
    others = F.normalize(torch.randn(500, 3, dtype=F64, generator=torch.Generator().manual_seed(0)), dim=1)
    assert min(float(logit_norm_loss(row[None], torch.tensor([0]), 1.0)) for row in others) >= 0.462264


def test_logits_of_zero_give_log_k_and_no_gradient_and_small_temperatures_stay_finite():
    f = torch.cat([torch.zeros(1, 3), 1e3 * LOGITS.float()]).requires_grad_()
    loss = logit_norm_loss(f[:1], torch.tensor([0]), 0.04)
    assert float(loss) == pytest.approx(math.log(3))
    (loss + logit_norm_loss(f, torch.tensor([0, 2, 0, 1]), 0.005)).backward()
    assert f.grad.isfinite().all() and not f.grad[0].any() and f.grad[1].any()
