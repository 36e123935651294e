"""Compares a trained model with llama.cpp. Called by check-real-model.

usage: check_real_model.py PROGRAMS NAME TOKENS

Both engines round the inputs of products to eight bits, each in its own way, so their logits differ. What that comes to is
measured: llama.cpp's logits against ours with every weight and input in f32. Where llama.cpp's two best logits are further
apart than twice the largest such difference at that step, the greedy token must be the same; nearer ones are counted.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import llama_cpp
import numpy as np
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

PROGRAMS, NAME, TOKENS = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
ROOT = Path(__file__).resolve().parents[2]
GREEDY = 200
# Of llama.cpp's.
PERPLEXITY = 0.005
QUESTION = "Explain in a few sentences why the sky is blue and what happens at sunset."
CHATS = [
    [{"role": "user", "content": QUESTION}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Two plus two?"}],
    [
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hi, how can I help?"},
        {"role": "user", "content": "Name three rivers.\n\nIn a list."},
    ],
]
problems = []


def inferometer(*arguments):
    command = [PROGRAMS / "inferometer", "-q", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def ours(path, dtype=None, **run):
    request = {"model": str(path), "runs": [{"chunk": 512, **run}]}
    if dtype:
        request["dtype"] = dtype
    done = subprocess.run([PROGRAMS / "examples/logits"], input=json.dumps(request), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"examples/logits failed: {done.stderr.strip()[:500]}")
    return json.loads(done.stdout)["runs"][0]


def theirs(model, ids, forced):
    """Logits behind the ids and behind each forced token but the last."""
    model.reset()
    model.eval(ids)
    rows = []
    for token in forced:
        rows.append(np.array(model._ctx.get_logits_ith(-1)[: model.n_vocab()]))
        model.eval([token])
    return np.array(rows)


def theirs_greedy(model, ids, count):
    model.reset()
    model.eval(ids)
    tokens = []
    for _ in range(count):
        tokens.append(int(np.argmax(model._ctx.get_logits_ith(-1)[: model.n_vocab()])))
        model.eval(tokens[-1:])
    return tokens


def losses(rows, tokens):
    highest = rows.max(axis=1, keepdims=True)
    sums = np.exp((rows - highest).astype(np.float64)).sum(axis=1)
    return np.log(sums) - (rows[np.arange(len(tokens)), tokens] - highest[:, 0]).astype(np.float64)


def check_template(path, model):
    source = model.metadata.get("tokenizer.chat_template")
    if source is None:
        print("chat template      none in this file")
        return None
    text = lambda id: model._model.token_get_text(id) if id >= 0 else ""
    format = Jinja2ChatFormatter(source, text(model.token_eos()), text(model.token_bos()))
    for chat in CHATS:
        want = format(messages=chat).prompt
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(chat, file)
            file.flush()
            got = json.loads(inferometer("model", "render", str(path), "--messages-file", file.name))
        # llama.cpp's own renderer strips the end.
        if got.rstrip() != want.rstrip():
            problems.append(f"rendered chats differ: {got!r} and not {want!r}")
    print(f"chat template      {len(CHATS)} chats rendered")
    return format(messages=CHATS[0]).prompt


def check_greedy(path, model, prompt):
    ids = model.tokenize(prompt.encode(), add_bos=True, special=True)
    tokens = theirs_greedy(model, ids, GREEDY)
    mine = ours(path, ids=ids, steps=GREEDY, forced=tokens)
    exact = np.array(ours(path, "f32", ids=ids, steps=GREEDY, forced=tokens)["logits"])
    reference = theirs(model, ids, tokens)
    best = np.sort(reference, axis=1)[:, -2:]
    apart, rounding = best[:, 1] - best[:, 0], 2 * np.abs(reference - exact).max(axis=1)
    differ = np.array(mine["tokens"]) != np.array(tokens)
    clear = apart > rounding
    if (differ & clear).any():
        problems.append(f"greedy tokens differ at steps {np.nonzero(differ & clear)[0].tolist()}, where the choice is clear")
    if not clear.any():
        problems.append("no choice is clear: nothing was compared")
    off = lambda rows: np.sqrt(((np.array(rows) - exact) ** 2).mean())
    print(f"greedy text        {GREEDY} tokens, {differ.sum()} differ, none of {clear.sum()} clear ones" if not (differ & clear).any() else "greedy text        DIFFERENT")
    print(f"from exact logits  ours {off(mine['logits']):.3f} rms, llama.cpp {off(reference):.3f} rms")
    free = ours(path, ids=ids, steps=GREEDY)["tokens"]
    print("our text          ", model.detokenize(free).decode(errors="replace").strip()[:400].replace("\n", " "))


def check_perplexity(path, model):
    text = (ROOT / "scenarios/prompts/essay.txt").read_text() + (ROOT / "scenarios/prompts/dialogue.txt").read_text()
    ids = model.tokenize(text.encode(), add_bos=True, special=True)[:TOKENS]
    if len(ids) < TOKENS:
        problems.append(f"the text has {len(ids)} tokens, not {TOKENS}")
    forced = ids[1:]
    mine = ours(path, ids=ids[:1], steps=len(forced), forced=forced, losses=True)["losses"]
    # In one piece, as the reference's own program does it.
    model.reset()
    model.eval(ids)
    reference = losses(model.scores[: len(forced)], forced)
    got, want = np.exp(np.mean(mine)), np.exp(reference.mean())
    print(f"perplexity         {got:.4f}, llama.cpp {want:.4f}: {got / want - 1:+.3%}")
    if not abs(got / want - 1) <= PERPLEXITY:
        problems.append(f"perplexities differ by more than {PERPLEXITY:.1%}")


def main():
    path = json.loads(inferometer("model", "show", NAME, "--format", "json"))["path"]
    settings = dict(model_path=path, n_ctx=max(TOKENS, 1024), n_threads=2, n_batch=512, verbose=False)
    model = llama_cpp.Llama(**settings)
    prompt = check_template(path, model) or QUESTION
    check_greedy(path, model, prompt)
    del model
    check_perplexity(path, llama_cpp.Llama(**settings, logits_all=True))
    for line in problems:
        print("DIFFERENT:", line)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
