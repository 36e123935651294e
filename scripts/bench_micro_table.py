"""Markdown table of criterion's medians: a row a part and size, a column a backend. usage: bench_micro_table.py CRITERION_DIR"""

import json
import pathlib
import sys

COLUMNS = ["candle f32", "candle q8_0", "mlx f32", "mlx bf16", "mlx 4-bit"]


def time(ns):
    for unit, scale in [("s", 1e9), ("ms", 1e6), ("µs", 1e3)]:
        if ns >= scale:
            return f"{ns / scale:.3g} {unit}"
    return f"{ns:.3g} ns"


def main(folder):
    rows = {}
    for path in pathlib.Path(folder).rglob("new/estimates.json"):
        what = json.loads((path.parent / "benchmark.json").read_text())
        estimates = json.loads(path.read_text())
        median, spread = (estimates[name]["point_estimate"] for name in ("median", "median_abs_dev"))
        group, column, size = what["group_id"], what["function_id"], what["value_str"]
        cells = rows.setdefault((group, int(size or -1)), {})
        cells[column if column in COLUMNS else None] = f"{time(median)} ± {100 * spread / median:.0f} %"
    print("| part | size |", " | ".join(COLUMNS), "|")
    print("|---|---|" + "---|" * len(COLUMNS))
    for (group, size), cells in sorted(rows.items()):
        if None not in cells:
            print(f"| {group} | {size if size >= 0 else ''} |", " | ".join(cells.get(column, "") for column in COLUMNS), "|")
    print("\n| part | size | |\n|---|---|---|")
    for (group, size), cells in sorted(rows.items()):
        if None in cells:
            print(f"| {group} | {size if size >= 0 else ''} | {cells[None]} |")


main(sys.argv[1])
