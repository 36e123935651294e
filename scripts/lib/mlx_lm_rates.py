"""Rates of the engine `mlx-lm` against mlx_lm's own. Called by `check-mlx-lm benchmark` and `check-mlx-lm overhead`.

usage: mlx_lm_rates.py benchmark INFEROMETER FOLDER
       mlx_lm_rates.py overhead INFEROMETER FOLDER ADAPTER

`benchmark` runs `mlx_lm.benchmark` and `inferometer bench --engine mlx-lm` in turns, with the same model and sizes. Both
sides' definitions differ, so mlx_lm's figures are converted:

    prefill  mlx_lm: prompt tokens / time to the first token. Ours: the same tokens / prefill span, which ends with the
             first token too. Nothing to convert.
    decode   mlx_lm: N / time from the first to the last token. Ours: (N - 1) / the same time.
    peak     mlx_lm: 10^9 bytes, since the process began (loading and warm-up included). Ours: bytes, since the request
             began. Shown, not compared.

`overhead` alternates the adapter with a plain loop over `generate_step` in one process. Where the machine is busy, that
hides 1 %, so the adapter's own work is measured apart too: its `generate` around tokens that cost nothing.

Exit code 0: within the tolerance; 1: beyond it; 2: the machine is too busy to say.
"""

import csv
import importlib.util
import math
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

TOLERANCE = 0.05  # of mlx_lm's rate
WIDEST = 0.25  # an interval of the ratio that is wider says nothing
ROUNDS, TRIALS = 24, 3
PROMPT, GENERATED = 256, 128
LOSS, PAIRS, TOKENS = 0.01, 60, 64
MOST_S = 120  # for the pairs
AIM = 500  # tok/s; the adapter may cost 1 % of a token there
OWN_MOST_S = LOSS / AIM


def interval(values):
    """Median, and order statistics that cover it at 95 % or more."""
    values, n = sorted(values), len(values)
    below = 0
    while below + 1 < n / 2 and 2 * sum(math.comb(n, k) for k in range(below + 1)) / 2**n <= 0.05:
        below += 1
    low = max(below - 1, 0)
    return statistics.median(values), values[low], values[n - 1 - low]


def theirs(model):
    command = [sys.executable, "-m", "mlx_lm", "benchmark", "--model", model, "-p", str(PROMPT), "-g", str(GENERATED)]
    told = subprocess.run([*command, "-n", str(TRIALS)], capture_output=True, text=True)
    trials = re.findall(r"Trial \d+: +prompt_tps=([\d.]+), generation_tps=([\d.]+), peak_memory=([\d.]+)", told.stdout)
    if len(trials) != TRIALS:
        sys.exit(f"mlx_lm benchmark: {told.stdout}{told.stderr}")
    prefill, decode, peak = (statistics.median(map(float, column)) for column in zip(*trials))
    return prefill, decode * (GENERATED - 1) / GENERATED, peak * 1e9


def ours(program, model, folder):
    command = [program, "bench", model, "--engine", "mlx-lm", "-p", str(PROMPT), "-n", str(GENERATED), "-r", str(TRIALS)]
    command += ["--set", 'run.external_causes="warn"', "--results", folder / "results", "--reports", folder / "reports"]
    environment = {**os.environ, "INFEROMETER_TEST_PATIENCE_MS": "20000"}
    told = subprocess.run(command, env=environment, capture_output=True, text=True)
    if told.returncode not in (0, 4):
        sys.exit(told.stdout + told.stderr)
    newest = max((folder / "results").iterdir(), key=lambda path: path.name)
    rows = [row for row in csv.DictReader((newest / "requests.csv").open()) if row["warmup"] == "false"]
    names = ("prefill_tps", "decode_tps", "engine_peak_bytes")
    valid = [[float(row[name]) for name in names] for row in rows if row["status"] == "ok"]
    return tuple(map(statistics.median, zip(*valid))) if valid else None


def benchmark(program, folder):
    model = folder / "model"
    made = [program, "-q", "model", "new", "--arch", "qwen3", "--preset", "tiny", "--dtype", "f32", model]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
    rounds = []
    for at in range(ROUNDS):
        sides = {"theirs": lambda: theirs(model), "ours": lambda: ours(program, model, folder)}
        order = sorted(sides, reverse=at % 2 == 0)
        found = {side: sides[side]() for side in order}
        if found["ours"] is not None:
            rounds.append((found["ours"], found["theirs"]))
    if len(rounds) < 6:
        print("too few valid rounds")
        return 2
    print(f"qwen3 tiny, f32, {PROMPT} tokens of prompt, {GENERATED} generated, {len(rounds)} rounds of {TRIALS} each")
    print("                    mlx-lm engine   mlx_lm.benchmark   ratio [95 % interval]")
    results = [row(name, at, rounds) for at, name in enumerate(("prefill, tok/s", "decode, tok/s"))]
    peaks = [statistics.median(side[2] for side in sides) / 2**20 for sides in zip(*rounds)]
    print(f"peak of MLX, MiB    {peaks[0]:13.2f}   {peaks[1]:16.2f}   (not compared)")
    return max(results)


