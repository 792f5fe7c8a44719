"""Files of tensors (torch.save's), opened without running code. What such a zip says of itself is checked here, what is in it by the reader."""

import argparse
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.cli.arrays import in_short
from common.cli.errors import UserError
from common.cli.files import no_plain_file

# What training scripts keep beside weights, and making one runs nobody's code: their flags, and numbers of numpy
_SCALAR = np.float64(0).__reduce__()[0]
_PLAIN: list[Any] = [
    argparse.Namespace,
    _SCALAR,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?")),
]
if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 6):  # which takes other names of a thing
    _PLAIN.append((_SCALAR, "numpy.core.multiarray.scalar"))  # numpy 1's


class Damaged(UserError):
    """A file that is not what it should be, however often it is read; one that cannot be read at the moment raises a plain UserError."""


def read_tensors(path: Path, what: str, *, mmap: bool = False) -> Any:
    """The tensors and plain values of a file. `what` was expected, in words.

    Raises UserError where nothing is there or it cannot be read, and Damaged for a folder, an empty file, one that is cut or foreign, and
    one that holds objects of a class that is not known here: it is named and not opened.
    """
    if other := no_plain_file(path):
        raise Damaged(f"{path} is {other}; expected {what}")
    try:
        with open(path, "rb") as file:
            begin = file.read(1)
        if not begin:
            raise Damaged(f"{path} is not {what}: the file is empty")
        torch.serialization.add_safe_globals(_PLAIN)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about forms of pickles, before the error itself
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except UserError:
        raise
    except (OSError, MemoryError) as error:
        raise UserError(f"{path} cannot be read ({in_short(error)}); it was left as it is") from error
    except Exception as error:  # torch raises many kinds: a cut zip, a foreign pickle, an unsafe global
        if "memory" in str(error) and is_whole(path):
            raise UserError(f"{path} cannot be read ({in_short(error)}); it was left as it is") from MemoryError(
                str(error)
            )
        raise Damaged(f"{path} is not {what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Torch's message without its advice, which is to open the file in a way that may run code."""
    text = str(error)
    if found := re.search(r"GLOBAL (\S+) was not an allowed global", text) or re.search(
        r"unsafe class[^:]*: (\S+)", text
    ):
        return f"it holds a {found[1]}, which is not opened, for that may run code; save the tensors without it"
    if "TorchScript" in text:
        return "it is a TorchScript archive; save the network's state_dict instead"
    if "zip archive" in text:
        return "it is cut short, or its parts do not lie where it says"
    said = (text.partition("WeightsUnpickler error:")[2] or text).partition("Check the documentation")[0]
    return in_short(ValueError(said)) if said.strip() else type(error).__name__


def is_whole(path: Path) -> bool:
    """Whether a zip's checksums hold, which torch writes and does not compare. False for what is no zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # zipfile, zlib and struct raise many kinds
        return False
