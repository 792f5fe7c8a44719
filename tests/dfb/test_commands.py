"""masks, finetune and evaluate as a person types them, on the generated benchmark, and each refusal: exit code 2, one line, nothing written."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common import evaluate as common_evaluate
from common import pretrain
from common.checkpoint import load, save
from common.results.rows import read_rows
from common.scoring import sets
from dfb import evaluate, figures, finetune, masks, temperature

FEW = ("--limit", 64, "--quiet", "--device", "cpu")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A pre-trained network, its masks, and the DFB network trained on them."""
    root, patch = tmp_path_factory.mktemp("dfb"), pytest.MonkeyPatch()

    def run(module, *words):
        patch.setattr(sys, "argv", ["command", *map(str, words)])
        module.main()

    run(pretrain, "shapes", "--epochs", 2, "--batch-size", 32, "--out", root / "pre", *FEW)
    run(
        masks,
        root / "pre/checkpoint.pt",
        "--out",
        root / "masks",
        "--score-against",
        "truth",
        "--quiet",
        "--device",
        "cpu",
    )
    run(
        finetune,
        root / "pre/checkpoint.pt",
        "--masks",
        root / "masks",
        "--epochs",
        1,
        "--batch-size",
        32,
        "--out",
        root / "dfb",
        "--quiet",
        "--device",
        "cpu",
    )
    patch.undo()
    return root


def test_the_manifest_says_what_the_masks_are_of_and_how_good(runs):
    manifest = json.loads((runs / "masks/manifest.json").read_text())
    _, facts = load(runs / "dfb/checkpoint.pt")
    assert (
        manifest["images"] == 64
        and manifest["size"] == [48, 48]
        and manifest["classes"] == 8
        and manifest["recipe"]["theta"] == 0.5
    )
    assert (
        manifest["checkpoint_sha256"] == facts["stage1_sha256"]
        and facts["masks"] == manifest["identity"]
        and facts["extra_classes"] == 1
    )
    assert (
        set(manifest["counts"]["against_truth"]) >= {"iou", "precision", "recall"}
        and 0 < manifest["counts"]["foreground_share"] < 1
    )


def test_every_row_of_the_paper_and_those_it_leaves_out(runs, typed):
    code, out, err = typed(
        evaluate,
        runs / "dfb/checkpoint.pt",
        "--vanilla",
        runs / "pre/checkpoint.pt",
        "--scorers",
        "msp",
        "energy",
        "odin:T=2",
        "vim:D=8",
        "knn:k=3",
        *FEW,
    )
    assert code == 0, err
    rows = list(csv.DictReader((runs / "dfb/results.csv").open()))
    methods = {row["method"] for row in rows if row["scorer"] == "vim:D=8"}
    assert {"vanilla", "DFB, S_h alone", "DFB +", "DFB -", "DFB two-sided"} <= methods
    alone = {row["scorer"] for row in rows if row["method"] == "background alone"}
    assert alone == {"+", "-", "two-sided"}
    found = {(row["method"], row["scorer"], row["ood_set"]): float(row["auroc"]) for row in rows}
    assert found["background alone", "+", "shapes-noise"] + found[
        "background alone", "-", "shapes-noise"
    ] == pytest.approx(1)
    assert len({row["checkpoint_sha256"] for row in rows}) == 2 and all(row["options"] for row in rows)
    diagnostics = json.loads((runs / "dfb/diagnostics.json").read_text())
    assert diagnostics["conversion_gap"]["half_pixel"] < 1e-4 < diagnostics["conversion_gap"]["align_corners"]
    assert diagnostics["sets"]["shapes-noise"]["auroc_S_b"] == pytest.approx(
        found["background alone", "+", "shapes-noise"]
    )
    assert 0 <= diagnostics["sharpness_auroc"]["shapes-noise"] <= 1 and "ID accuracy over the first K logits" in out


