"""Scores as torch modules give the numbers of the numpy scorers: with ties, rows of zeros, large logits; and in onnxruntime."""

import numpy as np
import pytest
import torch

from common.cli.errors import UserError
from common.scorers import SCORERS, Features, Head, scorer
from common.scoring import in_torch as forms
from common.scoring.in_torch import has_form, in_torch

NAMES = [name for name, known in SCORERS.items() if has_form(known)]
OTHERS = (
    "energy:T=0.01",
    "energy:T=1000",
    "vim:D=3",
    "knn:k=1",
    "react:c=0.5",
    "ash-b:percentile=0",
    "scale:percentile=95",
    "odin:T=7,eps=0",
)


@pytest.fixture
def world():
    """Head, training features, and those to be scored: quantised ones, whose ties a ReLU's zeros and equal steps make; zeros; a training image."""
    rng = np.random.default_rng(0)
    draw = lambda count: np.maximum(rng.normal(0.3, 1, (count, 20)), 0).round(1).astype(np.float32)  # noqa: E731
    head = Head(rng.normal(0, 1, (6, 20)).astype(np.float32), rng.normal(0, 1, 6).astype(np.float32))
    train, test = draw(80), draw(40)
    test[0], test[1], test[2] = 0, train[5], 300 * test[2]
    of = lambda h: Features(h, (h @ head.weight.T + head.bias).astype(np.float32))  # noqa: E731
    return head, of(train), of(test)


def test_the_scores_that_have_a_form_are_those_that_the_page_names():
    assert {"msp", "maxlogit", "energy", "react", "ash-s", "ash-b", "ash-p", "scale", "vim", "knn", "odin-dfb"} <= set(
        NAMES
    )
    assert not {"odin", "mahalanobis", "residual", "dice+react", "masf"} & set(NAMES)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*(name for name in NAMES if name != "vim-old"), *OTHERS])
def test_a_form_gives_the_scorers_numbers(name, world):
    head, train, test = world
    made = scorer(name)
    expected = made.fit(train, head)(test)
    found = in_torch(made, name, train, head)(torch.from_numpy(test.penultimate), torch.from_numpy(test.logits))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=2e-7 if name.startswith("knn") else 1e-12)


@pytest.mark.filterwarnings("ignore")
def test_onnxruntime_gives_them_too(world):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    head, train, test = world
    names = ("energy:T=0.3", "msp", "maxlogit", "react", "ash-s", "ash-b", "ash-p", "scale", "vim", "knn")

    class All(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.all = torch.nn.ModuleList(in_torch(scorer(name), name, train, head) for name in names)

        def forward(self, penultimate, logits):
            return tuple(one(penultimate, logits) for one in self.all)

    arrays = {"penultimate": test.penultimate, "logits": test.logits}
    shapes = {name: {0: "batch"} for name in arrays}
    inputs = tuple(torch.from_numpy(array[:3]) for array in arrays.values())
    how = {"input_names": list(arrays), "output_names": list(names), "dynamic_shapes": shapes, "verbose": False}
    model = torch.onnx.export(All().eval(), inputs, dynamo=True, **how).model_proto
    found = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, arrays)
    for name, scores in zip(names, found, strict=True):
        expected = scorer(name).fit(train, head)(test)
        np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=2e-7 if name == "knn" else 1e-9, err_msg=name)


@pytest.mark.filterwarnings("ignore")
def test_a_score_without_a_form_is_one_line_that_names_those_with_one(world):
    with pytest.raises(
        UserError, match="^odin has no form outside of Python; these have: msp, maxlogit, energy, vim, "
    ):
        in_torch(SCORERS["odin"], "odin", None, world[0])
    with pytest.raises(UserError, match="residual has no form"):  # which is a ViM by inheritance
        in_torch(SCORERS["residual"], "residual", world[1], world[0])


def test_a_bank_that_is_too_large_is_refused(world, monkeypatch):
    monkeypatch.setattr(forms, "BANK", 79)
    with pytest.raises(UserError, match="at most 79 in ONNX, and this one has 80; fit it with a limit of 79"):
        in_torch(scorer("knn:k=5"), "knn:k=5", world[1], world[0])
