"""Eq. 6 and 7 on the specification's worked numbers, and what each switch does."""

import numpy as np
import pytest

from common.cli.errors import UserError
from common.scorers import SCORERS, scorer
from common.scorers.arrays import Features, Head
from dfb.score import MOST_OOD, BackgroundOnly, JointScorer, background_score, guard_fires, guarded_log

CASES = {"A": [4, 1, 0, 2], "B": [1, 0.5, 0, 6], "C": [5, 0, 1, -1]}  # three foreground logits and S_b
TEST = Features(np.zeros((3, 2)), np.array(list(CASES.values()), dtype=np.float64))
# mu = 3, sigma = 1.5 of S_b
TRAIN = Features(np.zeros((2, 2)), np.array([[2, 0, 0, 1.5], [0, 3, 0, 4.5]], dtype=np.float64), np.array([0, 1]))
ODIN2 = scorer("odin:T=2,eps=0")


def joint(foreground, **switches):
    return JointScorer(foreground, **switches).fit(TRAIN, None)(TEST).tolist()


def test_foreground_scores_by_hand():
    plain = {"msp": [0.936240, 0.506480, 0.975559], "energy": [4.065884, 1.680270, 5.024745]}
    for name, expected in plain.items():
        small = Features(TEST.penultimate, TEST.logits[:, :3])
        assert SCORERS[name].fit()(small).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("guard", "sign", "expected"),
    [
        ("clamp", "plus", [1.629387, 2.298240, -12.839952]),
        ("clamp", "minus", [0.243092, -1.285279, 14.791069]),
        ("softplus", "plus", [1.690918, 2.298652, -0.185158]),
        ("softplus", "minus", [0.181561, -1.285692, 2.136275]),
        ("sigmoid", "plus", [0.809312, 0.504005, -0.337703]),
        ("sigmoid", "minus", [1.063168, 0.508956, 2.288820]),
    ],
)
def test_msp_joined_by_hand(guard, sign, expected):
    assert joint("msp", log_guard=guard, sign=sign) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("foreground", "sign", "expected"),
    [
        (ODIN2, "plus", [1.429272, 2.210988, -12.994102]),
        (ODIN2, "minus", [0.042978, -1.372531, 14.636920]),
        ("energy", "plus", [4.865884, 4.080270, 4.624745]),
        ("energy", "minus", [3.265884, -0.719730, 5.424745]),
        ("maxlogit", "plus", [4.8, 3.4, 4.6]),
        ("maxlogit", "minus", [3.2, -1.4, 5.4]),
        ("msp", "two_sided", [0.669573, -0.293520, -0.091108]),
        ("energy", "two_sided", [3.799217, 0.880270, 3.958078]),
    ],
)
def test_other_scores_joined_by_hand(foreground, sign, expected):
    assert joint(foreground, sign=sign) == pytest.approx(expected, abs=1e-6)


def test_guarded_logs_by_hand():
    background = np.array([2.0, 6, -1])
    expected = {
        "clamp": [0.693147, 1.791759, -13.815511],
        "softplus": [0.754679, 1.792172, -1.160716],
        "sigmoid": [-0.126928, -0.002476, -1.313262],
    }
    for guard, values in expected.items():
        assert guarded_log(background, guard).tolist() == pytest.approx(values, abs=1e-6)


def test_over_all_logits_by_hand():
    assert JointScorer("msp", fg_logits="all", log_guard="sigmoid").fit(None, None)(TEST)[1] == pytest.approx(
        0.006649 - 0.002476, abs=1e-6
    )
    energy = JointScorer("energy", fg_logits="all", temperature=1.0, sign="minus").fit(None, None)(TEST)
    assert (energy + TEST.logits[:, 3]).tolist() == pytest.approx([4.185182, 6.013216, 5.027160], abs=1e-6)


def test_energy_minus_at_temperature_one_is_the_log_odds_of_not_background():
    logits = np.random.default_rng(0).normal(0, 3, (50, 6))
    p = np.exp(logits[:, -1]) / np.exp(logits).sum(1)
    got = JointScorer("energy", temperature=1.0, sign="minus").fit(None, None)(Features(np.zeros((50, 2)), logits))
    assert np.allclose(got, np.log((1 - p) / p), atol=1e-9)
    assert joint("energy", temperature=1.0, sign="minus") == pytest.approx([2.065884, -4.319730, 6.024745], abs=1e-6)


def test_a_large_temperature_leaves_the_foregrounds_ranking():
    for sign in ("plus", "minus", "two_sided"):
        assert np.argsort(joint("energy", sign=sign, temperature=1e9)).tolist() == [1, 0, 2]


def test_background_score_is_the_last_logit_and_touches_no_foreground_score():
    assert background_score(TEST).tolist() == [2, 6, -1]
    moved = Features(TEST.penultimate, TEST.logits + np.array([0, 0, 0, 7.0]))
    for name in ("msp", "energy", "maxlogit", "gen"):
        plain = JointScorer(name, temperature=1e12, branch="logit").fit(None, None)
        assert np.allclose(plain(TEST), plain(moved), atol=1e-9)


