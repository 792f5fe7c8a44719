import pickle

import numpy as np
import pytest
import torch

from common.backbones import build
from common.checkpoint import (
    FACTS,
    OLDER,
    PARTS,
    check_facts,
    load,
    load_finished,
    load_objective_state,
    load_training,
    read_facts,
    save,
    weights_digest,
)
from common.cli.errors import UserError


def changed(path, change):
    """The file with its content as `change` leaves it."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def older(path, *without):
    """The file as it was written before checkpoints had digests."""

    def change(content):
        content["format"] = OLDER
        for name in ("sha256", *without):
            del content[name]

    changed(path, change)


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
    with pytest.raises(TypeError, match="tensors and plain values, got function"):
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
    older(tmp_path / "c.pt", "objective")
    assert load_objective_state(tmp_path / "c.pt")["seen"].tolist() == [1, 1]


# --- damage ------------------------------------------------------------------------------------------------------------------------------


def flip(path, at, bit=0x40):
    content = bytearray(path.read_bytes())
    content[at] ^= bit
    path.write_bytes(content)


def place_of(path, tensor):
    """Where a tensor's bytes lie in the file."""
    return path.read_bytes().index(tensor.numpy().tobytes()[:400])


def test_one_flipped_bit_of_a_weight_of_training_or_of_a_fact_is_refused(tmp_path, model):
    path, momentum = tmp_path / "c.pt", torch.rand(200)
    for what, reader in ((model.body.layer3.conv2.weight.detach(), load), (momentum, load_training)):
        save(path, model, recipe={}, training={"momentum": momentum}, **WHOLE)
        flip(path, place_of(path, what) + 3)
        with pytest.raises(UserError, match=r"c\.pt is damaged: its part '(weights|training)' is not what was saved"):
            reader(path)
    save(path, model, recipe={}, **WHOLE)
    flip(path, path.read_bytes().index(b"shapes"), 1)
    for reader in (load, read_facts, load_objective_state):
        with pytest.raises(UserError, match=r"c\.pt is damaged: what it says is not what was saved"):
            reader(path)


def test_an_older_checkpoint_is_read_with_a_word_and_its_archives_checksums_are_compared(tmp_path, model, capsys):
    path = tmp_path / "c.pt"
    save(path, model, recipe={}, **WHOLE)
    older(path)
    again, facts = load_finished(path)
    assert weights_digest(again) == weights_digest(model) and facts["method"] == "LBF"
    assert "c.pt is older than the digests of weights" in capsys.readouterr().err
    flip(path, place_of(path, model.body.layer3.conv2.weight.detach()) + 3)
    with pytest.raises(UserError, match=r"c\.pt is damaged: the checksums of the archive do not hold"):
        load(path)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_is_missing_or_of_another_kind_is_named(tmp_path, model, name):
    path = tmp_path / "c.pt"
    save(path, model, recipe={}, **WHOLE)
    changed(path, lambda content: content.update({name: 1.5}))
    with pytest.raises(
        UserError, match=rf"part '{name}' must be .*, got float" if name != "format" else "expected format"
    ):
        load(path)
    changed(path, lambda content: content.pop(name))
    for reader in (load, read_facts):
        with pytest.raises(UserError, match=rf"part '{name}' is missing" if name != "format" else "expected format"):
            reader(path)


def test_an_edited_checkpoint_is_refused(tmp_path, model):
    def said(change):
        save(tmp_path / "c.pt", model, recipe={"lr": 0.1}, training={"step": 1}, **WHOLE)
        changed(tmp_path / "c.pt", change)
        with pytest.raises(UserError) as error:
            load(tmp_path / "c.pt")
        return str(error.value).removeprefix(f"{tmp_path / 'c.pt'} ")

    changed_said = "is damaged: what it says is not what was saved (the SHA-256 differs)"
    assert said(lambda c: c["recipe"].update(lr=0.2)) == changed_said
    assert said(lambda c: c["facts"].update(classes=["b", "a"])) == changed_said
    assert said(lambda c: c.update(output_stride=8)) == changed_said
    assert said(lambda c: c.update(training=None)).startswith("is damaged: its part 'training'")
    assert said(lambda c: c.update(more=1)) == "holds parts that no checkpoint has: more"
    assert said(lambda c: c["weights"].update(x="text")).endswith("weights must be tensors by name, got str under 'x'")


def test_tensors_that_do_not_fit_the_network_are_named(tmp_path, model):
    def said(change):
        save(tmp_path / "c.pt", model, recipe={}, **WHOLE)
        older(tmp_path / "c.pt")
        changed(tmp_path / "c.pt", lambda content: change(content["weights"]))
        with pytest.raises(UserError, match="does not fit resnet8 with 4 classes: ") as error:
            load(tmp_path / "c.pt")
        return str(error.value).partition("classes: ")[2]

    head = torch.zeros(5, 128)
    assert (
        said(lambda w: w.update({"head.weight": head}))
        == "head.weight is torch.float32 (5, 128), expected torch.float32 (4, 128)"
    )
    assert said(lambda w: w.update({"head.bias": torch.zeros(4).double()})).startswith(
        "head.bias is torch.float64 (4,), expected torch.float32"
    )
    assert said(lambda w: w.pop("head.bias")) == "1 tensors are missing, the first is head.bias"
    assert said(lambda w: w.update({"tail": head})) == "1 have no place, the first is tail"


def test_a_folder_a_run_an_empty_file_and_another_class_are_named(tmp_path, model):
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="run is a folder; expected a whole, safe checkpoint"):
        load(tmp_path / "run")
    save(tmp_path / "run/checkpoint.pt", model, recipe={})
    with pytest.raises(UserError, match="run is the folder of a run; expected its checkpoint, .*run/checkpoint.pt"):
        load(tmp_path / "run")
    (tmp_path / "c.pt").touch()
    with pytest.raises(UserError, match="c.pt is not a whole, safe checkpoint: the file is empty"):
        load(tmp_path / "c.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "c.pt")
    with pytest.raises(
        UserError, match="c.pt is not a whole, safe checkpoint: it holds a torch.nn.modules.linear.Linear, which is not"
    ):
        load(tmp_path / "c.pt")


def test_a_file_that_cannot_be_read_now_is_not_called_damaged(tmp_path, model, monkeypatch):
    save(tmp_path / "c.pt", model, recipe={})

    def broken(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(torch, "load", broken)
    with pytest.raises(UserError, match=r"c\.pt cannot be read \(\[Errno 5\] Input/output error\)") as error:
        load(tmp_path / "c.pt")
    assert type(error.value) is UserError


def test_random_damage_is_refused_in_one_line_or_changes_nothing(tmp_path, model):
    path = tmp_path / "c.pt"
    save(path, model, recipe={"lr": 0.1}, **WHOLE)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for k in range(60):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged if k % 4 else damaged[: rng.integers(len(whole))])
        try:
            again, facts = load_finished(path)
            assert weights_digest(again) == weights_digest(model) and facts["recipe"] == {"lr": 0.1}
        except UserError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert refused > 50
