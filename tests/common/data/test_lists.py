"""Lists of images by value: every form that is right gives the images and labels of the folder beside it, every other one line that names file and line."""

import os
import re

import pytest

from common.cli.errors import UserError
from common.data.datasets import load
from common.data.lists import parted, read
from common.data.transforms import Transform

NAMES = ("a/1.png", "a/2 x.png", "b/1.png", "c/1.png")  # with labels 0, 0, 1, 2
SIZES = pytest.mark.parametrize("size", [Transform(32), Transform(72)], ids=["in memory", "streamed"])


@pytest.fixture
def write(noise, tmp_path):
    """write(text, name="all.txt", classes=None): a list beside the four images of NAMES, and a classes.txt."""
    for k, name in enumerate(NAMES):
        noise(f"mine/{name}", size=(80, 80), seed=k)

    def make(text: str | bytes, name: str = "all.txt", classes: str | None = None):
        path = tmp_path / "mine" / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        if classes is not None:
            (path.parent / "classes.txt").write_text(classes)
        return path

    return make


def lines(*labels, names=NAMES) -> str:
    return "".join(f"{name} {label}\n" for name, label in zip(names, labels))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a.png", ("a.png", None)), ("a.png 0", ("a.png", "0")), ("a b.png\t polar bear", ("a b.png", "polar bear")),
        ("a.png b.JPEG 3", ("a.png b.JPEG", "3")), ("a.png b.png", ("a.png b.png", None)), ("path label", (None, None)), ("a.png,0", (None, None)),
        ("a.txt 0", (None, None)), ("a  b.png -1", ("a  b.png", "-1")), ("a.png\u00a00", (None, None)),
    ],
)  # fmt: skip
def test_a_line_is_parted_behind_the_last_extension_of_an_image(text, expected):
    assert parted(text) == expected


