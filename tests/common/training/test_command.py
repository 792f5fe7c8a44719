"""The training command as a step: it trains once, keeps what stood there, and reads from a run what was settled when it began."""

import json
import os
import signal

import pytest

from common import pretrain
from common.checkpoint import load, load_training, read_facts, weights_digest
from common.training import command as training
from common.training import engine
from dfb import finetune as dfb_finetune
from lbf import finetune

SMALL = ("--epochs", 1, "--batch-size", 32, "--quiet", "--device", "cpu")


@pytest.fixture
def typed(typed):
    """As elsewhere, on a few images. `after`: on the CPU too, whatever the words say."""
    return lambda module, *words, after=True: typed(module, *words, *SMALL[: None if after else -2])


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


@pytest.mark.parametrize("flag, value", [("--lr", 0.01), ("--seed", 1), ("--limit", 32), ("--backbone", "resnet20")])
def test_another_recipe_seed_data_or_start_moves_the_old_run_aside_whole(typed, fits, tmp_path, flag, value):
    words = (pretrain, "shapes", "--limit", 64, "--out", tmp_path / "run")
    typed(*words)
    (tmp_path / "run/results.csv").touch()  # what was made of it goes with it
    first = digest(tmp_path / "run")
    code, _, err = typed(*words, flag, value)
    assert code == 0 and "another run stood here; it is now" in err and fits == ["run", "run"]
    assert digest(tmp_path / "run.1") == first != digest(tmp_path / "run")
    assert (tmp_path / "run.1/results.csv").exists() and not (tmp_path / "run/results.csv").exists()


def test_a_run_goes_on_from_a_finished_networks_weights_and_names_it(typed, tmp_path):
    start = tmp_path / "pre/checkpoint.pt"
    typed(pretrain, "shapes", "--limit", 64, "--out", tmp_path / "pre")
    words = (pretrain, "shapes", "--limit", 64, "--lr", 0, "--bn", "frozen", "--start")
    code, _, err = typed(*words, start, "--out", tmp_path / "run")
    assert code == 0 and digest(tmp_path / "run") == digest(tmp_path / "pre"), err
    facts, first = read_facts(tmp_path / "run/checkpoint.pt"), read_facts(start)
    assert facts["start"] == digest(tmp_path / "pre") and facts["start_recipe"] == first["recipe"]
    assert first["start"] == "from scratch" and "start_recipe" not in first
    typed(pretrain, "shapes", "--limit", 64, "--seed", 1, "--out", tmp_path / "pre")
    assert typed(*words, start, "--out", tmp_path / "run")[0] == 0 and (tmp_path / "run.1").is_dir()


@pytest.mark.parametrize("flag, value", [("--backbone", "resnet8"), ("--weights", "hub")])
def test_a_start_brings_its_network_with_it(typed, finished, tmp_path, flag, value):
    start = finished("start.pt")
    code, _, err = typed(pretrain, "shapes", "--start", start, flag, value, "--out", tmp_path / "run")
    assert (code, err) == (2, f"error: --start {start} brings its network with it; leave out {flag}\n")
    code, _, err = typed(pretrain, "shapes", "--start", tmp_path / "none.pt", "--out", tmp_path / "run")
    assert (code, err) == (2, f"error: no checkpoint at {tmp_path / 'none.pt'}\n") and not (tmp_path / "run").exists()


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


@pytest.mark.parametrize("step", [1, 2, 3])  # within an epoch, at the end of one, in the last step
def test_a_signal_ends_a_run_after_the_step_at_hand_saved_and_the_same_line_goes_on(typed, tmp_path, monkeypatch, step):
    words = (pretrain, "shapes", "--limit", 64, "--steps", 4, "--save-every", 9999)
    train_step = engine.Run.train_step

    def signalled(run, *rest):
        if run.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        train_step(run, *rest)

    typed(*words, "--out", tmp_path / "calm")
    with monkeypatch.context() as patch:
        patch.setattr(engine.Run, "train_step", signalled)
        code, out, err = typed(*words, "--out", tmp_path / "hit")
    path = tmp_path / "hit/checkpoint.pt"
    if step < 3:
        where = f"at step {step + 1} of 4, saved in {path}"
        assert (code, out) == (143, "")
        assert err == f"error: stopped by SIGTERM {where}; type the same command again\n"
        assert load_training(path)["step"] == step + 1
        assert f"going on from step {step + 1} of 4" in typed(*words, "--out", tmp_path / "hit")[2]
    else:
        assert code == 0, "there was nothing left to stop"
    assert digest(tmp_path / "hit") == digest(tmp_path / "calm")


@pytest.mark.parametrize(
    "flag, value, said",
    [
        ("--limit", 0, "limit must be >= 1, got 0"),
        ("--limit", -5, "limit must be >= 1, got -5"),
        ("--limit", "1e20", "argument --limit: invalid int value: '1e20'"),
        ("--seed", -1, "seed must be >= 0, got -1"),
        ("--seed", 2**63, "seed must be >= 0 and finite, below 2^63"),
        ("--save-every", "nan", "save_every must be >= 0, got nan"),
        ("--save-every", "inf", "save_every must be >= 0 and finite"),
        ("--save-every", -1, "save_every must be >= 0, got -1"),
        ("--lr", "inf", "lr must be >= 0 and finite"),
        ("--weight-decay", "nan", "weight_decay must be >= 0, got nan"),
        ("--drops", "0.5,nan", r"drops must be in [0, 1], got nan"),
        ("--image-size", 0, "argument --image-size: must be >= 8, got 0"),
        ("--image-size", -32, "argument --image-size: must be >= 8, got -32"),
        ("--wait", "nan", "argument --wait: must be >= 0, got nan"),
        ("--wait", -1, "argument --wait: must be >= 0, got -1"),
        ("--expect", "=0123", "argument --expect: must be PATH=KEY, got '=0123'"),
        ("--device", "meta", "no device 'meta' here"),
        ("--out", "", "error: --out must be something, got ''"),
    ],
)
def test_a_flag_that_means_nothing_is_refused_before_anything_is_made(typed, fits, tmp_path, flag, value, said):
    code, _, err = typed(pretrain, "shapes", "--out", tmp_path / "run", f"{flag}={value}", after=flag != "--device")
    assert code == 2 and said in err and "Traceback" not in err and not fits
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_written_over_its_own_start(typed, fits, tmp_path):
    typed(pretrain, "shapes", "--limit", 64, "--out", tmp_path / "run")
    before = (tmp_path / "run/checkpoint.pt").read_bytes()
    code, _, err = typed(finetune, tmp_path / "run/checkpoint.pt", "--out", tmp_path / "run")
    assert code == 2 and err.endswith("checkpoint.pt is an input; write elsewhere\n") and fits == ["run"]
    assert (tmp_path / "run/checkpoint.pt").read_bytes() == before


def test_facts_that_cannot_be_read_just_now_move_nothing_aside(typed, tmp_path, monkeypatch):
    words = (pretrain, "shapes", "--limit", 64, "--out", tmp_path / "run")
    typed(*words)
    (tmp_path / "run/.checkpoint.pt.made.json").unlink()

    def broken(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("torch.load", broken)
    code, _, err = typed(*words)
    assert code == 2 and "nput/output error" in err and not (tmp_path / "run.1").exists()


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
        monkeypatch.setattr(training, "resolve_precision", lambda asked, _: hardware if asked == "auto" else asked)
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
