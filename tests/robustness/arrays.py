"""Own arrays, rows of results and saved scores: damaged, odd, and right in an unusual form."""

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

from robustness.cases import ANY, DONE, EITHER, NOTED, REFUSED, Case, World, damage
from robustness.world import arrays

SCORERS = ("msp", "maxlogit", "energy")
Arrays = dict[str, np.ndarray]
SETS = ("id_penultimate", "train_penultimate", "ood_far_penultimate", "ood_near_penultimate")
NUMBERS = ("head_weight", "head_bias", *SETS)


def own(draw: Random, world: World, folder: Path) -> Case:
    """A file of own arrays, changed in one way."""
    given = arrays(draw.randrange(10**6), draw.randrange(2, 6), draw.randrange(1, 8), draw.randrange(8, 40))
    given = {name: array.copy() for name, array in given.items()}
    right, note, names = draw.choice(WAYS)(draw, given)
    path, words = folder / "mine.npz", ("common.evaluate", "--features", "mine.npz", "--scorers", *SCORERS)
    (np.savez_compressed if draw.random() < 0.3 else np.savez)(path, **given)
    check = _numbers(given) if right != REFUSED else lambda folder: ""
    if note == "":
        note, right = damage(draw, path), EITHER
    if draw.random() < 0.1 and right == DONE:
        words = (*words[:3], "--scorers", "all")
    return Case(words, right, names or ("mine.npz",), f"own arrays: {note}", check)


def _poisoned(draw: Random, given: Arrays):
    name, value = draw.choice(NUMBERS), draw.choice((np.nan, np.inf, -np.inf, 1e39, -1e300))
    given[name] = given[name].astype(np.float64)
    given[name].flat[draw.randrange(given[name].size)] = value
    return REFUSED, f"{value} in {name}", (name,)


def _misshapen(draw: Random, given: Arrays):
    name = draw.choice(NUMBERS)
    array = given[name]
    ways: list[tuple[str, Callable]] = [
        ("one axis more", lambda a: a[None]), ("no axis", lambda a: a.ravel()[0]), ("one column more", lambda a: np.concatenate([a, a[..., :1]], -1)),
        ("empty", lambda a: a[:0]), ("complex", lambda a: a.astype(complex)), ("text", lambda a: a.astype(str)), ("boolean", lambda a: a > 0),
        ("objects", lambda a: a.astype(object)), ("times", lambda a: a.astype("datetime64[s]")),
    ]  # fmt: skip
    how, change = draw.choice(ways)
    given[name] = change(array)
    return REFUSED, f"{name}: {how}", (name, "head_weight", "head_bias")


def _mislabelled(draw: Random, given: Arrays):
    name = draw.choice(("id_labels", "train_labels"))
    labels, classes = given[name], len(given["head_bias"])
    how, wrong = draw.choice((
        ("counted from one", labels + 1), ("negative", labels - 1), ("fractions", labels + 0.5), ("whole, but floats", labels.astype(float)),
        ("too few", labels[1:]), ("one column", labels[:, None]), ("text", labels.astype(str)), ("none", labels[:0]),
        ("one far too large", np.where(np.arange(len(labels)) == 3, 2**40, labels)), ("a class too many", np.where(labels == 0, classes, labels)),
    ))  # fmt: skip
    given[name] = wrong
    return REFUSED, f"{name}: {how}", (name,)


def _missing(draw: Random, given: Arrays):
    name = draw.choice(("head_weight", "head_bias", "id_penultimate"))
    del given[name]
    return REFUSED, f"no {name}", (name,)


def _misspelt(draw: Random, given: Arrays):
    name = draw.choice(("labels", "id_label", "ID_labels", "id_features", "trian_labels", "weight"))
    given[name] = given["id_labels"]
    return NOTED, f"an array that nobody knows, {name}", (name,)


def _logits(draw: Random, given: Arrays):
    name = draw.choice(("id", "ood_far", "ood_near"))
    right = given[f"{name}_penultimate"] @ given["head_weight"].T + given["head_bias"]
    how = draw.choice(("right", "of other images", "transposed", "one NaN"))
    wrong = {
        "right": right,
        "of other images": right[::-1] + np.abs(right).max(),
        "transposed": right.T,
        "one NaN": right.copy(),
    }[how]
    if how == "one NaN":
        wrong[0, 0] = np.nan
    given[f"{name}_logits"] = wrong
    if how == "transposed" and right.shape[0] == right.shape[1]:
        return EITHER, "logits, transposed and square", (f"{name}_logits",)
    return DONE if how == "right" else REFUSED, f"{name}_logits {how}", (f"{name}_logits",)


