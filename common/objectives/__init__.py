"""What one training step minimises, a file a method, and the registry of what `python -m common.pretrain` trains."""

import importlib
import sys
from pathlib import Path

from common.cli.errors import UserError, unknown
from common.objectives import (
    centre,
    cider,
    cross_entropy,
    csi,
    csi_linear,
    focal,
    logitnorm,
    mixup,
    npos,
    ssd,
    tagfog,
    vos,
)
from common.objectives.cross_entropy import presets_for
from common.training.method import Method
from common.training.objective import Objective

_MODULES = (cross_entropy, mixup, logitnorm, vos, ssd, cider, npos, tagfog, focal, centre, csi, csi_linear)
METHODS: dict[str, Method] = {module.METHOD.name: module.METHOD for module in _MODULES}


def method_named(name: str) -> Method:
    """An entry of METHODS, or what `module:Class` names: anybody's Objective, or a Method.

    The module may lie in the current folder. Raises UserError for a name that is none, a module or class that is not there, and a class
    of another kind.
    """
    if name in METHODS:
        return METHODS[name]
    module, colon, word = name.partition(":")
    if not (module and colon and word):
        raise unknown("objective", name, (*METHODS, "module:Class"))
    found = getattr(_imported(module), word, None)
    if isinstance(found, Method):
        return found
    if found is None:
        raise UserError(f"{name}: the module {module} has no {word}")
    if not (isinstance(found, type) and issubclass(found, Objective)):
        raise UserError(
            f"{name} is a {type(found).__name__}, expected a class derived from {Objective.__module__}.Objective"
        )
    return Method(word, found, presets_for(found))


def _imported(module: str):
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise UserError(f"there is no module {module} in {here} or on Python's path") from None
        raise UserError(f"the module {module} imports {error.name}, which is not there") from None
