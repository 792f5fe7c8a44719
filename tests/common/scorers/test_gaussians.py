import numpy as np
import pytest
from clouds import RNG, TEST, TRAIN, of, scores

from common.cli.errors import UserError
from common.scorers.arrays import Features

TWO = of([[-1, 0], [1, 0], [10, -2], [10, 2]], labels=[0, 0, 1, 1])  # tied covariance diag(1/2, 2)


def test_mahalanobis_and_rmd_give_the_worked_values():
    # To class 0: 2 * 4 + 0.5 * 4 = 10. Background: mean (5, 0), covariance diag(25.5, 2): 9 / 25.5 + 2.
    assert scores("mahalanobis", TWO, of([[2, 2]]), None) == pytest.approx([-10])
    assert scores("rmd", TWO, of([[2, 2]]), None) == pytest.approx([-(10 - 9 / 25.5 - 2)])


def test_mahalanobis_equals_the_plain_formula():
    means = np.stack([TRAIN.penultimate[TRAIN.labels == c].mean(axis=0) for c in range(5)])
    centred = TRAIN.penultimate - means[TRAIN.labels]
    P = np.linalg.inv(centred.T @ centred / len(centred))
    expected = [-min((h - m) @ P @ (h - m) for m in means) for h in TEST.penultimate]
    np.testing.assert_allclose(scores("mahalanobis"), expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["mahalanobis", "rmd"])
def test_gaussian_scores_do_not_depend_on_the_basis_or_the_unit(name):
    A, shift = RNG.normal(size=(12, 12)), RNG.normal(size=12)
    for change in (lambda h: h @ A + shift, lambda h: 1e-3 * h, lambda h: 1e3 * h):
        train, test = (Features(change(f.penultimate), f.logits, f.labels) for f in (TRAIN, TEST))
        np.testing.assert_allclose(scores(name, train, test, None), scores(name), rtol=1e-6)


@pytest.mark.parametrize("name", ["mahalanobis", "rmd"])
def test_gaussian_scores_of_units_dead_in_training_are_those_without_the_units(name):
    train = Features(np.c_[TRAIN.penultimate, np.zeros((200, 2))], TRAIN.logits, TRAIN.labels)
    alive = Features(np.c_[TEST.penultimate, np.full((30, 2), 5.0)], TEST.logits)
    np.testing.assert_allclose(scores(name, train, alive, None), scores(name), rtol=1e-9)


def test_rmd_of_a_single_class_is_zero():
    one = Features(TRAIN.penultimate, np.zeros((200, 1)), np.zeros(200, int))
    with pytest.warns(UserWarning, match="RelativeMahalanobis: training images are of one class"):
        got = scores("rmd", one, Features(TEST.penultimate, np.zeros((30, 1))), None)
    np.testing.assert_allclose(got, 0, atol=1e-9)


def test_a_class_without_training_images_is_left_out():
    wider = Features(TRAIN.penultimate, np.zeros((200, 7)), TRAIN.labels)
    with pytest.warns(UserWarning, match=r"Mahalanobis: 2 of 7 classes have no training image \(5, 6\)"):
        np.testing.assert_allclose(scores("mahalanobis", wider, TEST, None), scores("mahalanobis"), rtol=1e-12)


def test_mahalanobis_plus_plus_is_mahalanobis_of_unit_vectors_and_bears_zeros():
    def unit(given: Features) -> Features:
        return Features(
            given.penultimate / np.linalg.norm(given.penultimate, axis=1, keepdims=True), given.logits, given.labels
        )

    for name in ("mahalanobis", "rmd"):
        expected = scores(name, unit(TRAIN), unit(TEST))
        np.testing.assert_allclose(scores(f"{name}++"), expected, rtol=1e-9)
        longer = Features(TEST.penultimate * np.linspace(0.1, 7, 30)[:, None], TEST.logits)
        np.testing.assert_allclose(scores(f"{name}++", TRAIN, longer), expected, rtol=1e-9)
        assert np.isfinite(scores(f"{name}++", TRAIN, Features(np.zeros((1, 12)), np.zeros((1, 5))))).all()


def test_one_image_a_class_is_refused_and_few_images_are_warned_of():
    alone = of(TRAIN.penultimate[:5], TRAIN.logits[:5], TRAIN.labels[:5])
    for name in ("mahalanobis", "rmd", "mahalanobis++", "rmd++"):
        with pytest.raises(UserError, match="do not vary within any class .* no covariance"):
            scores(name, alone)
        few = of(TRAIN.penultimate[:16], TRAIN.logits[:16], TRAIN.labels[:16])  # 16 - 5 < 12 channels
        with pytest.warns(UserWarning, match="16 training images in 5 classes are too few for 12 channels"):
            scores(name, few)


def test_rounding_of_equal_rows_is_no_variance():
    rows = np.repeat(np.random.default_rng(0).normal(size=(3, 12)) / 3, 7, axis=0)  # their means round
    with pytest.raises(UserError, match="Mahalanobis: training features do not vary within any class"):
        scores("mahalanobis", of(rows, np.zeros((21, 3)), np.repeat(np.arange(3), 7)), TEST, None)


def test_ssd_gives_the_worked_value_of_directions():
    """Directions (1, 0), (0, 1), (0.6, 0.8), (0.8, 0.6): mean (0.6, 0.6), covariance [[0.14, -0.12], [-0.12, 0.14]], inverse
    [[0.14, 0.12], [0.12, 0.14]] / 0.0052; (-1, 0) is away by (-1.6, -0.6)."""
    train = of([[2, 0], [0, 3], [3, 4], [8, 6]], labels=[0, 0, 0, 0])
    away = (1.6**2 * 0.14 + 2 * 1.6 * 0.6 * 0.12 + 0.6**2 * 0.14) / 0.0052
    assert scores("ssd", train, of([[-7, 0]]), None) == pytest.approx([-away])


def test_ssd_of_two_clusters_is_the_nearer_of_their_gaussians():
    drawn = np.random.default_rng(0)
    angles = np.concatenate([drawn.normal(at, 0.05, 100) for at in (0.2, 1.3)])
    rows = np.stack([np.cos(angles), np.sin(angles), 0.1 * drawn.normal(size=200)], axis=1)
    train, between = of(rows), of([[np.cos(0.75), np.sin(0.75), 0.0]])
    for test in (of(rows[:3]), of(rows[150:153]), between):
        halves = [scores("ssd", of(part), test, None) for part in (rows[:100], rows[100:])]
        np.testing.assert_allclose(scores("ssd:clusters=2", train, test, None), np.max(halves, axis=0), rtol=1e-6)
    assert scores("ssd:clusters=2", train, between, None) < 2 * scores("ssd", train, between, None)


def test_ssd_refuses_clusters_that_hold_too_little():
    with pytest.raises(UserError, match="clusters must be at most the number of training images, 200, got 300"):
        scores("ssd:clusters=300")
    pair = of([[1, 0], [1, 0.1], [1, -0.1], [0, 1]])
    with pytest.raises(UserError, match="a cluster of 1 training images does not vary; try fewer clusters"):
        scores("ssd:clusters=2", pair, pair, None)
