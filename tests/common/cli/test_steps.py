"""Commands as steps: each works once, waits for what it needs, refuses what would collide, and keeps what took hours."""

import fcntl
import json
import signal
import socket

import pytest

from common.cli.errors import UserError
from common.cli.stamps import is_current
from common.cli.steps import differences, making


def key_of(output) -> str:
    return json.loads(output.with_name(f".{output.name}.made.json").read_text())["made"][0]["lines"][-1]


def test_a_done_command_prints_its_result_again_and_does_nothing(fakes):
    first = fakes.run("--out", "a", "--value", "x")
    second = fakes.run("--out", "a", "--value", "x")
    assert first.stdout == second.stdout == "made x\n" and fakes.worked() == ["a"]
    assert "a: done already" in second.stderr and not (fakes.folder / ".a.lock").exists()


def test_what_is_lost_changed_or_asked_for_otherwise_is_made_again(fakes):
    go = lambda *words: fakes.run("--out", "a", "--also", "b", *words)  # noqa: E731
    go()
    (fakes.folder / "b").unlink()
    go()
    (fakes.folder / "a").write_text("tampered")
    go()
    go("--value", "other")
    assert len(fakes.worked()) == 4 and (fakes.folder / "a").read_text() == "other"
    go("--value", "other", "--note", "another spelling")
    fakes.run("--out", "a", "--value", "other")  # a part of what was made
    assert len(fakes.worked()) == 4


def test_a_command_that_leaves_an_output_out_or_fails_is_not_done(tmp_path):
    with pytest.raises(UserError, match="b was to be made, and is not there"):
        with making([tmp_path / "a", tmp_path / "b"]) as step:
            assert not step.is_done({"v": 1})
            (tmp_path / "a").write_text("a")
    with pytest.raises(RuntimeError):
        with making([tmp_path / "a"]) as step:
            assert not step.is_done({"v": 1})
            raise RuntimeError
    with making([tmp_path / "a"]) as step:
        assert not step.is_done({"v": 1})


def test_a_command_without_outputs_only_waits_for_its_inputs(tmp_path):
    with making([], [tmp_path / "missing"]) as step:
        assert not step.is_done({"v": 1}) and step.before() == {}
    assert not list(tmp_path.iterdir())


def test_the_same_identity_waits_and_finds_it_done(fakes):
    first = fakes.start("--out", "a", "--until", "go")
    fakes.until(fakes.worked)
    second = fakes.start("--out", "a", "--until", "go")
    third = fakes.start("--out", "a", "--note", "another spelling")
    said = second.stderr.readline(), third.stderr.readline()
    fakes.go.touch()
    assert [process.wait(60) for process in (first, second, third)] == [0, 0, 0]
    assert fakes.worked() == ["a"] and all(f"process {first.pid}" in line for line in said)


def test_another_identity_is_refused_by_name_while_the_first_lives(fakes):
    first = fakes.start("--out", "a", "--value", "x", "--until", "go")
    fakes.until(fakes.worked)
    second = fakes.run("--out", "a", "--value", "y")
    fakes.go.touch()
    assert first.wait(60) == 0 and second.returncode == 2
    assert f"process {first.pid}" in second.stderr and "value x there, y here" in second.stderr
    assert fakes.worked() == ["a"] and (fakes.folder / "a").read_text() == "x"


def test_a_killed_command_is_taken_over_by_the_next_who_asks(fakes):
    first = fakes.start("--out", "a", "--run", "--until", "go")
    fakes.until(fakes.worked)
    (fakes.folder / "a").mkdir(exist_ok=True)
    (fakes.folder / "a/checkpoint.pt").write_text("half-way")
    second = fakes.start("--out", "a", "--run")
    assert "waiting for a" in second.stderr.readline()
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert second.wait(60) == 0 and fakes.worked() == ["a", "a"]
    assert not (fakes.folder / "a.1").exists(), "its own half-finished run is gone on with"