@pytest.fixture(scope="module")
def folder_of_images(tmp_path_factory):
    """Sharp pictures of 96 pixels, as an OOD set of another size."""
    folder = tmp_path_factory.mktemp("sharp")
    for seed in range(12):
        noise = np.random.default_rng(seed).integers(0, 255, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{seed}.png")
    return folder


def test_the_protocol_through_32_pixels_takes_sharpness_away_and_has_its_own_file(runs, typed, folder_of_images):
    words = (evaluate, runs / "dfb/checkpoint.pt", "--ood", f"folder:{folder_of_images}", "--scorers", "energy", *FEW)
    for protocol in ("native", "via32"):
        code, said, err = typed(*words, "--protocol", protocol)
        assert code == 0, err
    sharp = [
        json.loads((runs / f"dfb/diagnostics-{p}.json").read_text())["sharpness_auroc"][f"folder:{folder_of_images}"]
        for p in ("native", "via32")
    ]
    assert sharp[0] > sharp[1]
    rows = list(csv.DictReader((runs / "dfb/results-via32.csv").open()))
    assert {row["protocol"] for row in rows} == {"via32"} and {row["method"] for row in rows} >= {"DFB +", "DFB -"}
    assert "| DFB + (via32)" in said, "the table names the protocol"


@pytest.mark.parametrize("flag, value, said", [
    ("--theta", "1.5", "theta must be in (0, 1), got 1.5"),
    ("--theta", "0", "theta must be in (0, 1), got 0"),
    ("--theta", "nan", "theta must be in (0, 1), got nan"),
    ("--preset", "best", "unknown preset 'best'; known: paper, released, single-scale"),
    ("--score-against", "boxes", "score-against must be truth or tiny-imagenet-boxes, got 'boxes'"),
    ("--batch-size", "0", "argument --batch-size: must be >= 1, got 0"),
    ("--output-stride", "3", "output_stride must be the network's own, 8, divided by a power of two, got 3"),
])  # fmt: skip
def test_masks_refuses(runs, typed, tmp_path, flag, value, said):
    code, _, err = typed(masks, runs / "pre/checkpoint.pt", "--out", tmp_path / "m", flag, value)
    assert code == 2 and err.endswith(f"error: {said}\n") and not (tmp_path / "m").exists()


def test_masks_are_made_once_for_each_network_recipe_and_truth_asked_for(typed, tmp_path, monkeypatch):
    pre, made = tmp_path / "pre", []
    make = masks.make_masks
    monkeypatch.setattr(masks, "make_masks", lambda *a: (made.append(a[1]["recipe"]["theta"]), make(*a))[1])
    start = (pretrain, "shapes", "--epochs", 1, "--batch-size", 32, "--out", pre, *FEW)
    words = (masks, pre / "checkpoint.pt", "--out", tmp_path / "m", "--preset", "single-scale", "--quiet")
    typed(*start)
    first = typed(*words)
    assert first[:2] == typed(*words, "--batch-size", 16)[:2] and made == [0.5], first
    assert first[1].startswith("64 masks: foreground share") and first[1].endswith(f"{tmp_path / 'm/manifest.json'}\n")
    assert "against truth: " in typed(*words, "--score-against", "truth")[1] and made == [0.5, 0.5]
    typed(*words, "--theta", 0.6)
    (part,) = (tmp_path / "m").glob("part-*")
    part.write_bytes(part.read_bytes()[:100])
    assert "64 masks in" in typed(*words, "--theta", 0.6)[2] and made == [0.5, 0.5, 0.6, 0.6], (
        "a cut part is made again"
    )
    typed(*start, "--seed", 1)
    code, _, err = typed(*words, "--theta", 0.6)
    assert code == 0 and len(made) == 5 and "64 masks in" in err
    assert typed(*words, "--theta", 0.6)[0] == 0 and len(made) == 5


def test_refined_masks_are_others_and_say_how_often_the_refinement_failed(runs, typed, tmp_path):
    words = (masks, runs / "pre/checkpoint.pt", "--out", tmp_path / "m", "--score-against", "truth", "--quiet")
    code, out, err = typed(*words, "--refine", "grabcut")
    made = json.loads((tmp_path / "m/manifest.json").read_text())
    plain = json.loads((runs / "masks/manifest.json").read_text())
    assert code == 0 and "refinement failed share" in out, err
    assert made["recipe"]["refine"] == "grabcut" and made["identity"] != plain["identity"]
    assert made["counts"]["against_truth"]["iou"] != plain["counts"]["against_truth"]["iou"]
    assert 0 <= made["counts"]["refinement_failed_share"] <= 1 and "refinement_failed_share" not in plain["counts"]
    bits = np.load(tmp_path / "m/part-00000.npz")["bits"]
    typed(*words[:3], tmp_path / "again", "--batch-size", 7, "--quiet", "--refine", "grabcut")
    assert np.array_equal(np.load(tmp_path / "again/part-00000.npz")["bits"], bits), "whatever the batch"


def test_finetune_refuses_masks_of_other_images_or_another_network(runs, typed, tmp_path):
    out = ("--out", tmp_path / "run", "--quiet", "--device", "cpu")
    code, _, err = typed(finetune, runs / "pre/checkpoint.pt", "--masks", runs / "masks", "--limit", 32, *out)
    assert code == 2 and "the masks are of other images (shapes, 64 images" in err
    typed(pretrain, "shapes", "--epochs", 1, "--batch-size", 32, "--seed", 5, "--out", tmp_path / "other", *FEW)
    code, _, err = typed(finetune, tmp_path / "other/checkpoint.pt", "--masks", runs / "masks", *out)
    assert code == 2 and "the masks were made by another network" in err
    code, _, err = typed(finetune, runs / "pre/checkpoint.pt", *out)
    assert code == 2 and "--masks DIR is required with pixel_labels pseudo" in err
    code, _, err = typed(finetune, runs / "dfb/checkpoint.pt", "--masks", runs / "masks", *out)
    assert code == 2 and "has a background class already" in err
    assert not (tmp_path / "run").exists()


def test_evaluate_refuses_what_has_no_background_class_a_bad_temperature_and_the_wrong_vanilla(runs, typed, tmp_path):
    code, _, err = typed(evaluate, runs / "pre/checkpoint.pt", *FEW)
    assert code == 2 and "has no background class; score it with python -m common.evaluate" in err
    code, _, err = typed(evaluate, runs / "dfb/checkpoint.pt", "--temperature", 0, "--out", tmp_path / "r.csv", *FEW)
    assert code == 2 and err == "error: temperature must be > 0, got 0\n"
    code, _, err = typed(
        evaluate, runs / "dfb/checkpoint.pt", "--vanilla", runs / "dfb/checkpoint.pt", "--out", tmp_path / "r.csv", *FEW
    )
    assert code == 2 and "9 classes of shapes, expected 8 of shapes" in err
    code, _, err = typed(common_evaluate, runs / "dfb/checkpoint.pt", *FEW)
    assert code == 2 and "has a background class; score it with python -m dfb.evaluate" in err
    assert not list(tmp_path.iterdir())


def test_figures_are_drawn_and_a_network_without_background_is_refused(runs, typed, tmp_path):
    words = (
        figures,
        runs / "dfb/checkpoint.pt",
        "--vanilla",
        runs / "pre/checkpoint.pt",
        "--limit",
        24,
        "--device",
        "cpu",
        "--ood",
        "shapes-noise",
    )
    code, out, err = typed(*words, "--masks", runs / "masks", "--out", tmp_path / "f")
    assert code == 0, err
    assert sorted(path.name for path in (tmp_path / "f").glob("*.png")) == ["attention.png", "masks.png", "scores.png"]
    code, again, err = typed(*words, "--masks", runs / "masks", "--out", tmp_path / "f")
    assert code == 0 and again == out and "done already" in err
    code, _, err = typed(figures, runs / "pre/checkpoint.pt", *words[2:], "--out", tmp_path / "g")
    assert code == 2 and "has no background class" in err and not (tmp_path / "g").exists()


ROOT = Path(__file__).resolve().parents[2]
TEXTS = ("commit", "seconds", "device")


def test_two_processes_write_one_file_of_results_with_the_numbers_of_one(runs, typed, tmp_path):
    """Batches of 16 of each process's 32 images are those of one process's 64, so that nothing may differ."""
    words = [runs / "dfb/checkpoint.pt", "--vanilla", runs / "pre/checkpoint.pt", "--scorers", "msp", "vim:D=8", "masf"]
    words += ["--bootstrap", 100, "--batch-size", 16, *FEW]
    place = lambda name: ["--out", tmp_path / name / "results.csv", "--save-scores", tmp_path / name / "scores.npz"]  # noqa: E731
    code, _, err = typed(evaluate, *words, *place("one"))
    assert code == 0, err
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "dfb.evaluate",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, *map(str, words + place("two"))], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr.count("Rows with their provenance") == 1, done.stderr
    assert done.stdout.count("The background logit S_b of each set") == 1
    one, two = (list(csv.DictReader((tmp_path / name / "results.csv").open())) for name in ("one", "two"))
    assert len(one) == 4 * (3 + 4 * 3 + 3) + 4 * 2 * bool(any("softplus" in row["method"] for row in one))
    assert all(row["auroc_low"] <= row["auroc_high"] for row in one), "vanilla rows and DFB's have intervals"
    assert [{k: v for k, v in row.items() if k not in TEXTS} for row in one] == [
        {k: v for k, v in row.items() if k not in TEXTS} for row in two
    ]
    raw = [np.load(tmp_path / name / "scores.npz") for name in ("one", "two")]
    assert raw[0].files == raw[1].files and {"vanilla/msp/id", "DFB +/vim:D=8/shapes-noise"} <= set(raw[0].files)
    assert all(np.array_equal(raw[0][key], raw[1][key]) for key in raw[0].files)
    assert (tmp_path / "one/diagnostics.json").read_text() == (tmp_path / "two/diagnostics.json").read_text()
    files = [path.name for path in sorted((tmp_path / "two").iterdir())]
    assert files == [".results.csv.made.json", "diagnostics.json", "results.csv", "scores.npz"]
    again = subprocess.run(
        [*launch, *map(str, words + place("two"))], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert again.returncode == 0 and again.stdout == done.stdout and again.stderr.count("done already") == 1
    code, out, err = typed(evaluate, *words, *place("two"))
    assert code == 0 and out == done.stdout and "done already" in err, "nor does one process make it again"


def test_a_control_has_rows_of_its_own_name_and_those_of_the_vanilla_network_keep_theirs(runs, typed, tmp_path):
    pair = (evaluate, runs / "dfb/checkpoint.pt", "--vanilla", runs / "pre/checkpoint.pt", "--ood", "shapes-noise")
    plain = (*pair, "--scorers", "energy", *FEW, "--out", tmp_path / "plain.csv")
    named = (*plain, "--out", tmp_path / "named.csv", "--method", "DFB control")
    assert typed(*plain)[0] == 0 and "DFB control, S_h alone" in typed(*named)[1]
    rows = [read_rows([tmp_path / f"{name}.csv"]) for name in ("plain", "named")]
    names = {"vanilla": "vanilla", "background alone": "DFB control, background alone", "DFB, S_h alone": "DFB control, S_h alone"}  # fmt: skip
    names |= {f"DFB {sign}": f"DFB control {sign}" for sign in ("+", "-", "two-sided")}
    assert [(names[row["method"]], row["auroc"]) for row in rows[0]] == [
        (row["method"], row["auroc"]) for row in rows[1]
    ]
    with np.load(tmp_path / "named.npz") as raw:
        assert {name.split("/")[0] for name in raw} == {*names.values()}
    assert "done already" in typed(*named)[2] and "done already" not in typed(*named, "--method", "other")[2]
    assert "--method must be something, got ' '" in typed(*pair, "--method", " ", *FEW)[2]


def test_evaluate_is_done_for_each_who_asked_and_merges_what_it_finds(runs, typed, tmp_path):
    network = tmp_path / "dfb/checkpoint.pt"
    network.parent.mkdir()
    network.write_bytes((runs / "dfb/checkpoint.pt").read_bytes())
    words = (evaluate, network, "--ood", "shapes-noise", *FEW)
    asked = (["--vanilla", runs / "pre/checkpoint.pt", "--scorers", "msp"], ["--scorers", "msp", "energy"])
    said = [typed(*words, *flags) for flags in asked]
    rows = (network.parent / "results.csv").read_text()
    assert [typed(*words, *flags)[1] for flags in asked] == [out for _, out, _ in said] and "vanilla" in said[0][1]
    assert (network.parent / "results.csv").read_text() == rows and "vanilla,msp," in rows and ",energy," in rows
    typed(*words[:2], "--ood", "shapes-objects", "--scorers", "energy", *FEW)
    found = json.loads((network.parent / "diagnostics.json").read_text())
    assert {*found["sharpness_auroc"]} == {"shapes-noise", "shapes-objects"}
    assert {*found["correlation_S_b_S_h"]} == {"msp", "energy"}
    assert all("done already" in typed(*words, *flags)[2] for flags in asked)
    for flags in (["--temperature", 2], ["--protocol", "via32", "--out", network.parent / "results.csv"]):
        code, _, err = typed(*words, *asked[1], *flags)
        assert code == 0 and "done already" not in err
    assert "done already" not in typed(*words, *asked[0])[2], "the diagnostics of the other protocol stood there"


def test_evaluate_is_made_again_for_other_networks(runs, typed, tmp_path):
    network, vanilla = tmp_path / "dfb/checkpoint.pt", tmp_path / "vanilla.pt"
    network.parent.mkdir()
    network.write_bytes((runs / "dfb/checkpoint.pt").read_bytes())
    vanilla.write_bytes((runs / "pre/checkpoint.pt").read_bytes())
    words = (evaluate, network, "--vanilla", vanilla, "--ood", "shapes-noise", "--scorers", "msp", *FEW)
    digests = lambda: {row["checkpoint_sha256"] for row in read_rows([network.parent / "results.csv"])}  # noqa: E731
    typed(*words)
    before = digests()
    for path in (network, vanilla):
        model, facts = load(path)
        with torch.no_grad():
            model.head.bias.add_(torch.linspace(0, 1, len(model.head.bias)))
        save(path, model, **{key: value for key, value in facts.items() if key != "finished"})
        code, _, err = typed(*words)
        assert code == 0 and "done already" not in err and len(digests()) == 2 and len(digests() - before) == 1
        before = digests()
    diagnostics = json.loads((network.parent / "diagnostics.json").read_text())
    assert diagnostics["checkpoint_sha256"] in before


def test_evaluate_takes_the_words_all_and_papers_and_refuses_few_redraws(runs, typed, tmp_path):
    words = (evaluate, runs / "dfb/checkpoint.pt", "--ood", "shapes-noise", "--out", tmp_path / "r.csv", *FEW)
    code, _, err = typed(*words, "--bootstrap", 99)
    assert code == 2 and err == "error: bootstrap must be 0 or >= 100, got 99\n" and not (tmp_path / "r.csv").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sets.GROUPS, "papers", ("msp", "klm"))
        code, _, err = typed(*words, "--scorers", "papers")
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert code == 0 and {row["scorer"] for row in rows if row["method"] == "DFB -"} == {"msp", "klm"}, err


