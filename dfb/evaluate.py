"""Score a DFB checkpoint: each detector on the vanilla network, on the DFB network, and joined with the background score under every sign.

    python -m dfb.evaluate DFB/checkpoint.pt --vanilla RUN/checkpoint.pt --ood svhn textures --scorers msp odin-dfb energy vim

Rows of a detector X: "vanilla" is X on the stage-1 network; "DFB, S_h alone" is X on the first K logits of the DFB network, the column the paper
leaves out; "DFB +", "DFB -" and "DFB two-sided" join it with the background score (Eq. 7). "background alone" is S_b. No sign is chosen for you.
Rows join those that the CSV has of the same weights. Beside it, diagnostics.json holds what a table cannot show.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from common import checkpoint
from common.backbones.classifier import Classifier
from common.cli import commands, flags
from common.cli.device import pick_device
from common.cli.errors import UserError, command
from common.cli.files import read_json, write_json
from common.cli.recipes import add_arguments, from_arguments
from common.data.transforms import Transform, transform_from_facts
from common.metrics import check_repeats
from common.results import tables
from common.results.columns import OWN, formula, text
from common.results.rows import merge_rows
from common.scorers import Scorer, canonical
from common.scorers.arrays import Features, Head
from common.scoring import sets
from common.scoring.network import Inference, Network
from common.scoring.sets import Line, Scored, Scores
from common.training import distributed
from dfb import diagnostics
from dfb.score import SIGNS, BackgroundOnly, JointScorer

VERSION = 1  # raised when the same networks give other rows
JOINED = {"plus": "DFB +", "minus": "DFB -", "two_sided": "DFB two-sided"}
ALONE = "DFB, S_h alone"
BACKGROUND = "background alone"
RULES = {OWN: None, "native": "squeeze", "via32": "via32"}  # protocol -> rule of common.data.transforms


def parser() -> argparse.ArgumentParser:
    made = commands.parser("dfb.evaluate", __doc__)
    add_pair_arguments(made, "the stage-1 checkpoint, for the vanilla rows [left out]")
    said = "how every image reaches the network's size: as in training; native: straight from its own (DFB); via32: through 32 x 32"
    made.add_argument("--protocol", choices=tuple(RULES), default=OWN, help=f"{said} [own]")
    made.add_argument("--method", default="DFB", metavar="NAME", help="what rows call the method: a control, say [DFB]")
    flags.add_scoring_arguments(made)
    flags.add_results_arguments(made)
    add_arguments(made, JointScorer, omit=("sign",))
    return made


def add_pair_arguments(made: argparse.ArgumentParser, vanilla: str, *, required: bool = False) -> None:
    made.add_argument("checkpoint", type=Path, help="a finished checkpoint of dfb.finetune")
    made.add_argument("--vanilla", type=Path, metavar="FILE", required=required, help=vanilla)


def foreground_network(model: Classifier) -> Classifier:
    """The same body under the first K rows of the head: what foreground scores (and ODIN's gradient) see."""
    view = copy.copy(model)
    view._modules = dict(model._modules)  # the copy's own table of modules, the same modules in it
    view.head = nn.Linear(model.channels, model.classes - 1)
    weight, bias = (nn.Parameter(rows[:-1].detach()) for rows in (model.head.weight, model.head.bias))
    view.head.weight, view.head.bias = weight, bias
    return view


class DFBNetwork(Network):
    """A (K+1)-class checkpoint. Features come from the K-class view in one pass; the background logit is one more row of the head on them."""

    def __init__(self, model: Classifier, facts: dict[str, Any], how: Inference, transform: Transform | None = None):
        super().__init__(foreground_network(model), facts, how, transform)
        self.saved = model.to(self.device).eval()

    def features(self, images: Any, needs: Iterable[str] = ()) -> Features:
        found, head = super().features(images, needs), Head.of(self.saved)
        background = found.penultimate @ head.weight[-1] + head.bias[-1]
        return replace(found, logits=np.concatenate([found.logits, background[:, None]], axis=1))


def open_pair(
    path: Path, vanilla_path: Path | None, how: Inference, protocol: str = OWN
) -> tuple[DFBNetwork, Network | None]:
    """The DFB network and the vanilla one, each with the size and transform it was trained at. Raises UserError where one is not what it should
    be, or they do not belong together."""
    model, facts = checkpoint.load_finished(path)
    if facts.get("extra_classes") != 1:
        raise UserError(f"{path} has no background class; score it with python -m common.evaluate")
    network = DFBNetwork(model, facts, how, protocol_transform(facts, protocol))
    if vanilla_path is None:
        return network, None
    vanilla, of = checkpoint.load_finished(vanilla_path)
    if (vanilla.classes, of["id_set"]) != (network.model.classes, network.id_set):
        expected = f"expected {network.model.classes} of {network.id_set}"
        raise UserError(f"{vanilla_path}: {vanilla.classes} classes of {of['id_set']}, {expected}")
    if checkpoint.weights_digest(vanilla) != facts["stage1_sha256"] and distributed.is_main():
        print(f"note: {vanilla_path} is not the network whose masks trained {path}", file=sys.stderr)
    beside = Network(vanilla, of, how, protocol_transform(of, protocol))
    if (beside.transform, of["classes"]) == (network.transform, facts["classes"]):
        beside.share_images(network)
    return network, beside


def protocol_transform(facts: dict[str, Any], protocol: str) -> Transform:
    """The checkpoint's own transform, or one that brings every image to the same size by the protocol's rule."""
    own = transform_from_facts(facts)
    return own if RULES[protocol] is None else Transform(own.size_px, RULES[protocol], None, own.interpolation)


def joint_lines(
    names: Iterable[str], id_set: str, template: JointScorer, refused: dict[Line, str] | None = None
) -> dict[Line, JointScorer]:
    """Each detector joined with the background score under every sign, the template's other switches kept. `refused`: as in `Scored.fit`."""
    asked = {Line(JOINED[sign], name, ""): (name, sign) for name in names for sign in SIGNS}
    make = lambda of: replace(template, foreground=canonical(of[0], id_set), sign=of[1])  # noqa: E731
    return {line._replace(options=repr(scorer)): scorer for line, scorer in sets.kept(asked, make, refused)}


def dfb_lines(joint: dict[Line, JointScorer], softplus: bool = False) -> dict[Line, Scorer]:
    """Every line of the DFB network's table: S_h alone, joined, and S_b alone. `softplus`: beside each clamped logarithm a smooth one."""
    found: dict[Line, Scorer] = {Line(ALONE, of.scorer, repr(s.foreground)): s.alone for of, s in joint.items()}
    for line, scorer in joint.items():
        found[line] = scorer
        clamped = scorer.resolved_branch == "softmax" and scorer.log_guard == "clamp" and scorer.sign != "two_sided"
        if softplus and clamped:
            smooth = replace(scorer, log_guard="softplus")
            found[Line(f"{line.method} softplus", line.scorer, repr(smooth))] = smooth
    for sign, method in JOINED.items():
        alone = BackgroundOnly(sign)
        found[Line(BACKGROUND, method.removeprefix("DFB "), repr(alone))] = alone
    return found


@dataclass(frozen=True)
class Pair:
    """What is scored: the DFB network under each joint score, the vanilla one under each detector. `refused`: as in `Scored.fit`."""

    network: DFBNetwork
    vanilla: Network | None
    ood: list[str]
    joint: dict[Line, JointScorer]
    plain: dict[Line, Scorer]
    refused: dict[Line, str] | None = None

    def identity(self, repeats: int = 0) -> dict[str, Any]:
        """What decides the scores of both, as plain values (common.cli.steps)."""
        beside = self.vanilla and self.vanilla.identity(self.ood, self.plain, repeats)
        return self.network.identity(self.ood, self.joint, repeats) | {"vanilla": beside}

    def scored(self) -> tuple[Scored, Scored | None] | None:
        """Features of both. Over several processes all pass their share, and rank 0 alone scores; the others get None."""
        scored = self.network.scored(self.ood, dfb_lines(self.joint).values())
        beside = self.vanilla and self.vanilla.scored(self.ood, self.plain.values())
        return None if scored is None else (scored, beside)


def ask(
    networks: tuple[DFBNetwork, Network | None], ood: list[str] | None, scorers: list[str], template: JointScorer
) -> Pair:
    """Two networks, and what flags ask of them. Raises UserError for sets and scores that cannot be."""
    id_set, names, refused = networks[0].id_set, sets.scorer_names(scorers), sets.may_lack(scorers)
    plain = sets.scorer_lines(names, id_set, "vanilla") if networks[1] else {}
    return Pair(*networks, sets.ood_names(ood, id_set), joint_lines(names, id_set, template, refused), plain, refused)


def score_pair(pair: Pair, protocol: str = OWN, repeats: int = 0) -> tuple[Scores, dict[str, Any]] | None:
    """Rows with raw scores of both networks, and diagnostics; None where `Pair.scored` is."""
    if (both := pair.scored()) is None:
        return None
    (scored, beside), network, refused = both, pair.network, pair.refused
    softplus = diagnostics.of_set(scored.id)["guard_fires"] > diagnostics.GUARD_WARNING
    functions = scored.fit(dfb_lines(pair.joint, softplus), refused)
    scores = sets.score_sets(network.with_provenance(scored, protocol), functions, repeats, refused)
    foreground = {name: raw for (method, name, of), raw in scores.raw.items() if (method, of) == (ALONE, "id")}
    found = diagnostics.of_network(network.saved, scored, network.id_set, foreground)
    found = {"protocol": protocol, "checkpoint_sha256": checkpoint.weights_digest(network.saved), **found}
    if beside:
        of_vanilla = pair.vanilla.with_provenance(beside, protocol)
        scores = sets.score_sets(of_vanilla, of_vanilla.fit(pair.plain, refused), repeats, refused) + scores
    return scores, found


def named(scores: Scores, method: str) -> Scores:
    """The same scores of a method that is not called "DFB"; the vanilla network's rows keep their name."""

    names = {name: method + name.removeprefix("DFB") for name in (ALONE, *JOINED.values())}
    names |= {f"{name} softplus": f"{other} softplus" for name, other in names.items()}
    names[BACKGROUND] = f"{method}, {BACKGROUND}"
    of = lambda name: names.get(name, name)  # noqa: E731

    rows = [row | {"method": of(row["method"])} for row in scores.rows]
    return Scores(rows, {(of(name), *rest): found for (name, *rest), found in scores.raw.items()})


def merge_diagnostics(path: Path, found: dict[str, Any]) -> bool:
    """Add to a file what was found of further sets and scores. Gives whether what stood there is gone: it was of another network or other images."""

    def over(below: Any, above: Any) -> Any:
        if not (isinstance(below, dict) and isinstance(above, dict)):
            return above
        return below | {key: over(below[key], above[key]) if key in below else above[key] for key in above}

    text = lambda content: json.dumps(content, sort_keys=True)  # noqa: E731 - as text, for NaN is not equal to NaN
    before = read_json(path)
    both = over(before, found)
    contradicts = text(over(both, before)) != text(both)
    write_json(path, found if contradicts else both)
    return contradicts


def output_paths(checkpoint_path: Path, out: Path | None, protocol: str) -> tuple[Path, Path]:
    """The CSV of rows and the diagnostics beside it."""
    rows = out or checkpoint_path.with_name("results.csv" if protocol == OWN else f"results-{protocol}.csv")
    return rows, rows.with_name(rows.stem.replace("results", "diagnostics") + ".json")


def main() -> None:
    arguments = parser().parse_args()
    how, template = from_arguments(arguments, Inference()), from_arguments(arguments, JointScorer("msp"))
    check_repeats(arguments.bootstrap)
    if wants := text(arguments.method) or formula(arguments.method):
        raise UserError(f"--method must be {wants}, got {arguments.method!r}")
    # The group first: its ranks agree on what is done.
    how = replace(how, device=str(distributed.start(pick_device(how.device))))
    path, protocol, repeats, method = arguments.checkpoint, arguments.protocol, arguments.bootstrap, arguments.method
    out, beside = output_paths(path, arguments.out, protocol)
    raw = arguments.save_scores or out.with_suffix(".npz")
    outputs, inputs = [out, beside, raw], [path, arguments.vanilla]
    with commands.step_of(arguments, outputs, inputs, shared=True, together=distributed.of_main) as step:
        started = time.monotonic()
        pair = ask(open_pair(path, arguments.vanilla, how, protocol), arguments.ood, arguments.scorers, template)
        made_of = {"command": "dfb.evaluate", "version": VERSION, "protocol": protocol}
        made_of |= {} if method == "DFB" else {"method": method}
        if step.is_done(made_of | pair.identity(repeats)) or (done := score_pair(pair, protocol, repeats)) is None:
            return
        (scores, found), network = done, pair.network
        scores = scores if method == "DFB" else named(scores, method)
        seconds = round(time.monotonic() - started, 1)
        # Of another vanilla network than the one that DFB started from, rows stay as long as it is given.
        current = {row["checkpoint_sha256"] for row in scores.rows} | {network.facts["stage1_sha256"]}
        lost = merge_rows(out, [row | {"seconds": seconds} for row in scores.rows], None if arguments.out else current)
        if merge_diagnostics(beside, found) or lost:
            step.forget_others()
        sets.save_scores(
            raw, {"/".join(key): values for key, values in scores.raw.items()}, keep=step.stands and not lost
        )
        step.say(tables.show(scores.rows))
        step.say("\n" + diagnostics.in_words(found, network.id_set) + sets.left_out(pair.refused))
    print(f"\nRows with their provenance: {out}", file=sys.stderr)


if __name__ == "__main__":
    command(main)
