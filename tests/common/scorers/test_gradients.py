import numpy as np
import pytest

from common.scorers import scorer
from common.scorers.arrays import Features

RNG = np.random.default_rng(0)


def test_gradnorm_gives_the_worked_values():
    test = Features(np.array([[3.0, -4]]), np.array([[np.log(3), 0]]))
    assert scorer("gradnorm").fit()(test) == pytest.approx([0.5 * 7])  # p = (3/4, 1/4)
    root = np.sqrt(3)
    assert scorer("gradnorm:T=2").fit()(test) == pytest.approx([2 * (root / (1 + root) - 0.5) * 7 / 2])


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradnorm_equals_the_gradient_of_the_head(temperature):
    torch = pytest.importorskip("torch")
    weight, h = torch.tensor(RNG.normal(size=(4, 6)), requires_grad=True), torch.tensor(RNG.normal(size=(5, 6)))
    expected = []
    for row in h:
        loss = torch.nn.functional.cross_entropy(weight @ row / temperature, torch.full((4,), 0.25))
        expected.append(float(torch.autograd.grad(loss, weight)[0].abs().sum()))
    test = Features(h.numpy(), (h @ weight.T).detach().numpy())
    np.testing.assert_allclose(scorer(f"gradnorm:T={temperature}").fit()(test), expected, rtol=1e-10)
