"""Compares greedy tokens, logits and token ids of two implementations. Called by `check-mlx-lm candle`.

usage: mlx_lm_candle.py LOGITS_TOOL FOLDER [--seeds]

FOLDER holds a tiny model of each architecture; variants of them (tied or untied head, rope scaling, layer types) are made
beside them. With --seeds it prints for each model the seeds that SEEDS needs, and compares nothing.
A comparison that cannot fail proves nothing, so at the end our side gets a wrong configuration, which must be detected.
"""

import json
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
from mlx_lm.generate import speculative_generate_step
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model
from tokenizers import Tokenizer

STEPS = 64
# Of the largest logit's magnitude, per step.
TOLERANCE = 1e-3
# Where the two best logits lie closer than this (of the largest), rounding could choose the other token on another
# processor: such a prompt cannot serve. Implementations differ by up to 1e-4.
CLOSEST = 5e-4
# Prompt lengths and chunk sizes.
PROMPTS = [(1, 2048), (7, 2048), (67, 1), (129, 16), (601, 2048), (601, 128)]
# A seed for each prompt of a model, found by trying: the two best logits are at least 1e-3 apart at every step.
SEEDS = {
    "llama as made": [0, 2, 3, 0, 3, 3],
    "qwen3 as made": [0, 3, 1, 8, 0, 0],
    "llama, tied, plain rope": [1, 2, 0, 1, 1, 1],
    "llama, llama3 rope": [3, 2, 0, 1, 0, 0],
    "qwen3, untied": [0, 2, 0, 0, 2, 2],
    "llama, two windows": [0, 4, 1, 1, 4, 4],
    "mistral, by layer types": [1, 0, 0, 3, 2, 2],
    "smollm3, linear rope": [0, 2, 2, 1, 0, 0],
    "gpt_oss, rounded yarn": [4, 2, 0, 0, 0, 0],
    "qwen2 as made": [0, 1, 3, 1, 2, 2],
    "qwen3_moe as made": [0, 0, 1, 2, 3, 3],
    "smollm3 as made": [1, 1, 1, 1, 0, 0],
    "phi3 as made": [0, 1, 1, 1, 3, 3],
    "gemma3 as made": [3, 1, 0, 1, 1, 1],
}
TEXTS = [
    "An interferometer sends light down two paths.",
    "",
    " leading and trailing blanks \n\n\tand tabs  ",
    "fn main() { println!(\"{}\", 1 << 20); } // code",
    "Grüße, 世界! Ωmega — “quotes” 🙂 e\u0301",
    "0123456789 3.14159 1e-9 <|endoftext|> <s> </s>",
]
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    # Short, so that a prompt of a few hundred tokens meets scaled, blended and unscaled frequencies.
    "original_max_position_embeddings": 64,
}
HEAD, TABLE = "lm_head.weight", "model.embed_tokens.weight"