def test_an_older_other_run_moves_whole_to_a_new_name_each_time(fakes):
    for value in ("x", "y", "x"):
        fakes.run("--out", "a", "--run", "--value", value)
        (fakes.folder / "a/log.jsonl").write_text(value)
    texts = [(fakes.folder / name / "checkpoint.pt").read_text() for name in ("a.1", "a.2", "a")]
    logs = [(fakes.folder / name / "log.jsonl").read_text() for name in ("a.1", "a.2", "a")]
    assert texts == logs == ["x", "y", "x"]
    (fakes.folder / "a/checkpoint.pt").write_text("from elsewhere")
    assert "it is now a.3" in fakes.run("--out", "a", "--run", "--value", "x").stderr
    assert (fakes.folder / "a.3/checkpoint.pt").read_text() == "from elsewhere"


def test_a_folder_by_another_name_is_the_same_folder(fakes):
    (fakes.folder / "scratch").mkdir()
    (fakes.folder / "a").symlink_to("scratch/a")
    first = fakes.start("--out", "scratch/a", "--run", "--value", "x", "--until", "go")
    fakes.until(fakes.worked)
    refused = fakes.run("--out", "a", "--run", "--value", "y")
    assert refused.returncode == 2 and f"process {first.pid}" in refused.stderr
    fakes.go.touch()
    assert first.wait(60) == 0 and fakes.run("--out", "a", "--run", "--value", "y").returncode == 0
    texts = [(fakes.folder / name / "checkpoint.pt").read_text() for name in ("scratch/a.1", "scratch/a", "a")]
    assert texts == ["x", "y", "y"] and (fakes.folder / "a").is_symlink()


def test_a_file_by_the_name_of_a_link_is_the_same_file(fakes):
    (fakes.folder / "file").write_text("old")
    (fakes.folder / "links").mkdir()
    (fakes.folder / "links/a").symlink_to("../file")
    first = fakes.start("--out", "file", "--value", "x", "--until", "go")
    fakes.until(fakes.worked)
    refused = fakes.run("--out", "links/a", "--value", "y")
    fakes.go.touch()
    assert first.wait(60) == 0 and refused.returncode == 2 and f"process {first.pid}" in refused.stderr
    assert (fakes.folder / "file").read_text() == (fakes.folder / "links/a").read_text() == "x"


def test_a_run_is_not_moved_with_the_input_of_the_new_one_in_it(fakes):
    (fakes.folder / "a").mkdir()
    (fakes.folder / "a/checkpoint.pt").write_text("old")
    (fakes.folder / "a/masks").write_text("m")
    done = fakes.run("a/masks", "--out", "a", "--run")
    assert done.returncode == 2 and "holds another run and a/masks" in done.stderr
    assert (fakes.folder / "a/checkpoint.pt").read_text() == "old"


def test_a_run_is_not_moved_while_somebody_writes_in_it(fakes):
    fakes.run("--out", "a", "--run", "--value", "x")
    scoring = fakes.start("--of", "a", "--out", "a/results", "--until", "go")
    fakes.until(lambda: "results" in fakes.worked())
    training = fakes.start("--out", "a", "--run", "--value", "y")
    assert f"process {scoring.pid}" in training.stderr.readline() and not (fakes.folder / "a.1").exists()
    fakes.go.touch()
    assert [scoring.wait(60), training.wait(60)] == [0, 0]
    assert (fakes.folder / "a.1/results").read_text() == "x" and not (fakes.folder / "a/results").exists()


def test_what_killed_commands_left_half_written_goes_and_what_others_write_stays(fakes):
    parts = [".checkpoint.pt.7.part", ".log.jsonl.8.part", "..checkpoint.pt.made.json.9.part", ".results.csv.7.part"]
    others = [".checkpoint.pt.bak.7.part", ".checkpoint.pt.part", "checkpoint.pt.7.part"]
    (fakes.folder / "a").mkdir()
    for name in (*parts, *others):
        (fakes.folder / "a" / name).touch()
    living = open(fakes.folder / "a" / others[0])
    fcntl.flock(living, fcntl.LOCK_EX)
    assert fakes.run("--out", "a", "--run").returncode == 0
    left = {path.name for path in (fakes.folder / "a").iterdir()}
    assert left == {*others, "checkpoint.pt", ".checkpoint.pt.made.json"}


