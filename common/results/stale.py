"""Whether rows are of the network that lies beside them."""

from collections.abc import Sequence
from pathlib import Path

from common.cli.stamps import is_current, stamps_of
from common.results.rows import Row, each_row


def stale(results: Path) -> str:
    """Which rows of a file are of other weights than the checkpoint.pt beside it, in a line; empty where none are, or where there is no checkpoint."""
    network = results.with_name("checkpoint.pt")
    if not network.is_file() or (stamps_of(results) and is_current(results)):
        return ""
    from common.checkpoint import read_facts  # torch, needed only where no stamp vouches for the rows

    facts, rows = read_facts(network), [row for _, row in each_row(results)]
    weights = facts["weights_sha256"]
    if not (old := weights and _of_others(rows, facts["method"], weights)):
        return ""
    return f"{results}: {len(old)} of {len(rows)} rows are stale, of weights {old[0]['checkpoint_sha256'][:12]}, and {network} has {weights[:12]}; score it again"


def _of_others(rows: Sequence[Row], method: str, weights: str) -> list[Row]:
    """All rows where none is of these weights; else those of the same method: DFB's files hold rows of the vanilla network too."""
    if all(row["checkpoint_sha256"] != weights for row in rows):
        return list(rows)
    return [row for row in rows if row["method"] == method and row["checkpoint_sha256"] != weights]
