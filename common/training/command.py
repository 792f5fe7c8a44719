"""The training command: what common.pretrain, lbf.finetune and dfb.finetune are. Each hands it a Method."""

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from common import checkpoint
from common.backbones import BACKBONES
from common.backbones.classifier import Classifier
from common.cli import flags
from common.cli.commands import prog
from common.cli.device import resolve_precision
from common.cli.errors import UserError
from common.cli.flags import RunOptions
from common.cli.recipes import add_arguments, digest, given, pick, ranged
from common.cli.steps import Step, making
from common.data.specs import canonical
from common.data.transforms import default_transform, transform_from_facts
from common.training import custom
from common.training.distributed import device_of, is_main, of_main
from common.training.engine import fit, run_words
from common.training.method import Given, Method, Preset, Training
from common.training.recipe import BaselineRecipe, TrainRecipe

VERSION = 1


def main(made: argparse.ArgumentParser, methods: tuple[Method, ...]) -> None:
    """Read the command line with `parser` of these methods, and train: of several, the one that has the preset."""
    arguments = made.parse_args()
    method = next((method for method in methods if arguments.preset in method.presets), methods[0])
    if len(methods) > 1:
        pick({name: method for method in methods for name in method.presets}, arguments.preset)
        refuse_flags_of_others(arguments.preset, method, {m: given(arguments, m.objective.Recipe) for m in methods})
    run, changes = flags.run_options(arguments), given(arguments, method.objective.Recipe)
    train(arguments.command, method, arguments.preset, changes, run, vars(arguments))


def refuse_flags_of_others(preset: str, method: Method, changes: dict[Method, dict[str, Any]]) -> None:
    for other, names in changes.items():
        for name in names:
            if name not in changes[method]:
                flag, theirs = name.replace("_", "-"), " and ".join(other.presets)
                raise UserError(f"--{flag} belongs to the presets {theirs}, not to {preset}")


def train(
    name: str, method: Method, preset: str | None, changes: dict[str, Any], run: RunOptions, own: dict[str, Any]
) -> None:
    """A run of `method` by the command `name`: a preset's recipe with `changes`, in the folder `run.out`, moved aside where it holds another run.

    `own`: all values that flags have, by name.
    """
    device, path = device_of(run), run.out / "checkpoint.pt"
    inputs = [path for path in (own.get("checkpoint"), own.get("start")) if path]
    inputs += [own["masks"] / "manifest.json"] if own.get("masks") else []
    with making([path], inputs, expect=run.expect, wait_s=run.wait, run=run.out, together=of_main) as step:
        asked = look_up(method, preset, changes, run, own, device)
        made = method.begin(asked)
        made = custom.settled(asked, made) if asked.preset == custom.CUSTOM else made
        recipe, identity = settle(name, made, run.seed, device, step)
        if not step.is_done(identity):
            facts = {
                "method": method.title or method.name, "preset": asked.preset, "id_set": asked.id_set, "classes": list(made.images.classes),
                "transform": asked.transform.facts(), "limit": asked.run.limit, "start": own.get("weights") or "from scratch",
            } | asked.of_start() | ({"score": asked.score} if asked.score else {})  # fmt: skip
            measured, said = made.measure() if made.measure else ({}, "")
            if said:
                step.say(said)
            fit(
                made.model, made.objective, made.images, recipe, run=run.out, seed=run.seed, device=device,
                facts=facts | made.facts | measured, save_every_s=run.save_every, progress=not run.quiet,
            )  # fmt: skip
    print(path)


def settle(
    name: str, made: Training, seed: int, device: torch.device, step: Step
) -> tuple[TrainRecipe, dict[str, Any]]:
    """The recipe with precision "auto" settled, and the run's identity. The same run, begun on another device, keeps the precision it has there;
    one that is known by its checkpoint's facts alone, for it was made before runs had stamps, is adopted."""
    recipe = replace(made.recipe, precision=resolve_precision(made.recipe.precision, device))
    command = {"command": name, "version": VERSION}
    words = run_words(made.model, made.objective, made.images, recipe, seed)
    stamped = step.before()
    there = stamped or of_main(facts_there(step.outputs[0]) if is_main() else None)

    def is_there(words: dict[str, Any]) -> bool:
        return stamped == command | words or there.get("run_identity") == digest(*words.values())

    kept = there.get("recipe", {}).get("precision")
    other = words | {"recipe": words["recipe"] | {"precision": kept}}
    if made.recipe.precision == "auto" and is_there(other):
        recipe, words = replace(recipe, precision=kept), other
    if not stamped and is_there(words):
        step.adopt(command | words)
    made.objective.recipe = recipe
    return recipe, command | words


def facts_there(path: Path) -> dict[str, Any]:
    """Facts of a checkpoint; {} where there is none, or a damaged or foreign one. Raises UserError where it cannot be read just now."""
    try:
        return checkpoint.read_facts(path)
    except UserError as error:
        if isinstance(error.__cause__, (OSError, MemoryError)):
            raise
        return {}


