"""Checkpoints: one file, complete at every moment, safe to open, and read as it was written or not at all.

A checkpoint holds the network's name, its tensors, the objective's own, the recipe that made it, plain facts (FACTS: data digests, class
names, ...), while training is under way what a killed run needs to go on, and a digest of each of these parts, compared by whoever reads it.
It is written to a temporary file, flushed to disk and renamed, so that a half-written file never bears its name. Reading unpickles tensors and
plain values only; a pickle that would run code is refused.
"""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.backbones import build
from common.backbones.classifier import Classifier
from common.cli.errors import UserError
from common.cli.files import write_atomically
from common.cli.tensors import Damaged, is_whole, read_tensors

FORMAT = "ood-backgrounds checkpoint 2"
OLDER = "ood-backgrounds checkpoint 1"  # without digests: the zip's own checksums are compared instead
WHAT = "a whole, safe checkpoint"
REQUIRED = object()
PARTS: dict[str, type | tuple[type, ...]] = {
    "format": str, "backbone": str, "classes": int, "output_stride": (int, type(None)), "weights": dict, "objective": dict, "recipe": dict,
    "facts": dict, "training": (dict, type(None)), "sha256": dict,
}  # fmt: skip
LATER = ("output_stride", "objective", "sha256")  # parts that older files may lack
DIGESTS = ("said", "objective", "training")  # beside "weights", whose digest other files name too
SAID = ("format", "backbone", "classes", "output_stride", "recipe", "facts")  # all that is no tensor


@dataclass(frozen=True)
class Fact:
    """A fact that readers of checkpoints rely on. `default`: for checkpoints written before it was; REQUIRED where all have it."""

    kind: type | tuple[type, ...]
    meaning: str
    default: Any = REQUIRED


FACTS = {
    "method": Fact(str, "what a row of results calls it"),
    "id_set": Fact(str, "the in-distribution set, by name"),
    "classes": Fact(list, "names of its K classes, in the order of the labels"),
    "transform": Fact(dict, "how every image that is scored reaches the network's size (data.transforms.Transform)"),
    "seed": Fact(int, "of the run"),
    "train_data_sha256": Fact(str, "digest of the images it was trained on"),
    "train_data": Fact(str, "name of the images it was trained on", ""),
    "limit": Fact((int, type(None)), "how many of the training images, None = all", None),
    "data_facts": Fact(dict, "provenance of the training images", {}),
    "extra_classes": Fact(int, "outputs beyond the K classes, 1 for a background class", 0),
    "preset": Fact(str, "where the recipe's values came from", ""),
    "start": Fact(str, "'from scratch', a file of weights, or the digest of the network it went on from", ""),
    "stage1_sha256": Fact(str, "digest of the network whose masks it was trained on (DFB)", ""),
    "threads": Fact(
        list, "PyTorch's threads while it was trained; more than one number where it went on with another", []
    ),
    "run_identity": Fact(str, "digest of recipe, seed, data and start: the same run has the same", ""),
}


def check_facts(facts: dict[str, Any], path: Path | str) -> dict[str, Any]:
    """The facts with the defaults of those that are not there. Raises UserError that names the file and the fact."""
    for name, fact in FACTS.items():
        if name not in facts and fact.default is REQUIRED:
            raise UserError(f"{path} lacks the fact {name} ({fact.meaning})")
        if name in facts and not isinstance(facts[name], fact.kind):
            kinds = fact.kind if isinstance(fact.kind, tuple) else (fact.kind,)
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise UserError(f"{path}: the fact {name} must be {expected} ({fact.meaning}), got {facts[name]!r}")
    return {name: fact.default for name, fact in FACTS.items() if fact.default is not REQUIRED} | facts


