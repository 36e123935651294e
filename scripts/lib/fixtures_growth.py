"""Writes crates/inferometer-stats/tests/data/growth/*.json: growth laws fitted by independent programs.

usage: scripts/fixtures growth

Times follow a law, with noise and some slow outliers. statsmodels' RLM (Huber, k = 1.345, MAD scale) fits them on the error
relative to the fitted time, repeatedly until the fit settles. SciPy's least_squares with the Huber loss and the scale from RLM
must agree, or the script fails.
"""

import json
import pathlib

import numpy as np
import scipy
import statsmodels
import statsmodels.api as sm
from scipy.optimize import least_squares

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "crates/inferometer-stats/tests/data/growth"
K = 1.345
CASES = {
    # name: (law, coefficients in ms, lengths, iterations, noise, share of outliers)
    "decode-quiet": ("decode", [8.0, 0.002], [128, 512, 1024, 2048, 4096], 10, 0.007, 0.0),
    "decode-bursts": ("decode", [25.0, 0.0011], [64, 256, 1000, 3000, 8000, 16000], 10, 0.015, 0.15),
    "decode-odd": ("decode", [3.0, 0.0004], [100, 300, 900, 2700, 8100], 11, 0.03, 0.1),
    "decode-busy": ("decode", [10.0, 0.003], [128, 512, 1024, 2048, 4096], 12, 0.3, 0.0),
    "prefill-quiet": ("prefill", [5.0, 0.4, 0.00003], [128, 512, 1024, 2048, 4096], 10, 0.007, 0.0),
    "prefill-bursts": ("prefill", [12.0, 0.09, 0.00001], [64, 256, 1024, 4096, 8192, 16384], 12, 0.015, 0.15),
}


def times(rng, coefficients, n, noise, outliers):
    clean = sum(c * n**power for power, c in enumerate(coefficients))
    slow = np.where(rng.random(len(n)) < outliers, rng.uniform(1.1, 1.6, len(n)), 1.0)
    return clean * np.exp(rng.normal(0, noise, len(n))) * slow


def fit(n, t, terms):
    unit = n.max()
    plain = np.stack([(n / unit) ** j for j in range(terms)], axis=1)
    by = t
    for _ in range(60):
        x, y = plain / by[:, None], t / by
        robust = sm.RLM(y, x, M=sm.robust.norms.HuberT(t=K)).fit(maxiter=2000, tol=1e-14, conv="coefs")
        by = plain @ robust.params
    smooth = least_squares(
        lambda b: x @ b - y, robust.params * 1.01, loss="huber", f_scale=K * robust.scale,
        xtol=1e-15, ftol=1e-15, gtol=1e-15, x_scale="jac", max_nfev=10000,
    )
    worst = np.max(np.abs(x @ (smooth.x - robust.params)))
    assert worst < 1e-6, f"SciPy and statsmodels differ by {worst}"
    return [float(p / unit**j) for j, p in enumerate(robust.params)], float(robust.scale)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20)
    for name, (law, truth, lengths, iterations, noise, outliers) in CASES.items():
        n = np.repeat(np.array(lengths, dtype=float), iterations)
        t = times(rng, truth, n, noise, outliers)
        coefficients, scale = fit(n, t, len(truth))
        case = {
            "made_by": f"statsmodels {statsmodels.__version__}, checked by SciPy {scipy.__version__}",
            "law": law,
            "truth": truth,
            "points": [[float(a), float(b)] for a, b in zip(n, t)],
            "coefficients": coefficients,
            "scale": scale,
        }
        (FOLDER / f"{name}.json").write_text(json.dumps(case) + "\n")
        print(name, coefficients, scale)


if __name__ == "__main__":
    main()
