import warnings

import numpy as np
import pytest
from clouds import TEST, TRAIN, of, scores

from common.cli.errors import UserError
from common.scorers import SCORERS
from common.scorers.arrays import Features, Head


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


def test_nnguide_gives_the_worked_values_and_equals_brute_force_over_several_tiles(monkeypatch):
    train = of([[1, 0], [0, 2], [3, 4]], [[0, 0], [0, 0], [np.log(3), np.log(5)]])  # energies log 2, log 2, log 8
    test = of([[2, 0]], [[np.log(7), 0]])  # similarities log 2, 0, 0.6 log 8
    assert scores("nnguide:k=1", train, test, None) == pytest.approx([0.6 * np.log(8) * np.log(8)])
    assert scores("nnguide:k=2", train, test, None) == pytest.approx([(0.6 * np.log(8) + np.log(2)) / 2 * np.log(8)])
    whole = scores("nnguide")
    monkeypatch.setattr("common.scorers.neighbours.TILE_BYTES", 1000)
    np.testing.assert_allclose(scores("nnguide"), whole, rtol=1e-12)
    with pytest.raises(UserError, match="NNGuide: k must be at most the number of training images, 200, got 201"):
        scores("nnguide:k=201")
