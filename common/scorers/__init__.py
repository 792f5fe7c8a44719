"""Every post-hoc score under its name. A scorer is a frozen dataclass of hyper-parameters; adding one is one dataclass and one line here."""

import dataclasses
import typing

from common.errors import UserError, unknown
from common.scorers.activations import ReAct
from common.scorers.base import Scorer
from common.scorers.logits import Energy, MaxLogit
from common.scorers.softmax import MSP, ODIN

SCORERS: dict[str, Scorer] = {
    "msp": MSP(),
    "maxlogit": MaxLogit(),
    "energy": Energy(),
    "odin": ODIN(),
    "react": ReAct(),
}


def _value(kind: typing.Any, name: str, word: str) -> float | int | str:
    try:
        return int(word) if kind is int else word if kind is str else float(word)
    except ValueError:
        raise UserError(f"{name} must be {'a whole number' if kind is int else 'a number'}, got {word!r}") from None


def scorer(name: str) -> Scorer:
    """Look up `msp`, or with other hyper-parameters `knn:k=200`, `odin:T=2,eps=0`.

    Raises UserError that lists the known names, or the hyper-parameters of the scorer, or says which value is out of range.
    """
    base, _, options = name.partition(":")
    if base not in SCORERS:
        raise unknown("scorer", base, SCORERS)
    default = SCORERS[base]
    kinds = {field.name: field.type for field in dataclasses.fields(default)}
    changes = {}
    for option in filter(None, options.split(",")):
        key, _, word = option.partition("=")
        if key not in kinds:
            raise unknown(f"hyper-parameter of {base}", key, kinds)
        changes[key] = _value(kinds[key], key, word)
    return dataclasses.replace(default, **changes)
