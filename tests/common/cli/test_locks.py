"""A lock belongs to a living process: not to its data workers, not to what it starts, not to the dead."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from common.cli import locks
from common.cli.locks import Lock, holder


@pytest.fixture
def lock(tmp_path):
    made = Lock(tmp_path / ".x.lock")
    yield made
    made.release()


def test_a_lock_is_taken_once_and_is_free_and_gone_when_released(lock):
    other = Lock(lock.path)
    assert lock.take() and lock.take() and not other.take()
    lock.note(line="k")
    lock.release()
    assert not lock.path.exists() and other.take()
    other.release()


def test_the_holder_is_named_to_another_process_and_is_nobody_to_itself(lock):
    lock.take()
    lock.note(line="k" * 500)
    lock.note(line="k")
    ask = f"from common.cli.locks import *; print(holder(Path({str(lock.path)!r}))['line'])"
    assert subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout == "k\n"
    assert holder(lock.path) is None


PARENT = """
import os, subprocess, sys, time
from common.cli.locks import Lock, Path
assert Lock(Path(sys.argv[1])).take()
program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
if not os.fork():
    print(program.pid, os.getpid(), flush=True)  # by the worker, which has let the lock go before it gets here
time.sleep(60)
"""


def test_data_workers_and_started_programs_that_outlive_a_killed_process_do_not_hold_its_lock(lock):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, lock.path], stdout=subprocess.PIPE, text=True)
    outliving = [int(word) for word in parent.stdout.readline().split()]
    try:
        assert not lock.take()
        parent.kill(), parent.wait()
        for process in outliving:
            os.kill(process, 0)  # it lives
        assert lock.take()
    finally:
        for process in outliving:
            os.kill(process, signal.SIGKILL)


def test_a_lock_whose_file_was_moved_away_is_taken_anew(lock, tmp_path):
    lock.take()
    lock.path.rename(tmp_path / "moved")
    assert lock.take() and lock.path.exists()


def test_folders_made_for_a_lock_go_with_it_unless_something_was_written_there(tmp_path):
    for written in (False, True):
        made = Lock(tmp_path / "a" / "b" / ".x.lock")
        assert made.take()
        if written:
            (tmp_path / "a" / "kept").write_text("")
        made.release()
        assert (tmp_path / "a").exists() == written and not (tmp_path / "a" / "b").exists()


def test_what_a_dead_process_left_holds_nobody_up(lock):
    lock.path.write_text('{"host": "gone"}')
    assert holder(lock.path) is None and lock.take()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_that_does_not_lock_is_said_and_the_command_goes_on(lock, number, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(number, "no")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    assert lock.take() and "no locks on this file system" in capsys.readouterr().err
    assert holder(lock.path) is None


def test_another_error_of_the_file_system_is_raised(lock, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with pytest.raises(OSError, match="broken disk"):
        lock.take()
