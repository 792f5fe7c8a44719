"""The background score and the joint score under the contract of every scorer; features and head have one row more, the background's."""

import dataclasses

import pytest
from contract import *  # noqa: F403
from contract import Case

from common.scorers import scorer
from dfb.score import BackgroundOnly, ForegroundOnly, JointScorer

LARGE_ON_ID, SMALL_ON_ID = (
    (0.3, -0.1, 1.0),
    (-0.1, 0.3, 2.0),
)  # S_b: weights of the classes' own and of spare units, bias

LOG = {"log_guard": "sigmoid", "softmax_T": "log_over_T", "branch": "logit", "fg_logits": "all", "sign": "two_sided"}
LOGIT = {"temperature": 1.5, "logit_combine": "none", "branch": "softmax", "foreground": scorer("msp")}
MADE = {
    "msp +": (JointScorer("msp"), LOG),
    "msp - softplus": (JointScorer("msp", sign="minus", log_guard="softplus"), LOG),
    "msp two-sided": (JointScorer("msp", sign="two_sided"), {"temperature": 1.5, "sign": "minus"}),
    "msp + all logits": (JointScorer("msp", fg_logits="all"), {"fg_logits": "first_k"}),
    "odin +": (JointScorer("odin"), {"branch": "standardised"}),
    "energy +": (JointScorer("energy"), LOGIT),
    "energy - both": (JointScorer("energy", sign="minus", logit_combine="both_over_T"), LOGIT),
    "energy two-sided": (JointScorer("energy", sign="two_sided"), {"temperature": 1.5, "fg_logits": "all"}),
    "react -": (JointScorer("react", sign="minus"), {"temperature": 1.5}),
    "mahalanobis +": (JointScorer("mahalanobis"), {"temperature": 1.5}),
    "vim - all rows": (JointScorer("vim:D=3", sign="minus", vim_head="all"), {"vim_head": "first_k"}),
    "knn two-sided": (JointScorer("knn:k=5", sign="two_sided"), {"temperature": 1.5}),
    "energy alone": (ForegroundOnly("energy"), {"fg_logits": "all", "foreground": scorer("msp")}),
    "mahalanobis alone": (ForegroundOnly("mahalanobis"), {}),
    "vim alone": (ForegroundOnly("vim:D=3"), {"vim_head": "all"}),
    **{f"S_b {sign}": (BackgroundOnly(sign), {"sign": "plus" if sign == "minus" else "minus"}) for sign in ("plus", "minus", "two_sided")},
}  # fmt: skip
CASES = {
    name: Case(name, made, others, row=SMALL_ON_ID if getattr(made, "sign", "plus") == "minus" else LARGE_ON_ID)
    for name, (made, others) in MADE.items()
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(params=[name for name, (made, _) in MADE.items() if made.train_needs])
def training_case(request):
    return CASES[request.param]


usual_case = case


def test_every_hyper_parameter_has_another_value_here():
    for kind in (JointScorer, ForegroundOnly, BackgroundOnly):
        tried = {name for made, others in MADE.values() if type(made) is kind for name in others}
        assert tried == {field.name for field in dataclasses.fields(kind)}
