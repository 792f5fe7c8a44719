"""t-SNE pictures with a number beside them: what looks apart in two dimensions need not be apart in the features."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from common.cli.errors import UserError
from common.results.style import plt

PERPLEXITY = 30


@dataclass(frozen=True)
class Group:
    """Some vectors and how they are drawn; `shades`: a whole number a vector (its class), drawn as shades of one colour map."""

    name: str
    vectors: Float[np.ndarray, "vectors channels"]
    colour: str
    marker: str = "o"
    shades: np.ndarray | None = None


def embed(groups: list[Group], seed: int = 0) -> list[Float[np.ndarray, "vectors 2"]]:
    """All groups in one t-SNE (scikit-learn, PCA start, perplexity 30), a part for each. Raises UserError for fewer than 92 vectors."""
    stacked = np.concatenate([group.vectors for group in groups]).astype(np.float64)
    if len(stacked) < 3 * PERPLEXITY + 2:
        raise UserError(
            f"t-SNE with perplexity {PERPLEXITY} needs at least {3 * PERPLEXITY + 2} vectors, got {len(stacked)}"
        )
    from sklearn.manifold import TSNE  # slow to import

    points = TSNE(2, perplexity=PERPLEXITY, init="pca", random_state=seed).fit_transform(stacked)
    return np.split(points, np.cumsum([len(group.vectors) for group in groups])[:-1])


def nearest(
    query: Float[np.ndarray, "queries channels"],
    one: Float[np.ndarray, "a channels"],
    other: Float[np.ndarray, "b channels"],
    k: int = 10,
) -> float:
    """Share of the k nearest neighbours (Euclidean) of the queries that are in `one`, with as many of `other` at hand; 0.5 = no preference."""
    from sklearn.neighbors import NearestNeighbors

    count = min(len(one), len(other))
    both = np.concatenate([one[:count], other[:count]])
    k = min(k, count)
    found = NearestNeighbors(n_neighbors=k).fit(both).kneighbors(query, return_distance=False)
    return float((found < count).mean())


def draw(axis: plt.Axes, groups: list[Group], points: list[np.ndarray], title: str) -> None:
    """One scatter; axes without a unit, as t-SNE's have none."""
    for group, where in zip(groups, points, strict=True):
        colours = {"color": group.colour} if group.shades is None else {"c": group.shades, "cmap": "winter"}
        look = {
            "s": 7,
            "marker": group.marker,
            "linewidths": 0.7,
            "alpha": 0.8,
            "label": f"{group.name} ({len(where)})",
        }
        axis.scatter(*where.T, **look, **colours)
    axis.set(xticks=[], yticks=[], xlabel="t-SNE, no unit")
    axis.set_title(title, fontsize=8)
    axis.grid(False)


def side_by_side(panels: list[tuple[str, list[Group]]]) -> plt.Figure:
    """A t-SNE of its own for each (title, groups), and one legend below them."""
    figure, axes = plt.subplots(1, len(panels), figsize=(9.5, 4.9))
    for axis, (title, groups) in zip(axes, panels, strict=True):
        draw(axis, groups, embed(groups), title)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def unit(vectors: Float[np.ndarray, "vectors channels"]) -> Float[np.ndarray, "vectors channels"]:
    """Each vector scaled to length 1; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
