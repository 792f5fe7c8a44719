"""Every score once more, written plainly from its paper, image by image, in float64: what common/scorers is held against. Nothing is shared with it.

A reference takes (train, head, test) and the scorer, of which it reads the hyper-parameters. ID training features and head are given always.
"""

from fractions import Fraction
from math import log

import numpy as np


def lse(f):
    f = np.asarray(f, float)
    return f.max() + np.log(np.exp(f - f.max()).sum())


def log_softmax(f):
    """log p; that of the largest without cancellation."""
    f = np.asarray(f, float)
    top, rest = f.argmax(), f - f.max()
    others = np.exp(np.delete(rest, top)).sum()
    return rest - np.log1p(others)


def wide(given):
    return given.penultimate.astype(float), given.logits.astype(float)


def energies(rows, weight, bias):
    return [lse(weight.astype(float) @ h + bias) for h in rows]


# --- of the logits ---


def msp(train, head, test, s):
    return [np.exp(log_softmax(f).max()) for f in test.logits]


def maxlogit(train, head, test, s):
    return [max(f) for f in test.logits]


def energy(train, head, test, s):
    return [s.T * lse(f.astype(float) / s.T) for f in test.logits]


def odin(train, head, test, s):
    """With a step the network has computed it, and the score is the array of that name."""
    if s.eps:
        return test.extras[f"odin:T={s.T:.0f},eps={s.eps}"]
    return [np.exp(log_softmax(f.astype(float) / s.T).max()) for f in test.logits]


def klm(train, head, test, s):
    logs = np.array([log_softmax(f) for f in train.logits])
    groups = [logs[train.logits.argmax(1) == c] for c in range(logs.shape[1])]
    prototypes = [g.max(0) + np.log(np.exp(g - g.max(0)).sum(0) / len(g)) for g in groups if len(g)]
    scores = []
    for f in test.logits:
        log_p = log_softmax(f)
        p = np.exp(log_p)
        scores.append(-min((p * (log_p - d)).sum() for d in prototypes))
    return scores


def gen(train, head, test, s):
    scores = []
    for f in test.logits:
        log_p = np.sort(log_softmax(f))[::-1]
        log_rest = [lse(log_p[1:]), *np.log(-np.expm1(log_p[1:]))]  # log (1 - p)
        scores.append(-sum(np.exp(s.gamma * (a + b)) for a, b in list(zip(log_p, log_rest))[: s.M]))
    return scores


def gradnorm(train, head, test, s):
    scores = []
    for h, f in zip(*wide(test)):
        gradient = np.outer(np.exp(log_softmax(f / s.T)) - 1 / len(f), h) / s.T
        scores.append(np.abs(gradient).sum())
    return scores


# --- by distance ---


def normed(given, s):
    """Rows as they are, or of length 1."""
    h = given.penultimate.astype(float)
    return np.array([unit(row) for row in h]) if s.norm == "l2" else h


def class_means(train, s=None):
    h = train.penultimate.astype(float) if s is None else normed(train, s)
    return {c: h[train.labels == c].mean(0) for c in np.unique(train.labels)}


def precision(centred):
    return np.linalg.pinv(centred.T @ centred / len(centred), rcond=1e-12, hermitian=True)


def class_distances(train, test, s):
    means, h = class_means(train, s), normed(train, s)
    P = precision(np.array([row - means[c] for row, c in zip(h, train.labels)]))
    return [min((row - m) @ P @ (row - m) for m in means.values()) for row in normed(test, s)]


def mahalanobis(train, head, test, s):
    return [-d for d in class_distances(train, test, s)]


def rmd(train, head, test, s):
    h, centre = normed(train, s), normed(train, s).mean(0)
    P = precision(h - centre)
    background = [(row - centre) @ P @ (row - centre) for row in normed(test, s)]
    return [b - d for b, d in zip(background, class_distances(train, test, s))]


def ssd(train, head, test, s):
    h = np.array([unit(row) for row in train.penultimate.astype(float)])
    alive = h.std(0) ** 2 > 1e-12 * (h.std(0) ** 2).max()
    standard = lambda row: ((row - h.mean(0)) / h.std(0))[alive]  # noqa: E731
    P = precision(np.array([standard(row) for row in h]))
    return [-standard(unit(row)) @ P @ standard(unit(row)) for row in test.penultimate.astype(float)]


