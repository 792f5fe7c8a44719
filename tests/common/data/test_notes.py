from common.data.notes import note


def test_a_note_is_said_once_and_by_the_first_process(capsys, monkeypatch):
    note("one of the set's files")
    note("one of the set's files")
    assert capsys.readouterr().err == "note: one of the set's files\n"
    monkeypatch.setenv("RANK", "1")
    note("another of the set's files")
    assert capsys.readouterr().err == ""
