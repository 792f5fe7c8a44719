"""Every entry of SCORERS under the contract; names, presets and options."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract import *  # noqa: F403
from contract import Case

from common.cli.errors import UserError
from common.scorers import ALL, CANONICAL, SCORERS, canonical, scorer
from common.scorers.arrays import Features, Head
from common.scorers.base import Scorer

# A value unlike the default for every hyper-parameter there is; "rule" is left to the tests of ViM, where the width matters.
OTHER = {"T": 3.0, "eps": 0.1, "gamma": 0.7, "M": 2, "percentile": 40.0, "c": 0.5, "p": 30.0, "p_w": 3.0, "p_a": 30.0, "delta": 0.5,
         "D": 3, "k": 7, "block": 2, "classes": "none", "folds": "one", "output": "p", "lam": 5.0, "variant": "p",
         "norm": "l2", "variance": 50.0, "times": "maxlogit", "alpha": 0.1, "logit": "maxlogit", "clusters": 3}  # fmt: skip


def others(name: str) -> dict[str, Any]:
    found = OTHER | {
        "ash-p": {"variant": "b"},
        "masf-p": {"output": "fisher"},
        "mahalanobis++": {"norm": "none"},
        "rmd++": {"norm": "none"},
    }.get(name, {})
    fixed = ("percentile",) if getattr(SCORERS[name], "c", None) is not None else ()  # a threshold that is given
    names = {field.name for field in dataclasses.fields(SCORERS[name])} - set(fixed)
    return {key: value for key, value in found.items() if key in names}


CHANNELS = {"vim-old": 520}  # its rule wants more than 512
CASES = {name: Case(name, made, others(name), CHANNELS.get(name, 24)) for name, made in SCORERS.items()}


@pytest.fixture(params=SCORERS)
def case(request):
    return CASES[request.param]


@pytest.fixture(params=[name for name, made in SCORERS.items() if made.train_needs])
def training_case(request):
    return CASES[request.param]


@pytest.fixture(params=ALL)
def usual_case(request):
    return CASES[request.param]


def test_every_hyper_parameter_has_another_value_here():
    assert {field.name for s in SCORERS.values() for field in dataclasses.fields(s)} - set(OTHER) == {"rule"}


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
        ("energy:T=inf", "energy: T must be a finite number, got inf|T must be in .* got inf"),
        (
            "energy:T=1e300",
            r"energy: T must be in \[1e-06, 1e\+06\], got 1e\+300",
        ),  # T lse(f / T) would be T log K for all
        ("energy:T=1,T=2", "energy: T is given twice"),
        ("dml:lam=inf", "dml: lam must be >= 0 and finite, .*, got inf"),
        ("react:c=inf", "react: c must be >= 1e-12 and finite, .*, got inf"),
        ("line:delta=nan", "line: delta must be >= 1e-12, got nan"),
    ],
)
def test_a_bad_name_or_option_is_explained(name, text):
    with pytest.raises(UserError, match=text):
        scorer(name)


PER_CENT = [(n, f.name) for n, s in SCORERS.items() for f in dataclasses.fields(s) if f.name in ("p", "p_w", "p_a", "percentile", "variance")]  # fmt: skip


@pytest.mark.parametrize(("name", "option"), PER_CENT)
def test_a_fraction_in_the_place_of_per_cent_is_refused_by_every_score(name, option):
    with pytest.raises(UserError, match=rf"{option} must be in 0\.\.100, not a fraction, got 0\.9"):
        scorer(f"{name}:{option}=0.9")
    scorer(f"{name}:{option}=1"), scorer(f"{name}:{option}=0")


def test_numbers_whose_squares_overflow_are_named_and_so_is_a_score_that_is_not_finite():
    huge = Features(np.full((3, 2), 1e200), np.zeros((3, 2)))
    with pytest.raises(UserError, match=r"penultimate of images to be scored holds values as large as 1e\+200"):
        SCORERS["dml"].fit(None, Head(np.eye(2), np.zeros(2)))(huge)

    class Broken(Scorer):
        def learn(self, train, head):
            return lambda test: np.array([1, np.nan, np.inf])

    with pytest.raises(UserError, match="Broken gives 2 of 3 images a score that is NaN or infinite"):
        Broken().fit()(Features(np.zeros((3, 2)), np.zeros((3, 2))))


def test_every_score_has_its_place_on_the_page():
    page = (Path(__file__).parents[3] / "docs/scores.md").read_text()
    assert not [name for name in SCORERS if f"`{name}`" not in page]


def test_the_base_class_itself_is_no_scorer():
    with pytest.raises(NotImplementedError):
        Scorer().fit(None, None)
