"""One line a variant: how good its masks are, or how its network separates under each sign.

    python -m dfb.ablation OUT/seed-*/*/masks/manifest.json
    python -m dfb.ablation OUT/seed-*/*/results.csv

A variant is called after its run's folder (a file that is not called results.csv, after itself); variants of several seeds share a line, mean +- std.
"""

import sys
from pathlib import Path

from common.cli import commands
from common.cli.errors import UserError, command
from common.cli.files import write_atomically
from common.cli.recipes import digest
from common.data.masks import read_manifest
from common.results.columns import OWN
from common.results.lines import lines_of
from common.results.rows import read_rows
from common.results.tables import METRICS, markdown, seeds_mean
from dfb.evaluate import ALONE, BACKGROUND, JOINED

VERSION = 1  # raised when the same files give other text
ORDER = (ALONE, *JOINED.values())
COUNTS = ("foreground_share", "empty_share", "full_share", "predicted_differs_share", "refinement_failed_share")
TRUTH = ("iou", "mean_image_iou", "precision", "recall")

Lines = dict[str, dict[str, list[float]]]  # variant -> column -> one value a seed, shares in [0, 1]


def mask_lines(paths: list[Path]) -> Lines:
    """Counts of each manifest, and its agreement with the truth where it was scored."""
    found: Lines = {}
    for path in paths:
        counts = read_manifest(path)["counts"]
        line = found.setdefault(path.parent.parent.name, {})
        truth = counts.get("against_truth", {})
        for name, value in ({n: counts.get(n) for n in COUNTS} | {n: truth.get(n) for n in TRUTH}).items():
            if value is not None:
                line.setdefault(name.replace("_", " "), []).append(value)
    return found


def method_of(row: dict[str, str]) -> str:
    return row["method"].split(" (")[0]  # files from before the column `protocol` say it there


def score_lines(paths: list[Path], scorer: str, metric: str) -> Lines:
    """Mean over OOD sets of one detector alone on the DFB network, joined under each sign, and of S_b alone; and ID accuracy. A variant
    under another protocol than the network's own is a line of its own. Raises UserError where the seeds of a variant are not of one thing."""
    files: dict[str, list[Path]] = {}
    for path in paths:
        files.setdefault(path.parent.name if path.stem == "results" else path.stem, []).append(path)
    found: Lines = {}
    for variant, own in files.items():
        rows = read_rows(own)
        for protocol in dict.fromkeys(row["protocol"] for row in rows):
            mine = [row for row in rows if row["protocol"] == protocol]
            name = variant if protocol in (OWN, variant) else f"{variant} ({protocol})"
            found[name] = _columns(name, mine, scorer, metric)
    return found


def _columns(variant: str, rows: list[dict[str, str]], scorer: str, metric: str) -> dict[str, list[float]]:
    columns, lines = lines_of(rows)
    found = {}
    for method in (*ORDER, BACKGROUND):
        wanted, name = ("+", "S_b alone, +") if method == BACKGROUND else (scorer, method)
        of = [line for line in lines if (method_of(line.any), line.any["scorer"]) == (method, wanted)]
        if len(of) > 1:
            raise UserError(f"{variant} holds results of different things: {', '.join(line.method for line in of)}")
        if of and (values := of[0].average(columns, metric)):
            found[name] = list(values.values())
    return found | {"ID accuracy": list(lines[-1].accuracies().values())}


def table(lines: Lines) -> str:
    columns = list(dict.fromkeys(column for line in lines.values() for column in line))
    body = [[name, *(seeds_mean(line[c]) if c in line else "-" for c in columns)] for name, line in lines.items()]
    return markdown(["variant", *columns], body)


def report(paths: list[Path], metrics: list[str]) -> str:
    """The tables of all files of one kind. Raises UserError for a mixture."""
    kinds = {path.suffix for path in paths}
    if kinds == {".json"}:
        return "Masks; shares in percent; against the truth: foreground, over all pixels\n\n" + table(mask_lines(paths))
    if kinds != {".csv"}:
        raise UserError("give manifests of masks (manifest.json) or files of results (.csv), not both")
    scorers = dict.fromkeys(row["scorer"] for row in read_rows(paths) if method_of(row) == ALONE)
    said = "{}, {}: mean over OOD sets, percent\n\n{}"
    pairs = [(scorer, metric) for scorer in scorers for metric in metrics]
    return "\n\n".join(said.format(s, METRICS[m], table(score_lines(paths, s, m))) for s, m in pairs)


def main() -> None:
    made = commands.parser("dfb.ablation", __doc__)
    made.add_argument("files", nargs="+", type=Path, help="manifest.json of dfb.masks, or CSV files of dfb.evaluate")
    made.add_argument("--metrics", nargs="+", choices=list(METRICS), default=["auroc"], help="a table each [auroc]")
    made.add_argument("--out", type=Path, metavar="FILE", help="write the Markdown there too")
    arguments = made.parse_args()
    out = arguments.out
    with commands.step_of(arguments, [out] if out else [], arguments.files) as step:
        text = report(arguments.files, arguments.metrics)  # takes no longer than to see what it is made of
        if step.is_done({"command": "dfb.ablation", "version": VERSION, "text": digest(text)}):
            return
        if out:
            write_atomically(out, lambda part: part.write_text(text + "\n"))
        step.say(text)
    if out:
        print(f"\n{out}", file=sys.stderr)


if __name__ == "__main__":
    command(main, alone=True)
