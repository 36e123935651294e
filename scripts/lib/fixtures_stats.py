"""Writes crates/inferometer-stats/tests/data/stats/*.json: results of SciPy, or of exact counting, for the cases of the tests.

usage: scripts/fixtures stats

Takes about a minute; the same input gives the same files.
"""

import json
import math
import pathlib

import numpy as np
from scipy import stats

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "crates/inferometer-stats/tests/data/stats"
# METHOD section 3.5.
LOOKS = (10, 20, 30)
ALPHAS = ((0.02266, 0.02171, 0.02156), (0.01133, 0.01036, 0.01002), (0.00751, 0.00671, 0.00638))


def write(name, value):
    # One case a line.
    rows = ",\n".join(json.dumps(row) for row in value) if isinstance(value, list) else None
    text = f"[\n{rows}\n]\n" if rows is not None else json.dumps(value, indent=1) + "\n"
    (OUT / f"{name}.json").write_text(text)


def walsh(x):
    return sorted((x[i] + x[j]) / 2 for i in range(len(x)) for j in range(i, len(x)))


def signed_rank_counts(n):
    """How many of the 2^n choices of signs give each sum of positive ranks."""
    counts = [1]
    for rank in range(1, n + 1):
        longer = counts + [0] * rank
        for total, count in enumerate(counts):
            longer[total + rank] += count
        counts = longer
    return counts


def depth(n, alpha):
    """Largest k with 2 P(T <= k - 1) <= alpha, counted in whole numbers; 0 where there is none."""
    below, k = 0, 0
    for count in signed_rank_counts(n):
        below += count
        if 2 * below > alpha * 2**n:
            return k
        k += 1
    return k


# --- one sample

