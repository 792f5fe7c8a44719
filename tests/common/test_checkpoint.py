import pickle

import pytest
import torch

from common.backbones import build
from common.checkpoint import (
    FACTS,
    check_facts,
    load,
    load_finished,
    load_objective_state,
    load_training,
    save,
    weights_digest,
)
from common.cli.errors import UserError


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build("resnet8", 4)


def test_what_was_saved_is_loaded(tmp_path, model):
    save(tmp_path / "c.pt", model, recipe={"lr": 0.1}, id_set="shapes", classes_named=["a", "b"])
    again, facts = load(tmp_path / "c.pt")
    assert weights_digest(again) == weights_digest(model)
    assert facts == {"id_set": "shapes", "classes_named": ["a", "b"], "recipe": {"lr": 0.1}, "finished": True}


def test_training_state_is_there_only_while_training(tmp_path, model):
    save(tmp_path / "c.pt", model, recipe={}, training={"step": 3, "sums": torch.ones(2)})
    assert load_training(tmp_path / "c.pt")["step"] == 3 and not load(tmp_path / "c.pt")[1]["finished"]
    save(tmp_path / "c.pt", model, recipe={})
    with pytest.raises(UserError, match="is a finished run"):
        load_training(tmp_path / "c.pt")


def test_the_digest_sees_one_changed_weight_and_not_the_memory_format(model):
    import copy

    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    assert weights_digest(other) == weights_digest(model)
    with torch.no_grad():
        other.head.bias[0] += 1e-6
    assert weights_digest(other) != weights_digest(model)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused(tmp_path, model, keep):
    save(tmp_path / "c.pt", model, recipe={})
    whole = (tmp_path / "c.pt").read_bytes()
    (tmp_path / "c.pt").write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(UserError, match="c.pt is not a whole, safe checkpoint"):
        load(tmp_path / "c.pt")


class Runs:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save({"format": Runs()}, tmp_path / "c.pt")
    with pytest.raises(UserError, match="not a whole, safe checkpoint"):
        load(tmp_path / "c.pt")
    (tmp_path / "d.pt").write_bytes(pickle.dumps(Runs()))
    with pytest.raises(UserError, match="not a whole, safe checkpoint"):
        load(tmp_path / "d.pt")
    assert "code ran" not in capsys.readouterr().out


def test_a_foreign_file_and_another_architecture_are_refused(tmp_path, model):
    torch.save({"weights": torch.ones(2)}, tmp_path / "c.pt")
    with pytest.raises(UserError, match="is not a checkpoint of this suite"):
        load(tmp_path / "c.pt")
    model.name, name = "resnet18", model.name
    save(tmp_path / "d.pt", model, recipe={})
    model.name = name
    with pytest.raises(UserError, match="does not fit resnet18"):
        load(tmp_path / "d.pt")


def test_a_failed_write_leaves_the_old_file(tmp_path, model):
    save(tmp_path / "c.pt", model, recipe={"n": 1})
    with pytest.raises(AttributeError):
        save(tmp_path / "c.pt", model, recipe={"n": lambda: None})
    assert load(tmp_path / "c.pt")[1]["recipe"] == {"n": 1} and [p.name for p in tmp_path.iterdir()] == ["c.pt"]


WHOLE = {
    "method": "LBF", "id_set": "shapes", "classes": ["a", "b", "c", "d"], "transform": {"size_px": 48}, "seed": 0, "train_data_sha256": "d" * 64,
}  # fmt: skip


def test_facts_that_came_later_have_defaults_and_the_file_is_left_as_it_is(tmp_path, model):
    save(tmp_path / "c.pt", model, recipe={}, own="kept", **WHOLE)
    facts = load_finished(tmp_path / "c.pt")[1]
    assert facts.keys() == FACTS.keys() | {"own", "recipe", "finished"} and facts["own"] == "kept"
    assert (facts["limit"], facts["extra_classes"], facts["start"]) == (None, 0, "")
    assert "limit" not in load(tmp_path / "c.pt")[1]


@pytest.mark.parametrize(
    "facts, said", [({"classes": ["a", "b", "c"]}, "3 classes"), ({"extra_classes": 1}, "4 classes and 1 more")]
)
def test_a_network_with_another_number_of_outputs_than_its_facts_name_is_refused(tmp_path, model, facts, said):
    save(tmp_path / "c.pt", model, recipe={}, **(WHOLE | facts))
    with pytest.raises(UserError, match=rf"c\.pt has 4 outputs, its facts name {said}$"):
        load_finished(tmp_path / "c.pt")


@pytest.mark.parametrize("name", WHOLE)
def test_a_fact_that_is_missing_is_named_with_the_file(tmp_path, model, name):
    save(tmp_path / "c.pt", model, recipe={}, **{key: value for key, value in WHOLE.items() if key != name})
    with pytest.raises(UserError, match=rf"c\.pt lacks the fact {name} \("):
        load_finished(tmp_path / "c.pt")


def test_a_fact_of_another_kind_is_named_with_what_was_expected():
    with pytest.raises(UserError, match=r"^run/c.pt: the fact seed must be int \(of the run\), got '0'$"):
        check_facts(WHOLE | {"seed": "0"}, "run/c.pt")
    with pytest.raises(UserError, match=r"the fact limit must be int or NoneType \(.*\), got 'all'"):
        check_facts(WHOLE | {"limit": "all"}, "c.pt")


def test_what_the_objective_owns_is_there_while_training_and_after(tmp_path, model):
    head = torch.nn.Linear(3, 2)
    for training in ({"step": 3}, None):
        save(tmp_path / "c.pt", model, recipe={}, training=training, objective=head.state_dict())
        again = load_objective_state(tmp_path / "c.pt")
        assert all(torch.equal(again[name], tensor) for name, tensor in head.state_dict().items()) and len(again) == 2
    save(tmp_path / "d.pt", model, recipe={})
    assert load_objective_state(tmp_path / "d.pt") == {}


def test_the_objectives_state_of_an_older_unfinished_checkpoint_is_found(tmp_path, model):
    save(tmp_path / "c.pt", model, recipe={}, training={"step": 3, "objective": {"seen": torch.ones(2)}})
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    del content["objective"]
    torch.save(content, tmp_path / "c.pt")
    assert load_objective_state(tmp_path / "c.pt")["seen"].tolist() == [1, 1]