def variant(source, target, **changes):
    """A copy of a model with other configuration; the head is added or left out to fit."""
    target.mkdir()
    config = json.loads((source / "config.json").read_text())
    config.update(changes)
    (target / "config.json").write_text(json.dumps(config))
    (target / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    weights = mx.load(str(source / "model.safetensors"))
    if config["tie_word_embeddings"]:
        weights.pop(HEAD, None)
    elif HEAD not in weights:
        mx.random.seed(1)
        weights[HEAD] = mx.random.permutation(weights[TABLE], axis=1)
    mx.save_safetensors(str(target / "model.safetensors"), weights, metadata={"format": "pt"})
    return target


def prompt(length, vocabulary, seed):
    return [(i * i * 31 + i * 7 + 11 + seed * (97 * i + 13)) % (vocabulary - 300) + 300 for i in range(length)]


def reference(model, ids, chunk, cache=None, steps=STEPS, forced=None):
    """Best tokens and logits of mlx_lm, prefilled in chunks as our side does it, behind what the cache holds."""
    cache = cache or make_prompt_cache(model)
    last = (len(ids) - 1) // chunk * chunk
    for start in range(0, last, chunk):
        mx.eval(model(mx.array([ids[start : start + chunk]]), cache=cache))
    tokens, logits, step = [], [], ids[last:]
    for at in range(steps):
        values = model(mx.array([step]), cache=cache)[0, -1].astype(mx.float32)
        tokens.append(mx.argmax(values).item())
        logits.append(values)
        step = [forced[at] if forced else tokens[-1]]
    return tokens, logits


def ask(tool, folder, **request):
    """What examples/logits.rs answers."""
    done = subprocess.run([tool], input=json.dumps({"model": str(folder), **request}), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{tool} failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def gap(logits):
    """How far the two best logits are apart, of the largest."""
    best = mx.sort(logits)[-2:]
    return ((best[1] - best[0]) / mx.abs(logits).max()).item()


def difference(ours, theirs):
    """The largest difference of two logits of a token, of the largest."""
    return (mx.abs(mx.array(ours) - theirs).max() / mx.abs(theirs).max()).item()


def compare(tool, name, folder, seeds, theirs_folder=None, lengths=PROMPTS):
    """Differences found; none if all is equal within the tolerance. Prints the largest."""
    theirs_folder = theirs_folder or folder
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    prompts = [(prompt(length, vocabulary, seed), chunk) for (length, chunk), seed in zip(lengths, seeds, strict=True)]
    runs = [{"ids": ids, "chunk": chunk, "steps": STEPS} for ids, chunk in prompts]
    got = ask(tool, folder, runs=runs, texts=TEXTS)
    model, _ = load_model(theirs_folder)
    model.set_dtype(mx.float32)
    problems, worst, closest = [], 0.0, float("inf")
    for (ids, chunk), run in zip(prompts, got["runs"]):
        what = f"{name}, {len(ids)} tokens in chunks of {chunk}"
        tokens, logits = reference(model, ids, chunk)
        for label in ("tokens", "session_tokens"):
            if run[label] != tokens:
                first = next((i for i, (a, b) in enumerate(zip(run[label], tokens)) if a != b), "the end")
                problems.append(f"{what}: {label} differ from index {first} on")
        for step, (mine, his) in enumerate(zip(run["logits"], logits)):
            off = difference(mine, his)
            worst = max(worst, off)
            if not off <= TOLERANCE:
                problems.append(f"{what}: logits of step {step} are off by {off:.2e} of the largest")
                break
            apart = gap(his)
            closest = min(closest, apart)
            if not apart >= CLOSEST:
                problems.append(f"{what}: the two best logits of step {step} are only {apart:.1e} apart; change the seed")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text, ids in zip(TEXTS, got["texts"]):
        if ids != tokenizer.encode(text).ids:
            problems.append(f"{name}: token ids of {text!r} differ")
    distinct = min(len(set(run["tokens"])) for run in got["runs"])
    print(f"{name:24} worst logit difference {worst:.1e}, closest two logits {closest:.1e}, fewest distinct ids {distinct}")
    return problems


def speculation(tool, name, folder, seeds):
    """Differences from mlx_lm's speculative decoding, with a draft model that is nearly the model."""
    draft = variant(folder, folder.with_name(folder.name + "-draft"))
    weights = mx.load(str(draft / "model.safetensors"))
    mx.random.seed(1)
    nearly = {key: x + 0.01 * mx.abs(x).mean() * mx.random.normal(x.shape) for key, x in weights.items()}
    # Read before the file is written anew.
    mx.eval(nearly)
    mx.save_safetensors(str(draft / "model.safetensors"), nearly, metadata={"format": "pt"})
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    runs = [
        {"ids": prompt(length, vocabulary, seed), "chunk": chunk, "steps": STEPS, "drafts": drafts}
        for (length, chunk), seed in zip(PROMPTS, seeds, strict=True)
        for drafts in (1, 2, 5)
    ]
    got = ask(tool, folder, draft=str(draft), runs=runs)
    models = [load_model(path)[0] for path in (folder, draft)]
    for model in models:
        model.set_dtype(mx.float32)
    problems, accepted, drafted = [], 0, 0
    for run, mine in zip(runs, got["runs"]):
        what = f"{name}, {len(run['ids'])} tokens, drafts of {run['drafts']}"
        # mlx_lm drafts the first token too; here it belongs to the prefill. So both begin to draft after it.
        first = mine["session_tokens"][:1]
        step = speculative_generate_step(
            mx.array(run["ids"] + first),
            *models,
            num_draft_tokens=run["drafts"],
            max_tokens=STEPS - 1,
            prefill_step_size=run["chunk"],
        )
        tokens, _, by_draft = zip(*step)
        counts = mine["speculation"]
        if mine["session_tokens"] != first + list(tokens):
            problems.append(f"{what}: tokens differ from mlx_lm's speculative decoding")
        # mlx_lm's last draft may be longer by one token, which takes the place of the one that is chosen after ours.
        if sum(by_draft) - counts["accepted_tokens"] not in (0, 1):
            problems.append(f"{what}: {counts['accepted_tokens']} tokens accepted, {sum(by_draft)} by mlx_lm")
        accepted += counts["accepted_tokens"]
        drafted += counts["drafted_tokens"]
    if not 0.1 < accepted / drafted < 0.95:
        problems.append(f"{name}: {accepted} of {drafted} drafted tokens accepted, which tests only one of two ways")
    print(f"{name:24} speculative decoding: {accepted} of {drafted} drafted tokens accepted")
    return problems


def seeds(folder):
    """For each prompt, the first seed with which the two best logits are at least 1e-3 apart at every step."""
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    model, _ = load_model(folder)
    model.set_dtype(mx.float32)
    fits = lambda length, chunk, seed: all(
        gap(logits) >= 1e-3 for logits in reference(model, prompt(length, vocabulary, seed), chunk)[1]
    )
    return [next((seed for seed in range(40) if fits(length, chunk, seed)), None) for length, chunk in PROMPTS]


def variants(root):
    plain = {"rope_scaling": None, "rope_parameters": None, "rope_theta": 10000.0}
    layers = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]
    yarn = json.loads((root / "gpt_oss/config.json").read_text())["rope_scaling"]
    models = {
        "llama as made": root / "llama",
        "qwen3 as made": root / "qwen3",
        "llama, tied, plain rope": variant(root / "llama", root / "a", tie_word_embeddings=True, **plain),
        "llama, llama3 rope": variant(
            root / "llama", root / "b", tie_word_embeddings=False, rope_theta=500000.0, rope_scaling=LLAMA3
        ),
        "qwen3, untied": variant(root / "qwen3", root / "c", tie_word_embeddings=False),
        "llama, two windows": variant(root / "llama", root / "d", layer_types=layers, sliding_window=48),
        # mlx_lm takes Mistral for Llama and looks for windows only under layer_types.
        "mistral, by layer types": variant(root / "mistral", root / "e", layer_types=layers),
        "smollm3, linear rope": variant(
            root / "smollm3", root / "f", rope_scaling={"rope_type": "linear", "factor": 4.0}
        ),
        # mlx_lm always rounds the ends of YaRN's interpolation.
        "gpt_oss, rounded yarn": variant(root / "gpt_oss", root / "g", rope_scaling={**yarn, "truncate": True}),
    }
    for name in ["qwen2", "qwen3_moe", "smollm3", "phi3", "gemma3"]:
        models[f"{name} as made"] = root / name
    return models


def main():
    tool, root = sys.argv[1], Path(sys.argv[2])
    models = variants(root)
    if "--seeds" in sys.argv:
        for name, folder in models.items():
            print(f'    "{name}": {seeds(folder)},', flush=True)
        return 0
    problems = [problem for name, folder in models.items() for problem in compare(tool, name, folder, SEEDS[name])]
    for name in ("llama as made", "qwen3 as made", "phi3 as made"):
        problems += speculation(tool, name, models[name], SEEDS[name])
    for line in problems:
        print("DIFFERENT:", line)
    broken = {
        "wrong rope theta": ({"rope_theta": 20000.0}, models["llama, tied, plain rope"]),
        "rope scaling left out": ({"rope_scaling": None}, models["llama, llama3 rope"]),
        "wrong norm epsilon": ({"rms_norm_eps": 1e-2}, root / "qwen3"),
    }
    for at, (name, (changes, folder)) in enumerate(broken.items()):
        wrong = variant(folder, root / f"wrong{at}", **changes)
        found = compare(tool, name, wrong, [0], folder, lengths=[(129, 16)])
        if not any("tokens differ" in line for line in found) or not any("are off by" in line for line in found):
            problems.append(name)
            print(f"NOT NOTICED: {name}")
    print("different" if problems else "equal; errors put in on purpose were noticed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
