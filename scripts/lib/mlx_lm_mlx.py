"""Compares the MLX backend with mlx_lm: tokens, logits, caches, conversations, operations. Called by `check-mlx-lm mlx`.

usage: mlx_lm_mlx.py PROGRAMS FOLDER

PROGRAMS has `inferometer`, `examples/logits` and `examples/mlx_operations`; FOLDER is for the models and what MLX compiles.
mlx_lm runs on the same folder with the same chunk size; its model and its caches are called as our engine calls its own.
Its public `generate_step`, which splits off the prompt's last token, gives the tokens a second time.

In f32, tokens must be equal. A prompt is used only if mlx_lm's two best logits differ enough at every step, so that rounding
cannot choose another token on another processor. In other folders, logits along mlx_lm's own tokens must agree within the
resolution of their dtype. If tokens differ, their two logits must be that close.

A comparison that cannot fail proves nothing, so at the end one side gets different input, which must be detected.
"""

import contextlib
import io
import json
import subprocess
import sys
from collections import Counter
from itertools import takewhile
from pathlib import Path

import mlx.core as mx
from mlx_lm_candle import CLOSEST, STEPS, TOLERANCE, ask, difference, gap, prompt, reference, variant, variants
from mlx_lm.convert import convert
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import RotatingKVCache, make_prompt_cache, trim_prompt_cache
from mlx_lm.utils import load_model

ARCHITECTURES = ("llama", "qwen3")
# Two best logits of mlx_lm that serve, twice what our side may take for a tie.
APART = 2 * CLOSEST
# Prompt lengths and chunk sizes in f32.
PLAIN = [(1, 2048), (7, 2048), (67, 1), (129, 16), (601, 2048), (601, 512), (2100, 2048)]
# Of the other architectures, below and beyond their windows.
OTHERS = [(7, 2048), (129, 16), (601, 128)]
# Of 4 bits, all else in f32: a quantized prefill is slow on the CPU.
QUANTIZED = [(7, 2048), (129, 16)]
# Prompt length, chunk size, and another chunk size that shows what mlx_lm's own rounding comes to.
ROUNDED = [(7, 2048, 3), (67, 16, 2048), (129, 2048, 16)]
LONG = (601, 512, 2048)
# Steps where numbers are rounded to bf16 or f16.
ROUNDED_STEPS = 32
# Of the largest logit: two steps of the dtype there, so that a processor whose products depend on how matrices are stacked
# may round a logit to a neighbour. What the dtype does to the logits as a whole is far more; it is shown beside.
ALLOWED = 2 * 2.0**-7
ALLOWED_F16 = 2 * 2.0**-10
# Window, prompt length, chunk size.
ROTATING = [(16, 129, 16), (16, 67, 1), (64, 129, 2048), (64, 300, 48)]
# Of each turn: how many tokens of the last reply stay, which of them is changed, how many new ids follow, chunk size.
TURNS = [(0, None, 40, 2048), (20, None, 30, 2048), (24, 5, 17, 16), (24, None, 9, 16), (0, None, 33, 2048)]
REPLY = 24


class Check:
    def __init__(self, programs, root):
        self.programs, self.root, self.problems = programs, root, []
        self.tool = str(programs / "examples/logits")

    def differs(self, line):
        self.problems.append(line)
        print("DIFFERENT:", line)

    def made(self, name, arch, *options):
        command = [self.programs / "inferometer", "-q", "model", "new", "--arch", arch, "--preset", "tiny", "--seed", "1"]
        subprocess.run([*command, *options, self.root / name], check=True, stdout=subprocess.DEVNULL)
        return self.root / name

    def converted(self, name, folder, **options):
        """mlx_lm's own quantizer."""
        with contextlib.redirect_stdout(io.StringIO()):
            convert(str(folder), str(self.root / name), quantize=True, **options)
        return self.root / name

    def noticed(self, what, found):
        """`found` must hold a problem."""
        if found:
            print(f"noticed: {what}")
        else:
            self.problems.append(what)
            print(f"NOT NOTICED: {what}")


