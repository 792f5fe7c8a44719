"""What every entry of SCORERS must hold, whoever wrote it."""

import dataclasses
import pickle
import tracemalloc

import numpy as np
import pytest
from scipy.stats import spearmanr
from worlds import CLASSES, features, from_penultimate, make_head, rows

from common.cli.errors import UserError
from common.cli.recipes import field_type
from common.metrics import auroc
from common.scorers import ALL, CANONICAL, SCORERS, canonical, scorer
from common.scorers.arrays import Features, Head
from common.scorers.base import Scorer, array

CHANNELS = {"vim-old": 520}  # its rule wants more than 512
LOOKS_AT_TRAIN = [name for name, s in SCORERS.items() if s.train_needs]
every = pytest.mark.parametrize("name", SCORERS)


def world(name: str, dtype=np.float32) -> tuple[Features, Head, Features, Features]:
    channels = CHANNELS.get(name, 24)
    images = 240 if channels == 24 else 600
    made = [
        features(kind, n, seed, channels, dtype) for kind, n, seed in (("id", images, 0), ("id", 60, 1), ("ood", 60, 2))
    ]
    return made[0], make_head(channels), made[1], made[2]


@every
def test_in_distribution_scores_above_the_rest(name):
    train, head, test, ood = world(name)
    score = SCORERS[name].fit(train, head)
    assert score(test).dtype == np.float64 and score(test).shape == (60,)
    assert auroc(score(test), score(ood)) > 0.95
    assert SCORERS[name].family in ("softmax", "logit", "other")


@every
def test_a_row_scores_alone_as_in_any_batch_and_order(name):
    train, head, test, ood = world(name)
    score = SCORERS[name].fit(train, head)
    whole = score(ood)
    order = np.random.default_rng(3).permutation(60)
    np.testing.assert_allclose(score(rows(ood, order)), whole[order], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        np.concatenate([score(rows(ood, [i])) for i in range(5)]), whole[:5], rtol=1e-9, atol=1e-9
    )


@every
def test_fitting_again_remembers_nothing(name):
    train, head, test, _ = world(name)
    other = from_penultimate(np.roll(train.penultimate, 2, axis=1) * np.float32(3), train.labels, head, 5)
    first = SCORERS[name].fit(train, head)
    before = first(test)
    second = SCORERS[name].fit(other, head)(test)
    np.testing.assert_array_equal(first(test), before)
    np.testing.assert_array_equal(SCORERS[name].fit(train, head)(test), before)
    assert name not in LOOKS_AT_TRAIN or name.startswith("featurenorm") or not np.array_equal(second, before)


@every
def test_permuting_the_classes_changes_nothing(name):
    train, head, test, ood = world(name)
    order = np.array([2, 0, 3, 1])
    place = np.argsort(order)

    def permuted(given: Features) -> Features:
        return Features(given.penultimate, given.logits[:, order], place[given.labels], given.extras)

    expected = SCORERS[name].fit(train, head)(ood)
    got = SCORERS[name].fit(permuted(train), Head(head.weight[order], head.bias[order]))(permuted(ood))
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


@every
def test_float32_and_float64_rank_alike(name):
    scores = []
    for dtype in (np.float32, np.float64):
        train, head, test, ood = world(name, dtype)
        score = SCORERS[name].fit(train, head)
        scores.append(np.concatenate([score(test), score(ood)]))
    assert spearmanr(*scores).statistic > 0.9999


@every
def test_units_dead_in_training_and_alive_later_give_finite_scores_that_still_separate(name):
    train, head, test, ood = world(name)

    def extended(given: Features, value: float, seed: int) -> Features:
        h = np.concatenate([given.penultimate, np.full((len(given), 2), value, np.float32)], axis=1)
        return from_penultimate(h, given.labels, wide, seed)

    wide = Head(np.concatenate([head.weight, np.full((CLASSES, 2), -0.01, np.float32)], axis=1), head.bias)
    score = SCORERS[name].fit(extended(train, 0, 0), wide)
    alive = score(extended(ood, 2.0, 2))
    assert np.isfinite(alive).all()
    assert auroc(score(extended(test, 0, 1)), alive) > 0.9


