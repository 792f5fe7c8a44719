"""One HTML page of finished runs: tables, figures, training curves, recipes, provenance, and the most confident mistakes."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from PIL import Image

from common import checkpoint
from common.cli.errors import UserError
from common.data.specs import is_control
from common.results.columns import OWN
from common.results.comparable import against_controls, last_epochs
from common.results.differences import read_scores
from common.results.lines import lines_of, reported_apart, set_title
from common.results.rows import method_of, read_rows
from common.results.stale import stale
from common.results.style import CYCLE, STYLES, plt
from common.results.tables import Marks, Printable, average_cell, cell, interval, seeds_mean, with_mark
from common.scoring.network import Inference, Network
from common.scoring.sets import score_sets, scorer_lines
from common.training.log import read_log

SHOWN = {"method": "method", "scorer": "score", "ood_set": "OOD set", "fpr95": "FPR95 %", "auroc": "AUROC %", "aupr_in": "AUPR-in %", "aupr_out": "AUPR-out %", "id_accuracy": "ID accuracy %", "n_id": "n ID", "n_ood": "n OOD", "seed": "seed"}  # fmt: skip
FACTS = ("id_set", "backbone", "precision", "device", "commit", "versions", "checkpoint_sha256", "train_data_sha256", "id_data_sha256", "convention")  # fmt: skip
CAPTIONS = {
    "heat maps": "Norm of the feature vector at every location of images drawn by a seed; white: the object's true outline. Each network has its own colour scale, from 0 to the 99th percentile of its norms on ID images: compare colours within a row, lengths by the scale at its end.",
    "norms": "Norm of the pooled features, ID (filled) and each OOD set (line).",
    "curves": "What fine-tuning logged, epoch by epoch.",
    "attention": "One image a set, drawn by a seed. Each column has one colour scale over all sets.",
    "scores": "DFB's two scores, ID (filled) and each OOD set (line).",
    "masks": "Training images drawn by a seed: the outline of the pseudo-mask, and of the truth where it is known.",
}  # by the file's name; others are shown by that
EACH = 8  # images a row of the gallery


@dataclass(frozen=True)
class Mistake:
    """An image on the wrong side: an OOD image scored most ID, or an ID image scored most OOD."""

    pixels: np.ndarray  # height x width x 3, uint8
    set_name: str
    row: int
    score: float
    share: float  # of ID test images with a score at most this


def data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def overview(rows: Sequence[dict[str, str]], marks: Marks) -> list[dict[str, Any]]:
    """Of each ID set its title, the averaged OOD sets, the table's columns, and a line a method and score: means over those sets and over seeds, then
    each set that is reported apart."""
    of = lambda id_set: [row for row in rows if row["id_set"] == id_set]  # noqa: E731
    return [_overview(id_set, of(id_set), marks.get(id_set, {})) for id_set in _each(rows, "id_set")]


def _overview(id_set: str, rows: list[dict[str, str]], marks: dict[str, str]) -> dict[str, Any]:
    columns, found = lines_of(rows)
    apart, metrics = reported_apart(columns), ("fpr95", "auroc")
    lines = [
        [with_mark(line.method, marks), line.scorer, *(average_cell(line, columns, [metric]) for metric in metrics),
         seeds_mean(list(line.accuracies().values())), *(cell(line, column, metrics) for column in apart)]
        for line in found
    ]  # fmt: skip
    sets = [column.title for column in columns if column.averaged]
    names = ["method", "score", "FPR95 %", "AUROC %", "ID acc. %"]
    names += [column.title for column in apart]
    return {"title": set_title(id_set), "sets": sets, "apart": bool(apart), "columns": names, "lines": lines}


def _each(rows: Sequence[dict[str, str]], column: str) -> list[str]:
    return list(dict.fromkeys(row[column] for row in rows))


def shown(row: dict[str, str]) -> list[str]:
    """A row as the page's table has it: numbers in percent with two decimals, with their 95 % intervals where evaluation drew them."""
    return [_text(row, key, name) for key, name in SHOWN.items()]


def _text(row: dict[str, str], key: str, name: str) -> str:
    if not name.endswith("%"):
        return set_title(row[key]) if key == "ood_set" else row[key]
    return f"{100 * float(row[key]):.2f}{interval(row, key)}"


def curves(folders: Sequence[Path], names: Sequence[str]) -> bytes | None:
    """Loss and training accuracy by epoch, a line a run; None where no run has a log."""
    logs = {name: lines for name, folder in zip(names, folders) if (lines := read_log(folder / "log.jsonl"))}
    if not logs:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.8))
    panels = ("loss", "loss", 1), ("train_accuracy", "training accuracy, percent", 100)
    for axis, (key, label, unit) in zip(axes, panels):
        for k, (name, lines) in enumerate(logs.items()):
            pairs = [(line["epoch"] + 1, unit * line[key]) for line in lines if line.get(key) is not None]
            look = {"marker": ".", "color": CYCLE[k % len(CYCLE)], "label": name}
            if pairs:
                axis.plot(*zip(*pairs), STYLES[k % len(STYLES)], **look)
        axis.set(xlabel="epoch", ylabel=label)
    axes[0].legend(fontsize=7)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    plt.close(figure)
    return out.getvalue()


