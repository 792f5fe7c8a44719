import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from common.cli.errors import UserError
from common.metrics import VARIANTS, aupr, auroc, bootstrap, fpr_at_tpr, paired_difference, summary, threshold_at_tpr

A = (np.array([1, 1, *range(3, 26)], float), np.array([0, 0.5, 1, 1, 1, 2, 2, 4, 10, 15]))
B = (np.arange(1.0, 21), np.arange(1.0, 21))
C = (np.array([1, 2, 2, *range(4, 21)], float), np.array([0, 0, 1, 2, 2, 2, 3, 3, 6, 12.0]))

WORKED = [
    (
        A,
        {
            "default": 0.80,
            "closest": 0.50,
            "strict-gt": 0.50,
            "floor": 0.30,
            "interp": 0.6125,
            "ood-positive": 0.60,
            "openood": 0.60,
        },
    ),
    (
        B,
        {
            "default": 0.95,
            "closest": 0.95,
            "strict-gt": 0.90,
            "floor": 0.95,
            "interp": 0.95,
            "ood-positive": 0.95,
            "openood": 1.00,
        },
    ),
    (
        C,
        {
            "default": 0.70,
            "closest": 0.70,
            "strict-gt": 0.40,
            "floor": 0.70,
            "interp": 0.70,
            "ood-positive": 0.60,
            "openood": 0.60,
        },
    ),
]
# Small whole numbers: many ties, all equal, one element; floats of any size beside them.
scores = st.lists(st.integers(-3, 3).map(float) | st.floats(-1e6, 1e6), min_size=1, max_size=40).map(np.array)


@pytest.mark.parametrize(("example", "expected"), WORKED)
def test_every_variant_of_fpr95_gives_the_worked_value(example, expected):
    assert set(expected) == set(VARIANTS)
    assert {v: fpr_at_tpr(*example, variant=v) for v in VARIANTS} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("example", "roc", "pr_in", "pr_out"),
    [(A, 0.862, 0.933177, 0.723876), (B, 0.5, 0.5, 0.5), (C, 0.8525, 0.917627, 0.725909)],
)
def test_areas_give_the_worked_values(example, roc, pr_in, pr_out):
    assert (auroc(*example), aupr(*example), aupr(*example, positive="out")) == pytest.approx(
        (roc, pr_in, pr_out), abs=5e-7
    )


def test_openood_value_of_the_tied_example_comes_from_dropped_points():
    truth, values = np.r_[np.zeros(20), np.ones(20)], -np.r_[B]
    for drop, expected in ((True, 1.00), (False, 0.95)):
        fpr, tpr, _ = roc_curve(truth, values.ravel(), drop_intermediate=drop)
        assert fpr[np.argmax(tpr >= 0.95)] == expected


@settings(max_examples=80, deadline=None)
@given(scores, scores)
def test_summary_equals_scikit_learn(id_, ood):
    truth, values = np.r_[np.ones(len(id_)), np.zeros(len(ood))], np.r_[id_, ood]
    fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
    k = (95 * len(id_) + 99) // 100
    expected = {
        "fpr95": fpr[np.argmax(np.round(tpr * len(id_)) >= k)],
        "auroc": roc_auc_score(truth, values),
        "aupr_in": average_precision_score(truth, values),
        "aupr_out": average_precision_score(1 - truth, -values),
    }
    assert summary(id_, ood) == pytest.approx(expected, abs=1e-12)
    assert (fpr_at_tpr(id_, ood), auroc(id_, ood), aupr(id_, ood), aupr(id_, ood, positive="out")) == tuple(
        summary(id_, ood).values()
    )


