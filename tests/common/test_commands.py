"""The commands as a person types them: from training to a table on the generated benchmark, and each refusal."""

import csv
import sys

import numpy as np
import pytest
import torch

from common import compare, evaluate, pretrain, tables
from common.checkpoint import load, save
from common.cli.errors import command
from common.results.rows import COLUMNS
from common.scorers import SCORERS
from lbf import figures, finetune, selection

TINY = ["--limit", "64", "--batch-size", "32", "--quiet"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of a pre-trained, an LBF and a control run, and their results."""
    root = tmp_path_factory.mktemp("runs")
    patch = pytest.MonkeyPatch()

    def run(module, *words):
        patch.setattr(sys, "argv", ["command", *map(str, words)])
        module.main()

    run(pretrain, "shapes", "--epochs", 2, "--out", root / "pretrained", *TINY)
    run(
        finetune, root / "pretrained/checkpoint.pt", "--epochs", 1, "--out", root / "lbf", "--batch-size", 32, "--quiet"
    )
    run(
        finetune,
        root / "pretrained/checkpoint.pt",
        "--epochs",
        1,
        "--lam",
        0,
        "--out",
        root / "control",
        "--batch-size",
        32,
        "--quiet",
    )
    for name in ("pretrained", "control", "lbf"):
        run(
            evaluate,
            root / name / "checkpoint.pt",
            "--limit",
            40,
            "--quiet",
            "--save-scores",
            root / name / "scores.npz",
            "--cache",
            root / "cache",
        )
    patch.undo()
    return root


def test_rows_hold_their_whole_provenance(trained):
    rows = list(csv.DictReader(open(trained / "lbf/results.csv")))
    assert len(rows) == 4 * 4 and set(rows[0]) == set(COLUMNS)
    assert all(value != "" for row in rows for value in row.values())
    assert {row["method"] for row in rows} == {"LBF"} and {row["n_ood"] for row in rows} == {"40"}
    assert len({row["ood_data_sha256"] for row in rows}) == 4 and len({row["checkpoint_sha256"] for row in rows}) == 1


def test_the_numbers_are_those_of_the_saved_scores(trained):
    import numpy as np
    from sklearn.metrics import roc_auc_score

    scores = np.load(trained / "lbf/scores.npz")
    for row in csv.DictReader(open(trained / "lbf/results.csv")):
        id_, ood = scores[f"{row['scorer']}/id"], scores[f"{row['scorer']}/{row['ood_set']}"]
        truth = np.r_[np.ones(len(id_)), np.zeros(len(ood))]
        assert float(row["auroc"]) == pytest.approx(roc_auc_score(truth, np.r_[id_, ood]), abs=1e-12)


def test_control_and_lbf_start_from_the_same_network_and_differ(trained):
    facts = [load(trained / name / "checkpoint.pt")[1] for name in ("control", "lbf")]
    assert facts[0]["start"] == facts[1]["start"] and facts[0]["train_data_sha256"] == facts[1]["train_data_sha256"]
    assert [f["method"] for f in facts] == ["control", "LBF"] and facts[0]["limit"] == 64


def test_the_same_command_twice_gives_the_same_rows(trained, typed, tmp_path):
    words = (trained / "lbf/checkpoint.pt", "--limit", 40, "--quiet", "--out", tmp_path / "again.csv")
    assert typed(evaluate, *words)[0] == 0
    first, again = (list(csv.DictReader(open(path))) for path in (trained / "lbf/results.csv", tmp_path / "again.csv"))
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in first] == [
        {k: v for k, v in row.items() if k != "seconds"} for row in again
    ]


def network_in(folder, trained, name="lbf"):
    folder.mkdir(exist_ok=True)
    (folder / "checkpoint.pt").write_bytes((trained / name / "checkpoint.pt").read_bytes())
    return folder / "checkpoint.pt"


def test_evaluate_does_once_what_is_asked_and_keeps_what_others_asked(trained, typed, tmp_path):
    network, csv_ = network_in(tmp_path / "run", trained), tmp_path / "run/results.csv"
    words = (evaluate, network, "--limit", 40, "--quiet", "--ood", "shapes-noise", "--scorers")
    first, time = typed(*words, "msp", "energy"), csv_.stat().st_mtime_ns
    again = typed(*words, "msp", "energy")
    assert first[0] == again[0] == 0 and first[1] == again[1] and "| LBF " in first[1]
    assert csv_.stat().st_mtime_ns == time and "done already" in again[2] and "done already" not in first[2]
    other = typed(*words, "energy", "maxlogit")
    assert "maxlogit" in other[1] and "msp" not in other[1], "the table is of what this command scored"
    assert [row["scorer"] for row in csv.DictReader(csv_.open())] == ["msp", "energy", "maxlogit"]
    assert "done already" in typed(*words, "msp", "energy")[2], "the energy row is the same result"
    for flags in (["--bootstrap", 100], ["--method", "mine"], ["--limit", 30], ["--save-scores", tmp_path / "s.npz"]):
        assert "done already" not in typed(*words, "msp", *flags)[2], flags
        assert "done already" in typed(*words, "msp", *flags)[2], flags


def test_evaluate_scores_other_weights_again_and_drops_the_rows_of_the_old(trained, typed, tmp_path):
    network, shared = network_in(tmp_path / "run", trained), ("--out", tmp_path / "all.csv")
    words = (evaluate, network, "--limit", 40, "--quiet", "--ood", "shapes-noise", "--scorers")
    typed(*words, "msp", "energy"), typed(*words, "msp", *shared)
    old = {row["checkpoint_sha256"] for row in csv.DictReader((tmp_path / "run/results.csv").open())}
    network_in(tmp_path / "run", trained, "control")
    assert "done already" not in typed(*words, "msp")[2] + typed(*words, "msp", *shared)[2]
    (row,) = csv.DictReader((tmp_path / "run/results.csv").open())
    assert row["scorer"] == "msp" and row["method"] == "control" and row["checkpoint_sha256"] not in old
    assert [row["method"] for row in csv.DictReader((tmp_path / "all.csv").open())] == ["LBF", "control"]
    assert "done already" not in typed(*words, "msp", "energy")[2]


def test_the_table_has_a_line_a_method_and_score(trained, typed, tmp_path):
    paths = [trained / name / "results.csv" for name in ("pretrained", "control", "lbf")]
    code, out, _ = typed(tables, *paths, "--out", tmp_path / "table.md", "--paper", "lbf/paper")
    assert (
        code == 0
        and out.count("| LBF ") == 5 + out.count("| LBF - control ") == 9  # one says how far it is trained
        and "shapes-backgrounds*" in out
        and (tmp_path / "table.md").read_text().strip() == out.strip()
    )
    assert "Beside the printed numbers" not in out  # the generated benchmark is in no paper


def test_figures_and_selection_are_written(trained, typed, tmp_path):
    code, out, _ = typed(
        figures, trained / "pretrained", trained / "control", trained / "lbf", "--out", tmp_path, "--limit", 24
    )
    assert code == 0 and {path.name for path in tmp_path.iterdir()} - {".heat_maps.png.made.json"} == {
        f"{n}.{s}" for n in ("heat_maps", "norms", "curves") for s in ("png", "pdf")
    } | {"norms.json"}
    code, out, _ = typed(selection, trained / "lbf/checkpoint.pt", "--limit", 24, "--out", tmp_path / "selection.csv")
    (row,) = csv.DictReader(open(tmp_path / "selection.csv"))
    assert code == 0 and "base rate" in out and 0.5 < float(row["base_rate"]) < 1


def refused(result, *said):
    code, out, err = result
    last = err.strip().splitlines()[-1]
    assert code == 2 and "Traceback" not in err and all(text in last for text in said), (code, err)


def test_bad_input_gives_one_line_and_nothing_is_written(trained, typed, tmp_path):
    start, out = trained / "pretrained/checkpoint.pt", tmp_path / "run"
    refused(typed(pretrain, "cifar11", "--out", out), "unknown preset 'cifar11'; known: cifar10")
    refused(typed(pretrain, "cifar10", "--data", tmp_path, "--out", out), "cifar10", "which is not there")
    refused(typed(pretrain, "shapes", "--lr", "-1", "--out", out), "lr must be >= 0, got -1.0")
    refused(typed(pretrain, "shapes", "--backbone", "vgg", "--out", out), "unknown backbone 'vgg'")
    refused(typed(pretrain, "shapes", "--device", "warp", "--out", out), "no device 'warp' here")
    refused(typed(finetune, start, "--delta", "-0.1", "--out", out), "delta must be >= 0, got -0.1")
    refused(typed(finetune, start, "--preset", "nothing", "--out", out), "unknown preset 'nothing'")
    refused(typed(finetune, tmp_path / "gone.pt", "--out", out), "no checkpoint at")
    refused(typed(evaluate, start, "--scorers", "magic", "--out", out), "unknown scorer 'magic'; known: msp")
    refused(typed(evaluate, start, "--ood", "nowhere", "--out", out), "unknown data set 'nowhere'")
    refused(typed(evaluate, start, "--ood", "shapes", "--out", out), "shapes is the in-distribution set itself")
    refused(typed(evaluate, start, "--ood", "isun", "--data", tmp_path, "--out", out), "isun: expected")
    refused(typed(tables, tmp_path / "none.csv"), "no results at")
    assert not out.exists()


def test_a_truncated_foreign_or_unfinished_checkpoint_is_refused(trained, typed, tmp_path):
    whole = (trained / "pretrained/checkpoint.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    refused(typed(evaluate, tmp_path / "cut.pt"), "not a whole, safe checkpoint")
    model, facts = load(trained / "pretrained/checkpoint.pt")
    model.name = "resnet34"
    save(tmp_path / "other.pt", model, recipe={}, id_set="shapes")
    refused(typed(finetune, tmp_path / "other.pt", "--out", tmp_path / "run"), "does not fit resnet34")
    model.name = "resnet8"
    save(
        tmp_path / "half.pt",
        model,
        recipe={},
        training={"step": 1},
        **{k: v for k, v in facts.items() if k not in ("recipe", "finished")},
    )
    refused(typed(evaluate, tmp_path / "half.pt"), "is an unfinished run")
    refused(typed(finetune, tmp_path / "half.pt", "--out", tmp_path / "run"), "is an unfinished run")
    save(
        tmp_path / "dense.pt",
        model,
        recipe={},
        **{
            **{k: v for k, v in facts.items() if k not in ("recipe", "finished")},
            "extra_classes": 1,
            "classes": facts["classes"][1:],
        },
    )
    refused(typed(evaluate, tmp_path / "dense.pt"), "score it with python -m dfb.evaluate")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("module", [pretrain, finetune, evaluate, selection, figures, tables], ids=lambda m: m.__name__)
def test_help_names_every_value(module, typed):
    code, out, _ = typed(module, "--help")
    assert code == 0 and "usage: python -m" in out
    if module in (pretrain, finetune):
        assert "--weight-decay" in out and "LBF" in out


def own_file(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "head_weight": rng.normal(size=(4, 16)),
        "head_bias": np.zeros(4),
        "id_labels": np.arange(50) % 4,
        "train_labels": np.arange(200) % 4,
    }
    near = lambda labels: np.maximum(0, arrays["head_weight"][labels] + 0.3 * rng.normal(size=(len(labels), 16)))  # noqa: E731
    arrays |= {"id_penultimate": near(arrays["id_labels"]), "train_penultimate": near(arrays["train_labels"])}
    arrays |= {
        "ood_far_penultimate": np.maximum(0, 0.4 * rng.normal(size=(60, 16))),
        "ood_near_penultimate": near(np.arange(30) % 4),
    }
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return path


def test_somebodys_own_features_get_every_score_that_needs_no_network(typed, tmp_path):
    path = own_file(tmp_path / "mine.npz")
    code, out, _ = typed(
        evaluate, "--features", path, "--scorers", "all", "--bootstrap", 100, "--out", tmp_path / "r.csv"
    )
    rows = list(csv.DictReader(open(tmp_path / "r.csv")))
    assert code == 0
    for name, lacking in (("odin", "odin:T=1000"), ("featurenorm", "block_norms"), ("masf", "channel_maxima")):
        assert f"left out: own features {name} (it looks inside a network: {lacking}" in out
    assert {row["ood_set"] for row in rows} == {"far", "near"} and len({row["scorer"] for row in rows}) > 15
    assert all(float(row["auroc_low"]) <= float(row["auroc"]) <= float(row["auroc_high"]) for row in rows)
    energy = {row["ood_set"]: float(row["auroc"]) for row in rows if row["scorer"] == "energy"}
    assert energy["far"] > 0.8 and abs(energy["near"] - 0.5) < 0.2 and float(rows[0]["id_accuracy"]) > 0.9


def test_own_features_are_scored_once_and_again_when_they_change(typed, tmp_path):
    words = (evaluate, "--features", own_file(tmp_path / "mine.npz"), "--scorers", "msp")
    first, again = typed(*words), typed(*words)
    assert first[0] == 0 and first[1] == again[1] and "done already" in again[2]
    assert "done already" not in typed(*words[:-1], "energy")[2] and "done already" in typed(*words)[2]
    own_file(tmp_path / "mine.npz", ood_near_penultimate=None)
    assert "done already" not in typed(*words)[2]
    (row,) = csv.DictReader((tmp_path / "results.csv").open())
    assert row["scorer"] == "msp" and row["ood_set"] == "far"


def test_own_features_that_do_not_fit_are_named(typed, tmp_path):
    def said(**changes):
        return typed(
            evaluate,
            "--features",
            own_file(tmp_path / "mine.npz", **changes),
            "--scorers",
            "energy",
            "--out",
            tmp_path / "r.csv",
        )

    refused(said(head_weight=None), "has no array head_weight")
    refused(said(id_penultimate=np.zeros((5, 7)), id_labels=None), "id_penultimate has 7 channels, head_weight 16")
    refused(said(ood_far_logits=np.zeros((5, 4))), "ood_far_logits must be 60 x 4, got 5 x 4")
    far = np.full((3, 16), 2.0)
    far[1, 5:7] = np.nan
    refused(
        said(ood_far_penultimate=far),
        "ood_far_penultimate holds 2 values that are NaN or infinite, the first at [1, 5]",
    )
    refused(said(ood_far_penultimate=np.full((3, 16), 1e300)), "ood_far_penultimate holds 48 values", "beyond 3.4e+38")
    refused(said(ood_far_penultimate=np.zeros((0, 16))), "ood_far_penultimate holds no image")
    refused(said(ood_near_penultimate=None, ood_near_logits=np.zeros((5, 4))), "has no array ood_near_penultimate")
    refused(said(ood_id_penultimate=np.zeros((5, 16))), "an OOD set cannot be called 'id'")
    refused(said(head_bias=np.zeros(3)), "head_weight has 4 classes, head_bias 3")
    refused(said(train_labels=np.arange(200) % 4 + 1), "train_labels must be in 0..3, got 1..4; counted from one?")
    refused(said(id_labels=np.full(50, -1)), "id_labels must be in 0..3, got -1..-1")
    refused(said(id_labels=np.full(50, np.nan)), "id_labels must be 50 whole numbers, got float64")
    refused(said(id_labels=np.zeros(3)), "id_labels must be 50 whole numbers")
    refused(said(ood_far_penultimate=None, ood_near_penultimate=None), "has no array ood_NAME_penultimate")
    refused(typed(evaluate), "give a checkpoint, or --features FILE")
    refused(typed(evaluate, "--features", tmp_path / "none.npz"), "no features at")
    assert not (tmp_path / "r.csv").exists()


def test_own_logits_that_contradict_head_and_features_are_named(typed, tmp_path):
    def said(change):
        with np.load(own_file(tmp_path / "mine.npz")) as file:
            logits = file["id_penultimate"] @ file["head_weight"].T + file["head_bias"]
        own_file(tmp_path / "mine.npz", id_logits=change(logits))
        return typed(evaluate, "--features", tmp_path / "mine.npz", "--scorers", "energy", "--out", tmp_path / "r.csv")

    refused(
        said(lambda logits: logits[::-1]),
        "mine.npz: id_logits is not id_penultimate @ head_weight.T + head_bias: ",
        " at [",
    )
    refused(said(lambda logits: np.zeros_like(logits)), "id_logits is not")
    code, _, err = said(lambda logits: logits * 1.01)
    assert code == 0 and "id_logits is not id_penultimate @ head_weight.T + head_bias: " in err
    for rounded in (np.float64, np.float32, np.float16):
        code, _, err = said(lambda logits, rounded=rounded: logits.astype(rounded))
        assert code == 0 and "is not" not in err


def test_own_features_without_training_images_or_labels_get_the_scores_that_need_none(typed, tmp_path):
    def scored(*scorers, **changes):
        path, out = own_file(tmp_path / "mine.npz", **changes), tmp_path / "r.csv"
        out.unlink(missing_ok=True)
        code, table, err = typed(evaluate, "--features", path, "--scorers", *scorers, "--out", out)
        return code, {row["scorer"] for row in csv.DictReader(out.open())} if out.exists() else set(), table + err

    code, found, err = scored("all", train_penultimate=None, train_labels=None)
    assert (
        code == 0 and {"msp", "energy", "gen", "ash-s"} <= found and not {"mahalanobis", "react", "knn", "vim"} & found
    )
    assert "mahalanobis" in err and "(mine.npz has no train_penultimate and no train_labels)" in err
    code, found, err = scored("all", train_labels=None)
    assert code == 0 and {"react", "knn", "vim"} <= found and "mahalanobis" not in found
    assert "(mine.npz has no train_labels)" in err
    code, found, err = scored("msp", "mahalanobis", train_penultimate=None, train_labels=None)
    refused((code, "", err), "mahalanobis cannot be computed: mine.npz has no train_penultimate and no train_labels")
    assert "not used: id_lables" in scored("msp", id_lables=np.arange(50) % 4)[2]
    refused(scored("msp", train_penultimate=None), "has no array train_penultimate")


def test_every_scorer_runs_from_a_checkpoint(trained, typed, tmp_path):
    sized = ("vim:D=16", "residual:D=16", "knn:k=3")  # their defaults want more training images
    names = [name for name in SCORERS if not name.startswith(("vim", "residual", "knn", "dml+"))] + [*sized]
    code, out, err = typed(
        evaluate,
        trained / "lbf/checkpoint.pt",
        "--limit",
        40,
        "--quiet",
        "--scorers",
        *names,
        "--out",
        tmp_path / "all.csv",
    )
    assert code == 0, err
    rows = list(csv.DictReader(open(tmp_path / "all.csv")))
    assert len(rows) == 4 * len(names) and all(0 <= float(row["auroc"]) <= 1 for row in rows)
    assert torch.isfinite(torch.tensor([float(row["fpr95"]) for row in rows])).all()


def test_two_detectors_are_compared_on_the_same_images(trained, typed):
    files = [trained / name / "scores.npz" for name in ("lbf", "control")]
    code, out, _ = typed(compare, f"{files[0]}:energy", f"{files[1]}:energy", "--repeats", 100)
    assert code == 0 and out.count("| shapes-") == 4
    code, out, _ = typed(compare, f"{files[0]}:msp", f"{files[0]}:msp", "--repeats", 100)
    assert code == 0 and out.count("+0.00 to +0.00") == 8
    refused(typed(compare, f"{files[0]}:magic", f"{files[1]}:msp"), "unknown scorer of", "'magic'; known: msp")
    for flag, value in (("--repeats", 0), ("--seed", -1), ("--seed", "1e3")):
        assert typed(compare, f"{files[0]}:msp", f"{files[1]}:msp", flag, value).code == 2
    refused(typed(compare, "none.npz:msp", f"{files[1]}:msp"), "expected FILE.npz:SCORER")


def test_saved_scores_that_are_damaged_or_not_scores_are_named(typed, tmp_path):
    path = tmp_path / "s.npz"

    def said(**arrays):
        np.savez(path, **arrays)
        return typed(compare, f"{path}:msp", f"{path}:msp", "--repeats", 100)

    some = np.arange(9.0)
    code, out, _ = said(**{"msp/id": some, "msp/folder:/a/b": some[:5]})
    assert code == 0 and "| folder:/a/b |" in out
    refused(said(**{"msp/x": some}), "s.npz holds no scores of the ID test set (msp/id); it has: x")
    refused(said(**{"msp/id": some, "msp/x": np.array([1, np.nan])}), "s.npz: msp/x holds 1 values that are NaN")
    refused(said(**{"msp/id": some, "msp/x": np.ones((3, 2))}), "s.npz: msp/x must be one number an image, got float64")
    said(**{"msp/id": some, "msp/x": some})
    path.write_bytes(path.read_bytes()[:200])
    refused(typed(compare, f"{path}:msp", f"{path}:msp"), "s.npz is not a file of --save-scores: cut short")


def test_a_folder_of_images_is_trained_on_and_scored_as_it_streams(typed, tmp_path):
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for name in ("cats", "dogs"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(
                    tmp_path / "pets" / split / name / f"{i}.png"
                )
    words = ("imagenet100", "--id", f"folder:{tmp_path / 'pets'}", "--backbone", "resnet8", "--image-size", 72)
    code, _, err = typed(pretrain, *words, "--epochs", 1, "--batch-size", 8, "--quiet", "--out", tmp_path / "run")
    assert code == 0, err
    facts = load(tmp_path / "run/checkpoint.pt")[1]
    assert (
        facts["classes"] == ["cats", "dogs"]
        and facts["transform"]["size_px"] == 72
        and facts["recipe"]["crop"] == "resized"
    )
    code, _, err = typed(
        finetune,
        tmp_path / "run/checkpoint.pt",
        "--preset",
        "imagenet100",
        "--epochs",
        1,
        "--batch-size",
        8,
        "--quiet",
        "--out",
        tmp_path / "lbf",
    )
    assert code == 0, err
    ood = f"folder:{tmp_path / 'pets' / 'train'}"
    code, out, err = typed(
        evaluate,
        tmp_path / "lbf/checkpoint.pt",
        "--ood",
        ood,
        "--scorers",
        "msp",
        "--quiet",
        "--out",
        tmp_path / "r.csv",
    )
    assert code == 0 and "| LBF " in out, err


def test_flags_that_say_how_images_pass_are_refused_where_none_does(typed, tmp_path):
    path = own_file(tmp_path / "mine.npz")
    for flag, value in (("--ood", "isun"), ("--limit", 5), ("--cache", tmp_path), ("--precision", "bf16")):
        refused(typed(evaluate, "--features", path, flag, value), f"{flag} says how images pass")
    refused(typed(evaluate, "--features", path, "--bootstrap", 7), "bootstrap must be 0 or >= 100, got 7")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.npz"]


@pytest.mark.parametrize(("rank", "ran"), [(None, True), (0, True), (1, False)])
def test_what_one_process_draws_the_others_leave_alone(rank, ran, started_as):
    if rank is not None:
        started_as(rank, 2)
    calls = []
    command(lambda: calls.append(1), alone=True)
    assert bool(calls) == ran


def test_a_method_that_a_spreadsheet_would_run_is_refused_before_any_work(typed, tmp_path):
    path = own_file(tmp_path / "mine.npz")
    for name in ("=cmd()", "@x", " "):
        code, _, err = typed(evaluate, "--features", path, "--scorers", "msp", "--method", name)
        assert code == 2 and err.startswith("error: --method must be ") and not (tmp_path / "results.csv").exists()


def test_raw_scores_are_kept_beside_the_rows_and_join_those_of_the_same_network(typed, tmp_path):
    words = (evaluate, "--features", own_file(tmp_path / "mine.npz"), "--scorers")
    typed(*words, "msp"), typed(*words, "energy")
    with np.load(tmp_path / "results.npz") as file:
        assert {*file.files} == {f"{scorer}/{name}" for scorer in ("msp", "energy") for name in ("id", "far", "near")}
    own_file(tmp_path / "mine.npz", ood_near_penultimate=None)
    typed(*words, "energy")
    with np.load(tmp_path / "results.npz") as file:
        assert {*file.files} == {"energy/id", "energy/far"}, "those of other features are gone"