def row(name, at, rounds):
    ratio, low, high = interval([mine[at] / other[at] for mine, other in rounds])
    mine, other = (statistics.median(side[at] for side in sides) for sides in zip(*rounds))
    print(f"{name:18}  {mine:13.1f}   {other:16.1f}   {ratio:.3f} [{low:.3f}, {high:.3f}]")
    if high < 1 - TOLERANCE or low > 1 + TOLERANCE:
        print(f"DIFFERENT: {name} is beyond {TOLERANCE:.0%}")
        return 1
    if high - low > WIDEST:
        print(f"inconclusive: the interval of {name} is wider than {WIDEST:.0%}")
        return 2
    return 0


def module(path):
    spec = importlib.util.spec_from_file_location("adapter", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def own_work_s(adapter, engine, message, cancelled):
    """Seconds that the adapter spends on a token that costs nothing: its own `generate` around a loop without a model."""

    class Free:
        def __init__(self, *_):
            pass

        def tokens(self):
            for token in range(TOKENS):
                yield token, time.monotonic_ns()

        def close(self):
            pass

        def report(self, _):
            return {}, [], {}

    def spent():
        stamps = adapter.generate(engine, message, time.monotonic_ns(), cancelled, None)["token_ns"]
        return (stamps[-1] - stamps[0]) / (len(stamps) - 1) / 1e9

    real, adapter.Plain = adapter.Plain, Free
    try:
        return statistics.median(spent() for _ in range(50))
    finally:
        adapter.Plain = real


def overhead(program, folder, path):
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.models.cache import make_prompt_cache

    adapter, model = module(path), folder / "model"
    made = [program, "-q", "model", "new", "--arch", "qwen3", "--preset", "tiny", "--dtype", "f32", model]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
    engine = adapter.Engine({"model": str(model)}, adapter.OPTIONS["prefill_step_size"])
    prompt = [1 + n % 1000 for n in range(32)]

    def plain():
        stamps = []
        steps = generate_step(
            mx.array(prompt), engine.model, max_tokens=TOKENS, prompt_cache=make_prompt_cache(engine.model)
        )
        for _ in steps:
            stamps.append(time.monotonic_ns())
        return rate(stamps)

    message = {"prompt": {"tokens": prompt}, "max_tokens": TOKENS, "ignore_eos": True, "toggles": {"kv_reuse": "none"}}

    def adapted():
        return rate(adapter.generate(engine, message, time.monotonic_ns(), lambda: False, None)["token_ns"])

    def rate(stamps):
        return (len(stamps) - 1) / (stamps[-1] - stamps[0]) * 1e9

    plain(), adapted()
    pairs, end = [], time.monotonic() + MOST_S
    while len(pairs) < PAIRS and time.monotonic() < end:
        pairs.append((plain(), adapted()) if len(pairs) % 2 else (adapted(), plain())[::-1])
    base, mine = (statistics.median(rates) for rates in zip(*pairs))
    ratio, low, high = interval([ours / others for others, ours in pairs])
    print(f"{len(pairs)} pairs in turns: generate_step alone {base:.0f} tok/s, through the adapter {mine:.0f} tok/s")
    print(f"ratio of medians {mine / base:.4f}; median of ratios {ratio:.4f} [{low:.4f}, {high:.4f}]")
    own = own_work_s(adapter, engine, message, lambda: False)
    print(f"the adapter's own work: {own * 1e6:.2f} us a token, {own * AIM:.3%} of a token at {AIM} tok/s")

    def slow():
        end = time.perf_counter() + 2 * OWN_MOST_S
        while time.perf_counter() < end:
            pass
        return False

    noticed = own_work_s(adapter, engine, message, slow) > OWN_MOST_S
    print("noticed: an adapter that loses 2 %" if noticed else "NOT NOTICED: an adapter that loses 2 %")
    if high < 1 - LOSS or own > OWN_MOST_S or not noticed:
        print(f"DIFFERENT: the adapter loses more than {LOSS:.0%}, or the check cannot tell")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit({"benchmark": benchmark, "overhead": overhead}[sys.argv[1]](*map(Path, sys.argv[2:])))
