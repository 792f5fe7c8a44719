"""Checkpoints: one file, complete at every moment, safe to open.

A checkpoint holds the network's name, its tensors, the objective's own, the recipe that made it, plain facts (FACTS: data digests, class
names, ...) and, while training is under way, what a killed run needs to go on. It is written to a temporary file, flushed to disk and renamed, so that
a half-written file never bears its name. Reading unpickles tensors and plain values only; a pickle that would run code is refused.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.backbones import build
from common.backbones.classifier import Classifier
from common.cli.errors import UserError
from common.cli.files import write_atomically

FORMAT = "ood-backgrounds checkpoint 1"
REQUIRED = object()


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


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of all tensors: the same weights give the same digest, whatever the file.

    An output stride that is not the network's own counts too: the same weights then compute something else.
    """
    stride = getattr(model, "output_stride", None)
    sha = hashlib.sha256(b"" if stride is None else f"output_stride {stride}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def save(
    path: Path | str, model: Classifier, *, recipe: dict[str, Any], training: dict[str, Any] | None = None,
    objective: dict[str, Tensor] | None = None, **facts: Any,
) -> None:  # fmt: skip
    """Write a checkpoint atomically. `recipe` and `facts` are plain values; `training` is None once training is finished; `objective` is
    the state of the objective's own parameters and buffers."""
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
    write_atomically(Path(path), lambda part: torch.save(content, part))


def _cpu(value: Any) -> Any:
    """Tensors copied to the CPU in plain memory order, so that a file does not depend on where or how training ran."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {key: _cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cpu(item) for item in value)
    return value


def _read(path: Path | str, mmap: bool = False) -> dict[str, Any]:
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch raises many kinds: a cut zip, a foreign pickle, an unsafe global
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{path} is not a whole, safe checkpoint ({type(error).__name__}: {reason or 'the file is empty'})"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of this suite (expected format {FORMAT!r})")
    return content


def read_facts(path: Path | str) -> dict[str, Any]:
    """What is said of a network, with "backbone", "recipe" and "finished"; its tensors are not read. Raises UserError as `load`."""
    content = _read(path, mmap=True)
    finished = content["training"] is None
    return content["facts"] | {"backbone": content["backbone"], "recipe": content["recipe"], "finished": finished}


def load(path: Path | str) -> tuple[Classifier, dict[str, Any]]:
    """The network in eval mode on the CPU, and its facts: those given to `save`, with "recipe" and "finished".

    Raises UserError for a file that is missing, cut short, unsafe, foreign, or whose tensors do not fit the network it names.
    """
    content = _read(path)
    model = build(content["backbone"], content["classes"], output_stride=content.get("output_stride"))
    try:
        model.load_state_dict(content["weights"])
    except RuntimeError as error:
        raise UserError(f"{path} does not fit {content['backbone']}: {str(error).splitlines()[-1].strip()}") from error
    facts = {**content["facts"], "recipe": content["recipe"], "finished": content["training"] is None}
    return model.eval(), facts


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
    content = _read(path)
    if content["training"] is None:
        raise UserError(f"{path} is a finished run; there is no training to go on with")
    return content["training"]


def load_objective_state(path: Path | str) -> dict[str, Tensor]:
    """What the objective owns (projection heads, prototypes, queues), finished or not: for its `load_state_dict`. Empty where it owns nothing."""
    content = _read(path)
    return content.get("objective") or (content["training"] or {}).get(
        "objective", {}
    )  # the latter: older, unfinished ones
