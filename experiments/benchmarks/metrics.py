"""All metrics from one sort against scikit-learn's calls, in turn in one process: time ratio and largest difference.

python experiments/benchmarks/metrics.py --scores 1000000
"""

import argparse
import time

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from common.cli.errors import UserError, command
from common.cli.flags import formatter
from common.metrics import summary


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
    made = argparse.ArgumentParser(
        prog="python experiments/benchmarks/metrics.py", description=__doc__, formatter_class=formatter
    )
    made.add_argument("--scores", type=int, default=1_000_000, help="ID scores, and as many OOD scores [1000000]")
    made.add_argument("--rounds", type=int, default=3, help="timed rounds [3]")
    arguments = made.parse_args()
    if arguments.scores < 1 or arguments.rounds < 1:
        raise UserError(f"scores and rounds must be >= 1, got {arguments.scores} and {arguments.rounds}")
    rng = np.random.default_rng(0)
    id_scores, ood_scores = rng.normal(1, 1, arguments.scores), rng.normal(0, 1, arguments.scores)
    ratios, worst = [], 0.0
    for _ in range(arguments.rounds):
        t0 = time.perf_counter()
        ours = summary(id_scores, ood_scores)
        t1 = time.perf_counter()
        theirs = reference(id_scores, ood_scores)
        t2 = time.perf_counter()
        ratios.append((t2 - t1) / (t1 - t0))
        worst = max(worst, *(abs(ours[name] - theirs[name]) for name in theirs))
        print(f"ours {t1 - t0:.2f} s, scikit-learn {t2 - t1:.2f} s")
    print(
        f"{arguments.scores:,} + {arguments.scores:,} scores: {np.median(ratios):.1f} times faster (median of {arguments.rounds}); largest difference {worst:.1e}"
    )


if __name__ == "__main__":
    command(main)