def _unusual(draw: Random, given: Arrays):
    """Right in an unusual form: the numbers must be those of the arrays."""
    how, change = draw.choice((
        ("float64", lambda a: a.astype(np.float64)), ("float16", lambda a: a.astype(np.float16)), ("big-endian", lambda a: a.astype(">f4")),
        ("by columns", np.asfortranarray), ("whole numbers", lambda a: np.round(a * 8).astype(np.int32)), ("as they were", lambda a: a),
        ("float128", lambda a: a.astype(np.longdouble)), ("small", lambda a: a * np.float32(1e-20)), ("unsigned", lambda a: np.abs(a * 8).astype(np.uint8)),
        ("large", lambda a: a * np.float32(1e6)), ("two images", None), ("all the same", lambda a: np.ones_like(a)),
    ))  # fmt: skip
    for name in SETS if change else ():
        given[name] = change(given[name])
    if not change:
        name = draw.choice(SETS[2:])
        given[name] = given[name][:2]
    return DONE, f"in an unusual form: {how}", ()


def _any_damage(draw: Random, given: Arrays):
    return EITHER, "", ()


WAYS = (_poisoned, _misshapen, _mislabelled, _missing, _misspelt, _logits, _unusual, _unusual, _any_damage, _any_damage)


def _numbers(given: Arrays) -> Callable[[Path], str]:
    """A check of AUROC and FPR95 against those counted here."""

    def scores(name: str) -> dict[str, np.ndarray]:
        h, w, b = (given[key].astype(np.float64) for key in (f"{name}_penultimate", "head_weight", "head_bias"))
        logits = given[f"{name}_logits"].astype(np.float64) if f"{name}_logits" in given else h @ w.T + b
        top = logits.max(1, keepdims=True)
        exp = np.exp(logits - top)
        return {"msp": exp.max(1) / exp.sum(1), "maxlogit": top[:, 0], "energy": top[:, 0] + np.log(exp.sum(1))}

    def check(folder: Path) -> str:
        inside = scores("id")
        for row in csv.DictReader((folder / "results.csv").open(newline="")):
            if row["scorer"] not in SCORERS:
                continue
            ours, theirs = inside[row["scorer"]], scores(f"ood_{row['ood_set']}")[row["scorer"]]
            # Scores that differ by rounding alone may stand in either order, or count as one.
            near = np.abs(ours[:, None] - theirs) <= 1e-5 * max(1e-30, np.abs(ours).max(), np.abs(theirs).max())
            auroc, slack = np.mean((ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)), np.mean(near) + 1e-9
            if not abs(float(row["auroc"]) - auroc) <= slack:
                return f"AUROC of {row['scorer']} on {row['ood_set']} is {row['auroc']}, counted {auroc}"
            threshold = np.sort(ours)[::-1][int(np.ceil(0.95 * len(ours))) - 1]
            fpr = np.mean(theirs >= threshold)
            if not abs(float(row["fpr95"]) - fpr) <= np.mean(near.any(0)) + 1e-9:
                return f"FPR95 of {row['scorer']} on {row['ood_set']} is {row['fpr95']}, counted {fpr}"
        return ""

    return check


# --- rows of results -----------------------------------------------------------------------------------------------------------------------

SHARES, COUNTS = ("fpr95", "auroc", "aupr_in", "aupr_out", "id_accuracy"), ("n_id", "n_ood")
READERS = (
    ("common.tables", "rows/LBF/results.csv"), ("common.tables", "rows/LBF/results.csv", "--out", "t.md"), ("dfb.ablation", "rows/LBF/results.csv"),
    ("lbf.sensitivity", "rows/LBF/results.csv", "--out", "f"), ("lbf.bars", "rows/LBF/results.csv", "--paper", "printed.csv", "--out", "f"),
)  # fmt: skip


def rows(draw: Random, world: World, folder: Path) -> Case:
    """A file of results with one thing wrong."""
    world.take(folder, "rows/LBF/results.csv", "printed.csv")
    path = folder / "rows/LBF/results.csv"
    table = list(csv.reader(path.open(newline="")))
    names, words = ("results.csv",), draw.choice(READERS)
    way = draw.choice((_bad_value, _bad_value, _bad_form, _bad_bytes))
    note = way(draw, path, table)
    right = ANY if "a digit or a letter" in note else REFUSED
    return Case(words, right, names, f"rows for {words[0]}: {note}")


