"""Every command that the ablation scripts print can be typed: its flags parse, its recipe is allowed, its inputs are made before it."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from common import evaluate, pretrain
from common.cli.recipes import from_arguments
from dfb import evaluate as dfb_evaluate
from dfb import finetune as dfb_finetune
from dfb import masks
from dfb.score import JointScorer
from lbf import finetune
from lbf.locations import LOCATIONS

ROOT = Path(__file__).resolve().parents[1]
PARSERS = {
    module.__name__: module.parser() for module in (evaluate, pretrain, dfb_evaluate, dfb_finetune, masks, finetune)
}
RECIPES = {
    "lbf.finetune": finetune.PRESETS["shapes"],
    "dfb.masks": masks.PRESETS["paper"],
    "dfb.finetune": dfb_finetune.PRESETS["shapes"],
    "dfb.evaluate": JointScorer("msp"),
}
SWITCHES = {
    "lbf_ablation": {
        "lam=0.0", "selector=frozen", "reduction=image", "norm=l1", "bn=frozen", "refine=grabcut", *(f"mu={mu}" for mu in (1.0, 3.0, 6.0)),
        *(f"lam={lam}" for lam in (0.1, 0.3, 1.0)), *(f"lr={lr}" for lr in (0.1, 0.05, 0.01)), "id=shapes:correlation=.3",
        *(f"locations={which}" for which in LOCATIONS if which != "background"),
    },
    "lbf_sensitivity": {"delta=1.01", "mu=0.0", "lam=0.0"},
    "dfb_ablation": {
        "theta=0.3", "refine=grabcut", "cam_shift=half-stride", "cam_blur=1.5", "output_stride=4", "align_corners=True", "stage2_init=scratch", "head_start=zeros",
        "pixel_labels=truth", "pixel_labels=foreground", "loss_reduction=images", "temperature=5.0", "log_guard=softplus", "log_guard=sigmoid",
        "protocol=via32", "protocol=native", "vim_head=all", "softmax_T=log_over_T", "logit_combine=both_over_T",
    },
    "combined": {"locations=masks", "body=frozen", "stage2_init=stage1"},
}  # fmt: skip


def printed(script: str, smoke: str) -> list[list[str]]:
    environment = os.environ | {"DRY": "1", "SMOKE": smoke, "OOD_INSTALL": "0", "SEEDS": "0", "OUT": "O"}
    made = subprocess.run(
        ["bash", str(ROOT / f"experiments/{script}.sh")], env=environment, capture_output=True, text=True, check=True
    )
    return [shlex.split(line) for line in made.stdout.splitlines()]


@pytest.mark.parametrize("smoke", ["", "1"])
@pytest.mark.parametrize("script", SWITCHES)
def test_every_printed_command_parses_and_every_switch_is_used(script, smoke):
    lines, made, used = printed(script, smoke), set(), set()
    assert len(lines) > 10
    for words in lines:
        module, arguments = words[2], words[3:]
        expected = {word.rpartition("=")[0] for word, flag in zip(words[1:], words) if flag == "--expect"}
        assert expected <= made, words
        made.add(words[words.index("--out") + 1])
        if module in PARSERS:
            given = PARSERS[module].parse_args(arguments)
            used |= {f"{name}={value}" for name, value in vars(given).items()}
        if module in RECIPES:
            from_arguments(given, RECIPES[module])
    assert not SWITCHES[script] - used
