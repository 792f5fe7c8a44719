import warnings

import numpy as np
import pytest

from common.cli.errors import UserError
from common.scorers import SCORERS, scorer
from common.scorers.arrays import Features, Head
from common.scorers.distances import origin

RNG = np.random.default_rng(0)


def of(h, logits=None, labels=None) -> Features:
    h = np.array(h, dtype=np.float64)
    return Features(
        h,
        np.zeros((len(h), 2)) if logits is None else np.array(logits, float),
        None if labels is None else np.array(labels),
    )


TWO = of([[-1, 0], [1, 0], [10, -2], [10, 2]], labels=[0, 0, 1, 1])  # tied covariance diag(1/2, 2)
HEAD = Head(RNG.normal(size=(5, 12)), RNG.normal(size=5))


def clouds(seed: int, images: int = 200, scale: float = 1.0) -> Features:
    rng, labels = np.random.default_rng(seed), np.arange(images) % 5
    h = scale * (
        np.random.default_rng(9).normal(0, 2, (5, 12))[labels] + rng.normal(size=(images, 12)) * np.linspace(0.3, 2, 12)
    )
    return Features(h, h @ HEAD.weight.T + HEAD.bias, labels)


TRAIN, TEST = clouds(1), clouds(2, 30)


def scores(name: str, train: Features = TRAIN, test: Features = TEST, head: Head | None = HEAD) -> np.ndarray:
    return scorer(name).fit(train, head)(test)


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


def test_vim_gives_the_worked_value():
    head = Head(np.array([[1.0, 0], [-1, 0]]), np.zeros(2))  # u = 0
    train = of([[2, 1], [2, -1]], [[2, -2], [2, -2]])  # second moment diag(4, 1): R = the second axis; alpha = 2 / 1
    expected = np.log(np.exp(1) + np.exp(-1)) - 2 * 3
    assert scores("vim:D=1", train, of([[1, 3]], [[1, -1]]), head) == pytest.approx([expected])


@pytest.mark.parametrize("widened", [np.float32, np.float64])
def test_vims_origin_does_not_take_a_float32_heads_rounding_for_a_direction(widened):
    weight, bias = HEAD.weight - HEAD.weight.mean(axis=0), HEAD.bias  # what weight decay makes: rows that sum to 0
    seen = weight.astype(np.float32)
    assert np.linalg.svd(seen.astype(float))[1][-1] > 0  # rounding, not a direction
    u = origin(Head(seen.astype(widened), bias.astype(np.float32).astype(widened)))
    np.testing.assert_allclose(u, -np.linalg.pinv(weight, rcond=1e-9) @ bias, rtol=1e-4, atol=1e-6)
    exact = Head(HEAD.weight * 1.1, bias)  # float64's own digits: a direction 1e-9 of the largest is one
    exact.weight[0] = exact.weight[1] + 1e-9 * exact.weight[0]
    np.testing.assert_allclose(exact.weight @ origin(exact), -bias, rtol=1e-4)


def test_vim_is_the_same_in_a_rotated_basis():
    Q = np.linalg.qr(RNG.normal(size=(12, 12)))[0]
    train, test = (Features(f.penultimate @ Q, f.logits, f.labels) for f in (TRAIN, TEST))
    np.testing.assert_allclose(scores("vim", train, test, Head(HEAD.weight @ Q, HEAD.bias)), scores("vim"), rtol=1e-8)


def test_vim_dimension_rules():
    channels = (342, 512, 640, 768, 2048)
    assert [SCORERS["vim"].principal_dimensions(c) for c in channels] == [171, 256, 320, 512, 1000]
    assert [SCORERS["vim-old"].principal_dimensions(c) for c in channels[2:]] == [512, 512, 1000]
    assert [SCORERS["vim-half"].principal_dimensions(c) for c in channels] == [171, 256, 320, 384, 1024]


def test_vim_without_residual_is_refused():
    with pytest.raises(
        UserError, match="ViM: D must be below the 512 channels of the features, got 512; nothing would be left"
    ):
        SCORERS["vim-old"].principal_dimensions(512)
    flat = Features(TRAIN.penultimate * (np.arange(12) < 3), TRAIN.logits, TRAIN.labels)
    with pytest.raises(
        UserError, match="ViM: training features lie in 5 dimensions, nothing is left as residual; choose a smaller D"
    ):
        scores("vim:D=5", flat, TEST, Head(HEAD.weight * (np.arange(12) < 3), HEAD.bias))


