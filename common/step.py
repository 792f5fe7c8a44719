"""One step of a table: run a command unless its output is there already, made by this command from these inputs.

    python -m common.step --makes OUT --key KEY [--needs FILE@KEY ...] -- python -m lbf.finetune ... --out ...

Scripts write these lines (`step` in experiments/steps.sh). Any number may run at once in one folder, in any order of start: a step holds a lock
while it waits for inputs and while it runs, and goes to the end at once where it finds itself done. OUT.step.json says what made OUT: KEY (a
digest of the command and of the keys of its inputs), the content of the inputs, the content of OUT and of the files made with it (--also). If one
of them differs, the step runs again; a name never decides. The lock belongs to the running processes: if they die, the next one to ask has it.
"""

import argparse
import fcntl
import functools
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

GRACE_S = float(
    os.environ.get("STEP_GRACE_S") or 60
)  # an input may be missing so long while nobody makes it: other processes may still be starting


def sha256(path: Path) -> str:
    """Of a file's content; read again only where the file has changed since this process read it, so that waiting costs little."""
    state = path.stat()
    return _sha256(path, state.st_mtime_ns, state.st_size, state.st_ino)


@functools.cache
def _sha256(path: Path, mtime_ns: int, size: int, inode: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def stamp_of(path: Path) -> Path:
    return path.with_name(path.name + ".step.json")


def read_stamp(path: Path) -> dict:
    """What is noted of an output; empty where nothing is, or not in whole."""
    try:
        return json.loads(stamp_of(path).read_text())
    except (OSError, ValueError):
        return {}


def write_stamp(path: Path, content: dict) -> None:
    part = stamp_of(path).with_name(f".{path.name}.step.{os.getpid()}.part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(stamp_of(path))


class Step:
    def __init__(self, makes: Path, also: list[Path], key: str, needs: list[tuple[Path, str]], command: list[str]):
        self.makes, self.also, self.key, self.needs, self.command = makes, also, key, needs, command

    def outputs(self) -> dict[str, str]:
        return {str(path): sha256(path) for path in (self.makes, *self.also)}

    def inputs(self) -> dict[str, str]:
        return {str(path): sha256(path) for path, _ in self.needs}

    def is_done(self) -> bool:
        """Whether the output is there, made by this command from the inputs as they are now."""
        stamp = read_stamp(self.makes)
        if stamp.get("key") != self.key or not all(path.exists() for path in (self.makes, *self.also)):
            return False
        return stamp.get("needs") == self.inputs() and stamp.get("makes") == self.outputs()

    def run(self, lock: int) -> int:
        """The command's exit status. The lock is the command's too: it stays while either process lives."""
        inputs = self.inputs()
        status = subprocess.run(self.command, pass_fds=(lock,)).returncode
        if status == 0 and (lost := [str(path) for path in (self.makes, *self.also) if not path.exists()]):
            print(
                f"error: {', '.join(lost)} was to be made, and is not there after: {' '.join(self.command)}",
                file=sys.stderr,
            )
            return 2
        if status == 0:
            write_stamp(
                self.makes, {"key": self.key, "command": self.command, "needs": inputs, "makes": self.outputs()}
            )
        return status


def is_ready(path: Path, key: str) -> bool:
    """An input with a key must be made by the step of that key, from inputs as they are now; one without (a file from elsewhere) must exist."""
    try:
        return path.exists() and (not key or (read_stamp(path).get("key") == key and is_current(path)))
    except FileNotFoundError:  # moved away by the step that is making it again
        return False


def is_current(path: Path) -> bool:
    """Whether a file is what its stamp says, and so on back: what stands behind it may be about to be made again, and it with that."""
    stamp = read_stamp(path)
    if not stamp:
        return path.exists()
    noted = {**stamp.get("needs", {}), str(path): stamp.get("makes", {}).get(str(path))}
    if any(not Path(name).exists() or sha256(Path(name)) != digest for name, digest in noted.items()):
        return False
    return all(is_current(Path(name)) for name in stamp.get("needs", {}))


def is_claimed(path: Path) -> bool:
    """Whether a living process holds the lock of the step that makes `path`."""
    try:
        file = open(lock_path(path), "rb")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def wait_for(needs: list[tuple[Path, str]], grace: float) -> str | None:
    """Until every input is ready; the one that nobody makes, if there is one."""
    for path, key in needs:
        since = time.monotonic()
        while not is_ready(path, key):
            if is_claimed(path):
                since = time.monotonic()
            elif time.monotonic() - since > grace:
                return str(path)
            time.sleep(0.2)
    return None


def claim(makes: Path) -> int:
    """The lock's file descriptor, once it is ours. The file says who has it, for people; the operating system is what counts."""
    makes.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(lock_path(makes), os.O_RDWR | os.O_CREAT, 0o644)
    said = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not said:
                owner = os.pread(lock, 500, 0).decode(errors="replace").strip()
                print(f"{makes}: waiting for {owner or 'another process'}", file=sys.stderr)
                said = True
            time.sleep(0.2)
    os.ftruncate(lock, 0)
    os.pwrite(
        lock, f"{socket.gethostname()} process {os.getpid()} since {datetime.now():%Y-%m-%d %H:%M:%S}\n".encode(), 0
    )
    return lock


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m common.step", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--makes", type=Path, required=True, metavar="FILE", help="what the command writes")
    made.add_argument(
        "--also", nargs="*", default=[], type=Path, metavar="FILE", help="further files that the command writes"
    )
    made.add_argument("--key", required=True, help="digest of the command and of its inputs' keys")
    made.add_argument(
        "--needs", nargs="*", default=[], metavar="FILE[@KEY]", help="inputs; with the key of the step that makes them"
    )
    made.add_argument(
        "--grace",
        type=float,
        default=GRACE_S,
        metavar="S",
        help=f"seconds an input may be missing while nobody makes it [$STEP_GRACE_S or 60; now {GRACE_S:g}]",
    )
    made.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command")
    return made


def main() -> int:
    arguments = parser().parse_args()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        print("error: no command given after --", file=sys.stderr)
        return 2
    needs = [(Path(name), key) for name, _, key in (word.partition("@") for word in arguments.needs)]
    step = Step(arguments.makes, arguments.also, arguments.key, needs, command)
    lock = claim(step.makes)  # before the wait: who waits for this step's output must see that somebody is at it
    try:
        if (missing := wait_for(needs, arguments.grace)) is not None:
            print(
                f"error: {arguments.makes} needs {missing}, which is not there and which nobody is making",
                file=sys.stderr,
            )
            return 2
        if step.is_done():
            print(f"{step.makes}: done already", file=sys.stderr)
            return 0
        print(f"{step.makes}: {' '.join(command)}", file=sys.stderr)
        return step.run(lock)
    finally:
        os.close(lock)


if __name__ == "__main__":
    sys.exit(main())
