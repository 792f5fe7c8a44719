import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.cli.errors import UserError
from common.scorers import SCORERS, scorer
from common.scorers.activations import ASH, _nth, percentile
from common.scorers.arrays import Features, Head

RNG = np.random.default_rng(0)
HEAD = Head(np.array([[2.0, 0], [0, 2], [-1, 1]]), np.array([0.1, -0.2, 0.3]))


def of(h, head: Head, labels=None) -> Features:
    h = np.array(h, dtype=np.float64)
    return Features(h, h @ head.weight.T + head.bias, None if labels is None else np.array(labels))


WORKED = of([[0.875, 0.875], [0.875, 1.625], [1.875, 0.375]], HEAD)
LARGE = Head(RNG.normal(size=(6, 30)), RNG.normal(size=6))
RANDOM = of(np.abs(RNG.normal(size=(80, 30))), LARGE, np.arange(80) % 6)


def lse(*logits) -> float:
    return float(np.log(np.exp(np.array(logits, float)).sum()))


def test_react_gives_the_worked_values():
    assert percentile(WORKED.penultimate, 90.0) == 1.75
    assert SCORERS["react"].fit(WORKED, HEAD)(WORKED) == pytest.approx([2.519401, 3.412230, 3.655136], abs=5e-7)
    assert SCORERS["react-c1"].fit(None, HEAD)(WORKED) == pytest.approx([2.519401, 2.634695, 2.362923], abs=5e-7)


def test_dice_gives_the_worked_value():
    # mean h = (25/24, 23/24); V = [[25/12, 0], [0, 23/12], [-25/24, 23/24]]; its median 23/48 keeps W_00, W_11, W_21.
    dice = scorer("dice:p=50").fit(WORKED, HEAD)(WORKED)
    assert dice[0] == pytest.approx(lse(1.75 + 0.1, 1.75 - 0.2, 0.875 + 0.3), rel=1e-12)
    both = scorer("dice+react:p=50,c=0.5").fit(WORKED, HEAD)(WORKED)
    assert both[0] == pytest.approx(lse(1.0 + 0.1, 1.0 - 0.2, 0.5 + 0.3), rel=1e-12)


def test_dice_keeps_all_but_the_smallest_contribution_at_zero_per_cent():
    contribution = LARGE.weight * RANDOM.penultimate.mean(axis=0)
    thinned = np.where(contribution > contribution.min(), LARGE.weight, 0)
    expected = [lse(*row) for row in RANDOM.penultimate @ thinned.T + LARGE.bias]
    np.testing.assert_allclose(scorer("dice:p=0").fit(RANDOM, LARGE)(RANDOM), expected, rtol=1e-12)


def test_line_gives_the_worked_value():
    head = Head(np.array([[1.0, 2], [3, -1]]), np.zeros(2))
    train = of([[2, 0.5], [1, 3]], head, [0, 1])
    # h' = (2, 1), logits (4, 5): class 1. S_1 = (3, -3): unit 0 stays. |S_1| W = [[3, 6], [9, -3]], median 4.5: W_01 and W_10 stay.
    assert scorer("line:p_a=50,p_w=50,delta=2").fit(train, head)(of([[4, 1]], head)) == pytest.approx([lse(0, 6)])


def test_line_equals_the_gradient_form_image_by_image():
    torch = pytest.importorskip("torch")
    weight, bias = torch.tensor(LARGE.weight), torch.tensor(LARGE.bias)
    contributions = []
    for c in range(6):
        h = torch.tensor(RANDOM.penultimate[RANDOM.labels == c], requires_grad=True)
        (gradient,) = torch.autograd.grad((h @ weight.T + bias)[:, c].sum(), h)
        contributions.append((h * gradient).mean(dim=0).detach().numpy())
    expected = []
    for h in np.minimum(RANDOM.penultimate, 1):
        s = contributions[int((LARGE.weight @ h + LARGE.bias).argmax())]
        V = np.abs(s) * LARGE.weight
        expected.append(
            lse(*((LARGE.weight * (V > np.percentile(V, 90))) @ (h * (s > np.percentile(s, 10))) + LARGE.bias))
        )
    np.testing.assert_allclose(scorer("line:p_a=10").fit(RANDOM, LARGE)(RANDOM), expected, rtol=1e-10)


def test_ash_and_scale_give_the_worked_values():
    ones, h = Head(np.ones((1, 4)), np.zeros(1)), np.array([[2.0, 1, 4, 3]])
    expected = {"ash-p": 7, "ash-b": 10, "ash-s": 7 * np.exp(10 / 7), "scale": 10 * np.exp(10 / 7)}
    got = {name: scorer(f"{name}:percentile=50").fit(None, ones)(of(h, ones))[0] for name in expected}
    assert got == pytest.approx(expected)
    np.testing.assert_array_equal(ASH(variant="b", percentile=50.0).shaped(h), [[0, 0, 5, 5]])


def test_ash_that_keeps_nothing_is_refused_when_fitted():
    for name in ("ash-b:percentile=100", "scale:percentile=99"):
        with pytest.raises(UserError, match=r"percentile \d+ keeps none of 30 activations"):
            scorer(name).fit(None, LARGE)


def test_without_shaping_energy_is_left():
    energy = SCORERS["energy"].fit()(RANDOM)
    for name in ("react:c=1e9", "react:percentile=100", "ash-p:percentile=0"):
        np.testing.assert_allclose(scorer(name).fit(RANDOM, LARGE)(RANDOM), energy, rtol=1e-12)
    stretched = of(RANDOM.penultimate * np.e, LARGE)
    np.testing.assert_allclose(
        scorer("scale:percentile=0").fit(None, LARGE)(RANDOM), SCORERS["energy"].fit()(stretched), rtol=1e-12
    )


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        st.sampled_from([np.float32, np.float64]),
        st.tuples(st.integers(1, 9), st.integers(1, 4)),
        elements=st.floats(-9, 9, width=16),
    ),
    st.floats(0, 100),
)
def test_percentile_equals_numpy_and_does_not_need_a_copy(values, q):
    assert percentile(values, q) == pytest.approx(np.percentile(values.astype(float), q), abs=1e-12)
    assert percentile(values, q, copy_entries=0) == percentile(values, q)
    assert [_nth(values, i) for i in range(values.size)] == sorted(values.ravel().tolist())
