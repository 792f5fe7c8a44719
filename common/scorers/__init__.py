"""Every post-hoc score under its name. A scorer is a frozen dataclass of hyper-parameters; adding one is one dataclass and one line here."""

import dataclasses

from common.cli.errors import UserError, unknown
from common.cli.recipes import field_type
from common.scorers.activations import ASH, DICE, SCALE, DICEReAct, LINe, ReAct
from common.scorers.arrays import Features, Head
from common.scorers.base import Scorer
from common.scorers.distances import DML, FDBD, KNN, SHE, DMLPlus, NNGuide
from common.scorers.gaussians import ClusterMahalanobis, Mahalanobis, RelativeMahalanobis
from common.scorers.gradients import GradNorm
from common.scorers.logits import Energy, MaxLogit
from common.scorers.maps import FeatureNorm, MaSF
from common.scorers.relative import NCI, CADRef, CARef
from common.scorers.softmax import GEN, MSP, ODIN, KLMatching
from common.scorers.subspaces import NECO, Residual, ViM

__all__ = ["ALL", "CANONICAL", "SCORERS", "Features", "Head", "Scorer", "canonical", "scorer"]

SCORERS: dict[str, Scorer] = {
    "msp": MSP(),
    "maxlogit": MaxLogit(),
    "energy": Energy(),
    "odin": ODIN(),
    "mahalanobis": Mahalanobis(),
    "rmd": RelativeMahalanobis(),
    "vim": ViM(),
    "dice": DICE(),
    "react": ReAct(),
    "dice+react": DICEReAct(),
    "knn": KNN(),
    "klm": KLMatching(),
    "featurenorm": FeatureNorm(),
    "line": LINe(),
    "masf": MaSF(),
    "gradnorm": GradNorm(),
    "ash-s": ASH(variant="s"),
    "ash-b": ASH(variant="b", percentile=65.0),
    "ash-p": ASH(variant="p", percentile=65.0),
    "scale": SCALE(),
    "she": SHE(),
    "gen": GEN(),
    "fdbd": FDBD(),
    "dml": DML(),
    "mahalanobis++": Mahalanobis(norm="l2"),
    "rmd++": RelativeMahalanobis(norm="l2"),
    "residual": Residual(),
    "neco": NECO(),
    "nnguide": NNGuide(),
    "caref": CARef(),
    "cadref": CADRef(),
    "nci": NCI(),
    # Other settings in use under the same name.
    "odin-dfb": ODIN(T=2.0, eps=0.0),  # DFB eval.py: temperature 2, no step
    "react-99": ReAct(percentile=99.0),  # ViM's and DFB's scripts
    "react-c1": ReAct(c=1.0),  # react README: fixed threshold for torchvision's ResNet-50
    "vim-old": ViM(rule="old"),  # GEN's and DFB's copies: D = 512 unless C >= 2048
    "vim-half": ViM(rule="half"),
    "masf-p": MaSF(output="p"),
    # What trained baselines are scored with, that is nobody else's.
    "ssd": ClusterMahalanobis(),
    "dml+": DMLPlus(),
}
# One setting a method: what "all" means. The rest of SCORERS are other settings, some of which fit only some networks.
ALL: tuple[str, ...] = tuple(SCORERS)[: tuple(SCORERS).index("odin-dfb")]

# What the original code fixes per ID data set (columns: CIFAR-10, CIFAR-100, ImageNet), with where it says so. None: the default above.
CANONICAL: dict[str, tuple[tuple[Scorer | None, Scorer | None, Scorer | None], str]] = {
    "odin": ((ODIN(eps=0.0014), ODIN(eps=0.0028), ODIN(eps=0.0)), "odin README, DenseNet-BC; gradnorm_ood and MOS"),
    "dice": ((DICE(p=90.0), DICE(p=90.0), DICE(p=70.0)), "dice demo-cifar.sh, demo-imagenet.sh"),
    "dice+react": (
        (None, None, DICEReAct(p=10.0, c=1.0)),
        "dice demo-imagenet.sh, comments; for CIFAR nothing published",
    ),
    "knn": ((KNN(k=50), KNN(k=200), KNN(k=1000)), "knn-ood run_cifar.py; the paper for CIFAR-100 and all of ImageNet"),
    "line": ((LINe(), LINe(p_a=10.0), LINe(p_w=10.0, p_a=10.0, delta=0.8)), "LINe demo-cifar.sh, demo-imagenet.sh"),
    "ash-s": (
        (ASH(percentile=95.0), ASH(percentile=95.0), ASH(percentile=90.0)),
        "ash config: DenseNet-100, ResNet-50",
    ),
    "gen": ((GEN(M=10), GEN(M=100), GEN(M=100)), "GEN benchmark.py, OpenOOD gen.yml"),
}
COLUMNS = ("cifar10", "cifar100", "imagenet")


def canonical(name: str, id_set: str) -> Scorer:
    """The scorer with the hyper-parameters its authors use on this ID data set; elsewhere, or where they do not depend on it, the default.

    Every ImageNet subset (imagenet100, ...) takes ImageNet's. Options in the name (`knn:k=5`) win over the table.
    """
    plain = scorer(name)
    column = "imagenet" if id_set.startswith("imagenet") else id_set
    if column not in COLUMNS or name not in CANONICAL:
        return plain
    return CANONICAL[name][0][COLUMNS.index(column)] or plain


def scorer(name: str) -> Scorer:
    """Look up `msp`, or with other hyper-parameters `knn:k=200`, `odin:T=2,eps=0`.

    Raises UserError that lists the known names, or the hyper-parameters of the scorer, or says which value is out of range.
    """
    base, _, options = name.partition(":")
    if base not in SCORERS:
        raise unknown("scorer", base, SCORERS)
    default = SCORERS[base]
    known = [field.name for field in dataclasses.fields(default)]
    changes = {}
    for option in filter(None, options.split(",")):
        key, _, word = option.partition("=")
        if key not in known:
            raise unknown(f"hyper-parameter of {base}", key, known or ["none"])
        if key in changes:
            raise UserError(f"{base}: {key} is given twice")
        kind = field_type(type(default), key)
        try:
            changes[key] = kind(word)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise UserError(f"{base}: {key} must be {what}, got {word!r}") from None
    try:
        return dataclasses.replace(default, **changes)
    except UserError as error:
        raise UserError(f"{base}: {error}") from None
