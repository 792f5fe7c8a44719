import hashlib
import sys
import tarfile
from dataclasses import replace

import pytest

from common import evaluate
from common.cli.errors import command
from common.data.__main__ import main, parser
from common.data.specs import SPECS


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """run("verify", "isun") -> (exit code, stdout lines, stderr)."""

    def go(*words: str):
        monkeypatch.setattr(sys, "argv", ["common.data", *words, "--data", str(tmp_path)])
        code = 0
        try:
            command(main)
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return go


def test_list_has_one_line_a_set(run):
    code, out, _ = run("list")
    assert code == 0 and len(out) == len(SPECS) and out[0].split()[:2] == ["cifar10", "missing"]


def test_verify_prints_one_line_a_set_and_fails_on_a_fault(run, noise, small):
    small("isun", test=2)
    noise("isun/1.jpeg", seed=1)
    noise("isun/2.jpeg", seed=2)
    code, out, err = run("verify", "isun")
    assert code == 0 and len(out) == 1 and out[0].startswith("isun                 ok ")
    assert "cifar10 is not below" in err and "no search for its images" in err
    noise("isun/2.jpeg", seed=3)
    code, out, _ = run("verify", "isun")
    assert code == 1 and out[0].startswith(
        "isun                 FAILED   1 files changed since the record, first 2.jpeg"
    )
    assert run("verify", "isun", "--record")[0] == 0 and run("verify", "isun")[0] == 0


def test_an_absent_set_is_a_fault_only_where_it_was_asked_for(run):
    assert run("verify", "textures")[0] == 1
    assert run("verify")[0] == 0


def test_bad_names_give_one_line_and_code_two(run):
    code, out, err = run("verify", "texture")
    assert (
        code == 2
        and out == []
        and err.startswith("error: unknown data set 'texture'; known: cifar10,")
        and err.count("\n") == 1
    )
    assert run("verify", "--id", "cifar11")[0] == 2
    code, _, err = run("fetch")
    assert code == 2 and err.startswith("error: fetch which? cifar10,")


def test_fetch_goes_on_after_a_set_that_cannot_be_fetched(run, noise, small, tmp_path):
    small("isun", test=1)
    noise("isun/1.jpeg")
    code, out, err = run("fetch", "imagenet100", "isun")
    assert (
        code == 2
        and err.splitlines()[-1].endswith("/imagenet1k/val")
        and ("error: imagenet100 cannot be downloaded: register at https://image-net.org" in err)
    )
    assert out[0] == "isun: iSUN.tar.gz, its content was there already" and out[1].startswith(
        "isun                 ok "
    )
    assert "recorded (first verification)" in out[1]


def test_a_record_says_what_vouched_for_the_download(run, noise, small, tmp_path, monkeypatch):
    small("lsun_resize", test=1)
    content = noise("source/LSUN_resize/1.png")
    with tarfile.open(tmp_path / "LSUN_resize.tar.gz", "w:gz") as tar:
        tar.add(content, "LSUN_resize/1.png")
    md5 = hashlib.md5((tmp_path / "LSUN_resize.tar.gz").read_bytes()).hexdigest()
    changed = replace(
        SPECS["lsun_resize"], urls=((tmp_path / "LSUN_resize.tar.gz").as_uri(),), md5s={"LSUN_resize.tar.gz": md5}
    )
    monkeypatch.setitem(SPECS, "lsun_resize", changed)
    (tmp_path / ".downloads").mkdir()
    (tmp_path / "LSUN_resize.tar.gz").rename(
        tmp_path / ".downloads" / "LSUN_resize.tar.gz"
    )  # put there by hand: nothing is downloaded
    code, out, _ = run("fetch", "lsun_resize")
    assert code == 0 and "recorded (from LSUN_resize.tar.gz, MD5 as published (pytorch-ood's source))" in out[1]
    assert "all files as recorded (from LSUN_resize.tar.gz, MD5 as published" in run("verify", "lsun_resize")[1][0]


def test_table_writes_the_page(run, tmp_path):
    code, out, _ = run("table", "--out", str(tmp_path / "new" / "sets.md"))
    assert code == 0 and out == [str(tmp_path / "new" / "sets.md")]
    assert (tmp_path / "new" / "sets.md").read_text().startswith("# Data sets\n")


def test_found_names_what_is_there_for_scripts(run, noise, small):
    assert run("found", "isun", "svhn") == (0, [""], "")
    noise("isun/1.jpeg")
    assert run("found", "svhn", "isun")[:2] == (0, ["isun"])


def test_a_root_with_a_per_cent_sign_is_shown_in_the_help(monkeypatch):
    monkeypatch.setenv("OOD_DATA", "/data/100%/sets")
    for made in (parser(), evaluate.parser()):
        assert "/data/100%/sets" in " ".join(made.format_help().split())


def test_a_folder_is_needed_by_its_path(run, noise, tmp_path):
    noise("mine/a.png")
    assert run("need", f"folder:{tmp_path}/mine")[0] == 0
    code, _, err = run("need", f"folder:{tmp_path}/nothing")
    assert code == 2 and f"folder:{tmp_path}/nothing (missing)" in err
