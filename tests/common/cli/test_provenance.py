import subprocess

import pytest
import torch

from common.cli import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of one commit with the module in it; the answer is not remembered."""
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    provenance.commit.cache_clear()
    yield tmp_path
    provenance.commit.cache_clear()


def git(folder, *words):
    who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_says_whether_tracked_files_differ_from_it(checkout):
    git(checkout, "init", "-q")
    (checkout / "provenance.py").write_text("1")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "one")
    head = git(checkout, "rev-parse", "--short=12", "HEAD")
    (checkout / "untracked").write_text("")
    assert provenance.commit() == head
    provenance.commit.cache_clear()
    (checkout / "provenance.py").write_text("2")
    assert provenance.commit() == head + "-dirty"


def test_outside_a_checkout_the_commit_is_what_the_environment_says(checkout, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(checkout.parent))
    monkeypatch.setenv("OOD_COMMIT", "abc")
    assert provenance.commit() == "abc"
    provenance.commit.cache_clear()
    monkeypatch.delenv("OOD_COMMIT")
    assert provenance.commit() == "unknown"


def test_versions_and_hardware_are_named():
    words = provenance.versions().split()
    assert words[::2] == ["python", "torch", "torchvision", "timm", "numpy", "scikit-learn"] and "?" not in words
    assert f"{torch.get_num_threads()} threads" in provenance.hardware(torch.device("cpu"))