def mistakes(folder: Path, scorer: str, how: Inference) -> list[tuple[str, list[Mistake]]]:
    """Of each OOD set of the run's results the images scored most ID, and the ID test images scored most OOD; one pass over at most `how.limit` images a set."""
    network = Network.open(folder / "checkpoint.pt", how)
    names = dict.fromkeys(row["ood_set"] for row in read_rows([folder / "results.csv"]))
    scorers = scorer_lines([scorer], network.id_set, "")
    scored = network.scored([name for name in names if not is_control(name)], scorers.values())
    raw = {name: values for (*_, name), values in score_sets(scored, scored.fit(scorers)).raw.items()}
    inside = raw.pop("id")
    first = chosen(scored.images[network.id_set], inside, np.argsort(inside, kind="stable")[:EACH], inside)
    shown = [(f"ID images scored most OOD: {set_title(network.id_set)}", first)]
    for name, scores in raw.items():
        most = chosen(scored.images[name], scores, np.argsort(-scores, kind="stable")[:EACH], inside)
        shown.append((f"OOD images scored most ID: {set_title(name).rstrip('*')}", most))
    return shown


def chosen(images: Any, scores: np.ndarray, rows: np.ndarray, inside: np.ndarray) -> list[Mistake]:
    (pixels,) = images.whole_batches(torch.from_numpy(rows.copy()), len(rows))
    pixels = pixels.cpu().permute(0, 2, 3, 1).numpy()
    return [
        Mistake(p, images.name, int(row), float(scores[row]), float((inside <= scores[row]).mean()))
        for p, row in zip(pixels, rows)
    ]


def run_details(folder: Path, rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Recipe, data, hardware and digests of one run."""
    path = folder / "recipe.json"
    # Shown as it stands, read by nobody.
    recipe = path.read_text(errors="replace") if path.is_file() else rows[0]["recipe"]
    name, own = run_name(folder, rows)
    return {"head": f"{name}: {own['backbone']}", "facts": {key: own[key] for key in FACTS}, "recipe": recipe}


def figure_files(folders: Sequence[Path]) -> list[Path]:
    """PNGs of the folders named figures in the runs or beside them."""
    places = dict.fromkeys(
        place.resolve() for folder in folders for place in (folder / "figures", folder.parent / "figures")
    )
    return [path for place in places for path in sorted(place.glob("*.png"))]


def figure_caption(path: Path) -> str:
    name = path.stem.replace("_", " ")
    return CAPTIONS.get(name, name)


def gains(
    paths: Sequence[Path], rows: Sequence[dict[str, str]], repeats: int
) -> tuple[list[tuple[str, Printable]], Marks]:
    """What methods gain over their controls and how far both are trained, tables by caption; and a word for each line that is not to be compared."""
    raw = read_scores(paths) if repeats else {}
    found, marks = against_controls(rows, raw, last_epochs(paths), ("fpr95", "auroc"), repeats)
    return list(found.items()), marks


def run_name(folder: Path, rows: Sequence[dict[str, str]]) -> tuple[str, dict[str, str]]:
    """What the page calls a run, and a row of its own: a file of DFB's holds the vanilla network's rows too."""
    own = next((row for row in rows if row["method"] != "vanilla"), rows[0])
    method = own["method"].removesuffix(", S_h alone")
    return f"{method}, seed {own['seed']} ({folder.name})", own


def page(folders: Sequence[Path], scorer: str, how: Inference, repeats: int = 0) -> str:
    """The page of scored runs; `report.html` beside this file says what stands where, and escapes every word.

    `scorer` is that of the gallery, "none" leaves it out; `repeats`: redraws for the intervals of differences. Raises UserError for rows that are not of
    the network beside them.
    """
    paths = [folder / "results.csv" for folder in folders]
    if said := next(filter(None, map(stale, paths)), ""):
        raise UserError(said)
    by_run, every = [read_rows([path]) for path in paths], read_rows(paths)
    rows = [row | {"method": method_of(row), "protocol": OWN} for row in every]
    names = [run_name(*pair)[0] for pair in zip(folders, by_run)]
    held, marks = gains(paths, every, repeats)
    titles = {set_title(row["ood_set"]) for row in rows if row["benchmark"] != "True"}
    curve = curves(folders, names)
    shown_runs = [pair for pair in zip(names, folders) if scorer != "none" and _has_gallery(pair[1])]
    galleries = [(name, mistakes(folder, scorer, how)) for name, folder in shown_runs]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"data_uri": data_uri, "png": png}
    return environment.get_template("report.html").render(
        id_sets=[set_title(name) for name in _each(rows, "id_set")], convention=rows[0]["convention"],
        stand_ins=sorted(name for name in titles if "stand-in" in name), overviews=overview(every, marks), gains=held, columns=list(SHOWN.values()),
        rows=[shown(row) for row in rows], runs=[run_details(*pair) for pair in zip(folders, by_run)], curve=curve,
        figures=[(figure_caption(path), path.read_bytes()) for path in figure_files(folders)], galleries=galleries,
        scorer=scorer, limit=how.limit,
    )  # fmt: skip


def _has_gallery(folder: Path) -> bool:
    """A network with a background class has a score of its own."""
    path = folder / "checkpoint.pt"
    return path.is_file() and not checkpoint.load(path)[1].get("extra_classes")
