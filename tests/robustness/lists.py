"""Lists of images: in every form that is right they give the numbers of the folder, in every other a line that names file and line."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from robustness.cases import ANY, DONE, REFUSED, Case, World, damage
from robustness.files import EVALUATE, NEEDS
from robustness.flags import LINES
from robustness.pictures import same_numbers

NAME = "mine.txt"
TRAIN = ("common.pretrain", *LINES["common.pretrain"][0])
Wrong = tuple[list[str], int, str]  # the lines, number of the wrong one (0: of none), and what is wrong with it


def make(draw: Random, world: World, folder: Path) -> Case:
    """A list in the place of the OOD set's folder, or lists in the place of the ID set's."""
    return (_ood if draw.random() < 0.6 else _id)(draw, world, folder)


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def _ood(draw: Random, world: World, folder: Path) -> Case:
    world.take(folder, *NEEDS)
    names, label = _names(folder / "ood"), draw.choice(("", " -1", " 7", "\t0", " some class", " -01"))
    lines = [f"{name}{label}" for name in names]
    draw.shuffle(lines)
    if draw.random() < 0.45:
        place, note = _right_form(draw, folder, lines)
        words, check = tuple(place if word == "folder:ood" else word for word in EVALUATE), same_numbers(world)
        return Case(words, DONE, (), f"an OOD list{label}: {note}", check)
    words = tuple("list:ood/mine.txt" if word == "folder:ood" else word for word in EVALUATE)
    path = folder / "ood" / NAME
    if draw.random() < 0.3:
        content, line, note = _bad_bytes(draw, lines)
        path.write_bytes(content)
        if note == "damage":
            return Case(words, ANY, (), f"an OOD list: {damage(draw, path)}")
    elif draw.random() < 0.15:
        line, note = 0, _no_list(draw, path)
    else:
        lines, line, note = draw.choice((_wrong_path, _wrong_path, _wrong_label))(draw, lines, label)
        path.write_text("\n".join(lines))
    return Case(words, REFUSED, (f"{NAME} line {line}" if line else NAME,), f"an OOD list{label}: {note}")


def _right_form(draw: Random, folder: Path, lines: list[str]) -> tuple[str, str]:
    """Write the list in a form that is right; its set's name, and which form it is."""
    way = draw.choice(("plain", "CRLF", "BOM", "empty lines", "blanks around", "absolute", "a dot", "elsewhere", "renamed", "no last line end"))  # fmt: skip
    path, root, end = folder / "ood" / NAME, "", "\n"
    match way:
        case "CRLF":
            end = "\r\n"
        case "BOM":
            lines[0] = f"\ufeff{lines[0]}"
        case "empty lines":
            lines[1:1] = ["", " ", "\t"]
        case "blanks around":
            lines = [f" {line}\t" for line in lines]
        case "absolute":
            lines[0] = f"{folder}/ood/{lines[0]}"
        case "a dot":
            lines = [f"./{line}".replace("/", "//", 1) for line in lines]
        case "elsewhere":
            path, root = folder / "lists" / NAME, ":root=./ood/"
            path.parent.mkdir()
        case "renamed":
            (folder / "ood/x/0.png").rename(folder / "ood/x/a b.png 0.png")
            lines = [line.replace("x/0.png", "x/a b.png 0.png") for line in lines]
    text = end.join(lines) + ("" if way == "no last line end" else end)
    path.write_bytes(text.encode())
    return f"list:{path.relative_to(folder)}{root}", way


def _bad_bytes(draw: Random, lines: list[str]) -> tuple[bytes, int, str]:
    way, text, line = draw.choice(("Latin-1", "UTF-16", "a NUL", "CR alone", "damage")), "\n".join(lines), len(lines)
    match way:
        case "Latin-1":
            return f"{text}\né.png -1".encode("latin-1"), line + 1, way
        case "UTF-16":
            return text.encode("utf-16"), 1, way
        case "a NUL":
            return f"{text}\0".encode(), line, way
        case "CR alone":
            return text.replace("\n", "\r").encode(), 1, way
    return text.encode(), 0, way


def _no_list(draw: Random, path: Path) -> str:
    way = draw.choice(("empty", "blank", "absent", "a folder", "an image"))
    match way:
        case "empty" | "blank":
            path.write_text("" if way == "empty" else " \n\r\n\t\n")
        case "a folder":
            path.mkdir()
        case "an image":
            path.write_bytes(next(path.parent.rglob("*.png")).read_bytes())
    return way