def vocabulary(folder):
    return json.loads((folder / "config.json").read_text())["vocab_size"]


def model_of(folder):
    # Strict: a missing, extra or misshapen tensor is an error.
    model, _ = load_model(folder, strict=True)
    return model


def serving(folder, length, run):
    """The first prompt whose two best logits lie apart at every step; `run(ids)` gives tokens and logits of mlx_lm."""
    for seed in range(40):
        ids = prompt(length, vocabulary(folder), seed)
        tokens, logits = run(ids)
        if min(map(gap, logits)) >= APART:
            return ids, tokens, logits
    sys.exit(f"{folder}: of no prompt of {length} tokens lie the two best logits apart")


def parted(ours, theirs):
    """Index from which on tokens differ, else None."""
    if ours == theirs:
        return None
    return next((at for at, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))


def compare_tokens(what, sides, theirs):
    """Problems: a side whose tokens are not mlx_lm's."""
    for label, tokens in sides.items():
        first = parted(tokens, theirs)
        if first is not None:
            yield f"{what}: {label} differ from index {first} on"


def plain(check, name, folder, lengths=PLAIN, theirs_folder=None):
    """f32: tokens of MLX, of candle and of mlx_lm are equal, and logits within rounding."""
    model = model_of(theirs_folder or folder)
    served = [serving(folder, length, lambda ids: reference(model, ids, chunk)) for length, chunk in lengths]
    runs = [{"ids": ids, "chunk": chunk, "steps": STEPS} for (ids, *_), (_, chunk) in zip(served, lengths)]
    mlx = ask(check.tool, folder, backend="mlx", runs=runs)["runs"]
    compiled = ask(check.tool, folder, backend="mlx", compile=True, runs=runs)["runs"]
    candle = ask(check.tool, folder, backend="candle", runs=runs)["runs"]
    problems, worst = [], 0.0
    for (ids, tokens, logits), (_, chunk), ours, fused, other in zip(served, lengths, mlx, compiled, candle, strict=True):
        steps = generate_step(mx.array(ids), model, max_tokens=STEPS, prefill_step_size=chunk)
        sides = {
            "tokens": ours["tokens"],
            "session's tokens": ours["session_tokens"],
            "compiled session's tokens": fused["session_tokens"],
            "candle's tokens": other["session_tokens"],
            "generate_step's tokens": [int(token) for token, _ in steps],
        }
        what = f"{name}, {len(ids)} tokens in chunks of {chunk}"
        problems += compare_tokens(what, sides, tokens)
        offs = list(map(difference, ours["logits"], logits))
        worst = max(worst, *offs)
        if not all(off <= TOLERANCE for off in offs):
            problems.append(f"{what}: logits are off by {max(offs):.2e} of the largest")
    good = f"{len(runs)} prompts, {STEPS} tokens equal, worst logit difference {worst:.1e}"
    print(f"{name:28} {'different' if problems else good}")
    return problems


