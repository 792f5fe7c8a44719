import numpy as np
import pytest
from clouds import HEAD, RNG, TEST, TRAIN, of, scores

from common.cli.errors import UserError
from common.scorers import SCORERS
from common.scorers.arrays import Features, Head
from common.scorers.subspaces import origin


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


def test_residual_is_vims_length_without_the_logits():
    head = Head(np.array([[1.0, 0], [-1, 0]]), np.zeros(2))  # u = 0; R = the second axis
    train = of([[2, 1], [2, -1]], [[2, -2], [2, -2]])
    assert scores("residual:D=1", train, of([[1, 3], [5, 0]]), head) == pytest.approx([-3, 0])
    with pytest.raises(UserError, match="Residual: D must be below the 2 channels of the features, got 2"):
        scores("residual:D=2", train, train, head)


def test_neco_gives_the_worked_values():
    # Both channels have deviation 2 and 1; standardised they are (1, 1), (1, 1), (-1, -1), (-1, -1): one direction, (1, 1) / sqrt 2.
    train = of([[3, 1], [3, 1], [-1, -1], [-1, -1]], np.zeros((4, 2)))
    test = of([[3, 1], [3, -1], [1, 2]], [[4, 0], [4, 0], [0, 3]])  # z = (1, 1), (1, -1), (0, 2)
    assert scores("neco", train, test, None) == pytest.approx([1, 0, np.sqrt(0.5)], abs=1e-12)
    assert scores("neco:times=maxlogit", train, test, None) == pytest.approx([4, 0, 3 * np.sqrt(0.5)], abs=1e-12)
    assert scores("neco:D=2", train, test, None) == pytest.approx([1, 1, 1])


def test_neco_takes_as_many_directions_as_the_share_asks_and_refuses_more_than_there_are():
    z = (TRAIN.penultimate - TRAIN.penultimate.mean(0)) / TRAIN.penultimate.std(0)
    shares = np.cumsum(np.linalg.svd(z)[1] ** 2) / (z**2).sum()
    D = int((shares < 0.5).sum()) + 1
    np.testing.assert_allclose(scores("neco:variance=50"), scores(f"neco:D={D}"), rtol=1e-12)
    with pytest.raises(UserError, match="NECO: D must be at most the 12 channels of the features, got 13"):
        scores("neco:D=13")