def upstream(facts: dict[str, Any]) -> dict[str, Any]:
    """Recipes of what a network was made of, by what it was (its start, its masks), those of the start's own within; {} for one from scratch."""
    recipe = facts.get("start_recipe") or facts.get("stage1_recipe")
    weights = facts.get("start", "from scratch")
    found = {} if weights == "from scratch" or len(weights) == 64 else {"weights": Path(weights).name}
    if recipe:
        found["start"] = recipe | facts.get("start_upstream", {})
    return found | ({"masks": facts["mask_recipe"]} if facts.get("mask_recipe") else {})


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of all tensors: the same weights give the same digest, whatever the file.

    An output stride that is not the network's own counts too: the same weights then compute something else.
    """
    return _weights_digest(model.state_dict(), getattr(model, "output_stride", None))


def _weights_digest(weights: dict[str, Tensor], stride: int | None) -> str:
    sha = hashlib.sha256(b"" if stride is None else f"output_stride {stride}".encode())
    for name, tensor in sorted(weights.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(_bytes(tensor))
    return sha.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def save(
    path: Path | str, model: Classifier, *, recipe: dict[str, Any], training: dict[str, Any] | None = None,
    objective: dict[str, Tensor] | None = None, **facts: Any,
) -> None:  # fmt: skip
    """Write a checkpoint atomically. `recipe` and `facts` are plain values; `training` is None once training is finished; `objective` is
    the state of the objective's own parameters and buffers. Raises TypeError for a value that is neither plain nor a tensor."""
    content = {
        "format": FORMAT,
        "backbone": model.name,
        "classes": model.classes,
        "output_stride": model.output_stride,
        "weights": _cpu(model.state_dict()),
        "objective": _cpu(dict(objective or {})),
        "recipe": recipe,
        "facts": facts,
        "training": None if training is None else _cpu(training),
    }
    content["sha256"] = {part: _digest(content, part) for part in ("weights", *DIGESTS)}
    write_atomically(Path(path), lambda part: torch.save(content, part))


def _digest(content: dict[str, Any], part: str) -> str:
    if part == "weights":
        return _weights_digest(content["weights"], content["output_stride"])
    sha = hashlib.sha256()
    _feed(sha, {name: content[name] for name in SAID} if part == "said" else content[part])
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    """Types, lengths and contents of nested plain values and tensors, in their order."""
    if isinstance(value, Tensor):
        sha.update(f"{value.dtype} {tuple(value.shape)}:".encode())
        sha.update(_bytes(value))
    elif isinstance(value, dict):
        sha.update(f"dict {len(value)}:".encode())
        for key, item in value.items():
            _feed(sha, key), _feed(sha, item)
    elif isinstance(value, (list, tuple)):
        sha.update(f"{'list' if isinstance(value, list) else 'tuple'} {len(value)}:".encode())
        for item in value:
            _feed(sha, item)
    elif value is None or isinstance(value, (bool, int, float, str)):
        text = f"{value!r}".encode()
        sha.update(f"{type(value).__name__} {len(text)}:".encode() + text)
    else:
        raise TypeError(f"a checkpoint holds tensors and plain values, got {type(value).__name__}")


def _cpu(value: Any) -> Any:
    """Tensors copied to the CPU in plain memory order, so that a file does not depend on where or how training ran."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {key: _cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cpu(item) for item in value)
    return value


def _read(path: Path | str, parts: tuple[str, ...], mmap: bool = False) -> dict[str, Any]:
    """All of a checkpoint, its form checked, and what it says and `parts` compared with their digests."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"no checkpoint at {path}")
    if (path / "checkpoint.pt").is_file():
        raise UserError(f"{path} is the folder of a run; expected its checkpoint, {path / 'checkpoint.pt'}")
    content = read_tensors(path, WHAT, mmap=mmap)
    if not isinstance(content, dict) or content.get("format") not in (FORMAT, OLDER):
        found = f", got {content['format']!r}" if isinstance(content, dict) and "format" in content else ""
        raise Damaged(f"{path} is not a checkpoint of this suite (expected format {FORMAT!r}{found})")
    _check_form(content, path)
    if content["format"] == OLDER:
        return _older(content, path, compare=not mmap)
    finished = ("training",) if content["training"] is None else ()
    for part in ("said", *finished, *parts):
        if content["sha256"].get(part) != _digest(content, part):
            what = "what it says" if part == "said" else f"its part {part!r}"
            raise Damaged(f"{path} is damaged: {what} is not what was saved (the SHA-256 differs)")
    return content


def _check_form(content: dict[str, Any], path: Path) -> None:
    """Raise Damaged unless every part is there, of its kind, and nothing else."""
    for name, kind in PARTS.items():
        if name not in content and not (content["format"] == OLDER and name in LATER):
            raise Damaged(f"{path} is not a whole checkpoint: its part {name!r} is missing")
        if name in content and not isinstance(content[name], kind):
            expected = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise Damaged(f"{path}: its part {name!r} must be {expected}, got {type(content[name]).__name__}")
    if other := [str(name) for name in content if name not in PARTS]:
        raise Damaged(f"{path} holds parts that no checkpoint has: {', '.join(other)}")
    for part in ("weights", "objective"):
        for name, tensor in content.get(part, {}).items():
            if not isinstance(name, str) or not isinstance(tensor, Tensor):
                raise Damaged(f"{path}: {part} must be tensors by name, got {type(tensor).__name__} under {name!r}")