def rounded(check, name, folder, lengths, theirs_folder=None, allowed=ALLOWED):
    """Logits along mlx_lm's tokens as close as the dtype has numbers; tokens part only where two logits are as close.

    Shown beside: what another chunk size, that is another order of work, changes in mlx_lm's logits, and how far they are
    from those that mlx_lm computes in f32 from the same stored numbers (scales are widened, which is exact)."""
    model, exact = model_of(theirs_folder or folder), model_of(theirs_folder or folder)
    exact.set_dtype(mx.float32)
    theirs, rounding, noise = [], [], []
    for length, chunk, other in lengths:
        ids = prompt(length, vocabulary(folder), 0)
        tokens, logits = reference(model, ids, chunk, steps=ROUNDED_STEPS)
        noise += map(difference, reference(model, ids, other, steps=ROUNDED_STEPS, forced=tokens)[1], logits)
        if not rounding:
            rounding += map(difference, logits, reference(exact, ids, chunk, steps=ROUNDED_STEPS, forced=tokens)[1])
        theirs.append((ids, chunk, tokens, logits))
    problems = []
    if not all(off <= allowed for off in noise):
        problems.append(f"{name}: mlx_lm's own logits change by {max(noise):.1e} with the chunk size: too little is allowed")
    runs = [{"ids": ids, "chunk": chunk, "steps": ROUNDED_STEPS, "forced": tokens} for ids, chunk, tokens, _ in theirs]
    found, offs, ties, equal = ask(check.tool, folder, backend="mlx", runs=runs)["runs"], [], [], 0
    for (ids, chunk, tokens, logits), run in zip(theirs, found, strict=True):
        what = f"{name}, {len(ids)} tokens in chunks of {chunk}"
        offs += map(difference, run["logits"], logits)
        at = parted(run["session_tokens"], tokens)
        if at is None:
            equal += 1
            continue
        # Up to here the tokens are equal, so the logits along mlx_lm's are those of both choices.
        one, two, his, mine = tokens[at], run["session_tokens"][at], logits[at], run["logits"][at]
        apart = abs(his[one] - his[two]).item() / mx.abs(his).max().item()
        line = f"{what}: step {at}: mlx_lm {one} ({his[one].item():.4f}, {his[two].item():.4f})"
        line += f", ours {two} ({mine[one]:.4f}, {mine[two]:.4f}), {apart:.1e} of the largest apart"
        if apart <= allowed:
            ties.append("near-tie: " + line)
        else:
            problems.append(line + ": no near-tie")
    if not all(off <= allowed for off in offs):
        problems.append(f"{name}: logits are off by {max(offs):.2e} of the largest, {allowed:.1e} is allowed")
    figures = f"logits off by {max(offs):.1e}; mlx_lm's at another chunk size {max(noise):.1e}, in f32 {max(rounding):.1e}"
    print(f"{name:28} {figures}; tokens of {equal} of {len(runs)} prompts equal")
    for line in ties:
        print("   ", line)
    return problems


def rotating(check, name, folder, cases=ROTATING, wider=0):
    """f32: `rotating:N` against mlx_lm's rotating cache of the same size."""
    model, problems = model_of(folder), []
    for window, length, chunk in cases:
        size = window + wider

        def run(ids):
            return reference(model, ids, chunk, [RotatingKVCache(max_size=size, keep=0) for _ in model.layers])

        ids, tokens, _ = serving(folder, length, run)
        runs = [{"ids": ids, "chunk": chunk, "steps": STEPS}]
        what = f"{name}, window of {window}, {length} tokens in chunks of {chunk}"
        for backend in ("mlx", "candle"):
            ours = ask(check.tool, folder, backend=backend, window=window, runs=runs)["runs"][0]
            sides = {f"{backend}: tokens": ours["tokens"], f"{backend}: session's tokens": ours["session_tokens"]}
            problems += compare_tokens(what, sides, tokens)
            if ours["cached"] != min(window, length + STEPS - 1):
                problems.append(f"{what}: {backend}: attention saw {ours['cached']} positions")
    good = f"rotating caches: {len(cases)} prompts, {STEPS} tokens equal"
    print(f"{name:28} {'different' if problems else good}")
    return problems


