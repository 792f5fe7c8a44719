"""The registry METHODS and the command over it (common/training/command.py, method.py, start.py): an objective of one's own is one file, and the suite's next one is one file and one line."""

import sys
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from common import pretrain
from common.checkpoint import load_finished, load_objective_state
from common.cli.errors import UserError
from common.cli.recipes import given, number
from common.objectives import METHODS, method_named
from common.objectives.cross_entropy import PRESETS, CrossEntropy, presets_for
from common.training.method import Method
from common.training.recipe import TrainRecipe

FILE = '''
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from common.cli.recipes import given, number
from common.training.objective import Objective
from common.training.recipe import TrainRecipe


class LogitNorm(Objective):
    """Cross-entropy of normalised logits, the temperature a buffer, a layer of its own, one output more."""

    @dataclass(frozen=True)
    class Recipe(TrainRecipe):
        tau: float = number(0.04, low=1e-3, why="temperature")
        epochs: int = number(1, low=1, why="of this file's")

    extra_classes = 1

    def __init__(self, recipe):
        super().__init__(recipe)
        self.project = nn.Linear(9, 9)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, model, batch, clock):
        logits = self.project(model(batch.flat))
        self.steps += 1
        return F.cross_entropy(F.normalize(logits) / self.recipe.tau, batch.labels), {}


def helper(): ...


other = LogitNorm(None)
'''


@pytest.fixture
def typed(typed, monkeypatch, tmp_path):
    """typed(*words) of common.pretrain on a few images, in a folder that holds mine.py."""
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "broken.py").write_text("import nowhere_at_all\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    small = ("--limit", 64, "--batch-size", 32, "--quiet", "--device", "cpu")
    yield lambda *words: typed(pretrain, *words, *small)
    for name in ("mine", "broken"):
        sys.modules.pop(name, None)


def test_an_objective_in_the_current_folder_is_trained_with_its_own_flags_and_keeps_its_state(typed, tmp_path):
    code, _, err = typed("shapes", "--objective", "mine:LogitNorm", "--tau", 0.5, "--out", "run")
    assert code == 0, err
    model, facts = load_finished(tmp_path / "run/checkpoint.pt")
    assert model.classes == 9 and facts["extra_classes"] == 1 and len(facts["classes"]) == 8
    assert (facts["method"], facts["recipe"]["tau"], facts["recipe"]["schedule"]) == ("LogitNorm", 0.5, "one-cycle")
    state = load_objective_state(tmp_path / "run/checkpoint.pt")
    assert state["steps"] == 2 and state["project.weight"].shape == (9, 9)
    typed("shapes", "--objective", "mine:LogitNorm", "--tau", 0.5, "--out", "again")
    again = load_objective_state(tmp_path / "again/checkpoint.pt")
    assert torch.equal(again["project.weight"], state["project.weight"]), "first weights come from the run's seed too"
    code, out, _ = typed("--objective", "mine:LogitNorm", "--help")
    assert code == 0 and "--tau X" in out and "presets of LogitNorm:" in out and "--resize-px" not in out


@pytest.mark.parametrize("name, said", [
    ("nothing:Loss", "there is no module nothing in "),
    ("mine:Loss", "mine:Loss: the module mine has no Loss"),
    ("mine:helper", "mine:helper is a function, expected a class derived from common.training.objective.Objective"),
    ("mine:other", "mine:other is a LogitNorm, expected a class derived from"),
    ("broken:Loss", "the module broken imports nowhere_at_all, which is not there"),
    ("magic", f"unknown objective 'magic'; known: {', '.join(METHODS)}, module:Class"),
])  # fmt: skip
def test_an_objective_that_is_not_there_or_not_one_is_one_line(typed, tmp_path, name, said):
    code, _, err = typed("shapes", "--objective", name, "--out", "no")
    assert code == 2 and err.startswith(f"error: {said}") and err.count("\n") == 1 and not (tmp_path / "no").exists()


def test_a_value_of_ones_own_recipe_is_checked(typed):
    code, _, err = typed("shapes", "--objective", "mine:LogitNorm", "--tau", 0, "--out", "no")
    assert code == 2 and err == "error: tau must be >= 0.001, got 0.0\n"


def test_presets_for_another_recipe_keep_its_own_fields():
    @dataclass(frozen=True)
    class Recipe(TrainRecipe):
        lr: float = number(0.3, low=0, why="own")
        tau: float = number(0.1, low=0, why="own")

    made = presets_for(type("Own", (CrossEntropy,), {"Recipe": Recipe}))
    assert made.keys() == PRESETS.keys()
    for name, preset in made.items():
        theirs = PRESETS[name].recipe
        assert (preset.recipe.lr, preset.recipe.tau) == (0.3, 0.1) and preset.recipe.epochs == theirs.epochs
        assert (preset.id_set, preset.recipe.crop) == (PRESETS[name].id_set, theirs.crop)


def test_one_line_in_the_registry_gives_a_name_flags_and_presets(typed, monkeypatch, tmp_path):
    class Smooth(CrossEntropy):
        @dataclass(frozen=True)
        class Recipe(TrainRecipe):
            smoothing: float = number(0.1, low=0, high=1, why="share of the label given to all classes")

        def forward(self, model, batch, clock):
            logits = model(batch.flat)
            return F.cross_entropy(logits, batch.labels, label_smoothing=self.recipe.smoothing), {}

    monkeypatch.setitem(METHODS, "smooth", Method("smooth", Smooth, presets_for(Smooth)))
    code, _, err = typed("shapes", "--objective", "smooth", "--epochs", 1, "--smoothing", 0.2, "--out", "run")
    assert code == 0, err
    facts = load_finished(tmp_path / "run/checkpoint.pt")[1]
    assert facts["method"] == "smooth" and facts["recipe"]["smoothing"] == 0.2
    assert [m.name for m in pretrain.chosen_by_preset()] == ["cross-entropy", "mixup"], "its presets need --objective"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_flags_and_no_field_of_its_recipe_is_another_flag(name):
    made = pretrain.parser((METHODS[name],))
    arguments = made.parse_args([next(iter(METHODS[name].presets)), "--out", "run"])
    assert given(arguments, METHODS[name].objective.Recipe) == {}, "what was not typed changes no recipe"


def test_names_are_unique_and_recipes_are_the_objectives():
    for name, method in METHODS.items():
        assert method.name == name and method_named(name) is method
        assert all(type(preset.recipe) is method.objective.Recipe for preset in method.presets.values())
    with pytest.raises(UserError, match="unknown objective 'mine:'"):
        method_named("mine:")
