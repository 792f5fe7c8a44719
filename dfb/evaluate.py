"""Score a DFB checkpoint: each detector on the vanilla network, on the DFB network, and joined with the background score under every sign.

    python -m dfb.evaluate DFB/checkpoint.pt --vanilla RUN/checkpoint.pt --ood svhn textures --scorers msp odin-dfb energy vim

Rows of a detector X: "vanilla" is X on the stage-1 network; "DFB, S_h alone" is X on the first K logits of the DFB network, the column the paper
leaves out; "DFB +", "DFB -" and "DFB two-sided" join it with the background score (Eq. 7). "background alone" is S_b. No sign is chosen for you.
Beside the CSV, diagnostics.json holds what a table cannot show.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from common import checkpoint
from common.backbones.classifier import Classifier
from common.cli import flags
from common.cli.errors import UserError, command
from common.cli.files import write_atomically
from common.cli.recipes import add_arguments, from_arguments
from common.data.transforms import Transform, transform_from_facts
from common.metrics import auroc, summary
from common.results import tables
from common.results.rows import write_rows
from common.scorers.arrays import Features, Head
from common.scoring.sets import Scored, add_scoring_arguments, ood_names, row_facts, save_scores, set_facts
from dfb import diagnostics
from dfb.score import SIGNS, BackgroundOnly, JointScorer, background_score

JOINED = {"plus": "DFB +", "minus": "DFB -", "two_sided": "DFB two-sided"}
ALONE = "DFB, S_h alone"
RULES = {"own": None, "native": "squeeze", "via32": "via32"}  # protocol -> rule of common.data.transforms
GUARD_WARNING = 0.01  # share of ID images from which a clamped logarithm is no longer a detail

Functions = dict[tuple[str, str], Callable[[Features], np.ndarray]]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m dfb.evaluate", description=__doc__, formatter_class=flags.formatter)
    made.add_argument("checkpoint", type=Path, help="a finished checkpoint of dfb.finetune")
    made.add_argument(
        "--vanilla",
        type=Path,
        default=None,
        metavar="FILE",
        help="the stage-1 checkpoint, for the vanilla rows [left out]",
    )
    made.add_argument(
        "--protocol", choices=tuple(RULES), default="own",
        help="how every image reaches the network's size: as in training; native: straight from its own size (DFB); via32: through 32 x 32 [own]",
    )  # fmt: skip
    add_scoring_arguments(made)
    add_arguments(made, JointScorer, omit=("sign",))
    return made


def foreground_network(model: Classifier) -> Classifier:
    """The same body under the first K rows of the head: what foreground scores (and ODIN's gradient) see."""
    view = copy.copy(model)
    view._modules = dict(model._modules)  # the copy's own table of modules, the same modules in it
    view.head = nn.Linear(model.channels, model.classes - 1)
    view.head.weight, view.head.bias = (
        nn.Parameter(model.head.weight[:-1].detach()),
        nn.Parameter(model.head.bias[:-1].detach()),
    )
    return view


class DFBScored(Scored):
    """A (K+1)-class checkpoint. Features come from the K-class view in one pass; the background logit is one more row of the head on them."""

    def __init__(self, model: Classifier, facts: dict[str, Any], arguments: argparse.Namespace, transform: Transform):
        super().__init__(foreground_network(model), facts, arguments.scorers, arguments)
        self.whole, self.transform = model.to(self.device), transform
        template = from_arguments(arguments, JointScorer("msp"))
        self.joint = {
            (sign, name): replace(template, foreground=scorer, sign=sign)
            for name, scorer in self.scorers.items()
            for sign in SIGNS
        }

    def features(self, images: Any, needs: set[str]) -> Features:
        found, head = super().features(images, needs), Head.of(self.whole)
        background = found.penultimate @ head.weight[-1] + head.bias[-1]
        return replace(found, logits=np.concatenate([found.logits, background[:, None]], axis=1))

    def fit_all(self) -> tuple[Functions, dict[tuple[str, str], str]]:
        """Every row's score as a function, by (method, scorer), and the switches of each in words."""
        needs = {need for scorer in self.joint.values() for need in scorer.train_needs}
        train, head = (
            self.features(self.load(self.facts["id_set"], "train", self.facts["limit"]), needs),
            Head.of(self.whole),
        )
        functions: Functions = {}
        options = {}
        for name, scorer in self.scorers.items():
            functions[ALONE, name] = self.joint["plus", name].fit_foreground(train, head)
            options[ALONE, name] = repr(scorer)
        for (sign, name), scorer in self.joint.items():
            functions[JOINED[sign], name], options[JOINED[sign], name] = scorer.fit(train, head), repr(scorer)
            if scorer.resolved_branch == "softmax" and scorer.log_guard == "clamp" and sign != "two_sided":
                smooth, key = replace(scorer, log_guard="softplus"), (JOINED[sign] + " softplus", name)
                functions[key], options[key] = smooth.fit(train, head), repr(smooth)
        for sign in SIGNS:
            alone, key = BackgroundOnly(sign), ("background alone", JOINED[sign].removeprefix("DFB "))
            functions[key], options[key] = alone.fit(train, head), repr(alone)
        return functions, options


def protocol_transform(facts: dict[str, Any], protocol: str) -> Transform:
    """The checkpoint's own transform, or one that brings every image to the same size by the protocol's rule."""
    own = transform_from_facts(facts)
    return own if RULES[protocol] is None else Transform(own.size_px, RULES[protocol], None, own.interpolation)


def load_pair(arguments: argparse.Namespace) -> tuple[tuple[Classifier, dict], tuple[Classifier, dict] | None]:
    """The DFB network and the vanilla one. Raises UserError where one is not what it should be, or they do not belong together."""
    model, facts = checkpoint.load_finished(arguments.checkpoint)
    if facts.get("extra_classes") != 1:
        raise UserError(f"{arguments.checkpoint} has no background class; score it with python -m common.evaluate")
    if arguments.vanilla is None:
        return (model, facts), None
    vanilla, vanilla_facts = checkpoint.load_finished(arguments.vanilla)
    if vanilla.classes != model.classes - 1 or vanilla_facts["id_set"] != facts["id_set"]:
        raise UserError(
            f"{arguments.vanilla}: {vanilla.classes} classes of {vanilla_facts['id_set']}, expected {model.classes - 1} of {facts['id_set']}"
        )
    if checkpoint.weights_digest(vanilla) != facts["stage1_sha256"]:
        print(
            f"note: {arguments.vanilla} is not the network whose masks trained {arguments.checkpoint}", file=sys.stderr
        )
    return (model, facts), (vanilla, vanilla_facts)


def vanilla_rows(pair, names: list[str], transform: Transform, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    scored = Scored(*pair, arguments.scorers, arguments)
    scored.transform = transform
    functions = scored.fit()
    id_images = scored.load(pair[1]["id_set"], "test", arguments.limit)
    features = scored.features(id_images, scored.needs)
    base = row_facts(scored, id_images, float((features.logits.argmax(1) == features.labels).mean()), "vanilla")
    id_scores, rows = {name: function(features) for name, function in functions.items()}, []
    for set_name in names:
        images = scored.load(set_name, "test", arguments.limit)
        features = scored.features(images, scored.needs)
        for name, function in functions.items():
            rows.append(
                base
                | set_facts(set_name, images)
                | {"scorer": name, "options": repr(scored.scorers[name])}
                | summary(id_scores[name], function(features))
            )
    return rows


def dfb_rows(
    scored: DFBScored, names: list[str], arguments: argparse.Namespace
) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, np.ndarray]]:
    """Rows, diagnostics and raw scores of the DFB network."""
    id_set, needs = scored.facts["id_set"], scored.needs
    sets = {name: scored.load(name, "test", arguments.limit) for name in names}  # missing data is named before any pass
    id_images = scored.load(id_set, "test", arguments.limit)
    functions, options = scored.fit_all()
    id_features = scored.features(id_images, needs)
    found = diagnostics.accuracies(id_features)
    by_set = {id_set: diagnostics.of_set(id_features)}
    if by_set[id_set]["guard_fires"] <= GUARD_WARNING:
        functions = {key: function for key, function in functions.items() if not key[0].endswith("softplus")}
    id_scores = {key: function(id_features) for key, function in functions.items()}
    base = row_facts(scored, id_images, found["id_accuracy_first_k"], None) | {
        "checkpoint_sha256": checkpoint.weights_digest(scored.whole)
    }
    rows, raw = [], {f"{method}/{name}/id": values for (method, name), values in id_scores.items()}
    background = background_score(id_features)
    for set_name, images in sets.items():
        features = scored.features(images, needs)
        by_set[set_name] = diagnostics.of_set(features) | {"auroc_S_b": auroc(background, background_score(features))}
        for (method, name), function in functions.items():
            scores = raw[f"{method}/{name}/{set_name}"] = function(features)
            row = {"method": method, "scorer": name, "options": options[method, name]} | summary(
                id_scores[method, name], scores
            )
            rows.append(base | set_facts(set_name, images) | row)
    pixels = next(iter(id_images.batches(16))).to(scored.device)
    found |= {
        "sets": by_set, "conversion_gap": diagnostics.conversion_gap(scored.whole, pixels),
        "correlation_S_b_S_h": diagnostics.correlations({name: id_scores[ALONE, name] for name in scored.scorers}, background),
        "sharpness_auroc": diagnostics.sharpness_rival(id_images, sets),
        "background_logit_larger_on_background": diagnostics.background_on_background(scored.whole, id_images),
    }  # fmt: skip
    return rows, found, raw


