import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch.nn.functional import cross_entropy

from common.backbones import build
from common.data import shapes
from common.scorers import scorer
from common.scorers.arrays import Features
from common.scoring.features import odin

RNG = np.random.default_rng(0)


def of_logits(*rows) -> Features:
    logits = np.array(rows, dtype=np.float64)
    return Features(np.zeros((len(logits), 1)), logits)


def scores(name: str, test: Features, train: Features | None = None) -> np.ndarray:
    return scorer(name).fit(train)(test)


def test_msp_gives_the_worked_values():
    worked = of_logits([4, 1, 0], [1, 0.5, 0], [5, 0, 1])
    assert scores("msp", worked) == pytest.approx([0.936240, 0.506480, 0.975559], abs=5e-7)


def test_sure_images_that_tie_in_float32_are_told_apart():
    sure = Features(np.zeros((2, 1), np.float32), np.array([[20, 0], [25, 0]], np.float32))
    assert np.exp(np.float32(-0.0)) == 1 and np.float32(1 / (1 + np.exp(-20.0))) == np.float32(1 / (1 + np.exp(-25.0)))
    low, high = scores("msp", sure)
    assert low < high < 1


def test_odin_without_a_step_gives_the_worked_values():
    worked = of_logits([4, 1, 0], [1, 0.5, 0], [5, 0, 1])
    assert scores("odin-dfb", worked) == pytest.approx([0.736125, 0.419229, 0.821409], abs=5e-7)
    # The temperature also counts in the final softmax: the order turns round.
    a_b = of_logits([10, 9, -100], [5, 0, 0])
    assert scores("odin:T=1,eps=0", a_b) == pytest.approx([0.731059, 0.986703], abs=5e-7)
    assert scores("odin:T=1000,eps=0", a_b) == pytest.approx([0.3454, 0.3344], abs=5e-5)


def test_odin_with_a_step_asks_for_its_extra_and_returns_it():
    chosen = scorer("odin:T=100,eps=0.002")
    assert chosen.needs == ("odin:T=100,eps=0.002",)
    near = [scorer(f"odin:T={T},eps={eps}").needs[0] for T in (1000, 1000.0000001) for eps in (0.0014, 0.00140000001)]
    assert len(set(near)) == 4 and near[-1] == "odin:T=1000.0000001,eps=0.00140000001"  # unlike settings share no extra
    test = Features(np.zeros((2, 1)), np.zeros((2, 3)), None, {chosen.needs[0]: np.array([0.4, 0.3], np.float32)})
    np.testing.assert_array_equal(chosen.fit()(test), np.array([0.4, 0.3], np.float32))


def test_odins_extra_is_that_of_its_formula():
    torch.manual_seed(0)
    model, T, eps = build("resnet8", 8).eval(), 10.0, 0.01
    pixels = shapes.load("shapes", "test", limit=4).pixels.float() / 255
    x = pixels.clone().requires_grad_()
    f = model(x) / T
    step = eps * torch.autograd.grad(cross_entropy(f, f.argmax(1), reduction="sum"), x)[0].sign()
    expected = (model(x - step).double() / T).softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(odin(model, pixels, T, eps), expected.detach(), rtol=1e-9, atol=0)
    assert (odin(model, pixels, T, eps) - odin(model, pixels, T, 0.0)).abs().min() > 1e-5


def test_kl_matching_gives_the_worked_value():
    train = of_logits([np.log(3), 0], [0, np.log(4)])  # prototypes (3/4, 1/4) and (1/5, 4/5)
    assert scores("klm", of_logits([0, 0]), train) == pytest.approx([-np.log(4 / 3) / 2])
    assert scores("klm", of_logits([5 + np.log(3), 5]), train) == pytest.approx([0], abs=1e-15)


def test_kl_matching_equals_the_divergence_to_the_nearest_prototype():
    train, test = of_logits(*RNG.normal(0, 2, (200, 5))), of_logits(*RNG.normal(0, 2, (20, 5)))

    def softmax(f):
        return np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)

    p, q = softmax(train.logits), softmax(test.logits)
    prototypes = [p[p.argmax(axis=1) == c].mean(axis=0) for c in range(5)]
    expected = [-min(entropy(row, d) for d in prototypes) for row in q]
    np.testing.assert_allclose(scores("klm", test, train), expected, rtol=1e-10)


def test_kl_matching_leaves_out_classes_never_predicted_and_bears_exact_zeros():
    train = of_logits([900, 0, 0], [0, 900, 0])  # saturated; class 2 never predicted
    with pytest.warns(UserWarning, match="KLMatching: 1 of 3 classes are predicted for no fitting image"):
        result = scores("klm", of_logits([900, 0, 0], [0, 0, 900], [0, 0, 0]), train)
    assert result == pytest.approx([0, -900, np.log(3) - 600])  # not what some floor under the prototypes would say
