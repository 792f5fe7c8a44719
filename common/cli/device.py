"""Which device and which arithmetic a command uses."""

from pathlib import Path

import torch

from common.cli.errors import UserError


def resolve_precision(precision: str, device: torch.device) -> str:
    """bf16 where the device computes in it, else float32. The answer, not "auto", goes into the recipe of a run."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "float32"
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def pick_device(name: str) -> torch.device:
    """A device by name; "auto" takes a GPU where there is one. Raises UserError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"no device {name!r} here: {str(error).splitlines()[0]}") from error
    return device