# Hamilton depression scale factor IV before and after a tranquilizer: Hollander and Wolfe (1973), p. 29f; R's manual of wilcox.test.
DEPRESSION = ([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30], [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
# Heights of maize, cross- less self-fertilized, in eighths of an inch: Darwin (1876), as in Fisher, The Design of Experiments, and SciPy's manual.
MAIZE = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]


def one_sample(name, x, published=None):
    x = [float(v) for v in x]
    magnitudes = [abs(v) for v in x]
    plain = len(set(magnitudes)) == len(x) and 0.0 not in magnitudes
    if plain:
        test = stats.wilcoxon(x, method="exact")
    else:
        # Every choice of signs.
        test = stats.wilcoxon(x, zero_method="pratt", method=stats.PermutationMethod(n_resamples=2 ** len(x)))
    averages = walsh(x)
    k = depth(len(x), 0.05)
    case = {
        "name": name,
        "x": x,
        "statistic": float(test.statistic),
        "p": float(test.pvalue),
        "estimate": float(np.median(averages)),
        "lo": averages[k - 1] if k else None,
        "hi": averages[-k] if k else None,
    }
    if plain and k:
        # What the interval means: the test rejects a centre just outside it, and not one just inside.
        for end, outwards in ((case["lo"], -1), (case["hi"], 1)):
            p = lambda centre: stats.wilcoxon(np.array(x) - centre, method="exact").pvalue
            assert p(end + outwards * 1e-9) <= 0.05 < p(end - outwards * 1e-9), (name, end)
    return case | ({"published": published} if published else {})


def signed_rank():
    random = np.random.default_rng(1)
    before, after = DEPRESSION
    cases = [
        one_sample("depression", [round(b - a, 3) for b, a in zip(after, before)], {"p": 0.0391, "estimate": -0.46, "lo": -0.786, "hi": -0.010}),
        one_sample("maize", MAIZE, {"p": 0.0413, "statistic": 24}),
        one_sample("ties", [1, 1, -1, 2, 2, 3, -3, 3, 4, 5]),
        one_sample("zeros", [0, 0, 1, 2, -3, 4, 5, 6]),
        one_sample("zeros and ties", [0, 0, 0, 0.5, 0.5, -0.5, 1, 1, 1.5, -2, 2, 2.5]),
        one_sample("tie of opposite signs", [1, -1, 2, -2, 3]),
        one_sample("one", [3.5]),
    ]
    for n in (6, 10, 20, 30, 45):
        cases.append(one_sample(f"normal {n}", [round(v, 4) for v in random.normal(0.3, 1, n)]))
    write("signed_rank", cases)
    write("depths", [[n, alpha, depth(n, alpha)] for n in (1, 5, 6, 7, 10, 15, 20, 25, 30, 50, 100, 250) for alpha in (0.1, 0.05, 0.02, 0.01, 0.002)])


# --- two samples

CASES = [
    ("chorioamnion", [1.15, 0.88, 0.90, 0.74, 1.21], [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]),
    ("diabetics", [20, 11, 17, 12], [19, 22, 16, 29, 24]),
    ("sleep", [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]),
    ("three and two", [1, 2, 4], [3, 7]),
    ("apart", list(range(10)), list(range(20, 30))),
    ("many ties", [1, 1, 2, 2, 2, 3, 3], [2, 2, 3, 3, 3, 4, 4, 4]),
]


def mann_whitney_counts(m, n):
    """How many orders of m and n values have each number of pairs out of order: the Gaussian binomial, in whole numbers."""
    rows = {(0, 0): [1]}
    for i in range(m + 1):
        for j in range(n + 1):
            if i == 0 or j == 0:
                rows[i, j] = [1]
                continue
            counts = [0] * (i * j + 1)
            for u, count in enumerate(rows[i - 1, j]):
                counts[u + j] += count
            for u, count in enumerate(rows[i, j - 1]):
                counts[u] += count
            rows[i, j] = counts
    return rows[m, n]


def shift_depth(m, n, alpha):
    if max(m, n) >= 50:
        mean, sd = m * n / 2, math.sqrt(m * n * (m + n + 1) / 12)
        return sum(2 * stats.norm.cdf((u + 0.5 - mean) / sd) <= alpha for u in range(m * n // 2))
    below, k = 0, 0
    for count in mann_whitney_counts(m, n):
        below += count
        if 2 * below > alpha * math.comb(m + n, m):
            return k
        k += 1


def two_sample():
    random = np.random.default_rng(2)
    cases = list(CASES)
    for m, n in ((10, 10), (7, 33), (49, 49), (60, 40)):
        cases.append((f"normal {m} and {n}", [round(v, 4) for v in random.normal(0, 1, m)], [round(v, 4) for v in random.normal(0.4, 2, n)]))
    rows = []
    for name, a, b in cases:
        a, b = [float(v) for v in a], [float(v) for v in b]
        exact = len(set(a + b)) == len(a + b) and max(len(a), len(b)) < 50
        test = stats.mannwhitneyu(b, a, method="exact" if exact else "asymptotic")
        t = stats.ttest_ind(b, a, equal_var=False)
        welch = t.confidence_interval(0.95)
        differences = sorted(y - x for x in a for y in b)
        k = shift_depth(len(a), len(b), 0.05)
        rows.append({
            "name": name, "a": a, "b": b, "exact": exact,
            "u": float(test.statistic), "p": float(test.pvalue),
            "shift": float(np.median(differences)), "lo": differences[k - 1] if k else None, "hi": differences[-k] if k else None,
            "t": float(t.statistic), "df": float(t.df), "welch_p": float(t.pvalue),
            "welch_lo": float(welch.low), "welch_hi": float(welch.high),
        })
    by_name = {row["name"]: row for row in rows}
    # Published: R's manuals of wilcox.test and t.test, SciPy's of mannwhitneyu.
    assert (by_name["chorioamnion"]["u"], round(by_name["chorioamnion"]["p"], 4)) == (35, 0.2544)
    assert (by_name["diabetics"]["u"], round(by_name["diabetics"]["p"], 4)) == (17, 0.1111)
    assert (round(by_name["sleep"]["t"], 4), round(by_name["sleep"]["df"], 3), round(by_name["sleep"]["welch_p"], 5)) == (1.8608, 17.776, 0.07939)
    write("two_sample", rows)


def special():
    write("special", {
        "normal": [[z, stats.norm.cdf(z)] for z in (-12.0, -5.0, -1.96, -0.3, 0.0, 0.5, 2.5, 6.0)],
        "student": [[t, df, 2 * stats.t.sf(abs(t), df)] for t in (0.0, 0.01, 0.7, -2.0, 4.5, 30.0) for df in (1.0, 2.5, 9.0, 17.776, 58.0, 400.0)],
    })


def multiple():
    random = np.random.default_rng(3)
    # Benjamini and Hochberg (1995), section 4.1: treatments of myocardial infarction.
    infarction = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    cases = [("infarction", infarction), ("one", [0.2]), ("equal", [0.03, 0.03, 0.03]), ("zero", [0.0, 1.0, 0.5])]
    cases.append(("random", [round(float(v), 6) for v in random.beta(0.5, 1, 40)]))
    rows = [{"name": name, "p": p, "adjusted": [float(v) for v in stats.false_discovery_control(p, method="bh")]} for name, p in cases]
    rows[0]["found_at_5_percent"] = 4
    write("multiple", rows)


# --- looks

def spent(alphas):
    """Probability that |Z| passes a look's border at one of three looks: Z_k = S_k / sqrt(k), S with normal steps of variance 1
    (Armitage, McPherson and Rowe 1969). The density of S inside the borders is carried from look to look on a grid."""
    borders = [stats.norm.isf(alpha / 2) * math.sqrt(k) for k, alpha in enumerate(alphas, 1)]
    total, grid, density = 0.0, np.array([0.0]), np.array([1.0])
    for border in borders:
        passed = stats.norm.sf(border - grid) + stats.norm.cdf(-border - grid)
        total += float((density * passed).sum())
        points, weights = np.polynomial.legendre.leggauss(200)
        inside = points * border
        density = (stats.norm.pdf(inside[:, None] - grid[None, :]) * density).sum(axis=1) * weights * border
        grid = inside
    return total


def exact_spent(ks, sessions, random):
    """The same for the signed-rank test at those depths, on normal noise, by simulation: the share rejected at any look."""
    rejected = 0
    for _ in range(sessions):
        x = random.normal(size=LOOKS[-1])
        for n, k in zip(LOOKS, ks):
            ranks = stats.rankdata(np.abs(x[:n]))
            positive = ranks[x[:n] > 0].sum()
            if min(positive, n * (n + 1) / 2 - positive) < k:
                rejected += 1
                break
    return rejected / sessions


def power(sessions, random):
    """What normal noise of spread 1 gives at the looks: see `pilot` in src/stats/sequential/power.rs."""
    ks = [depth(n, 2 * alpha) for n, alpha in zip(LOOKS, ALPHAS[0])]
    widths, reaches = [], []
    for _ in range(sessions):
        x = random.normal(size=LOOKS[-1])
        reach = []
        for n, k in zip(LOOKS, ks):
            i, j = np.triu_indices(n)
            averages = np.sort((x[i] + x[j]) / 2)
            reach.append(max(abs(averages[k - 1]), abs(averages[-k])))
        widths.append((averages[-k] - averages[k - 1]) / 2)
        # The smallest bound called unchanged at any look.
        reaches.append(min(reach))
    return {"half_width": round(float(np.mean(widths)), 4), "supported": round(float(np.quantile(reaches, 0.9)), 4)}


def looks():
    random = np.random.default_rng(4)
    rows = []
    for gates, alphas in enumerate(ALPHAS, 1):
        ks = [depth(n, alpha) for n, alpha in zip(LOOKS, alphas)]
        rows.append({"gates": gates, "alphas": alphas, "k": ks, "spent": spent(alphas), "signed_rank_spent": exact_spent(ks, 20000, random)})
    write("looks", {"table": rows, "normal": power(20000, random)})


OUT.mkdir(parents=True, exist_ok=True)
signed_rank()
two_sample()
special()
multiple()
looks()
print(f"written to {OUT.relative_to(ROOT)}")
