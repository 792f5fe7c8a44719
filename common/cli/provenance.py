"""Where a number comes from: the commit of the code, versions, hardware."""

import json
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

from common.cli.device import cpu_facts


@cache
def commit() -> str:
    """The commit of this checkout, "-dirty" where tracked files differ from it. Installed without one: $OOD_COMMIT, or the commit that pip fetched,
    or "unknown". A virtual environment that lies in somebody's checkout is none."""
    file = Path(__file__).resolve()
    words = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]  # the last: no tags
    how = {"cwd": file.parent, "capture_output": True, "text": True, "check": True}
    try:
        subprocess.run(["git", "ls-files", "--error-unmatch", file.name], **how)
        return subprocess.run(words, **how).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("OOD_COMMIT") or _fetched(file)  # a copy of the working tree may carry its commit along


def _fetched(file: Path) -> str:
    """What pip wrote down (PEP 610) when it installed this file from a repository."""
    for found in metadata.distributions(name="ood-backgrounds"):
        if Path(found.locate_file("common/cli/provenance.py")).resolve() == file:
            return (
                json.loads(found.read_text("direct_url.json") or "{}").get("vcs_info", {}).get("commit_id", "")[:12]
                or "unknown"
            )
    return "unknown"


@cache
def versions() -> str:
    found = {"python": platform.python_version()}
    for name in ("torch", "torchvision", "timm", "numpy", "scikit-learn"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "?"
    return " ".join(f"{name} {version}" for name, version in found.items())


def hardware(device: torch.device) -> str:
    """GPU name, or processor, cores in use and whether it has bf16 arithmetic."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    text = cpu_facts()
    models = (line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name"))
    model = next(models, platform.processor() or "CPU")
    extras = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in text]
    return f"{model}, {torch.get_num_threads()} threads" + (f" ({', '.join(extras)})" if extras else "")
