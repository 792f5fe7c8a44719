"""Lists of images: a text file that names them, one a line, each alone or with its label; OpenOOD's lists are of this form.

A line is `PATH` or `PATH LABEL`, the path below a root; the label is a number from 0, the name of a class, or -1 throughout: out of
distribution. Order does not count: rows are sorted by path, as a folder's are, so that the same images are the same set in both forms.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from common.cli.arrays import CONTROL
from common.cli.errors import UserError
from common.cli.files import read_plain
from common.data.formats import NotThere, Raw, listed
from common.data.listing import is_image

CLASSES = "classes.txt"  # beside a list: a name a line, in the order of the numbers
OUTSIDE = "-1"  # OpenOOD's label of an image that is out of distribution
NUMBER = re.compile("-?[0-9]{1,18}")  # a longer one is the name of a class


class Row(NamedTuple):
    """A line of a list."""

    line: int
    name: str  # of the image, as a path below the root
    label: str | None  # as it is written there


def read(path: Path, images: Path | None = None, train: Path | None = None) -> Raw:
    """The images that the list `path` names, sorted by path below `images` [the list's folder].

    `train`: the list of the set's training images, whose classes all its lists have. Labels that cannot be numbered are none, and `unlabelled`
    says why; every other fault is a UserError that names file and line.
    """
    root = images or path.parent
    rows = sorted(rows_of(path, root), key=lambda row: row.name)
    check_images(path, root, rows)
    raw = Raw(tuple(root / row.name for row in rows), tuple(row.name for row in rows))
    others = rows if train in (None, path) else rows_of(train, root)
    if others is not rows:
        check_apart(path, rows, train, others)
    for place, of in ((path, rows), (train or path, others)):
        if of[0].label is None:
            return replace(raw, unlabelled=f"{place} gives no labels, expected PATH LABEL in each line")
        if of[0].label == OUTSIDE:
            return replace(
                raw, unlabelled=f"{place} labels its images {OUTSIDE}: out of distribution", classes=(OUTSIDE,)
            )
    classes, wrong = classes_of(train or path, others)
    number = {name: k for k, name in enumerate(classes)}
    found = [label_of(row, classes) for row in rows]
    if not wrong and (odd := next((row for row, name in zip(rows, found) if name not in number), None)):
        known = f"one of {listed(classes)}, or their numbers 0 to {len(classes) - 1}"
        wrong = f"{path} line {odd.line} has the label {odd.label}, expected {known}"
    if wrong:
        return replace(raw, unlabelled=wrong, classes=classes)
    return replace(raw, labels=np.array([number[name] for name in found], dtype=np.int64), classes=classes)


def rows_of(path: Path, root: Path) -> list[Row]:
    """The lines of a list that are not empty. Raises UserError for a line of another form, or of another form than the first, or an image named twice."""
    rows: list[Row] = []
    first: dict[str, int] = {}
    for line, text in lines_of(path):
        row = _row(path, line, text, root)
        if row.name in first:
            raise UserError(f"{path} line {line} names {row.name} again, which line {first[row.name]} does")
        if rows and kind(row.label) != kind(rows[0].label):
            said = f"has {kind(row.label)}, where line {rows[0].line} has {kind(rows[0].label)}"
            raise UserError(f"{path} line {line} {said}: expected one form in all lines")
        first[row.name] = line
        rows.append(row)
    if not rows:
        raise UserError(f"{path} names no image, expected PATH or PATH LABEL in each line")
    return rows


def _row(path: Path, line: int, text: str, root: Path) -> Row:
    name, label = parted(text)
    if name is None:
        said = "PATH or PATH LABEL with a blank between, the path with an image's extension"
        raise UserError(f"{path} line {line}: expected {said}, got {text[:80]!r}")
    below = PurePosixPath(name)
    if ".." in below.parts:
        raise UserError(f"{path} line {line}: the path {name} must not climb by '..'; give root=DIR with the list")
    if below.is_absolute():
        if not below.is_relative_to(root.as_posix()):
            raise UserError(f"{path} line {line}: {name} must lie below {root}; give root=DIR with the list")
        below = below.relative_to(root.as_posix())
    if label is not None:
        label = _label(path, line, label)
    return Row(line, str(below), label)


def _label(path: Path, line: int, label: str) -> str:
    """A number in one spelling, or a name. Raises UserError for several columns, and a number that is no label."""
    if "\t" in label or (" " in label and NUMBER.fullmatch(label.partition(" ")[0])):
        raise UserError(f"{path} line {line}: expected one label behind the path, got {label!r}")
    if not NUMBER.fullmatch(label):
        return label
    if int(label) < int(OUTSIDE):
        raise UserError(f"{path} line {line}: the label must be a number >= 0, {OUTSIDE} or a name, got {label}")
    return str(int(label))


def parted(text: str) -> tuple[str | None, str | None]:
    """Path and label of a line; the path ends at the last extension of an image that is followed by a blank, or at the line's end."""
    if is_image(text):
        return text, None
    for blank in reversed(list(re.finditer("[ \t]+", text))):
        if is_image(text[: blank.start()]):
            return text[: blank.start()], text[blank.end() :]
    return None, None


def kind(label: str | None) -> str:
    if label is None:
        return "no label"
    if not NUMBER.fullmatch(label):
        return "a name as label"
    return f"the label {OUTSIDE}" if label == OUTSIDE else "a number from 0 as label"


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty, blanks and a byte order mark taken off. Raises UserError for what is no text in UTF-8."""
    try:
        content = read_plain(path)
    except FileNotFoundError:
        raise NotThere(f"expected a list of images at {path}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, expected a list of images") from None
    for line, found in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            text = found.decode().removesuffix("\r").strip(" \t")
        except UnicodeDecodeError:
            raise UserError(f"{path} line {line} is no text in UTF-8") from None
        if odd := CONTROL.search(text.replace("\t", " ")):
            raise UserError(f"{path} line {line} has the control character {odd[0]!r}, expected a line of text")
        if text:
            yield line, text


def check_images(path: Path, root: Path, rows: Sequence[Row]) -> None:
    """Raise UserError unless each is a file."""
    if missing := sorted(row.line for row in rows if not os.path.isfile(root / row.name)):
        name = next(row.name for row in rows if row.line == missing[0])
        more = f" (and {len(missing) - 1:,} more of its {len(rows):,} lines name none)" if len(missing) > 1 else ""
        raise UserError(f"{path} line {missing[0]}: no image at {root / name}{more}; root=DIR says where paths begin")


def check_apart(path: Path, rows: Sequence[Row], train: Path, others: Sequence[Row]) -> None:
    """Raise UserError where a list has an image of the training list."""
    trained = {row.name: row.line for row in others}
    if both := next((row for row in rows if row.name in trained), None):
        said = f"which {train} line {trained[both.name]} trains on"
        raise UserError(f"{path} line {both.line} names {both.name}, {said}: expected images that are in one of them")


def label_of(row: Row, classes: Sequence[str]) -> str:
    """The name of the row's class: that of its number in `classes`, where there is one."""
    if not NUMBER.fullmatch(row.label):
        return row.label
    return classes[int(row.label)] if int(row.label) < len(classes) else ""


def classes_of(path: Path, rows: Sequence[Row]) -> tuple[tuple[str, ...], str]:
    """The classes of a list, and why they are none to number labels by, "" where they are.

    Those of classes.txt beside it; else the names in it, sorted; else its numbers, which must be all from 0 to the largest.
    """
    beside = path.parent / CLASSES
    if os.path.lexists(beside):
        return names_in(beside), ""
    labels = {row.label for row in rows}
    if not all(map(NUMBER.fullmatch, labels)):
        names = tuple(sorted(labels))
        return names, "" if len(names) > 1 else f"{path} has one class alone, {names[0]}, expected two or more"
    numbers = sorted(map(int, labels))
    names, lacking = tuple(map(str, numbers)), next((k for k, n in enumerate(numbers) if k != n), None)
    if lacking is not None:
        line = next(row.line for row in rows if int(row.label) == numbers[lacking])
        said = f"{path} has no label {lacking}, but {numbers[lacking]} in line {line}"
        return names, f"{said}: expected all from 0 on, or the names of the classes in {beside}"
    return names, "" if len(names) > 1 else f"{path} has one class alone, {names[0]}, expected two or more"


def names_in(path: Path) -> tuple[str, ...]:
    """The names of a classes.txt. Raises UserError for a name that is there twice, fewer than two, and numbers that say another order."""
    found: dict[str, int] = {}
    for line, name in lines_of(path):
        if name in found:
            raise UserError(f"{path} line {line} names the class {name} again, which line {found[name]} does")
        if line != len(found) + 1:
            raise UserError(f"{path} line {line - 1} is empty, expected the name of class {len(found)}")
        if NUMBER.fullmatch(name) and int(name) != len(found):
            raise UserError(f"{path} line {line} gives class {len(found)} another number as its name, {name}")
        found[name] = line
    if len(found) < 2:
        raise UserError(f"{path} must name two classes or more, one a line, got {len(found)}")
    return tuple(found)