def _wrong_path(draw: Random, lines: list[str], label: str) -> Wrong:
    place = draw.randrange(len(lines))
    wrong = {
        "gone": f"x/gone.png{label}", "climbing": f"x/../{lines[place]}", "outside": f"/{lines[place]}", "a folder": f"x{label}",
        "commas": f"x/0.png,{label.strip()}", "another extension": f"x/0.txt{label}", "in quotes": f'"x/0.png"{label}', "a comment": "# of mine",
        "a URL": f"https://example.org/x/0.png{label}", "backslashes": lines[place].replace("/", "\\"), "capitals": lines[place].upper(),
    }  # fmt: skip
    way = draw.choice([*wrong, "twice"])
    if way == "twice":
        return [*lines, f"./{lines[place]}"], len(lines) + 1, way
    return [*lines[:place], wrong[way], *lines[place + 1 :]], place + 1, way


def _wrong_label(draw: Random, lines: list[str], label: str) -> Wrong:
    """Another kind of label in one line, behind the first."""
    others = {"": " 0", "-1": " 3", "-01": " x", "7": " -1", "0": "", "some class": " 4"}
    place = draw.randrange(1, len(lines))
    path = lines[place].removesuffix(label)
    wrong = draw.choice((others[label.strip()], " -2", " -77"))
    return [*lines[:place], f"{path}{wrong}", *lines[place + 1 :]], place + 1, f"the label{wrong} in line {place + 1}"


def _id(draw: Random, world: World, folder: Path) -> Case:
    """Lists of the ID images, trained on: the same weights as of the folder, or a refusal."""
    world.take(folder, "photos")
    train = _names(folder / "photos/train")
    classes = sorted({name.partition("/")[0] for name in train})
    lists, digits = folder / "lists", draw.random() < 0.5
    lists.mkdir()
    labels = {name: str(k) if digits else name for k, name in enumerate(classes)}
    rows = [(f"train/{name}", labels[name.partition("/")[0]]) for name in train]
    draw.shuffle(rows)
    right, line, note = _change(draw, rows, classes, lists)
    (lists / "train.txt").write_text("".join(f"{name} {label}".rstrip() + "\n" for name, label in rows))
    (lists / "val.txt").write_text("test/left/0.png " + labels["left"])
    place = draw.choice(("list:lists:root=photos", "list:lists/train.txt,lists/val.txt:root=photos"))
    words = tuple(place if word == "folder:photos" else word for word in TRAIN)
    names = (f"{line[0]} line {line[1]}" if line[1] else line[0],)
    check: Callable[[Path], str] = lambda folder: ""  # noqa: E731
    if right == DONE:
        expected = world.reference(TRAIN, "new/checkpoint.pt", "photos")
        check = lambda folder: same_weights(folder, expected)  # noqa: E731
    return Case(words, right, names, f"ID lists, {'numbers' if digits else 'names'}: {note}", check)


def same_weights(folder: Path, expected: tuple) -> str:
    from robustness.cases import content

    return "" if content(folder / "new/checkpoint.pt") == expected else "other weights than of the folder"


def _change(draw: Random, rows: list, classes: list[str], lists: Path) -> tuple[str, tuple[str, int], str]:
    """Change the rows in one way: what is right then, file and line of a refusal, and which way it is."""
    way = draw.choice(
        (
            "nothing",
            "nothing",
            "names of numbers",
            "a gap",
            "a letter",
            "unlabelled",
            "OOD",
            "one class",
            "too many",
            "no name",
        )
    )
    place, file, line, is_number = draw.randrange(1, len(rows)), "train.txt", 0, rows[0][1].isdigit()
    match way:
        case "nothing":
            return DONE, (file, 0), way
        case "names of numbers":
            (lists / "classes.txt").write_text("\n".join(classes))
            return DONE, (file, 0), way
        case "a gap" if is_number:
            rows[:] = [(name, "9" if label == "1" else label) for name, label in rows]
            file = "train.txt has no label 1"
        case "a letter" if is_number:
            rows[place], line = (rows[place][0], "O"), place + 1
        case "unlabelled":
            rows[:] = [(name, "") for name, _ in rows]
        case "OOD":
            rows[:] = [(name, "-1") for name, _ in rows]
        case "one class":
            rows[:] = [(name, rows[0][1]) for name, _ in rows]
        case _:
            short = classes[:-1] if way != "no name" else [*classes[:-1], "", "x"]
            (lists / "classes.txt").write_text("\n".join(short))
            last = sorted(rows, key=lambda row: row[0])
            wanted = str(len(classes) - 1) if is_number else classes[-1]
            first = next(row for row in last if row[1] == wanted)
            file, line = ("train.txt", rows.index(first) + 1) if way != "no name" else ("classes.txt", len(classes))
            way = "a label without a class"
    return REFUSED, (file, line), way