def test_a_run_in_the_current_folder_is_not_moved_under_our_feet(fakes, monkeypatch):
    (fakes.folder / "checkpoint.pt").write_text("old")
    refused = fakes.run("--out", ".", "--run")
    assert refused.returncode == 2 and "is the current folder; write elsewhere" in refused.stderr
    assert (fakes.folder / "checkpoint.pt").read_text() == "old"
    refused = fakes.run("--out", "/", "--run")
    assert refused.returncode == 2 and refused.stderr.startswith("error: / cannot be the folder of a run")


def test_an_input_or_a_device_is_no_output_and_nothing_is_left_of_trying(fakes):
    (fakes.folder / "a").write_text("a")
    for words in (("a", "--out", "a"), ("--out", "/dev/null"), ("--out", "b", "--also", "b"), ("--out", "a/b")):
        assert (refused := fakes.run(*words)).returncode == 2 and refused.stderr.count("\n") == 1, refused.stderr
    assert [path.name for path in fakes.folder.iterdir()] == ["a"] and not fakes.worked()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_says_what_was_not_finished_and_lets_go(fakes, number):
    process = fakes.start("--out", "a", "--until", "go")
    fakes.until(fakes.worked)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert said == f"error: stopped by {number.name} before a was finished; type the same command again\n"
    assert process.returncode == 128 + number and not (fakes.folder / ".a.lock").exists()
    assert fakes.run("--out", "a").returncode == 0 and fakes.worked() == ["a", "a"]


@pytest.mark.parametrize(
    "stamp",
    [
        "[]",
        "{}",
        '{"outputs": [], "made": {}}',
        "half a",
        '{"outputs": {}, "made": [1]}',
        '{"outputs": {}, "made": [{}]}',
    ],
)
def test_a_damaged_stamp_is_none(fakes, stamp):
    fakes.run("--out", "a", "--run", "--value", "x")
    (fakes.folder / "a/.checkpoint.pt.made.json").write_text(stamp)
    assert fakes.run("--out", "a", "--run", "--value", "x").returncode == 0
    assert (fakes.folder / "a.1/checkpoint.pt").read_text() == "x"


def test_an_output_that_cannot_be_read_is_not_taken_for_another(tmp_path, monkeypatch):
    def made():
        with making([tmp_path / "a/x"], run=tmp_path / "a") as step:
            if not step.is_done({"v": 1}):
                (tmp_path / "a/x").write_text("x")

    def broken(path):
        raise OSError(5, "Input/output error", str(path))

    made()
    monkeypatch.setattr("common.cli.stamps.sha256", broken)
    with pytest.raises(OSError, match="Input/output error"):
        made()
    assert not (tmp_path / "a.1").exists()


def test_two_commands_may_write_in_one_folder_at_a_time(fakes):
    first = fakes.start("--out", "figures/a", "--until", "go")
    fakes.until(fakes.worked)
    assert fakes.run("--out", "figures/b").returncode == 0
    fakes.go.touch()
    assert first.wait(60) == 0 and fakes.worked() == ["a", "b"]


def test_an_input_counts_only_as_made_by_the_line_expected(fakes):
    fakes.run("--out", "a", "--value", "old")
    key = key_of(fakes.folder / "a")
    refused = fakes.run("a", "--out", "b", "--expect", "a=1234", "--wait", 0.1)
    assert refused.returncode == 2 and "a is not there as this line expects it (key 1234)" in refused.stderr
    assert fakes.run("a", "--out", "b", "--expect", f"a={key}", "--wait", 0.1).returncode == 0
    fakes.run("--out", "a", "--value", "old", "--note", "another spelling")
    lines = json.loads((fakes.folder / ".a.made.json").read_text())["made"][0]["lines"]
    assert key in lines and len(lines) == 2, "consumers of either line are content"
    fakes.run("--out", "a", "--value", "new")
    assert fakes.run("a", "--out", "b", "--expect", f"a={key}", "--wait", 0.1).returncode == 2
    bad = fakes.run("--out", "b", "--expect", "a")
    assert bad.returncode == 2 and "must be PATH=KEY, got 'a'" in bad.stderr


