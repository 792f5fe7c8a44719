from common.data.notes import note


def test_a_note_is_said_once_and_by_the_first_process(capsys, monkeypatch, started_as):
    note("one of the set's files")
    note("one of the set's files")
    assert capsys.readouterr().err == "note: one of the set's files\n"
    monkeypatch.setenv("RANK", "1")  # left over: without WORLD_SIZE there is no group
    note("another of the set's files")
    assert capsys.readouterr().err == "note: another of the set's files\n"
    started_as(1, 2)
    note("a third of the set's files")
    assert capsys.readouterr().err == ""
