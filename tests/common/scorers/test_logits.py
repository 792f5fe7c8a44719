import numpy as np
import pytest

from common.scorers import SCORERS, scorer
from common.scorers.arrays import Features


def of_logits(*rows) -> Features:
    return Features(np.zeros((len(rows), 1)), np.array(rows, dtype=np.float64))


def test_maxlogit_is_the_largest_logit():
    np.testing.assert_array_equal(SCORERS["maxlogit"].fit()(of_logits([4, 1, 0], [-3, -2, -9])), [4, -2])


def test_energy_gives_the_worked_values():
    worked = of_logits([4, 1, 0], [1, 0.5, 0], [5, 0, 1])
    assert SCORERS["energy"].fit()(worked) == pytest.approx([4.065884, 1.680270, 5.024745], abs=5e-7)
    assert scorer("energy:T=2").fit()(of_logits([0, 0])) == pytest.approx([2 * np.log(2)])


def test_energy_of_huge_logits_is_not_clipped():
    np.testing.assert_array_equal(SCORERS["energy"].fit()(of_logits([500, 0], [-5000, -6000])), [500, -5000])


def test_energy_tends_to_maxlogit_as_the_temperature_falls():
    test = of_logits(*np.random.default_rng(0).normal(0, 3, (20, 5)))
    np.testing.assert_allclose(scorer("energy:T=0.001").fit()(test), test.logits.max(axis=1), atol=1e-3)