def test_knn_gives_the_worked_values():
    bank, far = of([[1, 0], [0, 2], [3, 3]]), of([[5, 0]])
    assert [scores(f"knn:k={k}", bank, far, None)[0] for k in (1, 2, 3)] == pytest.approx(
        [0, -np.sqrt(2 - np.sqrt(2)), -np.sqrt(2)]
    )


def test_knn_equals_brute_force_over_several_blocks(monkeypatch):
    def unit(h):
        return h / np.linalg.norm(h, axis=1, keepdims=True)

    all_distances = np.linalg.norm(unit(TEST.penultimate)[:, None] - unit(TRAIN.penultimate)[None], axis=2)
    monkeypatch.setattr("common.scorers.base.BLOCK_BYTES", 2000)  # a few rows a block
    monkeypatch.setattr("common.scorers.neighbours.TILE_BYTES", 1000)  # and fewer of the bank at a time than k
    np.testing.assert_allclose(scores("knn:k=17"), -np.sort(all_distances, axis=1)[:, 16], rtol=1e-9)


def test_knn_sees_directions_only_and_bears_zeros():
    longer = Features(TEST.penultimate * np.linspace(0.1, 7, 30)[:, None], TEST.logits)
    np.testing.assert_allclose(scores("knn", TRAIN, longer), scores("knn"), rtol=1e-9)
    assert scores("knn", TRAIN, Features(np.zeros((1, 12)), np.zeros((1, 5)))) == pytest.approx([-1])
    with pytest.raises(UserError, match="k must be at most the number of training images, 200, got 201"):
        scores("knn:k=201")


def test_she_gives_the_worked_value():
    logits, labels = [[1, 0], [1, 0], [0, 1], [0, 1]], [0, 0, 0, 1]  # the third image is wrong: it must not count
    train = of([[1, 2], [3, 4], [100, 0], [0, 1]], logits, labels)
    np.testing.assert_array_equal(scores("she", train, of([[1, 1], [1, 2]], [[1, 0], [0, 1]]), None), [5, 2])


def test_she_falls_back_for_a_class_that_is_never_right():
    train = of([[1, 2], [3, 4], [5, 7]], [[1, 0, 0], [1, 0, 0], [1, 0, 0]], [0, 1, 1])
    with pytest.warns(UserWarning, match="SHE: 2 of 3 classes have no correctly classified training image"):
        score = SCORERS["she"].fit(train)
    np.testing.assert_allclose(
        score(of([[1, 0], [1, 0]], [[0, 1, 0], [0, 0, 1]])), [4, 3]
    )  # its class's mean; the mean of all
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SCORERS["she"].fit(of([[1, 2]], [[1]], [0]))


def test_fdbd_gives_the_worked_value():
    head = Head(np.array([[1.0, 0], [0, 1], [-1, 0]]), np.zeros(3))
    train = of([[1, 1], [-1, -1]], np.zeros((2, 3)))
    # Margins 1 and 7 over gaps of sqrt 2, averaged over two classes, over |h| = 5.
    assert scores("fdbd", train, of([[3, 4]], [[3, 4, -3]]), head) == pytest.approx([8 / np.sqrt(2) / 2 / 5])


def test_fdbd_of_equal_weights_or_at_the_mean_is_finite_and_one_class_is_refused():
    head = Head(np.array([[1.0, 0], [1, 0], [0, 1]]), np.zeros(3))
    train = of([[1, 1], [-1, -1]], np.zeros((2, 3)))
    assert np.isfinite(scores("fdbd", train, of([[3, 4], [0, 0]], [[3, 3, 4], [0, 0, 0]]), head)).all()
    with pytest.raises(UserError, match="fDBD: at least two classes are needed, got 1"):
        scores("fdbd", of([[1, 1]], [[1]]), TEST, Head(np.ones((1, 2)), np.zeros(1)))


def test_dml_gives_the_worked_values():
    head = Head(np.array([[1.0, 0], [1, 1]]), np.array([3.0, 4]))
    test = of([[3, 4], [1, 0]])
    assert scores("dml", test, test, head) == pytest.approx([0.989949 + 5, 1 + 1], abs=5e-7)
    assert scores("dml:lam=10", test, test, head) == pytest.approx([9.899495 + 5, 11], abs=5e-7)
