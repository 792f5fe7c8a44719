"""All metrics from one sort against scikit-learn's calls, in turn in one process: time ratio and largest difference.

python experiments/benchmarks/metrics.py --scores 1000000
"""

import numpy as np
from harness import at_least, beside, in_turn, parser, pick_device, report
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from common.cli.errors import command
from common.metrics import summary

OURS = "ours, one sort"


def reference(id_scores: np.ndarray, ood_scores: np.ndarray) -> dict[str, float]:
    """The same four numbers from scikit-learn."""
    truth = np.r_[np.ones(len(id_scores)), np.zeros(len(ood_scores))]
    scores = np.r_[id_scores, ood_scores]
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    return {
        "fpr95": float(fpr[np.searchsorted(tpr, 0.95 - 1e-12)]), "auroc": roc_auc_score(truth, scores),
        "aupr_in": average_precision_score(truth, scores), "aupr_out": average_precision_score(1 - truth, -scores),
    }  # fmt: skip


def main() -> None:
    made = parser(__file__, __doc__, rounds=3, device=False)
    made.add_argument("--scores", type=int, default=1_000_000, help="ID scores, and as many OOD scores [1000000]")
    arguments = made.parse_args()
    at_least(1, scores=arguments.scores, rounds=arguments.rounds)
    rng = np.random.default_rng(0)
    pair = rng.normal(1, 1, arguments.scores), rng.normal(0, 1, arguments.scores)
    kinds = {OURS: lambda: summary(*pair), "scikit-learn, four calls": lambda: reference(*pair)}
    found = in_turn(kinds, arguments.rounds, progress=not arguments.quiet)
    ours, theirs = (results[0] for results in found.results.values())
    worst = max(abs(ours[name] - theirs[name]) for name in theirs)
    setting = (
        f"{arguments.scores:,} + {arguments.scores:,} scores, {arguments.rounds} rounds; largest difference {worst:.1e}"
    )
    header = ["metrics", "median s", "times ours", "range over rounds"]
    report(setting, pick_device("cpu"), (header, beside(found.seconds, OURS, decimals=3)))


if __name__ == "__main__":
    command(main)