def summary_text(found: dict[str, Any], id_set: str) -> str:
    """What a reader needs beside the table."""
    percent = lambda value: f"{100 * value:.2f}"  # noqa: E731
    body = [
        [
            name,
            percent(numbers["background_largest"]),
            percent(numbers["guard_fires"]),
            percent(numbers["auroc_S_b"]) if "auroc_S_b" in numbers else "-",
        ]
        for name, numbers in found["sets"].items()
    ]
    gap = found["conversion_gap"]
    parts = [
        "The background logit S_b of each set; percent\n\n"
        + tables.markdown(["set", "S_b is the largest logit", "S_b <= 1e-6 (log clamped)", "AUROC of S_b alone"], body),
        f"ID accuracy over the first K logits {percent(found['id_accuracy_first_k'])} %, over all K+1 {percent(found['id_accuracy_all'])} %\n"
        f"mean dense logits against the converted classifier: {gap['half_pixel']:.1e} half-pixel, {gap['align_corners']:.1e} align_corners",
    ]
    if found["sets"][id_set]["guard_fires"] > GUARD_WARNING:
        parts.append(
            "warning: the logarithm's guard fires on more than 1 % of ID images; read the softplus rows beside the clamped ones"
        )
    return "\n\n".join(parts)


def main() -> None:
    arguments = parser().parse_args()
    if arguments.batch_size < 1:
        raise UserError(f"batch-size must be >= 1, got {arguments.batch_size}")
    started = time.monotonic()
    (model, facts), vanilla = load_pair(arguments)
    names, transform = ood_names(arguments.ood, facts["id_set"]), protocol_transform(facts, arguments.protocol)
    scored = DFBScored(model, facts, arguments, transform)
    rows, found, raw = dfb_rows(scored, names, arguments)
    rows = (vanilla_rows(vanilla, names, transform, arguments) if vanilla else []) + rows
    suffix = "" if arguments.protocol == "own" else f" ({arguments.protocol})"
    seconds = round(time.monotonic() - started, 1)
    rows = [row | {"method": row["method"] + suffix, "seconds": seconds} for row in rows]
    out = arguments.out or arguments.checkpoint.with_name(
        f"results{suffix.strip(' ()') and '-' + suffix.strip(' ()')}.csv"
    )
    write_rows(out, rows)
    found = {"protocol": arguments.protocol, "checkpoint_sha256": checkpoint.weights_digest(model), **found}
    write_atomically(
        out.with_name(out.stem.replace("results", "diagnostics") + ".json"),
        lambda part: part.write_text(json.dumps(found, indent=1) + "\n"),
    )
    if arguments.save_scores:
        save_scores(arguments.save_scores, raw)
    print(tables.show(rows))
    print("\n" + summary_text(found, facts["id_set"]))
    print(f"\nRows with their provenance: {out}", file=sys.stderr)


if __name__ == "__main__":
    command(main)