def _older(content: dict[str, Any], path: Path, compare: bool) -> dict[str, Any]:
    """A checkpoint from before there were digests, read with a word on stderr: training it took hours, and its zip has checksums."""
    if compare:
        if not is_whole(path):
            raise Damaged(f"{path} is damaged: the checksums of the archive do not hold")
        print(
            f"{path} is older than the digests of weights: only the archive's own checksums vouch for it",
            file=sys.stderr,
        )
    return {"output_stride": None, "objective": (content["training"] or {}).get("objective", {})} | content


def read_facts(path: Path | str) -> dict[str, Any]:
    """What is said of a network, with "backbone", "recipe", "finished" and "weights_sha256" ("" in older files); its tensors are not read.
    Raises UserError as `load`."""
    content = _read(path, (), mmap=True)
    found = {"backbone": content["backbone"], "recipe": content["recipe"], "finished": content["training"] is None}
    return content["facts"] | found | {"weights_sha256": content.get("sha256", {}).get("weights", "")}


def load(path: Path | str) -> tuple[Classifier, dict[str, Any]]:
    """The network in eval mode on the CPU, and its facts: those given to `save`, with "recipe" and "finished".

    Raises UserError where nothing is there or it cannot be read, and Damaged, which is one too, for a file that is cut short, changed, unsafe
    or foreign, or whose tensors do not fit the network it names.
    """
    content = _read(path, ("weights",))
    try:
        model = build(content["backbone"], content["classes"], output_stride=content["output_stride"])
    except UserError as error:
        raise UserError(f"{path} cannot be made a network: {error}") from error
    _check_tensors(content["weights"], model, path)
    model.load_state_dict(content["weights"])
    facts = {**content["facts"], "recipe": content["recipe"], "finished": content["training"] is None}
    return model.eval(), facts


def _check_tensors(weights: dict[str, Tensor], model: Classifier, path: Path | str) -> None:
    """Raise Damaged unless names, shapes and types are the network's."""
    fits, said = model.state_dict(), f"{path} does not fit {model.name} with {model.classes} classes: "
    missing, other = [n for n in fits if n not in weights], [n for n in weights if n not in fits]
    if missing or other:
        lacks = f"{len(missing)} tensors are missing, the first is {missing[0]}; " if missing else ""
        raise Damaged(
            said + (lacks + (f"{len(other)} have no place, the first is {other[0]}" if other else "")).rstrip("; ")
        )
    for name, tensor in weights.items():
        ours = fits[name]
        if tensor.shape != ours.shape or tensor.dtype != ours.dtype:
            raise Damaged(
                f"{said}{name} is {tensor.dtype} {tuple(tensor.shape)}, expected {ours.dtype} {tuple(ours.shape)}"
            )


def load_finished(path: Path | str) -> tuple[Classifier, dict[str, Any]]:
    """As `load`, with every fact of FACTS. Raises UserError for a run whose training is still under way, and for a fact that is missing."""
    model, facts = load(path)
    if not facts["finished"]:
        raise UserError(f"{path} is an unfinished run; finish it with the command that began it")
    facts = check_facts(facts, path)
    if model.classes != len(facts["classes"]) + facts["extra_classes"]:
        said = f"{len(facts['classes'])} classes" + f" and {facts['extra_classes']} more" * bool(facts["extra_classes"])
        raise UserError(f"{path} has {model.classes} outputs, its facts name {said}")
    return model, facts


def load_training(path: Path | str) -> dict[str, Any]:
    """What a killed run needs to go on. Raises UserError where the run is finished (there is nothing to go on with)."""
    content = _read(path, ("training",))
    if content["training"] is None:
        raise UserError(f"{path} is a finished run; there is no training to go on with")
    return content["training"]


def load_objective_state(path: Path | str) -> dict[str, Tensor]:
    """What the objective owns (projection heads, prototypes, queues), finished or not: for its `load_state_dict`. Empty where it owns nothing."""
    return _read(path, ("objective",))["objective"]