def _bad_value(draw: Random, path: Path, table: list[list[str]]) -> str:
    line, name = (
        draw.randrange(1, len(table)),
        draw.choice((*SHARES, *COUNTS, "method", "scorer", "recipe", "checkpoint_sha256", "seed", "ood_set")),
    )
    bad = {"recipe": ("", '{"mu": 1', "{", "{'mu': 1}")}.get(name, ("", " "))
    bad = ("-0.1", "1.1", "", "abc", "50%", "1e999", "-inf", "0,5") if name in SHARES else bad
    bad = ("0", "-3", "1.5", "", "x", "1e3", "٣") if name in COUNTS else bad
    value = draw.choice((*bad, *("=1+1", "@sum")) if name in ("method", "ood_set") else bad)
    table[line][table[0].index(name)] = value
    _write(path, table)
    return f"{name} {value!r} in line {line + 1}"


def _bad_form(draw: Random, path: Path, table: list[list[str]]) -> str:
    way = draw.choice(
        (
            "a column less",
            "a column more",
            "a column twice",
            "a value less",
            "a value more",
            "no row",
            "another result",
            "no header",
        )
    )
    column, line = draw.randrange(len(table[0])), draw.randrange(1, len(table))
    if way == "a column less":
        column = table[0].index(draw.choice(("auroc", "method", "checkpoint_sha256", "recipe", "seed")))
        table = [row[:column] + row[column + 1 :] for row in table]
    elif way in ("a column more", "a column twice"):
        title = "zork" if way == "a column more" else table[0][column]
        table = [[*row, row[column] if number else title] for number, row in enumerate(table)]
    elif way in ("a value less", "a value more"):
        table[line] = table[line][:-1] if way == "a value less" else [*table[line], "1"]
    elif way == "another result":
        table.append([*table[line]])
        table[-1][table[0].index("auroc")] = "0.123"
    else:
        table = table[:1] if way == "no row" else table[1:]
    _write(path, table)
    return way


def _bad_bytes(draw: Random, path: Path, table: list[list[str]]) -> str:
    text = path.read_bytes()
    way = draw.choice(("cut", "empty", "a zip", "a NUL", "Latin-1", "an open quote", "a digit or a letter", "numbers"))
    cut = next(place for place in iter(lambda: draw.randrange(1, len(text)), None) if text[place - 1 : place] != b"\n")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("results.csv", text)
    middle = draw.randrange(len(text))
    new = {
        "cut": text[:cut], "empty": b"", "a zip": buffer.getvalue(), "a NUL": text.replace(b"energy", b"ener\0gy", 1),
        "Latin-1": text.replace(b"energy", "énergie".encode("latin-1"), 1), "an open quote": text.replace(b"\nLBF", b'\n"LBF', 1),
        "a digit or a letter": text[:middle] + bytes([text[middle] ^ 1]) + text[middle + 1 :], "numbers": b"1,2,3\n4,5,6\n",
    }[way]  # fmt: skip
    path.write_bytes(new)
    return way


def _write(path: Path, table: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(table)


# --- saved scores --------------------------------------------------------------------------------------------------------------------------


def scores(draw: Random, world: World, folder: Path) -> Case:
    """Saved scores, compared."""
    world.take(folder, "pre/results.npz", "lbf/results.npz")
    path, words = (
        folder / "lbf/results.npz",
        ("common.compare", "pre/results.npz:msp", "lbf/results.npz:msp", "--repeats", 20),
    )
    with np.load(path) as found:
        given = {name: found[name] for name in found.files}
    name = draw.choice([name for name in given if name.startswith("msp/")])
    how, change = draw.choice((
        ("NaN", lambda a: np.where(np.arange(len(a)) == 1, np.nan, a)), ("one image less", lambda a: a[1:]), ("two columns", lambda a: np.stack([a, a], 1)),
        ("text", lambda a: a.astype(str)), ("empty", lambda a: a[:0]), ("gone", None), ("damage", None), ("infinite", lambda a: a + np.inf),
    ))  # fmt: skip
    if how == "damage":
        return Case(words, EITHER, ("results.npz",), f"scores: {damage(draw, path)}")
    if how == "gone":
        given = {key: array for key, array in given.items() if not key.startswith("msp/")}
    else:
        given[name] = change(given[name])
    np.savez(path, **given)
    return Case(words, REFUSED, ("lbf/results.npz",), f"scores: {name} {how}")
