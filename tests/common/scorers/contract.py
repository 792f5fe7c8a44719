"""What every scorer must hold, whoever wrote it. A test module takes these tests by importing them, and has the fixtures `case` (every
scorer), `training_case` (those that look at training images) and `usual_case` (one setting a method), each giving a Case."""

import dataclasses
import pickle
import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from worlds import CLASSES, OWN, features, from_penultimate, make_head, rows

from common.cli.errors import UserError
from common.cli.recipes import field_type
from common.metrics import auroc
from common.scorers.arrays import Features, Head
from common.scorers.base import Scorer, array


@dataclass(frozen=True)
class Case:
    """A scorer under the contract. `others`: another value of each hyper-parameter that has an effect here; `row`: the weights and the bias of
    one more row of the head, behind the classes'."""

    name: str
    scorer: Scorer
    others: dict[str, Any]
    channels: int = 24
    row: tuple[float, float, float] | None = None

    def head(self, channels: int) -> Head:
        head = make_head(channels)
        if self.row is None:
            return head
        own, spare, bias = (np.float32(value) for value in self.row)
        row = np.where(np.arange(channels) < CLASSES * OWN, own, spare)
        return Head(np.vstack([head.weight, row]), np.append(head.bias, bias))

    def world(self, dtype=np.float32) -> tuple[Features, Head, Features, Features]:
        """ID training features, the head, ID test and OOD features."""
        head, images = self.head(self.channels), 240 if self.channels == 24 else 600
        made = [
            from_penultimate(plain.penultimate, plain.labels, head, seed)
            for kind, n, seed in (("id", images, 0), ("id", 60, 1), ("ood", 60, 2))
            for plain in [features(kind, n, seed, self.channels, dtype)]
        ]
        return made[0], head, made[1], made[2]


def test_in_distribution_scores_above_the_rest(case):
    train, head, test, ood = case.world()
    score = case.scorer.fit(train, head)
    assert score(test).dtype == np.float64 and score(test).shape == (60,)
    assert auroc(score(test), score(ood)) > 0.95
    assert case.scorer.family in ("softmax", "logit", "other")


def test_a_row_scores_alone_as_in_any_batch_and_order(case):
    train, head, test, ood = case.world()
    score = case.scorer.fit(train, head)
    whole = score(ood)
    order = np.random.default_rng(3).permutation(60)
    np.testing.assert_allclose(score(rows(ood, order)), whole[order], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        np.concatenate([score(rows(ood, [i])) for i in range(5)]), whole[:5], rtol=1e-9, atol=1e-9
    )


def test_fitting_again_remembers_nothing(case):
    train, head, test, _ = case.world()
    other = from_penultimate(np.roll(train.penultimate, 2, axis=1) * np.float32(3), train.labels, head, 5)
    first = case.scorer.fit(train, head)
    before = first(test)
    second = case.scorer.fit(other, head)(test)
    np.testing.assert_array_equal(first(test), before)
    np.testing.assert_array_equal(case.scorer.fit(train, head)(test), before)
    assert not case.scorer.train_needs or case.name.startswith("featurenorm") or not np.array_equal(second, before)


def test_permuting_the_classes_changes_nothing(case):
    train, head, test, ood = case.world()
    order = np.array([2, 0, 3, 1, 4])[: len(head.bias)]
    place = np.argsort(order)

    def permuted(given: Features) -> Features:
        return Features(given.penultimate, given.logits[:, order], place[given.labels], given.extras)

    expected = case.scorer.fit(train, head)(ood)
    got = case.scorer.fit(permuted(train), Head(head.weight[order], head.bias[order]))(permuted(ood))
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_float32_and_float64_rank_alike(case):
    scores = []
    for dtype in (np.float32, np.float64):
        train, head, test, ood = case.world(dtype)
        score = case.scorer.fit(train, head)
        scores.append(np.concatenate([score(test), score(ood)]))
    assert spearmanr(*scores).statistic > 0.9999


