"""One HTML page of finished runs: tables, figures, training curves, recipes, provenance, and the most confident mistakes."""

import base64
import html
import io
import json
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

from common import checkpoint
from common.results.rows import OWN, method_of, read_rows
from common.results.style import CYCLE, STYLES
from common.results.tables import average, averaged, cells, seeds_mean, title
from common.scoring.network import Inference, Network
from common.scoring.sets import score_sets, scorer_lines

SHOWN = (("method", "method"), ("scorer", "score"), ("ood_set", "OOD set"), ("fpr95", "FPR95 %"), ("auroc", "AUROC %"), ("aupr_in", "AUPR-in %"), ("aupr_out", "AUPR-out %"), ("id_accuracy", "ID accuracy %"), ("n_id", "n ID"), ("n_ood", "n OOD"), ("seed", "seed"))  # fmt: skip
PERCENT = ("fpr95", "auroc", "aupr_in", "aupr_out", "id_accuracy")
FACTS = (
    "id_set",
    "backbone",
    "precision",
    "device",
    "commit",
    "versions",
    "checkpoint_sha256",
    "train_data_sha256",
    "id_data_sha256",
    "convention",
)
EACH = 8  # images a row of the gallery


@dataclass(frozen=True)
class Mistake:
    """An image on the wrong side: an OOD image scored most ID, or an ID image scored most OOD."""

    pixels: np.ndarray  # height x width x 3, uint8
    set_name: str
    row: int
    score: float
    share: float  # of ID test images with a score at most this


def element(tag: str, inner: str, **attributes: str) -> str:
    said = "".join(f' {name.rstrip("_")}="{html.escape(value)}"' for name, value in attributes.items())
    return f"<{tag}{said}>{inner}</{tag}>"


def data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def drawn(figure: plt.Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    plt.close(figure)
    return out.getvalue()


def picture(content: bytes, caption: str) -> str:
    said = html.escape(caption)
    return f'<figure><img alt="{said}" src="{data_uri(content)}"><figcaption>{said}</figcaption></figure>'


def overview(rows: Sequence[dict[str, str]]) -> str:
    """A line a method and score: means over the averaged OOD sets and over seeds."""
    parts = []
    for id_set in dict.fromkeys(row["id_set"] for row in rows):
        mine = [row for row in rows if row["id_set"] == id_set]
        lines = []
        for method, scorer in dict.fromkeys((row["method"], row["scorer"]) for row in mine):
            means = []
            for metric in ("fpr95", "auroc"):
                sets, _, values = cells(mine, metric)
                found = average(values, (method, scorer), sets)
                means.append(seeds_mean(found) if found else "-")
            accuracy = seeds_mean(
                list(
                    {
                        row["checkpoint_sha256"]: float(row["id_accuracy"]) for row in mine if row["method"] == method
                    }.values()
                )
            )
            lines.append(
                "<tr>"
                + "".join(
                    element("td", html.escape(text), **({"class_": "text"} if k < 2 else {}))
                    for k, text in enumerate((method, scorer, *means, accuracy))
                )
                + "</tr>"
            )
        sets = ", ".join(title(name) for name in dict.fromkeys(row["ood_set"] for row in mine) if averaged(name))
        names = ("method", "score", "FPR95 %", "AUROC %", "ID acc. %")
        head = "".join(
            element("th", name, scope="col", **({"class_": "text"} if k < 2 else {})) for k, name in enumerate(names)
        )
        said = element("p", html.escape(f"ID {title(id_set)}: averages over {sets}"), class_="small")
        parts.append(
            said
            + f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
        )
    return "".join(parts)


def results_table(rows: Sequence[dict[str, str]]) -> str:
    """Every row, sortable; numbers in percent with two decimals."""
    head = "".join(
        element("th", html.escape(name), scope="col", **({"class_": "text"} if k < 3 else {}))
        for k, (_, name) in enumerate(SHOWN)
    )
    lines = []
    for row in rows:
        texts = [
            f"{100 * float(row[key]):.2f}" if key in PERCENT else title(row[key]) if key == "ood_set" else row[key]
            for key, _ in SHOWN
        ]
        lines.append(
            "<tr>"
            + "".join(
                element("td", html.escape(text), **({"class_": "text"} if k < 3 else {}))
                for k, text in enumerate(texts)
            )
            + "</tr>"
        )
    return f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def curves(folders: Sequence[Path], names: Sequence[str]) -> bytes | None:
    """Loss and training accuracy by epoch, a line a run; None where no run has a log."""
    logs = {
        name: [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for name, folder in zip(names, folders)
        if (folder / "log.jsonl").is_file()
    }
    if not logs:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.8))
    for axis, key, label, unit in (
        (axes[0], "loss", "loss", 1),
        (axes[1], "train_accuracy", "training accuracy, percent", 100),
    ):
        for k, (name, lines) in enumerate(logs.items()):
            pairs = [(line["epoch"] + 1, unit * line[key]) for line in lines if line.get(key) is not None]
            axis.plot(
                *zip(*pairs), STYLES[k % len(STYLES)], marker=".", color=CYCLE[k % len(CYCLE)], label=name
            ) if pairs else None
        axis.set(xlabel="epoch", ylabel=label)
    axes[0].legend(fontsize=7)
    return drawn(figure)


