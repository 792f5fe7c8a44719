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


def test_an_environment_in_somebodys_checkout_has_not_its_commit(checkout, monkeypatch):
    git(checkout, "init", "-q")
    (checkout / "theirs.py").write_text("1")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "one")
    (checkout / "provenance.py").write_text("1")
    monkeypatch.delenv("OOD_COMMIT", raising=False)
    assert provenance.commit() == "unknown"


@pytest.mark.parametrize("place, commit", [(".", "0123456789ab"), ("elsewhere", "unknown")])
def test_what_pip_fetched_from_a_repository_has_its_commit(checkout, monkeypatch, place, commit):
    """Where it is this file that was installed by it, and not another copy of the suite."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(checkout.parent))
    monkeypatch.delenv("OOD_COMMIT", raising=False)
    told = checkout / place / "ood_backgrounds-1.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Name: ood-backgrounds\nVersion: 1\n")
    (told / "direct_url.json").write_text(
        '{"url": "https://x", "vcs_info": {"vcs": "git", "commit_id": "%s"}}' % ("0123456789abcdef" * 2)
    )
    monkeypatch.setattr(provenance, "__file__", str(checkout / "common/cli/provenance.py"))
    (checkout / "common/cli").mkdir(parents=True)
    (checkout / "common/cli/provenance.py").write_text("")
    monkeypatch.setattr("sys.path", [str(checkout / place)])
    assert provenance.commit() == commit


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
