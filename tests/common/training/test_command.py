"""The training command as a step: it trains once, keeps what stood there, and reads from a run what was settled when it began."""

import json

import pytest

from common import pretrain
from common.checkpoint import load, load_training, read_facts, weights_digest
from common.training import command as training
from common.training import engine, recipe
from dfb import finetune as dfb_finetune
from lbf import finetune

SMALL = ("--epochs", 1, "--batch-size", 32, "--quiet", "--device", "cpu")


@pytest.fixture
def typed(typed):
    """As elsewhere, on a few images."""
    return lambda module, *words: typed(module, *words, *SMALL)


@pytest.fixture
def fits(monkeypatch):
    """The folders that were trained in."""
    trained = []
    monkeypatch.setattr(training, "fit", lambda *a, **k: (trained.append(k["run"].name), engine.fit(*a, **k))[1])
    return trained


def digest(run) -> str:
    return weights_digest(load(run / "checkpoint.pt")[0])


def test_a_run_is_trained_once_and_says_the_same_again(typed, fits, tmp_path):
    words = (pretrain, "shapes", "--limit", 64, "--out", tmp_path / "run")
    first, again = typed(*words), typed(*words, "--save-every", 1)
    assert first[:2] == again[:2] == (0, f"{tmp_path / 'run/checkpoint.pt'}\n") and "done already" in again[2]
    assert fits == ["run"]


@pytest.mark.parametrize("flag, value", [("--lr", 0.01), ("--seed", 1), ("--limit", 32), ("--backbone", "resnet18")])
def test_another_recipe_seed_data_or_start_moves_the_old_run_aside_whole(typed, fits, tmp_path, flag, value):
    words = (pretrain, "shapes", "--limit", 64, "--out", tmp_path / "run")
    typed(*words)
    (tmp_path / "run/results.csv").touch()  # what was made of it goes with it
    first = digest(tmp_path / "run")
    code, _, err = typed(*words, flag, value)
    assert code == 0 and "another run stood here; it is now" in err and fits == ["run", "run"]
    assert digest(tmp_path / "run.1") == first != digest(tmp_path / "run")
    assert (tmp_path / "run.1/results.csv").exists() and not (tmp_path / "run/results.csv").exists()


def test_a_changed_start_network_is_gone_on_from_anew_and_the_same_is_not_measured_again(
    typed, fits, tmp_path, monkeypatch
):
    start = tmp_path / "pre/checkpoint.pt"
    typed(pretrain, "shapes", "--limit", 64, "--out", tmp_path / "pre")
    words = (finetune, start, "--out", tmp_path / "run")
    first = typed(*words)
    assert first[0] == 0 and "selected share of the start network" in first[1], first
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "selected_share", None)
        assert typed(*words)[:2] == first[:2]
    assert 0 < read_facts(tmp_path / "run/checkpoint.pt")["selected_share_at_start"] < 1
    typed(pretrain, "shapes", "--limit", 64, "--seed", 1, "--out", tmp_path / "pre")
    code, _, err = typed(*words)
    assert code == 0 and (tmp_path / "run.1").is_dir() and fits == ["pre", "run", "pre", "run"], err


class Killed(Exception):
    pass


def test_a_killed_run_is_gone_on_with_by_the_same_line_and_kept_aside_by_another(typed, tmp_path, monkeypatch):
    words = ("shapes", "--limit", 96, "--save-every", 0)
    step = engine.Run.train_step

    def killed(run, *rest):
        if run.step == 2:
            raise Killed
        step(run, *rest)

    typed(pretrain, *words, "--out", tmp_path / "calm")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(engine.Run, "train_step", killed)
        typed(pretrain, *words, "--out", tmp_path / "hit")
    code, _, err = typed(pretrain, *words, "--out", tmp_path / "hit")
    assert code == 0 and "going on from step 2 of 3" in err and digest(tmp_path / "hit") == digest(tmp_path / "calm")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(engine.Run, "train_step", killed)
        typed(pretrain, *words, "--seed", 1, "--out", tmp_path / "hit")
    typed(pretrain, *words, "--out", tmp_path / "hit")
    assert load_training(tmp_path / "hit.2/checkpoint.pt")["step"] == 2 and digest(tmp_path / "hit.1") == digest(
        tmp_path / "calm"
    )


def test_a_run_from_before_there_were_stamps_is_adopted_and_another_is_not(typed, fits, tmp_path):
    words = (pretrain, "shapes", "--limit", 64, "--out", tmp_path / "run")
    typed(*words)
    before = (tmp_path / "run/checkpoint.pt").read_bytes()
    (tmp_path / "run/.checkpoint.pt.made.json").unlink()
    code, _, err = typed(*words)
    assert code == 0 and "finished already" in err and (tmp_path / "run/checkpoint.pt").read_bytes() == before
    assert "done already" in typed(*words)[2] and not (tmp_path / "run.1").exists()
    (tmp_path / "run/.checkpoint.pt.made.json").unlink()
    typed(*words, "--seed", 1)
    assert (tmp_path / "run.1/checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("stamped", [True, False])
def test_precision_auto_is_what_it_was_when_the_run_began(typed, fits, tmp_path, monkeypatch, stamped):
    def on(hardware, *words):
        monkeypatch.setattr(recipe, "resolve_precision", lambda asked, _: hardware if asked == "auto" else asked)
        return typed(pretrain, "shapes", "--limit", 64, "--precision", *words, "--out", tmp_path / "run")

    on("float32", "auto")
    if not stamped:
        (tmp_path / "run/.checkpoint.pt.made.json").unlink()
    on("bf16", "auto")
    made = json.loads((tmp_path / "run/.checkpoint.pt.made.json").read_text())["made"][0]["words"]
    assert made["recipe"]["precision"] == "float32" and not (tmp_path / "run.1").exists()
    on("bf16", "auto", "--seed", 1)
    assert [read_facts(tmp_path / name / "checkpoint.pt")["recipe"]["precision"] for name in ("run.1", "run")] == [
        "float32",
        "bf16",
    ]
    on("float32", "float32", "--seed", 1)
    assert (tmp_path / "run.2").is_dir(), "who asks for a precision gets it"


def test_a_missing_start_network_is_waited_for_where_a_line_is_to_make_it(typed, tmp_path):
    words = (finetune, tmp_path / "pre/checkpoint.pt", "--out", tmp_path / "run")
    code, _, err = typed(*words, "--expect", f"{tmp_path / 'pre/checkpoint.pt'}=0123", "--wait", 0.1)
    assert code == 2 and "is not there as this line expects it (key 0123), and nobody is making it" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", [finetune, dfb_finetune])
def test_where_the_data_set_has_no_preset_the_flag_is_asked_for(typed, finished, tmp_path, module):
    start = finished("c.pt", 3, id_set="folder:/my/pictures", classes=["a", "b", "c"])
    code, _, err = typed(module, start, "--out", tmp_path / "run")
    assert code == 2 and err.startswith(
        f"error: {start} is of folder:/my/pictures, which has no preset of its own; give --preset: "
    )
    assert "shapes" in err and err.count("\n") == 1 and not (tmp_path / "run").exists()
