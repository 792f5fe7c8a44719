import numpy as np
import pytest
from clouds import of, scores

from common.cli.errors import UserError
from common.scorers.arrays import Head

HEAD = Head(np.array([[1.0, -2], [-1, 1]]), np.zeros(2))
# Predicted 0, 0, 1, with means (2, 1) and (0, 4); true labels play no part.
TRAIN = of([[1, 1], [3, 1], [0, 4]], [[np.log(3), 0], [np.log(7), 0], [0, np.log(15)]], [1, 1, 1])
TEST = of([[4, 0], [1, 3]], [[5, 0], [0, 6]])  # errors (2, -1) of length 4 and (1, -1) of length 4


def test_caref_gives_the_worked_values():
    assert scores("caref", TRAIN, TEST, None) == pytest.approx([-3 / 4, -2 / 4])


def test_cadref_gives_the_worked_values():
    # Class 0 has signs (+, -): both parts of (2, -1) go with its weights. Class 1 has (-, +): both of (1, -1) go against them.
    energies = np.logaddexp(5, 0), np.log([4, 8, 16]).mean()
    assert scores("cadref", TRAIN, TEST, HEAD) == pytest.approx([-3 / 4 / energies[0], -2 / 4 / energies[1]])
    largest = 5, np.log([3, 7, 15]).mean()
    assert scores("cadref:logit=maxlogit", TRAIN, TEST, HEAD) == pytest.approx(
        [-3 / 4 / largest[0], -2 / 4 / largest[1]]
    )


def test_cadref_needs_positive_scores_in_training():
    low = of(TRAIN.penultimate, TRAIN.logits - 9, TRAIN.labels)
    with pytest.raises(
        UserError, match="CADRef: the energy of training images is -6.9.* on average; it must be positive"
    ):
        scores("cadref", low, TEST, HEAD)


def test_a_row_of_zeros_is_far_from_its_class_and_finite():
    for name in ("caref", "cadref"):
        zero, other = scores(name, TRAIN, of([[0, 0], [4, 0]], [[5, 0], [5, 0]]), HEAD)
        assert zero < 1e6 * other < 0 and np.isfinite(zero)


def test_nci_gives_the_worked_values():
    train = of([[1, 0], [1, 2]], np.zeros((2, 2)))  # mean (1, 1)
    # (3, -1) to the mean with w = (1, -2), and (-3, 1) with (-1, 1); a row at the mean has no direction.
    test = of([[4, 0], [-2, 2], [1, 1]], [[5, 0], [0, 6], [1, 0]])
    expected = np.array([5, 4, 0]) / np.sqrt(10)
    assert scores("nci:alpha=0", train, test, HEAD) == pytest.approx(expected)
    assert scores("nci:alpha=0.5", train, test, HEAD) == pytest.approx(expected + [2, 2, 1])
