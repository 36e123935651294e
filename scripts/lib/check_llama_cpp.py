"""Holds the host of llama.cpp against what it claims. Called by check-llama-cpp.

usage: check_llama_cpp.py run|tokens|rates PROGRAMS HOST MODEL SCRATCH [LLAMA_BENCH ROUNDS]
"""

import csv
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

WHAT, PROGRAMS, HOST, MODEL, SCRATCH = sys.argv[1], *(Path(path).resolve() for path in sys.argv[2:6])
ROOT = Path(__file__).resolve().parents[2]
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
# Where the reference's two best logits are nearer than this, another build of llama.cpp may choose the other one: in chunks
# or behind a reused prefix, logits of a quantized model differ by a few hundredths.
TIE = 0.2
# Rates may differ by this share beyond their 95 % intervals.
TOLERANCE = 0.05
problems = []


def expect(holds, problem):
    if not holds:
        problems.append(problem)


def scenario(text):
    path = SCRATCH / f"{WHAT}.toml"
    path.write_text(text)
    return path


def rows(name, text, iterations, *options):
    """The timed requests of one run, and its record."""
    path = scenario(
        f'name = "{name}"\n[model]\npath = {json.dumps(str(MODEL))}\n[workload]\n'
        f"text_file = {json.dumps(str(ROOT / 'scenarios/prompts/essay.txt'))}\nignore_eos = true\n{text}"
        f"[run]\niterations = {iterations}\nwarmup = 1\n"
        f'[[engine]]\nname = "exec"\nlabel = "llama-cpp"\noptions = {{ command = {json.dumps([str(HOST), *options])} }}\n'
    )
    out = SCRATCH / name
    command = [PROGRAMS / "inferometer", "run", path, "-q", "--set", "run.external_causes=warn", "--results", out, "--reports", out / "pages"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 4):
        sys.exit(f"inferometer run: exit code {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
    record = max((path.parent for path in out.glob("*/requests.csv")), key=lambda path: path.stat().st_mtime)
    with open(record / "requests.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["warmup"] in ("false", "0", "")], record


def run():
    found, record = rows("check-llama-cpp", "lengths = [128, 512]\nmax_tokens = 32\n", 10)
    expect(len(found) == 20, f"{len(found)} iterations instead of 20")
    for row in found:
        expect(row["status"] == "ok", f"iteration {row['iteration']}: {row['status']}, {row.get('reason', '')}")
        expect(row["timing"] == "verified", f"iteration {row['iteration']}: token times are {row['timing']}")
    for length in ("128", "512"):
        hashes = {row["token_hash"] for row in found if row["prompt_tokens"] == length}
        expect(len(hashes) == 1, f"prompt of {length}: {len(hashes)} different outputs")
    print(f"{sum(row['status'] == 'ok' for row in found)} of {len(found)} iterations valid, all with verified times: {record.name}")


class Host:
    """The host, over its protocol."""

    def __init__(self, *options):
        self.log = open(SCRATCH / "host.log", "w+")
        self.process = subprocess.Popen([HOST, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.id = 0
        self.ask(type="hello", protocol={"major": 1, "minor": 6}, harness="check-llama-cpp")
        self.receipt = self.ask(type="open", engine={"name": "llama-cpp", "label": "l", "options": {}}, model=str(MODEL), toggles={"threads": THREADS})

    def ask(self, **message):
        self.id += 1
        self.process.stdin.write(json.dumps({"id": self.id, **message}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"type": "error", "message": "the host is gone"}')
        if answer["type"] == "error":
            sys.exit(f"the host: {answer['message']}")
        return answer

    def generate(self, prompt, tokens, reset=True, **further):
        if reset:
            self.ask(type="reset")
        return self.ask(type="generate", prompt=prompt, max_tokens=tokens, ignore_eos=True, **further)


PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "Once upon a time, in a small village by the sea, there lived an old fisherman who had never learned to swim. Every morning he",
    "1 2 3 4 5 6 7",
    "Ein Satz auf Deutsch, mit Umlauten: äöü ß. Und dann: ",
    "Water boils at 100 degrees. " * 20,
]
GENERATED = 24


def tokens():
    import llama_cpp
    import numpy as np

    host = Host("flash_attention=on", "context=1024")
    theirs = llama_cpp.Llama(str(MODEL), n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=THREADS, flash_attn=True, logits_all=False, verbose=False)
    compared, near = 0, 0

    def follow(name, ids, generated, penalty=None):
        """Whether llama-cpp-python would generate these tokens, given each time those before."""
        nonlocal compared, near
        theirs.reset()
        theirs.eval(ids)
        for at, token in enumerate(generated):
            logits = np.array(theirs._ctx.get_logits_ith(-1)[: theirs.n_vocab()], dtype=np.float64)
            if penalty:
                factor, window = penalty
                seen = np.unique((ids + generated[:at])[-window:])
                logits[seen] = np.where(logits[seen] > 0, logits[seen] / factor, logits[seen] * factor)
            best = int(logits.argmax())
            apart = logits[best] - logits[token]
            compared += 1
            near += best != token
            expect(apart <= TIE, f"{name}, token {at}: {token} instead of {best}, whose logit is {apart:.3f} higher")
            theirs.eval([token])

    for at, text in enumerate(PROMPTS):
        ids = theirs.tokenize(text.encode(), add_bos=True, special=True)
        plain = host.generate({"tokens": ids}, GENERATED)
        follow(f"prompt {at}", ids, plain["tokens"])
        told = host.generate({"text": text}, GENERATED)
        expect(told["prompt_tokens"] == len(ids) and told["tokens"] == plain["tokens"], f"prompt {at}: other tokens as text")
        again = host.generate({"tokens": ids}, GENERATED)
        expect(again["tokens"] == plain["tokens"], f"prompt {at}: other tokens the second time")
        chunked = host.generate({"tokens": ids}, GENERATED, toggles={"prefill_chunk_size": 3})
        expect(chunked["effective"]["prefill_chunk_size"] == min(3, len(ids)), f"prompt {at}: {chunked['effective']}")
        follow(f"prompt {at} in chunks of 3", ids, chunked["tokens"])
        half = len(ids) // 2
        host.generate({"tokens": ids[:half]}, 1)
        reused = host.generate({"tokens": ids}, GENERATED, reset=False)
        expect(reused["reused_tokens"] == half, f"prompt {at}: {reused['reused_tokens']} tokens reused instead of {half}")
        follow(f"prompt {at} behind a reused prefix", ids, reused["tokens"])
        none = host.generate({"tokens": ids}, GENERATED, reset=False, toggles={"kv_reuse": "none"})
        expect(none["reused_tokens"] == 0 and none["tokens"] == plain["tokens"], f"prompt {at}: kv_reuse = none")
        for answer in (plain, chunked, reused, none):
            expect(answer["cache_tokens"] == len(ids) + GENERATED - 1, f"prompt {at}: {answer['cache_tokens']} in the cache")
        for size, cap, window in ((0, 0, 10**6), (8, 0, 8), (64, 5, 5)):
            asked = {"repetition_penalty": 1.3, "repetition_context_size": size}
            punished = host.generate({"tokens": ids}, GENERATED, sampling=asked, toggles={"repetition_window_cap": cap})
            follow(f"prompt {at}, penalty on {window}", ids, punished["tokens"], (1.3, window))
            history = len(ids) + GENERATED - 1
            expect(punished["effective"]["repetition_window"] == min(window, history), f"prompt {at}: {punished['effective']}")
        forced = host.generate({"tokens": ids}, 4, forced_tokens=[5, 6, 7, 8], choices=True, top_logprobs=3)
        expect(forced["tokens"] == [5, 6, 7, 8] and len(forced["choices"]) == 4, f"prompt {at}: forced tokens")
        expect(forced["choices"][0]["token"] == plain["tokens"][0] == forced["logprobs"][0]["top"][0][0], f"prompt {at}: first choice")
        built_in(at, ids, plain["tokens"])
    expect(near <= compared / 50, f"{near} of {compared} tokens are near-ties: too many to compare anything")
    shown = subprocess.run([PROGRAMS / "inferometer", "-q", "model", "show", MODEL, "--format", "json"], capture_output=True, text=True, check=True)
    ours = json.loads(shown.stdout)["fingerprint"]
    expect(host.receipt["model"]["fingerprint"] == ours, f"fingerprint {host.receipt['model']['fingerprint']} instead of {ours}")
    print(f"{compared} tokens are those of llama-cpp-python {llama_cpp.__version__} ({near} of them near-ties within {TIE} logits)")


# The built-in engine rounds otherwise, so only tokens before a near-tie are compared, and few.
FIRST, ROUNDED = 6, 1.0


def built_in(at, ids, generated):
    request = {"model": str(MODEL), "runs": [{"ids": ids, "chunk": 512, "steps": FIRST, "forced": generated[:FIRST]}]}
    done = subprocess.run([PROGRAMS / "examples/logits"], input=json.dumps(request), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"examples/logits failed: {done.stderr.strip()[:500]}")
    (ran,) = json.loads(done.stdout)["runs"]
    for step, (logits, token) in enumerate(zip(ran["logits"], generated)):
        apart = max(logits) - logits[token]
        expect(apart <= ROUNDED, f"prompt {at}, token {step}: the built-in engine finds {token} {apart:.3f} below its best")


PROMPT, DECODED, EACH = 512, 64, 3


def rates():
    bench, rounds = sys.argv[6], int(sys.argv[7])
    ours, theirs = {"prefill": [], "decode": []}, {"prefill": [], "decode": []}
    for at in range(rounds):
        # 64 forward passes of decode give 65 tokens, because the first token comes with the prefill.
        text = f"lengths = [{PROMPT}]\nmax_tokens = {DECODED + 1}\n[toggles]\nthreads = {THREADS}\nprefill_chunk_size = {PROMPT}\n"
        found, _ = rows(f"rates-{at}", text, EACH, "flash_attention=on", f"batch={PROMPT}")
        for row in found:
            if row["status"] == "ok":
                ours["prefill"].append(float(row["prefill_tps"]))
                ours["decode"].append(float(row["decode_tps"]))
        common = ["-m", MODEL, "-t", THREADS, "-b", PROMPT, "-ub", PROMPT, "-fa", "on", "-r", EACH, "-o", "json"]
        for which, test in (("prefill", ["-p", PROMPT, "-n", 0]), ("decode", ["-p", 0, "-n", DECODED, "-d", PROMPT])):
            command = [str(part) for part in [bench, *common, *test]]
            (told,) = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            theirs[which] += told["samples_ts"]
        print(f"round {at + 1} of {rounds}", file=sys.stderr)
    print(f"{THREADS} threads, micro-batch {PROMPT}, flash attention, KV cache in f16; means with 95 % intervals of {rounds} x {EACH} repetitions")
    print(f"{'tokens/s':<32}{'inferometer':>28}{'llama-bench':>28}{'ratio':>8}")
    definitions = {"prefill": f"prefill of {PROMPT}", "decode": f"decode of {DECODED} at {PROMPT}"}
    for which, name in definitions.items():
        (a, da), (b, db) = interval(ours[which]), interval(theirs[which])
        print(f"{name:<32}{f'{a:.1f} ± {da:.1f}':>28}{f'{b:.1f} ± {db:.1f}':>28}{a / b:>8.3f}")
        apart = max(0.0, abs(a - b) - da - db) / b
        expect(apart <= TOLERANCE, f"{name}: the intervals are {apart:.1%} apart, more than {TOLERANCE:.0%}")


# Student's t for a two-sided 95 % interval, by degrees of freedom.
T95 = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13]


def interval(values):
    """Mean and half of its 95 % interval."""
    if len(values) < 2:
        sys.exit(f"only {len(values)} valid repetitions")
    t = T95[min(len(values) - 2, len(T95) - 1)]
    return statistics.mean(values), t * statistics.stdev(values) / math.sqrt(len(values))


{"run": run, "tokens": tokens, "rates": rates}[WHAT]()
for problem in problems[:20]:
    print(f"differs: {problem}")
sys.exit(bool(problems))
