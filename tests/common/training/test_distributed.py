"""Two processes are one: same loss, same parameters, same features; and a process that is killed changes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from common import checkpoint
from common.cli.errors import UserError
from common.data import load
from common.objectives.contrastive import supervised_contrastive_loss
from common.training import distributed
from lbf.loss import background_norm_loss

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(Path(__file__).parent))
import distributed_runs  # noqa: E402


def torchrun(*words, restarts: int = 0) -> subprocess.Popen:
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        str(restarts),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launch, *map(str, words)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen) -> str:
    """All that was printed; a run that hangs is killed with its children, and fails."""
    try:
        return process.communicate(timeout=180)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Path, Path]:
    """The same runs in one process and in two."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    started = torchrun(ROOT / "tests" / "common" / "training" / "distributed_runs.py", two)
    distributed_runs.main(one)
    output = finish(started)
    assert started.returncode == 0, output
    return one, two


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(path / "checkpoint.pt")[0].state_dict()


METHODS = (
    "plain",
    "mixup",
    "body",
    "lbf-batch",
    "lbf-image",
    "lbf-random",
    "lbf-masks",
    "dense",
    "lbf-group-norm",
    "dense-group-norm",
    *distributed_runs.BASELINES,
)


@pytest.mark.parametrize("name", METHODS)
def test_five_steps_in_two_processes_are_those_of_one(both, name):
    one, two = (torch.load(folder / name / "tensors.pt") for folder in both)
    moved = max(
        (one["end"][key] - start).abs().max() for key, start in one["start"].items() if start.is_floating_point()
    )
    assert moved > 1e-3, "the steps did something"
    for what in ("start", "end", "gradients of the last step"):
        learns = name != "csi-linear"  # whose own layer alone learns, and becomes the head at the end
        assert one[what].keys() == two[what].keys() and (one[what] or not learns)
        for key, value in one[what].items():
            # A head that was fitted at the end to features that differ by rounding has large weights: within 1e-4 of the largest.
            fitted = what == "end" and key.startswith("head.") and name in ("ssd+", "cider", "npos", "csi")
            atol = 1e-4 * float(value.abs().max()) if fitted else 1e-6
            assert torch.allclose(value, two[what][key], rtol=0, atol=atol), (what, key)


@pytest.mark.parametrize("name", distributed_runs.BASELINES)
def test_layers_and_buffers_of_the_objective_are_those_of_one_process(both, name):
    one, two = (checkpoint.load_objective_state(folder / name / "checkpoint.pt") for folder in both)
    assert one.keys() == two.keys()
    assert all(torch.allclose(value, two[key], rtol=0, atol=1e-6) for key, value in one.items())


@pytest.mark.parametrize("name", METHODS)
def test_logged_numbers_are_those_of_one_process(both, name):
    one, two = (
        [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()] for folder in both
    )
    assert len(one) == len(two) == 2
    for a, b in zip(one, two):
        assert a.keys() == b.keys()
        assert all(a[key] == pytest.approx(b[key], abs=2e-6) for key in a if key != "seconds" and a[key] is not None)


def test_batch_norm_keeps_the_mean_of_the_global_batch(both):
    """Of its first layer, whose input no other layer's statistics have changed."""
    one, two = (torch.load(folder / "batch norm/tensors.pt")["end"]["body.stem.1.running_mean"] for folder in both)
    assert one.abs().max() > 1e-3 and torch.allclose(one, two, rtol=0, atol=1e-6)


def test_a_group_that_does_not_come_together_is_refused(started_as, monkeypatch):
    started_as(1, 2)  # nobody listens at the port
    monkeypatch.setattr(distributed, "JOIN", timedelta(seconds=1))
    with pytest.raises(UserError, match=r"^no group of 2 processes came together at 127.0.0.1:1 \(.*unset WORLD_SIZE$"):
        distributed.start(torch.device("cpu"))
    started_as(0, 2)
    monkeypatch.setenv("MASTER_PORT", "many")
    with pytest.raises(UserError, match="came together at 127.0.0.1:many"):
        distributed.start(torch.device("cpu"))


def test_each_process_augments_its_own_rows_alone(both):
    one, two = (json.loads((folder / "said.json").read_text())["augmented"] for folder in both)
    assert one == [[24, 24, 8]] and two == [[12, 12, 4], [12, 12, 4]]


def test_features_are_joined_in_the_order_of_the_images(both):
    one, two = (torch.load(folder / "features.pt") for folder in both)
    for name in one:
        assert torch.allclose(one[name], two[name], atol=1e-6), name
    assert torch.allclose(two["mapped"], one["penultimate"], atol=1e-6)


def test_each_process_writes_its_rows_to_disk_and_goes_on_from_where_it_was_stopped(both):
    passed = [json.loads((folder / "said.json").read_text())["passed"] for folder in both]
    assert passed == [[20, 36], [20, 8]], "of 56 rows the first process has 56, then 28"
    assert {path.name for folder in both for path in (folder / "cache").rglob("*") if path.is_file()} == {
        "penultimate.npy",
        "logits.npy",
    }


