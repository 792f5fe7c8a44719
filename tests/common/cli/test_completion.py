"""What a shell completes: every command, its flags and its choices."""

import subprocess

import pytest

from common.cli import completion, ood
from common.cli.errors import UserError


def some() -> list[ood.Known]:
    return [ood.known("common")["data"], ood.known("common")["tables"], ood.known("lbf")["bars"]]


def test_a_shell_completes_commands_flags_and_choices(tmp_path):
    pytest.importorskip("shtab")
    (tmp_path / "ood.bash").write_text(completion.script(some(), ["bash"]))
    ask = """
    . ./ood.bash
    COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _shtab_ood; echo ${COMPREPLY[@]}
    """
    answers = {}
    for words in ("ood ", "ood lbf ", "ood lbf bars --pap", "ood data ve", "ood tables --metrics au"):
        done = subprocess.run(["bash", "-c", ask, "-", *words.split(" ")], cwd=tmp_path, capture_output=True, text=True)
        answers[words] = done.stdout.split()
    assert answers == {
        "ood ": ["data", "tables", "lbf"], "ood lbf ": ["bars"], "ood lbf bars --pap": ["--paper"], "ood data ve": ["verify"],
        "ood tables --metrics au": ["auroc", "aupr_in", "aupr_out"],
    }  # fmt: skip


def test_a_parser_is_the_one_that_the_command_reads_with():
    assert "--paired" in completion.parser_of("common.tables").format_help()
    assert "sheet" in completion.parser_of("common.data.shapes").format_help().lower()


@pytest.mark.parametrize("words", [[], ["fish"], ["bash", "zsh"]])
def test_another_shell_is_refused(words):
    with pytest.raises(UserError, match="--completion needs a shell: bash, zsh, tcsh"):
        completion.script(some(), words)


def test_without_the_library_it_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "shtab", None)
    with pytest.raises(UserError, match="pip install shtab"):
        completion.script(some(), ["bash"])