def residual_space(train, head, s):
    """Origin u, and the directions R of least second moment about it."""
    H, C = train.penultimate.astype(float), train.penultimate.shape[1]
    old = 1000 if C >= 2048 else 512
    D = s.D or {"current": old if C >= 768 else C // 2, "half": C // 2, "old": old}[s.rule]
    U, sigma, Vt = np.linalg.svd(head.weight.astype(float), full_matrices=False)
    eps = 2.0**-23 if (head.weight == head.weight.astype("f4")).all() else 2.0**-52
    seen = sigma > max(head.weight.shape) * eps * sigma[0]
    u = -Vt[seen].T @ ((U[:, seen].T @ head.bias) / sigma[seen])
    return u, np.linalg.svd(H - u)[2][D:].T


def residual(train, head, test, s):
    u, R = residual_space(train, head, s)
    return [-np.linalg.norm((h - u) @ R) for h in test.penultimate.astype(float)]


def vim(train, head, test, s):
    (H, F), (u, R) = wide(train), residual_space(train, head, s)
    alpha = F.max(1).mean() / np.mean([np.linalg.norm((h - u) @ R) for h in H])
    return [lse(f) - alpha * np.linalg.norm((h - u) @ R) for h, f in zip(*wide(test))]


def neco(train, head, test, s):
    H = train.penultimate.astype(float)
    centre, deviation = H.mean(0), H.std(0)
    deviation[np.ptp(H, axis=0) == 0] = 1
    _, sigma, Vt = np.linalg.svd((H - centre) / deviation, full_matrices=False)
    D = next(d for d in range(1, len(sigma) + 1) if (sigma[:d] ** 2).sum() >= s.variance / 100 * (sigma**2).sum())
    Z = (test.penultimate.astype(float) - centre) / deviation
    ratios = [np.linalg.norm(Vt[: s.D or D] @ z) / np.linalg.norm(z) for z in Z]
    return ratios if s.times == "none" else [ratio * f.max() for ratio, f in zip(ratios, wide(test)[1])]


def nnguide(train, head, test, s):
    bank = [lse(f) * unit(h) for h, f in zip(*wide(train))]
    return [lse(f) * np.mean(sorted(unit(h) @ z for z in bank)[-s.k :]) for h, f in zip(*wide(test))]


def relative_errors(train, test):
    """h - m_c of each image, what its length is divided by, and c."""
    H, F = wide(train)
    found = []
    for h, f in zip(*wide(test)):
        own = H[F.argmax(1) == f.argmax()]
        length = max(np.abs(h).sum(), 1e-12 * np.abs(H).sum(1).mean())
        found.append((h - (own if len(own) else H).mean(0), length, f.argmax()))
    return found


def caref(train, head, test, s):
    return [-np.abs(error).sum() / length for error, length, c in relative_errors(train, test)]


def cadref(train, head, test, s):
    S = lse if s.logit == "energy" else max
    usual, scores = np.mean([S(f) for f in wide(train)[1]]), []
    for (error, length, c), f in zip(relative_errors(train, test), wide(test)[1]):
        towards = error * np.sign(head.weight[c].astype(float))
        scores.append(-(towards[towards > 0].sum() / S(f) - towards[towards < 0].sum() / usual) / length)
    return scores


def nci(train, head, test, s):
    centre, scores = train.penultimate.astype(float).mean(0), []
    for h, f in zip(*wide(test)):
        w = head.weight[f.argmax()].astype(float)
        scores.append(w @ (h - centre) / np.linalg.norm(h - centre) + s.alpha * np.abs(h).sum())
    return scores


def unit(row):
    return row / np.linalg.norm(row) if row.any() else row


def knn(train, head, test, s):
    bank = [unit(h) for h in train.penultimate.astype(float)]
    return [-sorted(np.linalg.norm(unit(h) - g) for g in bank)[s.k - 1] for h in test.penultimate.astype(float)]


def she(train, head, test, s):
    (H, F), means = wide(train), class_means(train)
    patterns = []
    for c in range(F.shape[1]):
        right = H[(F.argmax(1) == c) & (train.labels == c)]
        patterns.append(right.mean(0) if len(right) else means.get(c, H.mean(0)))
    return [h @ patterns[f.argmax()] for h, f in zip(*wide(test))]


def fdbd(train, head, test, s):
    weight, centre, scores = head.weight.astype(float), train.penultimate.astype(float).mean(0), []
    for h, f in zip(*wide(test)):
        top, total = f.argmax(), 0.0
        for c in range(len(f)):
            gap = np.linalg.norm(weight[top] - weight[c])
            total += (f[top] - f[c]) / gap if gap else 0.0
        scores.append(total / (len(f) - 1) / np.linalg.norm(h - centre))
    return scores


def dml(train, head, test, s):
    weight = [unit(w) for w in head.weight.astype(float)]
    return [s.lam * max(unit(h) @ w for w in weight) + np.linalg.norm(h) for h in test.penultimate.astype(float)]


def dml_plus(train, head, test, s):
    weight = [unit(w) for w in head.weight.astype(float)]
    cosines = lambda given: [max(unit(h) @ w for w in weight) for h in given.penultimate.astype(float)]  # noqa: E731
    norms = lambda given: given.extras["second_norm"].astype(float)  # noqa: E731
    cosine, norm = np.mean(cosines(train)), np.mean(norms(train))
    return [s.lam * c / cosine + n / norm for c, n in zip(cosines(test), norms(test))]


# --- of shaped activations or thinned weights ---


def clip(train, s):
    return s.c if s.c is not None else np.percentile(train.penultimate.astype(float), s.percentile)


def thinned(train, head, s):
    V = head.weight.astype(float) * train.penultimate.astype(float).mean(0)
    return head.weight * (V > np.percentile(V, s.p))


def react(train, head, test, s):
    return energies(np.minimum(test.penultimate.astype(float), clip(train, s)), head.weight, head.bias)


def dice(train, head, test, s):
    return energies(test.penultimate.astype(float), thinned(train, head, s), head.bias)


def dice_react(train, head, test, s):
    return energies(np.minimum(test.penultimate.astype(float), clip(train, s)), thinned(train, head, s), head.bias)


def line(train, head, test, s):
    weight, means, scores, masks = head.weight.astype(float), class_means(train), [], {}
    for h in np.minimum(test.penultimate.astype(float), s.delta):
        c = int((weight @ h + head.bias).argmax())
        if c not in masks:
            S = means.get(c, train.penultimate.astype(float).mean(0)) * weight[c]
            V = np.abs(S) * weight
            masks[c] = S > np.percentile(S, s.p_a), weight * (V > np.percentile(V, s.p_w))
        scores.append(lse(masks[c][1] @ (h * masks[c][0]) + head.bias))
    return scores


def shaped(train, head, test, s, variant):
    scores = []
    for h in test.penultimate.astype(float):
        kept = sorted(range(len(h)), key=lambda i: (-h[i], i))[: len(h) - round(len(h) * s.percentile / 100)]
        pruned = np.zeros(len(h))
        pruned[kept] = h[kept]
        s1, s2 = h.sum(), pruned.sum()
        factor = np.exp(min(s1 / s2, 300)) if s2 else np.e
        even = np.zeros(len(h))
        even[kept] = s1 / len(kept)
        made = {"p": pruned, "b": even, "s": pruned * factor, "scale": h * factor}[variant]
        scores.append(lse(head.weight.astype(float) @ made + head.bias))
    return scores


# --- of feature maps ---


def featurenorm(train, head, test, s):
    norms, jigsaw = (train.extras[name].astype(float) for name in ("block_norms", "jigsaw_block_norms"))
    best = (
        s.block
        if s.block is not None
        else max(range(norms.shape[1]), key=lambda b: np.mean(norms[:, b] / jigsaw[:, b]))
    )
    return test.extras["block_norms"][:, best]


def masf(train, head, test, s):
    """In fractions. Predicted class, two folds."""
    layers = np.split(
        np.arange(train.extras["channel_maxima"].shape[1] - 3), [int(train.extras["channel_maxima"][0, 1])]
    )

    def p_value(count, n):
        return Fraction(1 + int(count), n + 1)

    def simes(row, first):
        found = []
        for layer in layers:
            q = sorted(
                min(
                    Fraction(1),
                    2 * p_value(min((first[:, c] <= row[c]).sum(), (first[:, c] >= row[c]).sum()), len(first)),
                )
                for c in layer
            )
            found.append(min(len(q) * value / j for j, value in enumerate(q, 1)))
        return found

    def null(rows):
        first, second = rows[::2], rows[1::2]
        levels = [simes(row, first) for row in second]
        return first, levels, [product(own, levels, own=True) for own in levels]

    def product(row, levels, own=False):
        counts = [sum(level[i] <= row[i] for level in levels) for i in range(len(layers))]
        found = Fraction(1)
        for count in counts:
            found *= Fraction(count, len(levels)) if own else p_value(count, len(levels))
        return found

    train_rows, test_rows, scores = train.extras["channel_maxima"][:, 3:], test.extras["channel_maxima"][:, 3:], []
    groups = {c: train_rows[train.labels == c] for c in range(train.logits.shape[1])}
    nulls = {c: null(rows) for c, rows in groups.items() if len(rows) >= 8 and (rows != rows[0]).any()}
    pooled = null(train_rows)
    for row, f in zip(test_rows, test.logits):
        first, levels, products = nulls.get(int(f.argmax()), pooled)
        own = product(simes(row, first), levels)
        p = p_value(sum(other <= own for other in products), len(products))
        scores.append(2 * (log(own.numerator) - log(own.denominator)) if s.output == "fisher" else float(p))
    return scores


def variant(name):
    return lambda train, head, test, s: shaped(train, head, test, s, name)


REFERENCE = {
    "msp": msp, "maxlogit": maxlogit, "energy": energy, "odin": odin, "mahalanobis": mahalanobis, "rmd": rmd, "vim": vim, "dice": dice,
    "react": react, "dice+react": dice_react, "knn": knn, "klm": klm, "featurenorm": featurenorm, "line": line, "masf": masf,
    "gradnorm": gradnorm, "ash-s": variant("s"), "ash-b": variant("b"), "ash-p": variant("p"), "scale": variant("scale"), "she": she,
    "gen": gen, "fdbd": fdbd, "dml": dml,
}  # fmt: skip
REFERENCE |= {
    "mahalanobis++": mahalanobis, "rmd++": rmd, "residual": residual, "neco": neco, "nnguide": nnguide, "caref": caref, "cadref": cadref,
    "nci": nci,
}  # fmt: skip
# Other settings of these.
REFERENCE |= {"odin-dfb": odin, "react-99": react, "react-c1": react, "vim-old": vim, "vim-half": vim, "masf-p": masf}
REFERENCE |= {"ssd": ssd, "dml+": dml_plus}
# Registered scores that have no reference, each with the reason.
EXCEPTIONS: dict[str, str] = {}