def test_a_loss_that_is_not_finite_in_one_process_stops_the_first_before_it_saves(both):
    for folder in both:
        assert json.loads((folder / "said.json").read_text())["spoiled"].startswith("the loss is not finite at step 1 ")
        assert not (folder / "spoiled" / "checkpoint.pt").exists()


def test_synchronised_batch_norm_is_refused_on_cpus_only_where_there_are_others(both):
    one, two = (json.loads((folder / "said.json").read_text())["sync_bn"] for folder in both)
    assert (
        one == "" and two == "sync_bn needs a GPU a process, got device cpu; torch synchronises batch norm on GPUs only"
    )


@pytest.mark.parametrize("cut", [0, 2, 3])
def test_the_mean_of_the_processes_gradients_through_gathered_rows_is_that_of_one(monkeypatch, cut):
    """As data-parallel training takes it, of a contrastive loss; rows are shared unevenly, or one process has none."""
    x, w = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, counts = torch.tensor([0, 1, 0, 1, 1, 0]), [cut, 6 - cut]

    def gradient(rows: slice) -> torch.Tensor:
        shared = w[:4].clone().requires_grad_()
        z = torch.nn.functional.normalize(distributed.gather_rows(x[rows] @ shared), dim=1)
        supervised_contrastive_loss(z, labels, 0.5).backward()
        return shared.grad

    whole, means = gradient(slice(None)), []
    known = lambda rows: torch.tensor(counts) if rows.dtype == torch.int64 else x @ w[:4]  # noqa: E731
    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(distributed, "all_rows", known)
    for rank, rows in enumerate((slice(0, cut), slice(cut, 6))):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        means.append(gradient(rows) / 2)
    assert whole.abs().max() > 1e-2 and torch.allclose(sum(means), whole, rtol=0, atol=1e-12)


def test_synchronised_batch_norm_is_that_of_network_and_objective_alike(monkeypatch):
    own = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    model = distributed_runs.network(8)
    distributed.synchronise_batch_norm(torch.device("cuda"), model, own)
    assert type(own[1]) is torch.nn.BatchNorm1d, "one process has the whole batch"
    monkeypatch.setattr(distributed, "world", lambda: 2)
    distributed.synchronise_batch_norm(torch.device("cuda"), model, own)
    norms = [m for m in (*model.modules(), *own) if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert len(norms) > 5 and all(isinstance(norm, torch.nn.SyncBatchNorm) for norm in norms)


def test_dropout_would_draw_anew_in_every_process_and_in_the_first_as_in_one(both):
    (one,), two = (json.loads((folder / "said.json").read_text())["draws"] for folder in both)
    assert two[0] == one and two[1] != one


def test_the_mean_of_the_processes_means_would_be_another_loss():
    """What the tests above would not survive: shares of selected locations differ between the processes."""
    images = load("shapes", "train", root=Path("."), limit=56)
    model = distributed_runs.network(8).eval()
    with torch.no_grad():
        maps = model.feature_map(images.pixels[:24].float() / 255)
        from lbf.loss import background_mask

        mask = background_mask(model.local_logits(maps), images.labels[:24], 1 / 8)
        whole = background_norm_loss(maps, mask, 0.1)
        halves = [background_norm_loss(maps[part], mask[part], 0.1) for part in (slice(0, 12), slice(12, 24))]
    assert mask[:12].sum() != mask[12:].sum() and abs(whole - sum(halves) / 2) > 1e-4


def test_a_process_killed_in_the_middle_ends_with_the_tensors_of_an_undisturbed_run(tmp_path):
    words = [
        "-m",
        "common.pretrain",
        "shapes",
        "--limit",
        "192",
        "--epochs",
        "4",
        "--batch-size",
        "32",
        "--save-every",
        "0",
        "--quiet",
        "--out",
    ]
    calm = torchrun(*words, tmp_path / "calm")
    hit = torchrun(*words, tmp_path / "hit", restarts=1)
    while not (tmp_path / "hit" / "checkpoint.pt").exists():
        time.sleep(0.05)
        assert hit.poll() is None
    children = subprocess.run(["pgrep", "-P", str(hit.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[-1]), signal.SIGKILL)
    said = [finish(process) for process in (hit, calm)]
    assert hit.returncode == calm.returncode == 0, "\n".join(said)
    # Whether the other process says so itself or is ended before it can depends on who is faster.
    assert "going on from step" in said[0] and ("another process is gone" in said[0] or "closing signal" in said[0])
    one, other = weights(tmp_path / "calm"), weights(tmp_path / "hit")
    assert all(torch.equal(one[key], other[key]) for key in one)
    logs = [
        [json.loads(line) | {"seconds": 0} for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("calm", "hit")
    ]
    assert logs[0] == logs[1] and len(logs[0]) == 4