@pytest.mark.parametrize(
    ("sign", "expected"), [("plus", [2, 6, -1]), ("minus", [-2, -6, 1]), ("two_sided", [-2 / 3, -2, -8 / 3])]
)
def test_background_alone(sign, expected):
    assert BackgroundOnly(sign).fit(TRAIN, None)(TEST).tolist() == pytest.approx(expected)


def test_guard_fires_at_and_below_eps_only():
    assert guard_fires(np.array([-1.0, 0, 1e-6, 1.1e-6, 2])).tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("guard", ["softplus", "sigmoid"])
def test_smooth_guards_keep_every_order(guard):
    values = guarded_log(np.array([-800.0, -40, -31, -30, -29, -1, 0, 1, 5, 20, 30]), guard)
    assert np.isfinite(values).all() and (np.diff(values) > 0).all()


@pytest.mark.parametrize("sign", ["plus", "minus"])
def test_raw_logs_that_do_not_exist_rank_as_most_ood(sign):
    got = joint("msp", log_guard="raw", sign=sign)
    assert got[2] == MOST_OOD and got[:2] == pytest.approx(joint("msp", sign=sign)[:2])


def test_what_the_temperature_divides():
    assert joint("energy", logit_combine="none") == pytest.approx([6.065884, 7.680270, 4.024745], abs=1e-6)
    assert joint("energy", logit_combine="both_over_T") == pytest.approx(
        [v / 2.5 for v in (6.065884, 7.680270, 4.024745)], abs=1e-6
    )
    assert joint("msp", softmax_T="log_over_T") == pytest.approx(
        [0.936240 + 0.693147 / 2.5, 0.506480 + 1.791759 / 2.5, 0.975559 - 13.815511 / 2.5], abs=1e-5
    )


def test_a_score_of_neither_family_is_standardised_on_training_images():
    rng = np.random.default_rng(1)
    train = Features(rng.normal(0, 1, (60, 4)), rng.normal(2, 1, (60, 4)), rng.integers(0, 3, 60))
    test = Features(rng.normal(0, 1, (9, 4)), rng.normal(2, 1, (9, 4)))
    knn = scorer("knn:k=3")
    s_h = knn.fit(train, None)
    z = (s_h(test) - s_h(train).mean()) / s_h(train).std() - (
        test.logits[:, -1] - train.logits[:, -1].mean()
    ) / train.logits[:, -1].std() / 2.5
    made = JointScorer(knn, sign="minus")
    assert made.resolved_branch == "standardised" and np.allclose(made.fit(train, None)(test), z)


def test_vim_sees_k_head_rows_only():
    rng = np.random.default_rng(2)
    head = Head(rng.normal(0, 1, (4, 6)), rng.normal(0, 1, 4))
    h = rng.normal(0, 1, (80, 6))
    train = Features(h, h @ head.weight.T + head.bias, rng.integers(0, 3, 80))
    small = Features(h, train.logits[:, :3], train.labels)
    expected = scorer("vim:D=3").fit(small, Head(head.weight[:3], head.bias[:3]))(small)
    got = JointScorer(scorer("vim:D=3")).fit(train, head)(train)
    assert np.allclose(got - train.logits[:, 3] / 2.5, expected)


def test_vim_can_take_its_origin_from_all_head_rows():
    rng = np.random.default_rng(3)
    head, h = Head(rng.normal(0, 1, (4, 3)), rng.normal(0, 1, 4)), rng.normal(0, 1, (80, 3))
    train = Features(h, h @ head.weight.T + head.bias, rng.integers(0, 3, 80))
    u = -np.linalg.pinv(head.weight) @ head.bias
    small = Features(h, train.logits[:, :3], train.labels)
    expected = scorer("vim:D=2").fit(small, Head(head.weight[:3], -head.weight[:3] @ u))(
        small
    )  # K rows with the origin of K + 1
    got = {
        rows: JointScorer(scorer("vim:D=2"), vim_head=rows).fit(train, head)(train) - train.logits[:, 3] / 2.5
        for rows in ("all", "first_k")
    }
    assert np.allclose(got["all"], expected) and not np.allclose(got["first_k"], expected)


def test_bad_input_is_refused():
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="temperature must be (> 0|>= 0), got"):
            JointScorer("msp", temperature=temperature)
    with pytest.raises(UserError, match="sign must be one of plus, minus, two_sided, got 'best'"):
        JointScorer("msp", sign="best")
    with pytest.raises(UserError, match="log_guard must be one of clamp, softplus, sigmoid, raw, got 'abs'"):
        JointScorer("msp", log_guard="abs")
    with pytest.raises(
        UserError, match="fg_logits all is defined for msp, odin without a step, energy and maxlogit, not for KNN"
    ):
        JointScorer("knn", fg_logits="all")
    with pytest.raises(UserError, match=r"fg_logits all is defined .*, not for ODIN\(T=1000.0, eps=0.0014\)"):
        JointScorer("odin:T=1000,eps=0.0014", fg_logits="all")
    assert JointScorer("odin:T=2,eps=0", fg_logits="all", temperature=1e9, branch="logit").fit()(TEST)[
        1
    ] == pytest.approx(np.exp(0.5) / np.exp([0.5, 0.25, 0, 3]).sum(), abs=1e-6)
    with pytest.raises(UserError, match="JointScorer needs features of in-distribution training images: logits"):
        JointScorer("msp", sign="two_sided").fit(None, None)
