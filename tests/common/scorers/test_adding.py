import re
import sys
import types
from inspect import signature
from pathlib import Path

import contract
import numpy as np
import pytest

from common.cli.errors import UserError
from common.metrics import auroc
from common.scorers import SCORERS, scorer
from common.scorers.arrays import Features

DOCS = Path(__file__).parents[3] / "docs" / "adding.md"
CHECKS = [
    check for name, check in vars(contract).items() if name.startswith("test_") and [*signature(check).parameters] == ["case"]
]  # fmt: skip


@pytest.fixture
def margin(monkeypatch, capsys):
    """Runs the page's code as it stands; what it adds to SCORERS is taken back."""
    before, page = dict(SCORERS), types.ModuleType("adding_page")
    monkeypatch.setitem(sys.modules, "adding_page", page)  # so that the class can be pickled
    page.SCORERS, page.auroc = SCORERS, auroc
    scorer_page = DOCS.read_text().split("\n# Adding an objective")[0]
    for block in re.findall(r"```python\n(.*?)```", scorer_page, re.S):
        exec(compile(block, str(DOCS), "exec"), vars(page))
    yield page.Margin, capsys.readouterr().out
    SCORERS.clear()
    SCORERS.update(before)


def test_the_page_prints_what_it_says(margin):
    said = re.search(r"# (0\.\d+)$", DOCS.read_text(), re.M).group(1)
    assert margin[1].split() == [said]


def test_the_new_scorer_is_found_by_name_with_options(margin):
    assert scorer("margin:power=2") == margin[0](power=2.0)
    with pytest.raises(UserError, match=r"power must be in \[0, 4\], got 5"):
        scorer("margin:power=5")


def test_the_new_scorer_gives_a_hand_worked_number(margin):
    train = Features(np.zeros((2, 2)), np.zeros((2, 3)))
    assert margin[0]().fit(train)(Features(np.array([[0.0, 4]]), np.array([[1.0, 7, 4]]))) == pytest.approx([3 / 2])


def test_the_contract_covers_the_new_scorer(margin):
    assert len(CHECKS) >= 10
    for check in CHECKS:
        check(contract.Case("margin", margin[0](), {"power": 1.5}))
    contract.test_bad_training_features_are_named(contract.Case("margin", margin[0](), {}))
