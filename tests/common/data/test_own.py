"""Names of somebody's own images: one spelling, one place, and the splits that are there."""

import pytest

from common.cli.errors import UserError
from common.data.datasets import load, training_images
from common.data.own import is_undivided, lists_of, part_of
from common.data.specs import canonical, check_ood, parse, place, spec_of, title
from common.data.table import state
from common.data.transforms import Transform


@pytest.fixture
def lists(noise, tmp_path, monkeypatch):
    """In the current folder mine/ with train.txt, val.txt and ood.txt, one image or two a class of a and b."""
    for k, name in enumerate(("a/1", "a/2", "b/1", "b/2", "c/1")):
        noise(f"mine/{name}.png", seed=k)
    for name, text in {"train": "a/1.png a\nb/1.png b\n", "val": "b/2.png b\na/2.png a\n", "ood": "c/1.png -1"}.items():
        (tmp_path / "mine" / f"{name}.txt").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name, expected",
    [
        ("list:a//b.txt", "list:a/b.txt"), ("list:./a.txt,b/./c.txt:root=d/", "list:a.txt,b/c.txt:root=d"),
        ("list:a:root=b:root=c", "list:a:root=b:root=c"), ("list:a,", "list:a,"), ("folder:a:root=b", "folder:a:root=b"),
    ],
)  # fmt: skip
def test_a_list_has_one_spelling(name, expected):
    assert canonical(name) == title(name) == expected == canonical(expected)


@pytest.mark.parametrize("name", ["list:", "list::root=a", "list:a.txt:root="])
def test_a_list_needs_a_path(name):
    with pytest.raises(UserError, match="^list: needs a path, as in list:my/images.txt or "):
        parse(name)


def test_a_folder_of_lists_and_two_lists_have_a_split_each(lists):
    for name in ("list:mine", "list:mine/train.txt,mine/val.txt"):
        train, test = (load(name, split, root=lists) for split in ("train", "test"))
        assert train.classes == test.classes == ("a", "b") and test.labels.tolist() == [0, 1]
        assert not is_undivided(name) and list(spec_of(name).counts) == ["train", "test"]
    assert is_undivided("list:mine/ood.txt") and len(load("list:mine/ood.txt", "train", root=lists)) == 1
    (lists / "mine/test.txt").write_text("a/2.png a\n")  # goes before val.txt
    assert load("list:mine", "test", root=lists).labels.tolist() == [0]


def test_a_path_with_a_comma_is_a_path_where_it_is_there(lists):
    (lists / "mine/val.txt").rename(lists / "mine/x,y.txt")
    assert len(load("list:mine/x,y.txt", "test", root=lists)) == 2
    with pytest.raises(UserError, match="^list:a,b,c: expected one list, a folder of lists, or two lists TRAIN,TEST$"):
        lists_of("a,b,c")


def test_what_is_not_there_is_named(lists):
    (lists / "mine/train.txt").unlink()
    for name, split, said in (
        ("list:mine", "train", "expected a list of images at .*mine/train.txt$"),
        ("list:mine/a", "test", "expected the lists train.txt and test.txt .* in the folder .*mine/a$"),
        ("list:mine/ood.txt:root=zork", "test", "expected the folder of its images at .*zork$"),
        ("list:nowhere.txt", "test", "expected a list of images at .*nowhere.txt$"),
    ):
        with pytest.raises(UserError, match=said):
            load(name, split, root=lists)
    assert state(spec_of("list:mine/ood.txt"), lists) == "found, a list"
    assert state(spec_of("list:nowhere.txt"), lists) == "missing"


def test_a_list_is_found_out_as_the_id_set_under_any_spelling(lists, capsys):
    (lists / "link").symlink_to("mine")
    assert place("list:mine") == place("list:link/train.txt,mine/val.txt") == place("list:mine:root=link")
    assert place("list:mine/ood.txt") != place("list:mine/ood.txt:root=mine/a")
    for name in ("list:link", "list:mine/train.txt,link/val.txt"):
        with pytest.raises(UserError, match="is the in-distribution set itself$"):
            check_ood(name, "list:mine")
    with pytest.raises(UserError, match="^list:link/val.txt is the test split of the in-distribution set list:mine$"):
        check_ood("list:link/val.txt", "list:mine")
    check_ood("list:mine/ood.txt", "list:mine")
    assert capsys.readouterr().err == ""
    check_ood("list:mine/train.txt", "list:mine")
    assert "list:mine/train.txt is the training split of" in capsys.readouterr().err
    assert part_of(*parse("list:mine"), "test") == place("list:mine/val.txt")


def test_all_of_an_undivided_set_is_trained_on_with_a_word(lists, capsys):
    training_images(f"list:{lists}/mine/val.txt", Transform(32), root=lists)
    assert "has no test split: all its images are trained on" in capsys.readouterr().err
    training_images("list:mine", Transform(32), root=lists)
    assert capsys.readouterr().err == ""


def test_folders_that_are_called_like_splits_are_no_classes(noise, tmp_path):
    for k, name in enumerate(("Train/a/1", "Train/b/1", "Validation/a/1")):
        noise(f"pets/{name}.png", seed=k)
    name = f"folder:{tmp_path / 'pets'}"
    assert len(load(name, "test", root=tmp_path)) == 3
    with pytest.raises(UserError, match="has no labels to train on: its folders Train, Validation look like splits, "):
        training_images(name, Transform(32), root=tmp_path)
    (tmp_path / "pets/Validation").rename(tmp_path / "pets/Car")  # trains and cars
    assert training_images(name, Transform(32), root=tmp_path).classes == ("Car", "Train")


def test_folders_beside_the_splits_are_left_out_with_a_word(noise, tmp_path, capsys):
    for file in ("train/a/1.png", "train/b/2.png", "test/a/3.png", "val/b/4.png", "c/5.png", ".git/6.png"):
        noise(f"p/{file}", seed=len(file))
    assert len(load(f"folder:{tmp_path}/p", "train", root=tmp_path)) == 2
    assert f"{tmp_path}/p: what lies in c, beside train and test and val, is left out" in capsys.readouterr().err