FORMS = {
    "numbers": (lines(0, 0, 1, 2), None, "0 1 2"),
    "names": (lines("a", "a", "b", "c"), None, "a b c"),
    "another order": ("".join(reversed(lines(0, 0, 1, 2).splitlines(keepends=True))), None, "0 1 2"),
    "numbers with names": (lines(0, 0, 1, 2), "z\ny\nx\n", "z y x"),
    "names in an order of their own": (lines("z", "z", "y", "x"), "z\ny\nx\n", "z y x"),
    "a class without images": (lines(0, 0, 1, 3), "a\nb\nempty\nc", "a b empty c"),
    "CRLF, a byte order mark, empty lines, tabs": (
        b"\xef\xbb\xbf" + lines(0, 0, 1, 2).replace(" 0", "\t 0 ").replace("\n", "\r\n\r\n").encode(),
        None,
        "0 1 2",
    ),
    "no line end": (lines(0, 0, 1, 2).rstrip(), None, "0 1 2"),
    "other spellings of a path": (lines("00", "0", "1", "2", names=("./a//1.png", *NAMES[1:])), None, "0 1 2"),
    "names with blanks": (lines("polar bear", "polar bear", "z", "zz"), None, "polar bear,z,zz"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_images_sorted_by_path_and_their_labels(write, form):
    text, classes, expected = FORMS[form]
    raw = read(write(text, classes=classes))
    assert raw.names == NAMES and [path.name for path in raw.items] == ["1.png", "2 x.png", "1.png", "1.png"]
    assert raw.labels.tolist() == ([0, 0, 1, 3] if form == "a class without images" else [0, 0, 1, 2])
    assert raw.classes == tuple(expected.split("," if "," in expected else " "))


@SIZES
def test_a_list_and_a_folder_of_the_same_images_are_one_set(write, tmp_path, size):
    write(lines("c", "b", "a", "a", names=NAMES[::-1]))
    how = {"root": tmp_path, "transform": size}
    (other := tmp_path / "mine/all.txt").rename(tmp_path / "list.txt")
    folder = load(f"folder:{tmp_path / 'mine'}", "test", **how)
    listed = load(f"list:{tmp_path / 'list.txt'}:root={other.parent}", "test", **how)
    assert listed.digest == folder.digest and listed.classes == folder.classes == ("a", "b", "c")
    (tmp_path / "list.txt").write_text(lines("c", "b", "a", "b", names=NAMES[::-1]))
    other = load(f"list:{tmp_path / 'list.txt'}:root={other.parent}", "test", **how)
    assert other.digest != folder.digest and other.labels.tolist() == [1, 0, 1, 2]


def test_a_list_without_labels_and_openoods_list_of_ood_images_have_none(write, tmp_path):
    for text, reason in (("\n".join(NAMES), "gives no labels"), (lines(-1, -1, -1, -1), "out of distribution")):
        name = f"list:{write(text)}"
        assert load(name, "test", root=tmp_path).labels is None
        with pytest.raises(UserError, match=f"has no labels to train on: .*all.txt .*{reason}"):
            load(name, "train", root=tmp_path, to_train_on=True)
    with pytest.raises(UserError, match="has the class -1, which the checkpoint does not know"):
        load(name, "test", root=tmp_path, classes=["0", "1", "2"])


FAULTS = {
    "an image that is not there": (lines(0, 0, 1) + "c/9.png 2", "line 4: no image at .*mine/c/9.png; root=DIR"),
    "several": ("x.png\n" + lines(0) + "y.png\nz.png", "line 1 has|line 2 has"),
    "a folder": ("a.png", "line 1: no image at .*a.png"),
    "mixed labels": (lines(0, 0) + "b/1.png", "line 3 has no label, where line 1 has a number from 0 as label"),
    "a number and a name": (lines(0, 0, "b"), "line 3 has a name as label, where line 1 has a number"),
    "a letter for a number": (lines(0, 0, 1, "O"), "line 4 has a name as label"),
    "some out of distribution": (lines(0, -1, 1), "line 2 has the label -1, where line 1 has a number from 0"),
    "negative": (lines(-2, 0), "line 1: the label must be a number >= 0, -1 or a name, got -2"),
    "no extension": ("a/1 0", "line 1: expected PATH or PATH LABEL .* got 'a/1 0'"),
    "a header": ("path label\n" + lines(0), "line 1: expected PATH or PATH LABEL .* got 'path label'"),
    "commas": ("a/1.png,0", "line 1: expected PATH or PATH LABEL"),
    "numbers in columns": ("a/1.png 0 1", "line 1: expected one label behind the path, got '0 1'"),
    "columns by tabs": ("a/1.png\ta\t0", r"line 1: expected one label behind the path, got 'a\\t0'"),
    "outside": ("/a/1.png 0", "line 1: /a/1.png must lie below .*mine; give root=DIR"),
    "climbing": ("a/../b/1.png", r"line 1: the path a/\.\./b/1.png must not climb"),
    "twice": (lines(0, 0) + "\n./a/1.png 0", "line 4 names a/1.png again, which line 1 does"),
    "empty": ("\n \r\n", "names no image"),
    "Latin-1": ("a/1.png 0\né.png 0\n".encode("latin-1"), "line 2 is no text in UTF-8"),
    "UTF-16": (lines(0).encode("utf-16"), "line 1 is no text in UTF-8"),
    "a NUL": ("a/1.png\0 0", r"line 1 has the control character '\\x00'"),
    "an old Mac's": (lines(0, 0).replace("\n", "\r"), r"line 1 has the control character '\\r'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_that_names_file_and_line(write, fault):
    text, said = FAULTS[fault]
    (write("").parent / "a.png").mkdir()
    with pytest.raises(UserError) as error:
        read(write(text))
    assert re.search(f"all.txt ({said})", str(error.value)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, classes, said",
    [
        (lines(0, 0, 2, 3), None, r"all.txt has no label 1, but 2 in line 3: expected all from 0 on, or the names .*classes.txt"),
        (lines(1, 1, 2, 3), None, "all.txt has no label 0, but 1 in line 1"),
        (lines(0, 0, 1, 2**40), None, "all.txt has no label 2, but 1099511627776 in line 4"),
        (lines(0, 0, 1, 3), "a\nb\nc", "all.txt line 4 has the label 3, expected one of a, b, c, or their numbers 0 to 2"),
        (lines("a", "a", "b", "d"), "a\nb\nc", "all.txt line 4 has the label d, expected one of a, b, c"),
        (lines(0, 0, 0, 0), None, "all.txt has one class alone, 0, expected two or more"),
        (lines("a", "a", "a", "a"), None, "all.txt has one class alone, a, expected two or more"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_numbered_are_none_of_an_ood_sets_business_and_refused_where_they_count(
    write, tmp_path, text, classes, said
):
    name = f"list:{write(text, classes=classes)}"
    assert len(load(name, "test", root=tmp_path)) == 4 and load(name, "test", root=tmp_path).labels is None
    with pytest.raises(UserError, match=f"^list:.*all.txt has no labels to train on: .*{said}"):
        load(name, "train", root=tmp_path, to_train_on=True)


@pytest.mark.parametrize(
    "classes, said",
    [
        ("a\nb\na\n", "line 3 names the class a again, which line 1 does"), ("a\n\nb\n", "line 2 is empty, expected the name of class 1"),
        ("a\n", "must name two classes or more, one a line, got 1"), ("0\n2\n1\n", "line 2 gives class 1 another number as its name, 2"),
    ],
)  # fmt: skip
def test_a_faulty_file_of_class_names_is_refused(write, classes, said):
    with pytest.raises(UserError, match=f"classes.txt {said}$"):
        read(write(lines(0, 0, 1, 1), classes=classes))


def test_a_test_list_has_the_classes_of_the_training_list_and_none_of_its_images(write):
    train, test = write(lines(0, 0, 1), "train.txt"), write("c/1.png 1\n", "test.txt")
    raw = read(test, train=train)
    assert raw.classes == ("0", "1") and raw.labels.tolist() == [1]
    assert (
        "test.txt line 1 has the label 2, expected one of 0, 1"
        in read(write("c/1.png 2", "test.txt"), None, train).unlabelled
    )
    with pytest.raises(UserError, match="test.txt line 2 names b/1.png, which .*train.txt line 3 trains on"):
        read(write("c/1.png 1\nb/1.png 1", "test.txt"), train=train)
    assert "gives no labels" in read(write("c/1.png 0", "test.txt"), None, write("a/1.png", "train.txt")).unlabelled


def test_a_list_that_is_no_file_is_refused(write, tmp_path):
    with pytest.raises(UserError, match="^expected a list of images at .*nowhere.txt$"):
        read(tmp_path / "nowhere.txt")
    with pytest.raises(UserError, match="is a folder, expected a list of images$"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(OSError, match="a device, a pipe or a socket, expected a file"):
        read(tmp_path / "pipe.txt")