@pytest.mark.parametrize("module", [evaluate, temperature])
def test_a_score_of_a_group_that_cannot_be_joined_or_fitted_is_named_and_the_rest_is_written(
    runs, typed, tmp_path, monkeypatch, module
):
    monkeypatch.setitem(sets.GROUPS, "papers", ("msp", "klm", "vim:D=999"))
    pair = (module, runs / "dfb/checkpoint.pt", "--vanilla", runs / "pre/checkpoint.pt", "--ood", "shapes-noise", *FEW)
    to = ("--out", tmp_path / "r.csv" if module is evaluate else tmp_path)
    out = {}
    for flag in ("first_k", "all"):
        code, out[flag], err = typed(*pair, *to, "--scorers", "papers", "--fg-logits", flag)
        assert code == 0, err
    lines = {flag: [line for line in said.splitlines() if line.startswith("left out: ")] for flag, said in out.items()}
    assert {line.split(" (")[0] for line in lines["first_k"]} >= {
        "left out: vanilla vim:D=999",
        "left out: DFB + vim:D=999",
    }
    assert not any("klm" in line or "msp" in line for line in lines["first_k"])
    (klm,) = (line for line in lines["all"] if line.startswith("left out: DFB - klm"))
    assert "(fg_logits all is defined for msp, odin without a step, energy and maxlogit, not for KLM" in klm
    assert not any("vanilla klm" in line or " msp " in line for line in lines["all"])
    rows = list(csv.DictReader((tmp_path / ("r.csv" if module is evaluate else "temperature.csv")).open()))
    assert {row["scorer"] for row in rows} - {"+", "-", "two-sided"} == (
        {"msp", "klm"} if module is evaluate else {"msp"}
    )
    code, _, err = typed(*pair, *to, "--scorers", "msp", "klm", "--fg-logits", "all")
    assert code == 2 and err.startswith("error: klm cannot be computed: fg_logits all is defined"), "asked for by name"