@settings(max_examples=60, deadline=None)
@given(scores, scores, st.randoms())
def test_metrics_see_only_the_order_of_scores(id_, ood, random):
    _, ranks = np.unique(np.r_[id_, ood], return_inverse=True)
    ranks = np.exp(ranks.astype(float) / 8)  # strictly increasing in the score
    first, second = list(ranks[: len(id_)]), list(ranks[len(id_) :])
    random.shuffle(first), random.shuffle(second)
    assert summary(np.array(first), np.array(second)) == pytest.approx(summary(id_, ood), abs=1e-12)
    assert auroc(id_, ood) == pytest.approx(1 - auroc(ood, id_), abs=1e-12)
    assert aupr(id_, ood, positive="out") == pytest.approx(aupr(-ood, -id_), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(scores, st.sampled_from([0.05, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0]))
def test_threshold_is_the_largest_that_accepts_the_share(id_, tpr):
    threshold = threshold_at_tpr(id_, tpr)
    need = -(-round(tpr * 100) * len(id_) // 100)
    assert (id_ >= threshold).sum() >= need > (id_ > threshold).sum()


@pytest.mark.parametrize(("n", "k"), [(1, 1), (20, 19), (25, 24), (10000, 9500), (10001, 9501)])
def test_the_rank_is_exact_where_floats_are_not(n, k):
    assert threshold_at_tpr(np.arange(n, dtype=float)) == n - k


def test_trivial_worlds():
    assert summary(np.array([2.0, 3]), np.array([0.0, 1])) == {"fpr95": 0, "auroc": 1, "aupr_in": 1, "aupr_out": 1}
    same = summary(np.ones(7), np.ones(4))
    assert (same["fpr95"], same["auroc"]) == (1, 0.5)
    assert auroc(np.array([np.inf, 0]), np.array([-np.inf])) == 1


def test_inputs_are_not_modified():
    id_, ood = np.array([3.0, 1, 2]), np.array([2.0, 0])
    before = id_.copy(), ood.copy()
    for variant in VARIANTS:
        fpr_at_tpr(id_, ood, variant=variant)
    summary(id_, ood), bootstrap(id_, ood, repeats=2), paired_difference((id_, ood), (id_, ood), repeats=2)
    np.testing.assert_array_equal(id_, before[0]), np.testing.assert_array_equal(ood, before[1])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: auroc(np.array([]), np.ones(2)), "ID scores are empty"),
        (lambda: auroc(np.ones(2), np.array([0, np.nan, np.nan])), "OOD scores hold 2 NaN out of 3"),
        (lambda: summary(np.ones((2, 1)), np.ones(2)), r"ID scores must have one axis, got shape \(2, 1\)"),
        (lambda: fpr_at_tpr(np.ones(2), np.ones(2), tpr=0.0), r"tpr must be in \(0, 1\], got 0.0"),
        (
            lambda: fpr_at_tpr(np.ones(2), np.ones(2), variant="strict-gt", tpr=float("nan")),
            r"tpr must be in \(0, 1\], got nan",
        ),
        (
            lambda: fpr_at_tpr(np.ones(2), np.ones(2), variant="x"),
            "unknown FPR variant 'x'; known: default, closest, strict-gt",
        ),
        (lambda: aupr(np.ones(2), np.ones(2), positive="both"), "positive must be in or out, got 'both'"),
        (lambda: bootstrap(np.ones(2), np.ones(2), repeats=0), "repeats must be >= 1, got 0"),
        (
            lambda: paired_difference((np.ones(2), np.ones(2)), (np.ones(2), np.ones(3))),
            "OOD scores of A and B .* got 2 and 3",
        ),
    ],
)
def test_bad_input_is_named(call, text):
    with pytest.raises(UserError, match=text):
        call()


def test_bootstrap_interval_covers_the_truth_about_95_times_in_100():
    rng, truth, hits = np.random.default_rng(0), 0.760250, 0  # P(N(1,1) > N(0,1)) = Phi(1/sqrt 2)
    for trial in range(100):
        low, high = bootstrap(rng.normal(1, 1, 120), rng.normal(0, 1, 120), repeats=200, seed=trial)
        hits += low <= truth <= high
    assert 88 <= hits <= 99  # binomial(100, 0.95) lies here with probability > 0.99


def test_pairing_finds_a_small_difference_that_separate_intervals_hide():
    rng = np.random.default_rng(1)
    id_, ood = rng.normal(1, 1, 400), rng.normal(0, 1, 400)
    worse = (id_ - 0.1 + 0.05 * rng.normal(size=400), ood)
    found = paired_difference((id_, ood), worse, repeats=300)
    assert found.value == auroc(id_, ood) - auroc(*worse)
    assert 0 < found.low <= found.value <= found.high and found.p < 0.05
    assert bootstrap(id_, ood, repeats=300)[0] < bootstrap(*worse, repeats=300)[1]
    assert paired_difference((id_, ood), (id_, ood), repeats=50) == (0, 0, 0, 1)
