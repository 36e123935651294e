"""Writes crates/inferometer-stats/tests/data/oscillation/rainflow.json: cycles as the Python package `rainflow` (ASTM E1049-85) counts them.

usage: scripts/fixtures oscillation
"""

import json
import pathlib
import random

import rainflow

FILE = pathlib.Path(__file__).resolve().parents[2] / "crates/inferometer-stats/tests/data/oscillation" / "rainflow.json"


def walk(seed, length, step):
    rng = random.Random(seed)
    series, at = [], 0
    for _ in range(length):
        at += rng.randint(-step, step)
        series.append(at)
    return series


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
    FILE.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(case) for case in out)
    FILE.write_text('{"made_by": "rainflow %s", "cases": [\n%s\n]}\n' % ("3.2.0", lines))
    print(f"{len(out)} cases")


if __name__ == "__main__":
    main()
