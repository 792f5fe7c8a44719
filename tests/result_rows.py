"""A row of results for tests: whole, as a file of results gives it back."""

import csv

from common.results.columns import COLUMNS

ROW = {
    "method": "LBF", "scorer": "energy", "id_set": "cifar10", "ood_set": "svhn", "protocol": "own", "n_id": "10", "n_ood": "20",
    "fpr95": "0.5", "auroc": "0.75", "aupr_in": "0.7", "aupr_out": "0.8", "id_accuracy": "0.9", "convention": "ID positive",
    "seed": "0", "backbone": "resnet18", "precision": "float32", "train_data_sha256": "t", "id_data_sha256": "i",
    "ood_data_sha256": "o", "recipe": '{"mu": 1.0}', "upstream": "-", "limit": "all", "options": "Energy(T=1.0)",
    "benchmark": "True", "commit": "c", "versions": "v", "device": "cpu", "seconds": "1.0",
}  # fmt: skip


def result_row(**changes) -> dict[str, str]:
    """The weights' digest follows the seed where it is not given; data digests follow their sets."""
    given = ROW | {name: str(value) for name, value in changes.items()}
    digests = {
        "checkpoint_sha256": f"net-{given['method']}-{given['recipe']}-{given['seed']}",
        "ood_data_sha256": f"sha-{given['ood_set']}",
    }
    found = given | {name: value for name, value in digests.items() if name not in changes}
    return {name: found[name] for name in (*COLUMNS, *(name for name in found if name not in COLUMNS))}


def write_rows(path, *rows):
    """A file of results as it would be found; gives its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path