def test_an_input_is_not_current_while_what_it_was_made_from_has_changed(fakes):
    fakes.run("--out", "a", "--value", "x")
    fakes.run("a", "--out", "b")
    fakes.run("b", "--out", "figures/c")
    c = fakes.folder / "figures/c"
    assert is_current(c) and is_current(c.parent, key_of(c)) and not is_current(c, "another")
    (fakes.folder / "a").write_text("new")
    assert not is_current(c) and not is_current(fakes.folder / "b")
    fakes.run("--out", "a", "--value", "x")
    assert is_current(c), "it came out as it was"


def test_an_input_made_anew_with_the_same_meaning_leaves_its_consumer_done_and_current(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    for text, done in (("weights, 3 seconds", False), ("weights, 4 seconds", True)):
        a.write_text(text)
        with making([b], [a]) as step:
            assert step.is_done({"weights": "weights"}) is done
            b.write_text("b")
        assert is_current(b)


def test_an_input_that_nobody_makes_is_waited_for_and_then_named(fakes):
    late = fakes.start("a", "--out", "b", "--expect", "a=k", "--wait", 0.1)
    out, said = late.communicate(timeout=60)
    assert late.returncode == 2 and "a is not there" in said and "nobody is making it" in said
    plain = fakes.start("a", "--out", "b", "--wait", 30)
    fakes.until((fakes.folder / ".b.lock").exists)
    (fakes.folder / "a").write_text("by hand")
    assert plain.wait(60) == 0


def test_far_down_a_chain_a_command_waits_longer_than_its_patience_while_the_first_works(fakes):
    lines = [("--out", "a", "--until", "go"), ("a", "--out", "b"), ("b", "--out", "c")]
    fakes.go.touch()
    for number, words in enumerate(lines):  # once, for the keys
        expect = ("--expect", f"{words[0]}={key_of(fakes.folder / words[0])}", "--wait", "0.3") if number else ()
        lines[number] = (*words, *expect)
        fakes.run(*lines[number])
    for name in ("go", "a", "b", "c", "log"):
        (fakes.folder / name).unlink()
    workers = []
    for words, name in zip(lines, "abc"):
        workers.append(fakes.start(*words))
        fakes.until((fakes.folder / f".{name}.lock").exists)
    for worker, name in zip(workers[1:], "ab"):
        assert f"waiting for {name}" in worker.stderr.readline()
    with pytest.raises(Exception, match="timed out"):
        workers[2].wait(1.0)
    fakes.go.touch()
    assert [worker.wait(60) for worker in workers] == [0, 0, 0] and fakes.worked() == ["a", "b", "c"]


def test_a_file_written_row_by_row_is_done_for_each_who_asked_and_others_wait(fakes):
    for value in ("x", "y", "x", "y"):
        fakes.run("--out", "rows", "--shared", "--value", value)
    assert fakes.worked() == ["rows"] * 2 and (fakes.folder / "rows").read_text() == "xy"
    first = fakes.start("--out", "rows", "--shared", "--value", "z", "--until", "go")
    fakes.until(lambda: len(fakes.worked()) == 3)
    second = fakes.start("--out", "rows", "--shared", "--value", "w")
    assert "waiting for rows" in second.stderr.readline()
    fakes.go.touch()
    assert [first.wait(60), second.wait(60)] == [0, 0] and (fakes.folder / "rows").read_text() == "xyzw"


def test_rows_replaced_make_the_others_ask_again(tmp_path):
    rows = tmp_path / "rows"
    for value, done in (("x", False), ("y", False), ("x", True), ("z", False), ("x", False)):
        with making([rows], shared=True) as step:
            assert step.is_done({"value": value}) is done, value
            rows.write_text(value)
            if value == "z":
                step.forget_others()
            if done:
                rows.write_text("y")


def test_what_stands_there_is_told_for_values_that_are_resolved_once(tmp_path):
    with making([tmp_path / "a"]) as step:
        assert step.before() == {} and not step.is_done({"recipe": {"drops": (0.5,), "precision": "bf16"}})
        (tmp_path / "a").write_text("a")
    with making([tmp_path / "a"]) as step:
        assert step.before() == {"recipe": {"drops": [0.5], "precision": "bf16"}}
        assert step.is_done({"recipe": {"drops": (0.5,), "precision": "bf16"}})


def test_over_several_processes_the_first_looks_and_writes_and_the_others_hear(tmp_path, started_as):
    box = []

    def together(value):  # what rank 0 sent, to rank 1
        box.append(value)
        return box[0] if value is None else value

    with making([tmp_path / "a"], together=together) as step:
        assert not step.is_done({"v": 1})
        (tmp_path / "a").write_text("a")
    assert box == [True, False]
    sent = iter([True, None, True])
    started_as(1, 2)
    with making([tmp_path / "b"], together=lambda value: next(sent)) as step:
        assert step.is_done({"v": 2}), "rank 1 believes rank 0, also after a round of waiting"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.made.json", "a"]


def test_differences_name_the_fields_of_a_recipe():
    ours, theirs = {"seed": 0, "recipe": {"lam": 1.0, "mu": 2.0}}, {"seed": 1, "recipe": {"lam": 0.0, "mu": 2.0}}
    assert list(differences(ours, theirs)) == ["seed 1 there, 0 here", "lam 0.0 there, 1.0 here"]


def test_a_command_that_is_refused_leaves_no_word_that_something_was_begun(tmp_path):
    for outputs, run in (
        ([tmp_path / "f/a", tmp_path / "f/b"], None),
        ([tmp_path / "r/checkpoint.pt"], tmp_path / "r"),
    ):
        with pytest.raises(UserError, match="no"):
            with making(outputs, run=run) as step:
                assert not step.is_done({"v": 1})
                raise UserError("no")
    assert list(tmp_path.iterdir()) == []


def test_what_was_made_before_a_refusal_keeps_its_stamp(tmp_path):
    def make(value, fails=False):
        with making([tmp_path / "a"]) as step:
            if not step.is_done({"v": value}):
                if fails:
                    raise UserError("no")
                (tmp_path / "a").write_text(value)

    make("x")
    with pytest.raises(UserError):
        make("y", fails=True)
    assert (tmp_path / "a").read_text() == "x" and (tmp_path / ".a.made.json").exists()


def test_two_that_share_only_a_second_output_do_not_write_it_at_once(fakes):
    first = fakes.start("--out", "a", "--also", "s", "--value", "x", "--until", "go")
    fakes.until(fakes.worked)
    refused = fakes.run("--out", "b", "--also", "s", "--value", "y")
    assert refused.returncode == 2 and f"s: {socket.gethostname()} process {first.pid}" in refused.stderr
    shared = fakes.start("--out", "c", "--also", "s", "--value", "z", "--shared")
    assert f"waiting for s: {socket.gethostname()} process {first.pid}" in shared.stderr.readline()
    fakes.go.touch()
    assert first.wait(60) == shared.wait(60) == 0 and (fakes.folder / "s").read_text() == "z"
    assert not list(fakes.folder.glob(".*.lock"))


def test_two_that_need_each_others_outputs_both_end(fakes):
    both = [fakes.start("--out", a, "--also", b, "--shared") for a, b in ("st", "ts")]
    assert [process.wait(60) for process in both] == [0, 0] and sorted(fakes.worked()) == ["s", "t"]


def test_whether_all_outputs_stand_is_known_to_who_writes_beside_them(tmp_path):
    def stands(value, *also):
        with making([tmp_path / "a", *also], shared=True) as step:
            assert not step.is_done({"v": value})
            for path in (tmp_path / "a", *also):
                path.write_text(value)
            return step.stands

    s = tmp_path / "s"
    assert [stands("x", s), stands("y", s)] == [False, True]
    s.write_text("another's")
    assert not stands("z", s)
