"""Writes two files in crates/inferometer-stats/tests/data/oscillation: rainflow.json, cycles as the Python package `rainflow`
(ASTM E1049-85) counts them, and spectrum.json, the strongest line in SciPy's periodogram of noisy periodic series.

usage: scripts/fixtures oscillation
"""

import json
import math
import pathlib
import random

import rainflow
import scipy
import scipy.signal

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "crates/inferometer-stats/tests/data/oscillation"
MIB = 2**20


def walk(seed, length, step):
    rng = random.Random(seed)
    series, at = [], 0
    for _ in range(length):
        at += rng.randint(-step, step)
        series.append(at)
    return series


def spectrum(name, period_s, amplitude_mib, noise_mib, interval_s, seconds):
    """A sine over a slow leak, and what a periodogram finds in it: period, and amplitude of the strongest line."""
    rng = random.Random(name)
    times = [i * interval_s for i in range(int(seconds / interval_s))]
    wave = lambda t: 4096 + t * 0.05 + amplitude_mib * math.sin(2 * math.pi * t / period_s)
    values = [round((wave(t) + rng.uniform(-noise_mib, noise_mib)) * MIB) for t in times]
    frequencies, power = scipy.signal.periodogram(values, 1 / interval_s, detrend="linear", scaling="spectrum")
    at = max(range(len(power)), key=lambda i: power[i])
    return {
        "name": name,
        "interval_s": interval_s,
        "period_s": float(1 / frequencies[at]),
        "amplitude_bytes": float(math.sqrt(2 * power[at])),
        "bytes": values,
    }


def main():
    cases = {
        "standard": [-2, 1, -3, 5, -1, 3, -4, 4, -2],
        "sawtooth": [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0],
        "growing": [0, 2, 0, 4, 0, 6, 0, 8, 1],
        "shrinking": [9, 0, 8, 1, 7, 2, 6, 3, 5],
        "ramp": list(range(20)),
        "flat": [4] * 9,
        "plateaus": [0, 0, 3, 3, 3, 1, 1, 5, 5, 2, 2, 4],
        **{f"walk-{seed}": walk(seed, 120, 9) for seed in range(4)},
    }
    out = []
    for name, series in cases.items():
        found = sorted((c[0], c[2]) for c in rainflow.extract_cycles(series) if c[0] > 0)
        out.append({"name": name, "series": series, "cycles": found})
    write("rainflow.json", "rainflow 3.2.0", out)
    spectra = [
        spectrum("turns", 20, 512, 10, 0.5, 300),
        spectrum("quick", 2, 128, 5, 0.1, 40),
        spectrum("slow", 60, 1024, 20, 1, 600),
    ]
    write("spectrum.json", f"scipy {scipy.__version__}", spectra)


def write(name, made_by, cases):
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(case) for case in cases)
    (FOLDER / name).write_text('{"made_by": "%s", "cases": [\n%s\n]}\n' % (made_by, lines))
    print(f"{name}: {len(cases)} cases")


if __name__ == "__main__":
    main()