def mistakes(folder: Path, scorer: str, how: Inference) -> list[tuple[str, list[Mistake]]]:
    """Of each OOD set of the run's results the images scored most ID, and the ID test images scored most OOD; one pass over at most `how.limit` images a set."""
    network = Network.open(folder / "checkpoint.pt", how)
    names = dict.fromkeys(row["ood_set"] for row in read_rows([folder / "results.csv"]))
    scorers = scorer_lines([scorer], network.id_set, "")
    scored = network.scored([name for name in names if ":encode=" not in name], scorers.values())
    raw = {name: values for (*_, name), values in score_sets(scored, scored.fit(scorers)).raw.items()}
    inside = raw.pop("id")
    first = chosen(scored.images[network.id_set], inside, np.argsort(inside, kind="stable")[:EACH], inside)
    shown = [(f"ID images scored most OOD: {title(network.id_set)}", first)]
    for name, scores in raw.items():
        most = chosen(scored.images[name], scores, np.argsort(-scores, kind="stable")[:EACH], inside)
        shown.append((f"OOD images scored most ID: {title(name).rstrip('*')}", most))
    return shown


def chosen(images: Any, scores: np.ndarray, rows: np.ndarray, inside: np.ndarray) -> list[Mistake]:
    pixels = (
        torch.cat(list(images.whole_batches(torch.from_numpy(rows.copy()), len(rows))))
        .cpu()
        .permute(0, 2, 3, 1)
        .numpy()
    )
    return [
        Mistake(p, images.name, int(row), float(scores[row]), float((inside <= scores[row]).mean()))
        for p, row in zip(pixels, rows)
    ]


def gallery(found: Iterable[tuple[str, list[Mistake]]]) -> str:
    parts = []
    for head, group in found:
        cards = [
            f'<figure><img alt="image {m.row} of {html.escape(m.set_name)}" src="{data_uri(png(m.pixels))}">'
            f"<figcaption>no. {m.row}: {m.score:.3g}, above {100 * m.share:.1f} % of ID</figcaption></figure>"
            for m in group
        ]
        parts.append(element("h3", html.escape(head)) + f'<div class="gallery">{"".join(cards)}</div>')
    return "".join(parts)


def run_details(folder: Path, rows: Sequence[dict[str, str]]) -> str:
    """Recipe, data, hardware and digests of one run, folded."""
    facts = "".join(
        f'<tr><td>{html.escape(key)}</td><td class="text">{html.escape(rows[0][key])}</td></tr>' for key in FACTS
    )
    recipe = (folder / "recipe.json").read_text() if (folder / "recipe.json").is_file() else rows[0]["recipe"]
    head = f"{rows[0]['method']}, {rows[0]['backbone']}, seed {rows[0]['seed']} ({folder.name})"
    return f'<details><summary>{html.escape(head)}</summary><div class="scroll"><table><tbody>{facts}</tbody></table></div><pre>{html.escape(recipe)}</pre></details>'


def figure_files(folders: Sequence[Path]) -> list[Path]:
    """PNGs of the folders named figures in the runs or beside them."""
    places = dict.fromkeys(
        place.resolve() for folder in folders for place in (folder / "figures", folder.parent / "figures")
    )
    return [path for place in places for path in sorted(place.glob("*.png"))]


def page(folders: Sequence[Path], scorer: str, how: Inference) -> str:
    """The page of the runs; `scorer` is that of the gallery, "none" leaves it out."""
    by_run = [read_rows([folder / "results.csv"]) for folder in folders]
    rows = [row | {"method": method_of(row), "protocol": OWN} for found in by_run for row in found]
    names = [f"{found[0]['method']}, seed {found[0]['seed']} ({folder.name})" for folder, found in zip(folders, by_run)]
    ids = ", ".join(dict.fromkeys(title(row["id_set"]) for row in rows))
    head = f"OOD detection, ID {ids}"
    notes = (
        "FPR95: share of OOD images accepted at 95 % of ID accepted, lower is better; the others: higher is better. "
        + rows[0]["convention"]
        + "."
    )
    stand_ins = sorted(
        {title(row["ood_set"]) for row in rows if row["benchmark"] != "True" and "stand-in" in title(row["ood_set"])}
    )
    notes += f" Stand-ins, comparable with no printed number: {', '.join(stand_ins)}." if stand_ins else ""
    body = [
        element("h1", html.escape(head)),
        element("p", html.escape(notes), class_="small"),
        overview(rows),
        element("h2", "Every set") + results_table(rows),
    ]
    body.append(element("h2", "Runs") + "".join(run_details(folder, found) for folder, found in zip(folders, by_run)))
    if (content := curves(folders, names)) is not None:
        body.append(
            element("h2", "Training")
            + picture(
                content,
                "Loss and accuracy on training images, by epoch. Losses of different methods are different sums.",
            )
        )
    if files := figure_files(folders):
        body.append(
            element("h2", "Figures")
            + "".join(picture(path.read_bytes(), path.stem.replace("_", " ")) for path in files)
        )
    if scorer != "none":
        for folder, name in zip(folders, names):
            if (folder / "checkpoint.pt").is_file() and not checkpoint.load(folder / "checkpoint.pt")[1].get(
                "extra_classes"
            ):
                body.append(element("h2", html.escape(f"Most confident mistakes: {name}, {scorer}")))
                body.append(
                    element(
                        "p",
                        f"Each: number in its set, score, and the share of ID test images that score at most that. Out of at most {how.limit} images a set.",
                        class_="small",
                    )
                )
                body.append(gallery(mistakes(folder, scorer, how)))
    template = string.Template((Path(__file__).parent / "report.html").read_text())
    return template.substitute(title=html.escape(head), body="\n".join(body))