def test_the_vanilla_network_sees_images_as_it_was_trained_to(typed, tmp_path):
    """Masks and dense training at 24 pixels after a stage 1 at 40: vanilla rows are those of the vanilla network by itself."""
    vanilla, network = tmp_path / "pre/checkpoint.pt", tmp_path / "dfb/checkpoint.pt"
    train = ("--epochs", 1, "--batch-size", 32, "--quiet", "--device", "cpu")
    typed(pretrain, "shapes", "--image-size", 40, "--limit", 64, "--out", vanilla.parent, *train)
    typed(masks, vanilla, "--image-size", 24, "--out", tmp_path / "m", "--quiet", "--device", "cpu")
    typed(finetune, vanilla, "--masks", tmp_path / "m", "--out", network.parent, *train)
    words = ("--ood", "shapes-noise", "--scorers", "energy", *FEW)
    typed(common_evaluate, vanilla, "--out", tmp_path / "alone.csv", *words)
    code, _, err = typed(evaluate, network, "--vanilla", vanilla, "--out", tmp_path / "both.csv", *words)
    assert code == 0, err
    (alone,), both = (list(csv.DictReader((tmp_path / name).open())) for name in ("alone.csv", "both.csv"))
    (beside,) = (row for row in both if row["method"] == "vanilla")
    same = ("auroc", "fpr95", "id_accuracy", "id_data_sha256", "ood_data_sha256", "checkpoint_sha256")
    assert [beside[name] for name in same] == [alone[name] for name in same]
    assert {row["id_data_sha256"] for row in both} > {alone["id_data_sha256"]}, "the DFB network's are of 24 pixels"
    code, _, err = typed(figures, network, "--vanilla", vanilla, "--ood", "shapes-noise", "--out", tmp_path / "f", *FEW)
    assert code == 0 and (tmp_path / "f/attention.png").exists(), err