def test_units_dead_in_training_and_alive_later_give_finite_scores_that_still_separate(case):
    train, head, test, ood = case.world()

    def extended(given: Features, value: float, seed: int) -> Features:
        h = np.concatenate([given.penultimate, np.full((len(given), 2), value, np.float32)], axis=1)
        return from_penultimate(h, given.labels, wide, seed)

    wide = Head(np.concatenate([head.weight, np.full((len(head.weight), 2), -0.01, np.float32)], axis=1), head.bias)
    score = case.scorer.fit(extended(train, 0, 0), wide)
    alive = score(extended(ood, 2.0, 2))
    assert np.isfinite(alive).all()
    assert auroc(score(extended(test, 0, 1)), alive) > 0.9


def test_rows_of_zeros_and_huge_logits_give_finite_scores(case):
    train, head, test, _ = case.world()
    score = case.scorer.fit(train, head)
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


@pytest.mark.filterwarnings("ignore:SHE")  # noise predicts some classes never
def test_memory_does_not_grow_with_images_times_classes_times_channels(usual_case, monkeypatch):
    images, classes, channels = 3000, 40, 48  # their product in float64: 46 MB
    rng, labels = np.random.default_rng(0), np.arange(images) % (classes - (usual_case.row is not None))
    head = Head(rng.normal(size=(classes, channels)), np.zeros(classes))
    given = from_penultimate(np.abs(rng.normal(size=(images, channels))), labels, head, 0)
    monkeypatch.setattr("common.scorers.base.BLOCK_BYTES", 2**18)
    tracemalloc.start()
    usual_case.scorer.fit(given, head)(given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * given.penultimate.nbytes + 2**21  # a few copies of the features, and a few blocks: 9 MB


def test_nan_missing_and_empty_are_named(case):
    train, head, test, _ = case.world()
    score = case.scorer.fit(train, head)
    for need in case.scorer.needs:
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


def test_bad_training_features_are_named(training_case):
    train, head, _, _ = training_case.world()
    chosen = training_case.scorer
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


def test_a_wrong_width_is_named(case):
    train, head, test, _ = case.world()
    score = case.scorer.fit(train, head)
    for need in case.scorer.needs:
        if array(test, need).ndim == 2:
            with pytest.raises(
                UserError, match=rf"{need} of images to be scored has width \d+, (the head's is|in training it was) \d+"
            ):
                score(spoiled(test, need, lambda values: values[:, :-1]))
    if case.scorer.needs_head:
        with pytest.raises(UserError, match="needs the classifier's weight and bias"):
            case.scorer.fit(train, None)


def test_every_declared_hyper_parameter_has_an_effect(case):
    train, head, test, ood = case.world()
    for name, value in case.others.items():
        changed = dataclasses.replace(case.scorer, **{name: value})
        if changed.needs != case.scorer.needs:
            continue  # it changes what is asked of the network
        before, after = case.scorer.fit(train, head), changed.fit(train, head)
        assert not all(np.array_equal(before(given), after(given)) for given in (test, ood)), name


def test_bounds_are_enforced_and_scorers_pickle_and_compare(case):
    assert pickle.loads(pickle.dumps(case.scorer)) == case.scorer
    for field in dataclasses.fields(case.scorer):
        if isinstance(getattr(case.scorer, field.name), Scorer):
            continue
        assert field.metadata["why"]
        whole = field.metadata["kind"] == "number" and field_type(type(case.scorer), field.name) is int
        bad = "nonsense" if field.metadata["kind"] == "choice" else field.metadata["low"] - 1 if whole else float("nan")
        with pytest.raises(UserError, match=f"^{field.name} must be .*, got '?{bad}'?$"):
            dataclasses.replace(case.scorer, **{field.name: bad})


def test_training_images_are_asked_for_only_where_declared(case):
    train, head, test, _ = case.world()
    if not case.scorer.train_needs:
        np.testing.assert_array_equal(case.scorer.fit(None, head)(test), case.scorer.fit(train, head)(test))
    else:
        kept = {need: train.extras[need] for need in case.scorer.train_needs if need in train.extras}
        only = dataclasses.replace(
            train, extras=kept, labels=train.labels if "labels" in case.scorer.train_needs else None
        )
        np.testing.assert_array_equal(case.scorer.fit(only, head)(test), case.scorer.fit(train, head)(test))