@every
def test_rows_of_zeros_and_huge_logits_give_finite_scores(name):
    train, head, test, _ = world(name)
    score = SCORERS[name].fit(train, head)
    for factor in (0, 500):
        changed = from_penultimate(test.penultimate * np.float32(factor), test.labels, head, 1)
        assert np.isfinite(score(changed)).all()


def spoiled(given: Features, need: str, change) -> Features:
    if need in ("penultimate", "logits"):
        return dataclasses.replace(given, **{need: change(getattr(given, need))})
    return dataclasses.replace(given, extras=given.extras | {need: change(given.extras[need])})


def with_nan(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[1] = np.nan
    return values


@pytest.mark.parametrize("name", ALL)
@pytest.mark.filterwarnings("ignore:SHE")  # noise predicts some classes never
def test_memory_does_not_grow_with_images_times_classes_times_channels(name, monkeypatch):
    images, classes, channels = 3000, 40, 48  # their product in float64: 46 MB
    rng, labels = np.random.default_rng(0), np.arange(images) % classes
    head = Head(rng.normal(size=(classes, channels)), np.zeros(classes))
    given = from_penultimate(np.abs(rng.normal(size=(images, channels))), labels, head, 0)
    monkeypatch.setattr("common.scorers.base.BLOCK_BYTES", 2**18)
    tracemalloc.start()
    SCORERS[name].fit(given, head)(given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * given.penultimate.nbytes + 2**21  # a few copies of the features, and a few blocks: 9 MB


@every
def test_nan_missing_and_empty_are_named(name):
    train, head, test, _ = world(name)
    score = SCORERS[name].fit(train, head)
    for need in SCORERS[name].needs:
        with pytest.raises(
            UserError, match=rf"{need} of images to be scored holds \d+ values that are NaN or infinite"
        ):
            score(spoiled(test, need, with_nan))
        if need in test.extras:
            with pytest.raises(UserError, match=f"features lack '{need}'; there are: penultimate, logits"):
                score(dataclasses.replace(test, extras={}))
            with pytest.raises(UserError, match=f"{need} of images to be scored has 3 rows, logits have 60"):
                score(spoiled(test, need, lambda values: values[:3]))
    with pytest.raises(UserError, match="there are no images to be scored"):
        score(rows(test, slice(0)))


@pytest.mark.parametrize("name", LOOKS_AT_TRAIN)
def test_bad_training_features_are_named(name):
    train, head, _, _ = world(name)
    chosen = SCORERS[name]
    with pytest.raises(
        UserError,
        match="needs features of in-distribution training images: " + ", ".join(chosen.train_needs).replace("+", "."),
    ):
        chosen.fit(None, head)
    with pytest.raises(UserError, match="there are no training images"):
        chosen.fit(rows(train, slice(0)), head)
    for need in set(chosen.train_needs) - {"labels"}:
        with pytest.raises(UserError, match=f"{need} of training images holds"):
            chosen.fit(spoiled(train, need, with_nan), head)
    if "labels" in chosen.train_needs:
        with pytest.raises(UserError, match="features lack 'labels'"):
            chosen.fit(dataclasses.replace(train, labels=None), head)
        with pytest.raises(UserError, match=r"labels of training images must be in 0..3, got 0..4"):
            chosen.fit(dataclasses.replace(train, labels=np.arange(len(train)) % 5), head)


@every
def test_a_wrong_width_is_named(name):
    train, head, test, _ = world(name)
    score = SCORERS[name].fit(train, head)
    for need in SCORERS[name].needs:
        if array(test, need).ndim == 2:
            with pytest.raises(
                UserError, match=rf"{need} of images to be scored has width \d+, (the head's is|in training it was) \d+"
            ):
                score(spoiled(test, need, lambda values: values[:, :-1]))
    if SCORERS[name].needs_head:
        with pytest.raises(UserError, match="needs the classifier's weight and bias"):
            SCORERS[name].fit(train, None)


# A value unlike the default for every hyper-parameter there is; "rule" is left to the tests of ViM, where the width matters.
OTHER = {"T": 3.0, "eps": 0.1, "floor": 1e-3, "gamma": 0.7, "M": 2, "percentile": 40.0, "c": 0.5, "p": 30.0, "p_w": 3.0, "p_a": 30.0, "delta": 0.5,
         "D": 3, "k": 7, "block": 2, "classes": "none", "folds": "one", "output": "p", "lam": 5.0, "variant": "p"}  # fmt: skip


@every
def test_every_declared_hyper_parameter_has_an_effect(name):
    train, head, test, ood = world(name)
    for field in dataclasses.fields(SCORERS[name]):
        value = (
            "b"
            if name == "ash-p" and field.name == "variant"
            else "fisher"
            if name == "masf-p" and field.name == "output"
            else OTHER.get(field.name)
        )
        if value is None or (field.name == "percentile" and getattr(SCORERS[name], "c", None) is not None):
            continue
        changed = dataclasses.replace(SCORERS[name], **{field.name: value})
        if changed.needs != SCORERS[name].needs:
            continue  # it changes what is asked of the network
        before, after = SCORERS[name].fit(train, head), changed.fit(train, head)
        assert not all(np.array_equal(before(given), after(given)) for given in (test, ood)), field.name


def test_every_hyper_parameter_has_another_value_here():
    assert {field.name for s in SCORERS.values() for field in dataclasses.fields(s)} - set(OTHER) == {"rule"}


@every
def test_bounds_are_enforced_and_scorers_pickle_and_compare(name):
    assert pickle.loads(pickle.dumps(SCORERS[name])) == SCORERS[name]
    for field in dataclasses.fields(SCORERS[name]):
        assert field.metadata["why"]
        whole = field.metadata["kind"] == "number" and field_type(type(SCORERS[name]), field.name) is int
        bad = "nonsense" if field.metadata["kind"] == "choice" else field.metadata["low"] - 1 if whole else float("nan")
        with pytest.raises(UserError, match=f"^{field.name} must be .*, got '?{bad}'?$"):
            dataclasses.replace(SCORERS[name], **{field.name: bad})


@every
def test_training_images_are_asked_for_only_where_declared(name):
    train, head, test, _ = world(name)
    if name not in LOOKS_AT_TRAIN:
        np.testing.assert_array_equal(SCORERS[name].fit(None, head)(test), SCORERS[name].fit(train, head)(test))
    else:
        kept = {need: train.extras[need] for need in SCORERS[name].train_needs if need in train.extras}
        only = dataclasses.replace(
            train, extras=kept, labels=train.labels if "labels" in SCORERS[name].train_needs else None
        )
        np.testing.assert_array_equal(SCORERS[name].fit(only, head)(test), SCORERS[name].fit(train, head)(test))


def test_names_and_presets():
    wanted = "msp maxlogit energy odin mahalanobis rmd vim dice react dice+react knn klm featurenorm line masf gradnorm ash-s ash-b ash-p scale she gen fdbd"
    assert set(wanted.split()) <= set(ALL) and "odin-dfb" not in ALL
    assert scorer("odin:T=2,eps=0") == SCORERS["odin-dfb"]
    assert scorer("knn:k=200") == canonical("knn", "cifar100") != canonical("knn", "cifar10")
    assert canonical("knn", "imagenet100-mcm") == scorer("knn:k=1000")
    assert canonical("knn:k=3", "cifar100").k == 3
    assert canonical("line", "shapes") == SCORERS["line"] and canonical("msp", "cifar10") == SCORERS["msp"]
    for name, (columns, source) in CANONICAL.items():
        assert source and all(isinstance(s, (type(SCORERS[name]), type(None))) for s in columns)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("knm", "unknown scorer 'knm'; known: msp, maxlogit"),
        ("knn:n=3", "unknown hyper-parameter of knn 'n'; known: k"),
        ("maxlogit:k=3", "unknown hyper-parameter of maxlogit 'k'; known: none"),
        ("knn:k=2.5", "k must be a whole number, got '2.5'"),
        ("react:percentile=x", "percentile must be a number, got 'x'"),
        ("react:percentile=101", r"percentile must be in \[0, 100\], got 101"),
        ("vim:rule=new", "rule must be one of current, old, half, got 'new'"),
        ("ash-s:percentile=0.65", "percentile must be in 0..100, not a fraction, got 0.65"),
        ("scale:percentile=0.85", "percentile must be in 0..100, not a fraction, got 0.85"),
    ],
)
def test_a_bad_name_or_option_is_explained(name, text):
    with pytest.raises(UserError, match=text):
        scorer(name)


def test_the_base_class_itself_is_no_scorer():
    with pytest.raises(NotImplementedError):
        Scorer().fit(None, None)
