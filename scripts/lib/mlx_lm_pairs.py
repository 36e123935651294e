"""The MLX backend against mlx_lm in balanced pairs. Called by scripts/bench-mlx."""

import csv
import glob
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile

BOUND = 0.95  # no slower than 5 %
# Architecture, dtype, bits, prompt, generated tokens. MLX's bf16 and quantized products on the CPU are slow: less work.
MODELS = [
    ("llama", "f32", None, 256, 48),
    ("qwen3", "f32", None, 256, 48),
    ("qwen3", "bf16", None, 48, 16),
    ("qwen3", "f32", 4, 48, 16),
]
# The median gap beside the rate: `generate_step` submits one step more than it needs, so its last gap is not short.
METRICS = ["prefill_tps", "decode_tps", "itl_p50_ms"]


def model_keys(arch, dtype, bits, preset):
    keys = f'arch = "{arch}", preset = "{preset}", seed = 1, dtype = "{dtype}"'
    return keys + (f", bits = {bits}, group_size = 64" if bits else "")


def scenario(folder, keys, python, pairs, length, tokens):
    path = os.path.join(folder, "pairs.toml")
    adapter = os.path.abspath("adapters/mlx_lm_adapter.py")
    with open(path, "w") as file:
        file.write(f"""name = "mlx-against-mlx-lm"
[model]
synthetic = {{ {keys} }}
[[engine]]
name = "transformer"
label = "ours"
options = {{ backend = "mlx" }}
[[engine]]
name = "exec"
label = "mlx_lm"
options = {{ command = [{json.dumps(python)}, {json.dumps(adapter)}] }}
[workload]
text = "The harbour was quiet, and the keeper wrote down what the instruments said before the morning ferry came in. "
lengths = [{length}]
max_tokens = {tokens}
ignore_eos = true
[toggles]
lazy_pipeline = true
[run]
iterations = {pairs}
warmup = 1
isolation = "iteration"     # where a process's memory lies decides by a quarter: each sample is a fresh one
""")
    return path


def balanced(binary, path, pairs):
    """An order seed by which each side goes first as often as the other."""
    for seed in range(1, 500):
        told = subprocess.run(
            [binary, "check", "--format", "json", "--set", f"run.order_seed={seed}", path],
            stdout=subprocess.PIPE, check=True,
        )
        plan = json.loads(told.stdout)
        order = find(plan, "order")
        if sum(row[0] == 0 for row in order) * 2 == pairs:
            return seed
    sys.exit("no balanced order found; is the number of pairs even?")


def find(value, key):
    """The first value of that key anywhere inside."""
    if isinstance(value, dict):
        if key in value:
            return value[key]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            found = find(item, key)
            if found is not None:
                return found
    return None


def lower_bound(values):
    """95 % lower confidence bound of the median, from order statistics: no assumption about the noise."""
    values, n = sorted(values), len(values)
    below, k = 0.0, 0  # P(fewer than k+1 of n values lie under the median)
    while below + math.comb(n, k) / 2**n <= 0.05:
        below += math.comb(n, k) / 2**n
        k += 1
    return values[k - 1] if k > 0 else float("-inf")


def main():
    binary, python, pairs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    preset = os.environ.get("PRESET", "small")
    proven = True
    print(f"{pairs} balanced pairs, {preset} preset: speed of ours over that of mlx_lm")
    print(f"{'model':<18}{'metric':<14}{'ours':>9}{'mlx_lm':>9}{'ratio':>8}{'95 % above':>12}")
    for arch, dtype, bits, length, tokens in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            path = scenario(folder, model_keys(arch, dtype, bits, preset), python, pairs, length, tokens)
            seed = balanced(binary, path, pairs)
            ran = subprocess.run(
                [binary, "-q", "run", path, "--set", f"run.order_seed={seed}", "--results", folder, "--no-report"],
                stdout=subprocess.DEVNULL,
            )
            # 4: some iterations are invalid, as a stalled machine makes them; enough valid ones are asked for below.
            if ran.returncode not in (0, 4):
                sys.exit(f"the run failed with exit code {ran.returncode}")
            (record,) = glob.glob(f"{folder}/*/requests.csv")
            rows = [row for row in csv.DictReader(open(record)) if row["warmup"] == "false"]
        for metric in METRICS:
            sides = {"ours": {}, "mlx_lm": {}}
            for row in rows:
                if row["status"] == "ok" and row[metric]:
                    sides[row["engine"]][row["iteration"]] = float(row[metric])
            both = sides["ours"].keys() & sides["mlx_lm"].keys()
            if len(both) < pairs * 3 // 4:
                sys.exit(f"{arch} {dtype}: only {len(both)} of {pairs} pairs are valid: {[r['reason'] for r in rows if r['reason']][:3]}")
            ratios = [sides["ours"][i] / sides["mlx_lm"][i] for i in both]
            if metric.endswith("_ms"):
                ratios = [1 / ratio for ratio in ratios]
            bound = lower_bound(ratios)
            proven &= bound > BOUND
            name = f"{arch} {str(bits) + '-bit' if bits else dtype}"
            ours, theirs = (statistics.median(sides[side][i] for i in both) for side in sides)
            line = f"{name:<18}{metric:<14}{ours:>9.1f}{theirs:>9.1f}{statistics.median(ratios):>8.3f}{bound:>12.3f}"
            print(line, flush=True)
    sys.exit(0 if proven else 1)


main()