def test_precision_and_limit_reach_the_rows_of_both_networks(runs, typed, tmp_path):
    pair = (evaluate, runs / "dfb/checkpoint.pt", "--vanilla", runs / "pre/checkpoint.pt", "--ood", "shapes-noise")
    words = (
        "--scorers",
        "energy",
        "--precision",
        "bf16",
        "--limit",
        40,
        "--bootstrap",
        100,
        "--quiet",
        "--device",
        "cpu",
    )
    code, _, err = typed(*pair, *words, "--out", tmp_path / "r.csv")
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert code == 0 and {row["method"] for row in rows} >= {"vanilla", "DFB +"}, err
    assert {(row["precision"], row["n_id"], row["n_ood"]) for row in rows} == {("bf16", "40", "40")}
    assert all(float(row["fpr95_low"]) <= float(row["fpr95"]) <= float(row["fpr95_high"]) for row in rows)


def test_temperature_scans_what_it_says_and_offers_no_flag_without_effect(runs, typed, tmp_path):
    words = (
        temperature,
        runs / "dfb/checkpoint.pt",
        "--vanilla",
        runs / "pre/checkpoint.pt",
        "--scorers",
        "energy",
        *FEW,
    )
    code, out, err = typed(*words, "--ood", "shapes-noise", "--out", tmp_path, "--logit-combine", "none")
    assert code == 0, err
    rows = list(csv.DictReader((tmp_path / "temperature.csv").open()))
    assert len(rows) == 3 * 9 and {row["T"] for row in rows} == {str(t / 2) for t in range(2, 11)}
    assert len({row["auroc"] for row in rows if row["sign"] == "plus"}) == 1, "with none, T divides nothing"
    for flag in (["--bootstrap", 100], ["--save-scores", "s.npz"], ["--temperature", 2]):
        code, _, err = typed(*words, *flag)
        assert code == 2 and "unrecognized arguments" in err
