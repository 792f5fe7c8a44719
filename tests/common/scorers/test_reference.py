"""Every registered score against its plain reference, on worlds where float arithmetic, ties, empty classes or dead units could mislead it.

python -m pytest tests/common/scorers/test_reference.py        # equal to 1e-9, or the error or warning that the world asks for
PYTHONPATH=. python tests/common/scorers/test_reference.py     # the largest deviation of each score
"""

import re
import sys
import warnings
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import pytest
from audit import REFUSED, WARNED, WORLDS
from reference import EXCEPTIONS, REFERENCE
from scipy.stats import rankdata

from common.cli.errors import UserError
from common.scorers import SCORERS

# Absolute: KL of a nearly flat softmax to a nearly flat prototype is what is left of two entropies of log K, 1e-8 of them here.
ABSOLUTE = {"klm": 1e-15}
EXACT = ("maxlogit", "featurenorm", "masf", "masf-p")  # what ties in exact arithmetic ties


def run(world: str, name: str) -> tuple[np.ndarray, list[str]]:
    train, head, test = WORLDS[world]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scores = SCORERS[name].fit(train, head)(test)
    return scores, [str(entry.message) for entry in caught]


@cache
def wanted_of(world: str, name: str) -> np.ndarray:
    train, head, test = WORLDS[world]()
    with np.errstate(all="ignore"):
        return np.asarray(REFERENCE[name](train, head, test, SCORERS[name]), dtype=np.float64)


def deviation(world: str, name: str, scores: np.ndarray) -> float:
    """Largest difference, relative to the score or, where it is near 0 by cancellation, to the largest score of the world."""
    wanted = wanted_of(world, name)
    assert np.isfinite(wanted).all()
    scale = np.maximum(np.abs(wanted), 1e-3 * np.abs(wanted).max())
    apart = np.maximum(np.abs(scores - wanted) - ABSOLUTE.get(name, 0), 0)
    return float(np.max(apart / np.where(scale > 0, scale, 1)))


def test_every_registered_score_has_a_reference_or_a_reason():
    what = "write its reference into reference.py, or the reason into EXCEPTIONS there"
    assert set(SCORERS) == set(REFERENCE) | set(EXCEPTIONS), what
    assert not set(REFERENCE) & set(EXCEPTIONS) and all(EXCEPTIONS.values())


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", REFERENCE)
def test_the_score_is_that_of_its_reference_or_the_world_is_refused(world, name):
    if refused := REFUSED.get(world, {}).get(name):
        with pytest.raises(UserError, match=refused):
            run(world, name)
        return
    scores, said = run(world, name)
    warned = WARNED.get(world, {}).get(name)
    assert len(said) == (warned is not None), said
    assert warned is None or re.search(warned, said[0])
    assert deviation(world, name, scores) < 1e-9
    if name in EXACT:
        np.testing.assert_array_equal(rankdata(scores), rankdata(wanted_of(world, name)))


if __name__ == "__main__":
    for name in REFERENCE:
        found = {w: deviation(w, name, run(w, name)[0]) for w in WORLDS if not REFUSED.get(w, {}).get(name)}
        worst = max(found, key=found.get)
        print(f"{name:12} {found[worst]:.1e}  {worst}")