def look_up(
    method: Method,
    name: str | None,
    changes: dict[str, Any],
    run: RunOptions,
    own: dict[str, Any],
    device: torch.device,
) -> Given:
    """What a run begins with, its precision not settled yet. Raises UserError for a preset, a set, a checkpoint or a value of the recipe that cannot be."""
    if method.from_checkpoint:
        network, facts = checkpoint.load_finished(own["checkpoint"])
        id_set, transform = facts["id_set"], transform_from_facts(facts)
        known, derived = ", ".join(method.presets), id_set.split(":")[0]
        if name is None and derived not in method.presets:
            raise UserError(
                f"{own['checkpoint']} is of {id_set}, which has no preset of its own; give --preset: {known}"
            )
        name = name or derived
        recipe = pick(method.presets, name)
        run = replace(run, limit=run.limit or facts["limit"])  # the same images, unless told otherwise
    else:
        preset, (network, facts) = pick(method.presets, name), start_of(own)
        if name == custom.CUSTOM:
            preset = custom.fitted(preset, own, run.data, network and network.name)
        id_set, recipe = canonical(own["id"] or preset.id_set), preset.recipe
        transform = preset.transform or default_transform(id_set, own["image_size"])
        if preset.transform and own["image_size"]:
            transform = replace(transform, size_px=own["image_size"], resize_px=None)
        if facts and facts["id_set"] == id_set and not own["image_size"]:
            transform = transform_from_facts(facts)
        own = own | {"backbone": network.name if network else own["backbone"] or preset.backbone}
        if isinstance(recipe, BaselineRecipe) and any(
            getattr(recipe, field) != value for field, value in changes.items()
        ):
            changes = changes | {"origin": f"{recipe.origin}, changed"}
    recipe = replace(recipe, **changes)
    return Given(method, recipe, name, id_set, transform, run, device, own, network, facts, changes)


def start_of(own: dict[str, Any]) -> tuple[Classifier | None, dict[str, Any]]:
    """The network of --start, and its facts. Raises UserError where another flag says what the network is, too."""
    if own["start"] is None:
        return None, {}
    if other := [flag for flag in ("backbone", "weights") if own[flag]]:
        raise UserError(f"--start {own['start']} brings its network with it; leave out --{other[0]}")
    return checkpoint.load_finished(own["start"])


# --- flags -------------------------------------------------------------------------------------------------------------------------------


def parser(methods: tuple[Method, ...], command: str, about: str) -> argparse.ArgumentParser:
    """Flags of these methods, which start alike. `command` and `about` are for --help."""
    said = "\n".join([about, *map(presets_text, methods)])
    made = argparse.ArgumentParser(prog=prog(command), description=said, formatter_class=flags.formatter)
    made.set_defaults(command=command)
    if methods[0].from_checkpoint:
        made.add_argument("checkpoint", type=Path, help="a finished checkpoint of common.pretrain")
        made.add_argument("--preset", default=None, help="a name from the list above [the checkpoint's data set]")
    else:
        add_start_arguments(made)
    flags.add_run_arguments(made)
    known: tuple[str, ...] = ()
    for method in methods:
        method.add_arguments(made)
        add_arguments(made, method.objective.Recipe, omit=known)
        known += tuple(field.name for field in fields(method.objective.Recipe))
    return made


def add_start_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of a run that starts with a new network."""
    parser.add_argument("preset", help="a name from the list above")
    sets = "train on this set instead of the preset's (see python -m common.data list)"
    parser.add_argument("--id", metavar="SET", default=None, help=sets)
    parser.add_argument("--backbone", default=None, help=f"{', '.join(BACKBONES)} or timm:NAME [the preset's]")
    weights = 'start weights of the body: a file, or "hub" to fetch them [none: from scratch]'
    parser.add_argument("--weights", default=None, metavar="FILE", help=weights)
    begun = "go on from the network of this finished checkpoint [from scratch]"
    parser.add_argument("--start", type=Path, default=None, metavar="CHECKPOINT", help=begun)
    size = "side of the images, in pixels [the set's: 32, 48 or 224]"
    parser.add_argument("--image-size", type=ranged(int, low=8), default=None, metavar="PX", help=size)


def presets_text(method: Method) -> str:
    """A line a preset: length, rate, batch, and the method's own values where its presets differ."""
    recipes = {name: getattr(preset, "recipe", preset) for name, preset in method.presets.items()}
    common = {field.name for field in fields(TrainRecipe)}
    own = [field.name for field in fields(method.objective.Recipe) if field.metadata and field.name not in common]
    own = [name for name in own if len({getattr(recipe, name) for recipe in recipes.values()}) > 1]
    lines = [f"presets of {method.name}{' (any backbone)' if method.from_checkpoint else ''}:"]
    for name, recipe in recipes.items():
        if name == custom.CUSTOM:
            lines.append(
                f"  {name:18} any set: batch, length, rate and what else is not given follow from images and network"
            )
            continue
        preset = method.presets[name]
        where = f"{preset.id_set}, {preset.backbone}: " if isinstance(preset, Preset) else ""
        length = f"{recipe.steps} steps" if recipe.steps else f"{recipe.epochs} epochs"
        values = [length, f"lr {recipe.lr:g}", f"batch {recipe.batch_size}"]
        values += [f"{f} {getattr(recipe, f) or 'none'}" for f in own]
        source = f". {preset.source}" if isinstance(preset, Preset) else ""
        lines.append(f"  {name:18} {where}{', '.join(values)}{source}")
    return "\n".join(lines)