def talk(model, folder, seed, trim_less=0):
    """A conversation with mlx_lm, its cache trimmed to the common prefix: of each turn prompt, chunk size, tokens, how many
    positions were kept; and the smallest gap of two best logits. `trim_less`: forget to trim so many."""
    cache, held, turns, closest, ids, reply = make_prompt_cache(model), [], [], float("inf"), [], []
    fresh = iter(prompt(sum(new for _, _, new, _ in TURNS), vocabulary(folder), seed))
    for stays, changed, new, chunk in TURNS:
        kept = reply[:stays]
        if changed is not None:
            kept[changed] += 1 if kept[changed] == 0 else -1
        ids = ids + kept + [next(fresh) for _ in range(new)]
        common = min(sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(held, ids))), len(ids) - 1)
        beyond = len(held) - common
        if held and trim_prompt_cache(cache, max(beyond - trim_less, 0)) != max(beyond - trim_less, 0):
            sys.exit("mlx_lm could not trim its cache")
        reply, logits = reference(model, ids[common:], chunk, cache, REPLY)
        closest = min(closest, *map(gap, logits))
        # The last token was not run through the model.
        held = ids + reply[:-1]
        turns.append((ids, chunk, reply, common))
    return turns, closest


def conversation(check, name, folder, trim_less=0):
    """f32: turns that share a prefix with what the cache holds, reused or not, on both backends."""
    model, problems = model_of(folder), []
    seed = next((seed for seed in range(40) if talk(model, folder, seed)[1] >= APART), None)
    if seed is None:
        sys.exit(f"{name}: in no conversation lie the two best logits apart")
    turns, _ = talk(model, folder, seed, trim_less)
    for backend in ("mlx", "candle"):
        for reuse in (True, False):
            runs = [
                {"ids": ids, "chunk": chunk, "steps": REPLY, "continues": at > 0, "reuse": reuse}
                for at, (ids, chunk, *_) in enumerate(turns)
            ]
            for at, (run, turn) in enumerate(zip(ask(check.tool, folder, backend=backend, runs=runs)["runs"], turns)):
                ids, _, reply, common = turn
                what = f"{name}, turn {at} on {backend}, {'with' if reuse else 'without'} reuse"
                problems += compare_tokens(what, {"tokens": run["session_tokens"]}, reply)
                wanted = (common if reuse else 0, len(ids) + REPLY - 1)
                if (run["reused"], run["cached"]) != wanted:
                    problems.append(f"{what}: reused and cached {run['reused']}, {run['cached']}, not {wanted}")
    shared = ", ".join(f"{common} of {len(ids)}" for ids, _, _, common in turns)
    good = f"conversation: tokens equal, positions reused: {shared}"
    print(f"{name:28} {'different' if problems else good}")
    return problems


def primitives(dot):
    """How often each primitive occurs: a box of the graph; arrays are none."""
    return Counter(line.split('"')[1] for line in dot.splitlines() if "shape=rectangle" in line)


def operations(folder, root, compiled):
    """Of mlx_lm's graph of one decode step, as its generate_step builds it, the cache warm."""
    (mx.enable_compile if compiled else mx.disable_compile)()
    model = model_of(folder)
    mx.eval(model.parameters())
    cache = make_prompt_cache(model)

    def step(ids):
        logits = model(ids[None], cache=cache)[:, -1, :]
        probabilities = logits - mx.logsumexp(logits, keepdims=True)
        return mx.argmax(probabilities, axis=-1), probabilities.squeeze(0)

    token, probabilities = step(mx.array([5, 3, 8, 1]))
    for _ in range(2):
        mx.eval(token, probabilities)
        token, probabilities = step(token)
    mx.export_to_dot(str(root / "graph.dot"), token, probabilities)
    mx.enable_compile()
    return primitives((root / "graph.dot").read_text())


