"""The benchmarks' harness by value: a clock that is made up, memory that is asked for."""

import ast
import importlib
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from common.cli import provenance
from common.cli.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "harness")


def test_kinds_take_turns_and_the_first_round_is_a_warm_up(harness):
    events, now = [], itertools.count(step=1.0)
    kinds = {"A": lambda: events.append("A") or 7, "B": lambda: events.append("B") or 8}
    found = harness.in_turn(
        kinds, 2, before=lambda: events.append("before"), settle=lambda: events.append("settle"),
        clock=lambda: events.append("clock") or next(now),
    )  # fmt: skip
    assert [event for event in events if event in kinds] == ["A", "B"] * 3
    assert events[:6] == ["before", "settle", "clock", "A", "settle", "clock"]
    assert found.results == {"A": [7, 7], "B": [8, 8]}
    assert {kind: list(seconds) for kind, seconds in found.seconds.items()} == {"A": [1, 1], "B": [1, 1]}


def test_seconds_and_rates_are_those_of_the_timed_rounds(harness):
    clock = iter(np.cumsum([0, 100, 0, 100, 0, 2, 0, 4, 0, 5, 0, 8]))  # warm-up 100, 100; then 2, 4; then 5, 8
    found = harness.in_turn({"A": lambda: 10, "B": lambda: 40}, 2, clock=lambda: next(clock))
    assert list(found.seconds["A"]) == [2, 5] and list(found.seconds["B"]) == [4, 8]
    assert list(found.rates()["A"]) == [5, 2] and list(found.rates()["B"]) == [10, 5]


def test_ratios_are_taken_within_a_round(harness):
    measured = {"base": [1, 10, 2], "other": [3, 20, 5]}
    assert [list(values) for values in harness.ratios(measured, "base").values()] == [[1, 1, 1], [3, 2, 2.5]]
    assert harness.beside(measured, "base", decimals=1, scale=10) == [
        ["base", "20.0", "1.000", "1.000 to 1.000"],
        ["other", "50.0", "2.500", "2.000 to 3.000"],  # the ratio of the medians would be 2.5 too, their range not
    ]
    assert harness.beside({"base": [1, 10, 2], "other": [3, 4, 5]}, "base")[1][2] == "2.500"  # of the medians: 2


def test_progress_goes_to_stderr_alone(harness, capsys):
    clock = itertools.count(step=0.5)
    harness.in_turn({"A": lambda: None}, 1, progress=True, clock=lambda: next(clock))
    assert capsys.readouterr() == ("", "warm-up, A: 0.5 s\nround 1/1, A: 0.5 s\n")


def test_only_a_gpu_is_waited_for(harness, monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    harness.synchroniser(torch.device("cpu"))()
    assert waited == []
    harness.synchroniser(torch.device("cuda", 1))()
    assert waited == [torch.device("cuda", 1)]


def test_a_gpus_memory_is_what_torch_had_allocated_before_and_at_its_highest_since(harness, monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append(("reset", device)))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: calls.append(("now", device)) or 100)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: calls.append(("peak", device)) or 350)
    with harness._gpu_memory("cuda:1") as memory:
        calls.append("work")
    assert memory == [100, 350] and harness.Apart(None, *memory).grown == 250
    assert calls == [("reset", "cuda:1"), ("now", "cuda:1"), "work", ("peak", "cuda:1")]


PREPARED = """
import mmap, os, pathlib
from common.cli.errors import UserError

def held(prepared_mib, mib):
    len(b"x" * (prepared_mib << 20))              # let go before the work begins
    return lambda: len(b"x" * (mib << 20))

def mapped(path):
    def read():
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
            return sum(pages[k] for k in range(0, len(pages), 4096))
    return read

def ended():
    return lambda: os._exit(9)

def refused():
    raise UserError("k must be at most 3, got 4")
"""


@pytest.fixture
def prepared(tmp_path, monkeypatch, harness):
    (tmp_path / "prepared.py").write_text(PREPARED)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("prepared")
    del sys.modules["prepared"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux's /proc")
def test_memory_is_the_works_own_peak_not_that_of_its_preparation(harness, prepared):
    found = harness.apart(prepared.held, 300, 64)
    assert found.result == 64 << 20
    assert 60 << 20 < found.grown < 120 << 20


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux's /proc")
def test_pages_of_mapped_files_are_no_anonymous_memory(harness, prepared, tmp_path):
    path = tmp_path / "pages"
    path.write_bytes(bytes(64 << 20))
    resident, anonymous = (harness.apart(prepared.mapped, path, anonymous=which) for which in (False, True))
    assert resident.grown > 60 << 20 and 0 <= anonymous.grown < 20 << 20


def test_anonymous_memory_is_the_highest_of_what_was_seen(harness, monkeypatch):
    seen, asked = iter([5.0, 9.0, 7.0]), []
    monkeypatch.setattr(harness, "_status", lambda field: asked.append(field) or next(seen, 6.0))
    with harness._sampled() as memory:
        while len(asked) < 4:
            pass
    assert memory == [5.0, 9.0] and set(asked) == {"RssAnon"}


def test_a_process_that_ends_before_its_answer_is_none_and_one_that_refuses_says_why(harness, prepared):
    assert harness.apart(prepared.ended) is None
    with pytest.raises(UserError, match="^k must be at most 3, got 4$"):
        harness.apart(prepared.refused)


def test_where_there_is_no_proc_the_highest_so_far_is_given(harness, monkeypatch, tmp_path):
    monkeypatch.setattr(harness, "STATUS", tmp_path / "nothing")
    with harness._resident() as memory:
        pass
    assert len(memory) == 2 and 1 << 20 < memory[0] <= memory[1]


def test_a_report_says_setting_hardware_versions_and_commit_before_its_tables(harness, capsys):
    device = torch.device("cpu")
    harness.report("this and that", device, (["kind", "s"], [["A", "1"]]), (["kind", "MB"], [["B", "2"]]))
    assert capsys.readouterr().out == (
        f"this and that\n{provenance.hardware(device)}; {provenance.versions()}; commit {provenance.commit()}\n\n"
        "| kind | s |\n|------|---|\n| A    | 1 |\n\n| kind | MB |\n|------|----|\n| B    | 2  |\n"
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_harness_is_imported_before_the_suite_which_it_puts_on_the_path(name):
    modules = [
        node.module for node in ast.parse((FOLDER / f"{name}.py").read_text()).body if isinstance(node, ast.ImportFrom)
    ]
    ours = [k for k, module in enumerate(modules) if module.split(".")[0] in ("common", "lbf", "dfb")]
    assert "harness" in modules and modules.index("harness") < min(ours)


def test_the_checkout_is_found_from_another_folder(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import harness, common; print(*common.__path__)"
    done = subprocess.run([sys.executable, "-E", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split()[0] == str(ROOT / "common"), done.stderr
