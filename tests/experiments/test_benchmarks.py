"""Each benchmark on sizes so small that its times say nothing: what it prints, and by value where that does not hang on a clock."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from common.cli.errors import UserError


def in_this_process(harness, peaks: list[float]):
    """A stand-in for `apart` without the start of a process; what it is given goes through pickle, as on the way to one."""

    def apart(prepare, *given, device="cpu", anonymous=False):
        prepare, given = pickle.loads(pickle.dumps((prepare, given)))
        return harness.Apart(prepare(*given)(), before=2.0**20, peak=peaks.pop(0))

    return apart


@pytest.mark.parametrize(
    "name, flags, message",
    [
        ("metrics", "--scores 0", "scores must be >= 1, got 0"),
        ("lbf_step", "--rounds 0", "rounds must be >= 1, got 0"),
        ("dense_step", "--batch-size 0", "batch-size must be >= 1, got 0"),
        ("dense_step", "--repeats 0", "rounds must be >= 1, got 0"),
        ("streaming", "--images 1", "images must be >= 2, got 1"),
        ("detector", "--images 0", "images must be >= 1, got 0"),
        ("detector", "--train 19", "train must be >= 20, got 19"),
        ("scorers", "--train 7 --classes 4", "train must be >= 8, got 7"),
        ("scorers", "--ood 0", "ood must be >= 1, got 0"),
        ("features", "--test 1", "test must be >= 2, got 1"),
        ("features", "--train 9 --classes 10", r"train must be at least classes \(10\), got 9"),
        ("features", "--scorers nothing", "unknown scorer 'nothing'; known: msp, .*"),
    ],
)
def test_bad_sizes_are_refused_in_one_line(run, name, flags, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        run(name, flags)


def numbers(rows: list[list[str]], column: int) -> list[float]:
    found = [float(row[column]) for row in rows[1:]]
    assert np.isfinite(found).all()
    return found


def test_metrics_prints_the_ratio_to_scikit_learn_and_the_largest_difference(run):
    head, [table] = run("metrics", "--scores 300 --rounds 2")
    title, _, difference = head[0].rpartition(" ")
    assert title == "300 + 300 scores, 2 rounds; largest difference" and float(difference) < 1e-12
    assert table[0] == ["metrics", "median s", "times ours", "range over rounds"]
    assert [row[0] for row in table[1:]] == ["ours, one sort", "scikit-learn, four calls"]
    assert numbers(table, 2)[0] == 1 and numbers(table, 2)[1] > 0


def test_metrics_reference_is_the_same_four_numbers(load):
    metrics = load("metrics")
    found = metrics.reference(np.array([3.0, 2.0, 1.0]), np.array([2.5, 0.0]))
    assert found == pytest.approx(
        {"fpr95": 0.5, "auroc": 4 / 6, "aupr_in": (1 + 2 / 3 + 3 / 4) / 3, "aupr_out": (1 + 2 / 4) / 2}
    )


def test_lbf_step_prints_what_both_selectors_add_to_cross_entropy(run):
    head, [table] = run(
        "lbf_step", "--backbone resnet8 --classes 3 --batch-size 2 --rounds 1 --precision float32 --device cpu"
    )
    assert head[0] == "resnet8, 48 px, batch 2, K = 3, float32, 1 rounds"
    assert table[0] == ["step", "median ms", "ratio to cross-entropy", "range over rounds"]
    assert [row[0] for row in table[1:]] == ["cross-entropy", "LBF live", "LBF frozen"]
    assert numbers(table, 2)[0] == 1 and min(numbers(table, 1)) > 0


def test_dense_step_prints_time_and_memory_of_every_step_for_every_k(run, load, harness, monkeypatch):
    monkeypatch.setattr(load("dense_step"), "apart", in_this_process(harness, [k * 2.0**20 for k in range(2, 10)]))
    flags = "--backbone resnet8 --classes 2 3 --image-size 16 --batch-size 2 --repeats 1 --device cpu"
    head, [table] = run("dense_step", flags)
    assert head[0] == "resnet8, 16 px, batch 2, float32, 1 rounds"
    assert table[0] == ["classes", "step", "median ms", "ms, range", "ratio to classification", "ms more", "peak MiB"]
    kinds = ["classification", "dense", "logits first, plain", "features first"]
    assert [row[:2] for row in table[1:]] == [[f"K = {k}", kind] for k in (2, 3) for kind in kinds]
    assert numbers(table, 6) == [1, 2, 3, 4, 5, 6, 7, 8]  # above the 1 MiB that was there before


def test_dense_step_leaves_features_first_out_and_says_where_a_step_did_not_fit(run, load, monkeypatch):
    monkeypatch.setattr(load("dense_step"), "apart", lambda *given, **how: None)
    flags = "--backbone resnet8 --classes 2 --image-size 16 --batch-size 2 --rounds 1 --skip-features-first"
    _, [table] = run("dense_step", flags)
    assert [(row[1], row[6]) for row in table[1:]] == [
        ("classification", "ended"), ("dense", "ended"), ("logits first, plain", "ended"),
    ]  # fmt: skip


def test_the_ways_to_a_dense_loss_agree(load):
    bench = load("dense_step")
    setting = bench.Setting("resnet8", 16, 2, "float32", torch.get_num_threads(), "cpu")
    model, images, targets = bench.world(setting, 3)
    model.eval()
    assert images.shape == (2, 3, 16, 16) and targets.shape == (2, 16, 16)
    assert set(targets.unique().tolist()) <= {0, 1, 2, 3} and (targets[:, 0, 0] < 3).all()
    losses = [
        bench.KINDS[kind](model, images, targets).item() for kind in ("dense", "logits first, plain", "features first")
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux's /proc")
def test_features_prints_time_and_peak_memory_of_every_score(run):
    head, [table] = run("features", "--train 60 --test 8 --channels 16 --classes 5 --scorers knn")
    assert head[0] == "60 x 16 training features, K = 5, 0.00 GB with logits"
    assert table[0] == ["score", "fit, s", "8 images scored, s", "peak memory, MB"]
    assert [row[0] for row in table[1:]] == ["knn"] and 10 < numbers(table, 3)[0] < 2_000


def test_features_says_which_score_was_ended(run, load, monkeypatch):
    monkeypatch.setattr(load("features"), "apart", lambda *given, **how: None)
    _, [table] = run("features", "--train 60 --test 8 --channels 16 --classes 5 --scorers msp vim")
    assert table[1:] == [["msp", "ended", "", ""], ["vim", "ended", "", ""]]


def test_every_score_can_be_fitted_on_the_features_that_are_written(load, tmp_path):
    bench = load("features")
    bench.write_head(tmp_path, 5, 16)
    bench.write(tmp_path, 60, 1)
    bench.write(tmp_path, 8, 2)
    train, head = bench.read(tmp_path, 1), bench.read_head(tmp_path)
    assert isinstance(train.penultimate, np.memmap) and train.penultimate.shape == (60, 16)
    assert np.allclose(train.logits, train.penultimate @ head.weight.T) and list(train.labels[:7]) == [
        0,
        1,
        2,
        3,
        4,
        0,
        1,
    ]
    for name in bench.ALL:
        fit, score = bench.fit_and_score(name, tmp_path)()
        assert fit >= 0 and score >= 0, name


def test_streaming_prints_images_a_second_of_each_way(run):
    flags = "--images 4 --image-size 16 --short-side 20 --backbone resnet8 --batch-size 2 --workers 0 --rounds 1 --device cpu"
    head, [table] = run("streaming", flags)
    assert head[0] == "16 px, batch 2, 0 workers, 1 rounds"
    assert table[0] == ["way", "images/s", "ratio to torchvision", "range over rounds"]
    assert [row[0] for row in table[1:]] == [
        "torchvision: ImageFolder, PIL transforms", "ours: crop in workers, rest in batches",
        "ours, smaller copy (short side 20)", "training step of resnet8 alone",
    ]  # fmt: skip
    assert numbers(table, 2)[0] == 1 and min(numbers(table, 2)) > 0


def test_scorers_prints_both_sides_and_every_score(run, load, harness, monkeypatch):
    bench = load("scorers")
    monkeypatch.setattr(bench, "apart", in_this_process(harness, [100e6, 250e6]))
    head, [whole, each] = run(
        "scorers", "--backbone resnet8 --train 80 --id 6 --ood 4 --sets 1 --classes 4 --device cpu"
    )
    assert head[0] == "resnet8, 48 px, 80 training + 6 ID + 1 x 4 OOD images, 1 rounds"
    peers = len(bench.peers(bench.build("resnet8", 4)))
    assert head[1].startswith(f"{len(bench.ALL)} detectors, {peers} of them pytorch-ood's")
    assert whole[0] == ["", "ours", "a pass a detector", "ratio", "range over rounds"]
    assert [row[0] for row in whole[1:]] == ["all scores, s", "all but ODIN, s", "peak memory, MB"]
    assert whole[3] == ["peak memory, MB", "100", "250", "2.50", "2.50 to 2.50"]
    assert each[0] == ["score", "ours from arrays, ms", "% of the forward pass", "a pass of its own, s"]
    assert sorted(row[0] for row in each[1:]) == sorted([*bench.ALL, "all"]) and each[-1][0] == "all"
    assert numbers(each, 1)[:-1] == sorted(numbers(each, 1)[:-1], reverse=True)


def test_scorers_table_by_value(load, harness, monkeypatch):
    bench = load("scorers")
    monkeypatch.setattr(bench, "ALL", ("msp", "odin"))
    our_side = [
        harness.Apart(
            {
                "all": {"forward": 1.0, "msp": s, "odin": 2 * s}, "all but ODIN": {"forward": 0.5, "msp": s},
                "every set once, nothing more": {"forward": 0.4},
            }, 0, 10e6,
        )
        for s in (0.1, 0.3)
    ]  # fmt: skip
    their_side = [harness.Apart(({"msp": 3 * s, "odin": 1.0}, 2), 0, 40e6) for s in (1.0, 2.0)]
    (_, whole), (_, each) = bench.tables(our_side, their_side)
    assert whole == [
        ["all scores, s", "1.60", "5.50", "3.38", "3.08 to 3.68"],  # 4 / 1.3 and 7 / 1.9
        ["all but ODIN, s", "0.70", "4.50", "6.25", "5.00 to 7.50"],  # 3 / 0.6 and 6 / 0.8
        ["peak memory, MB", "10", "40", "4.00", "4.00 to 4.00"],
    ]
    assert each == [
        ["odin", "400.0", "100.00", "1.00"], ["msp", "200.0", "50.00", "4.50"], ["all", "600.0", "150.00", "5.50"],
    ]  # fmt: skip


def test_a_detector_that_fails_is_left_out_and_said(load, monkeypatch, capsys):
    bench = load("scorers")

    def broken():
        raise ValueError("no such thing")

    monkeypatch.setattr(bench, "ALL", ("msp", "energy"))
    monkeypatch.setattr(bench, "peers", lambda model: {"energy": broken})
    seconds, peers = bench.theirs(bench.Setting("resnet8", 4, 80, 6, 4, 1, "cpu", progress=False))()
    assert list(seconds) == ["msp"] and peers == 0
    assert capsys.readouterr().err == "energy failed and is left out: ValueError: no such thing\n"


def test_a_side_whose_process_ended_is_an_error_that_says_so(load, monkeypatch):
    bench = load("scorers")
    monkeypatch.setattr(bench, "apart", lambda *given, **how: None)
    with pytest.raises(UserError, match="^the process of 'ours' ended before its answer"):
        bench.run_apart(bench.ours, bench.Setting("resnet8", 4, 80, 6, 4, 1, "cpu", progress=False))


def test_detector_prints_each_score_beside_the_networks_own_pass(run):
    flags = "--images 4 --train 20 --image-size 72 --backbone resnet8 --batch-size 3 --rounds 1 --device cpu --scorers energy knn:k=2"
    head, [table] = run("detector", flags)
    assert head[0].startswith("4 images, resnet8, 72 px, batch 3, ") and head[0].endswith(" workers, 1 rounds")
    assert table[0] == ["way", "median s", "ratio to decoding and forward pass", "range over rounds"]
    assert [row[0] for row in table[1:]] == [
        "decoding and forward pass", "Detector, energy", "Detector, knn:k=2", "common.detect score, energy",
    ]  # fmt: skip
    assert numbers(table, 2)[0] == 1 and min(numbers(table, 2)) > 0


def test_a_detector_judges_as_its_network_does_from_pixels_as_near_as_libraries_are(load, tmp_path):
    bench = load("detector")
    bench.write_photographs(tmp_path, 20)
    transform, device = bench.Transform(72, "resize-crop", 82), torch.device("cpu")
    model = bench.build("resnet8", 2, image_size=72).eval()
    paths = sorted(tmp_path.rglob("*.jpg"))
    theirs = torch.stack([bench.Photographs(paths, transform)[k] for k in range(20)])
    found = bench.detectors(model, ["maxlogit"], tmp_path, transform, 8, device)["maxlogit"]
    assert bench.of_folder(found, tmp_path) == bench.of_files(found, paths) == 20
    assert bench.plain_way(model, paths, transform, 8, device)() == 20
    with torch.no_grad():
        expected = model(theirs.float() / 255).max(1).values.numpy()
    assert np.allclose(found.score(tmp_path), expected, atol=1e-4)