def counted(check, name, folder):
    """Not more operations a token than mlx_lm has, compiled as it does it and not."""
    problems, figures = [], []
    for compiled in (True, False):
        theirs = operations(folder, check.root, compiled)
        command = [check.programs / "examples/mlx_operations", folder] + (["compile"] if compiled else [])
        ours = Counter(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        figures.append(f"{ours.total()} of {theirs.total()} {'compiled' if compiled else 'plain'}")
        products = [sum(n for what, n in side.items() if "Matmul" in what) for side in (ours, theirs)]
        if not 0 < products[0] <= products[1]:
            problems.append(f"{name}: {products[0]} products a token, mlx_lm {products[1]}")
        if ours.total() > theirs.total():
            problems.append(f"{name}: {ours.total()} operations a token, mlx_lm {theirs.total()}: {ours - theirs}")
    print(f"{name:28} operations a token, of mlx_lm's: {', '.join(figures)}")
    return problems


def scaled(folder, target):
    """A copy in which the scales of one matrix are 2 % too large."""
    variant(folder, target)
    weights = mx.load(str(folder / "model.safetensors"))
    weights["model.layers.1.mlp.up_proj.scales"] *= 1.02
    mx.save_safetensors(str(target / "model.safetensors"), weights, metadata={"format": "pt"})
    return target


def main():
    check = Check(Path(sys.argv[1]), Path(sys.argv[2]))
    problems = []
    (check.root / "others").mkdir()
    for arch in ("llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "smollm3", "phi3", "gemma3", "gpt_oss"):
        check.made(f"others/{arch}", arch)
    for name, folder in variants(check.root / "others").items():
        if name.removesuffix(" as made") not in ARCHITECTURES:
            problems += plain(check, f"{name}, f32", folder, OTHERS)
    for arch in ARCHITECTURES:
        f32 = check.made(arch, arch)
        bf16 = check.made(f"{arch} bf16", arch, "--dtype", "bf16")
        f16 = check.made(f"{arch} f16", arch, "--dtype", "f16")
        q4 = check.made(f"{arch} 4 bits", arch, "--dtype", "bf16", "--bits", "4", "--group-size", "64")
        q4_f32 = check.made(f"{arch} 4 bits in f32", arch, "--bits", "4", "--group-size", "64")
        q8 = check.made(f"{arch} 8 bits", arch, "--dtype", "bf16", "--bits", "8", "--group-size", "64")
        theirs = check.converted(f"{arch} 4 bits by mlx_lm", f32, q_bits=4, q_group_size=64, dtype="bfloat16")
        problems += plain(check, f"{arch}, f32", f32)
        problems += plain(check, f"{arch}, 4 bits in f32", q4_f32, QUANTIZED)
        problems += rounded(check, f"{arch}, bf16", bf16, [*ROUNDED, LONG])
        problems += rounded(check, f"{arch}, f16", f16, ROUNDED, allowed=ALLOWED_F16)
        for name, folder in {"4 bits": q4, "8 bits": q8, "4 bits by mlx_lm": theirs}.items():
            problems += rounded(check, f"{arch}, {name}", folder, ROUNDED)
        problems += rotating(check, f"{arch}, f32", f32)
        problems += conversation(check, f"{arch}, f32", f32)
        for name, folder in {"f32": f32, "bf16": bf16, "4 bits": q4}.items():
            problems += counted(check, f"{arch}, {name}", folder)
    for line in problems:
        check.differs(line)
    wrong = variant(f32, check.root / "wrong", rms_norm_eps=1e-2)
    check.noticed("wrong norm epsilon, f32", plain(check, "wrong epsilon", wrong, [(129, 16)], f32))
    wrong = variant(bf16, check.root / "wrong bf16", rope_theta=20000.0)
    check.noticed("wrong rope theta, bf16", rounded(check, "wrong theta", wrong, ROUNDED, bf16))
    wrong = scaled(q4, check.root / "wrong 4 bits")
    check.noticed("scales 2 % too large, 4 bits", rounded(check, "wrong scales", wrong, ROUNDED, q4))
    check.noticed("window too small by one", rotating(check, "wrong window", f32, ROTATING[:2], wider=1))
    check.noticed("cache not trimmed enough", conversation(check, "wrong trim", f32, trim_less=1))
    print("different" if check.problems else "equal; errors put in on purpose were noticed")
    return 1 if check.problems else 0


if __name__ == "__main__":
    sys.exit(main())
