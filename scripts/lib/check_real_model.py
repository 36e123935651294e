"""Compares a trained model with llama.cpp. Called by check-real-model.

usage: check_real_model.py PROGRAMS NAME TOKENS

Both engines round the inputs of products to eight bits, each in its own way, so their logits differ. What that comes to is
measured: llama.cpp's logits against ours with every weight and input in f32. Where llama.cpp's two best logits are further
apart than twice the largest such difference at that step, the greedy token must be the same; nearer ones are counted.

Perplexities are compared twice. In f32 (llama.cpp gets the file with every tensor dequantized) they must be equal. With the
file as it is they must be within half a percent, or ours must be the nearer one to that of f32.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

PROGRAMS, NAME, TOKENS = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
ROOT = Path(__file__).resolve().parents[2]
GREEDY = 200
# Differences of perplexities, relative: as stored, in f32.
PERPLEXITY, EXACT = 0.005, 0.0005
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


def dequantized(path, folder):
    """The same file with every tensor in f32."""
    reader = gguf.GGUFReader(path)
    out = folder / "f32.gguf"
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def their_losses(path, ids, **settings):
    # In one piece, as the reference's own program does it.
    model = llama_cpp.Llama(model_path=str(path), logits_all=True, **settings)
    model.eval(ids)
    return losses(model.scores[: len(ids) - 1], ids[1:])


def check_perplexity(path, model, settings):
    text = (ROOT / "scenarios/prompts/us-constitution.txt").read_text(encoding="utf-8")
    ids = model.tokenize(text.encode(), add_bos=True, special=True)[:TOKENS]
    if len(ids) < TOKENS:
        problems.append(f"the text has {len(ids)} tokens, not {TOKENS}")
    run = dict(ids=ids[:1], steps=len(ids) - 1, forced=ids[1:], losses=True)
    mine, exact = (np.array(ours(path, dtype, **run)["losses"]) for dtype in (None, "f32"))
    reference = their_losses(path, ids, **settings)
    with tempfile.TemporaryDirectory() as folder:
        full = dict(type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32)
        their_exact = their_losses(dequantized(path, Path(folder)), ids, **settings, **full)

    def row(name, here, there):
        apart = here - there
        ratio = np.expm1(apart.mean())
        spread = apart.std() / len(apart) ** 0.5
        print(f"{name:18} {np.exp(here.mean()):.4f}, llama.cpp {np.exp(there.mean()):.4f}: {ratio:+.3%} (standard error {spread:.3%})")
        return abs(ratio)

    print(f"perplexity of {len(ids)} tokens")
    if not row("  in f32", exact, their_exact) <= EXACT:
        problems.append(f"perplexities in f32 differ by more than {EXACT:.2%}")
    stored = row("  as stored", mine, reference)
    off = [abs(np.expm1((one - exact).mean())) for one in (mine, reference)]
    print(f"  as stored from f32: ours {off[0]:.3%}, llama.cpp {off[1]:.3%}")
    if not (stored <= PERPLEXITY or off[0] <= off[1]):
        problems.append(f"perplexities differ by more than {PERPLEXITY:.1%}, and ours is further from that in f32")
    return their_exact


def check_quality(path, model, their_exact):
    """The quality pass of a session, f32 against the weights as stored: perplexity in f32 as llama.cpp's, KL divergence as
    that of the full distributions, of which it is a lower bound."""
    context, count, text = 32, 48, ROOT / "scenarios/prompts/us-constitution.txt"
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "quality.toml"
        scenario.write_text(
            f"name = 'quality'\nmodel.path = '{path}'\nworkload = {{ text = 'one two', max_tokens = 2, ignore_eos = true }}\n"
            f"quality = {{ text_file = '{text}', context = {context}, tokens = {count} }}\nab = {{ pilot = 0, outputs = 'any' }}\n"
        )
        command = [PROGRAMS / "inferometer", "-q", "ab", scenario, "--a", "dtype=f32", "--resident", "--format", "json", "--no-report"]
        # Whatever the verdict on speed is.
        told = subprocess.run([*command, "--results", folder], capture_output=True, text=True).stdout
    found = json.loads(told)["quality"][0]
    ids = model.tokenize(text.read_bytes(), add_bos=True, special=True)[: context + count]
    forced = ids[context:]

    def logprobs(dtype):
        rows = np.array(ours(path, dtype, ids=ids[:context], steps=count, forced=forced)["logits"], dtype=np.float64)
        rows -= rows.max(axis=1, keepdims=True)
        return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))

    a, b = logprobs("f32"), logprobs(None)
    exact = (np.exp(a) * (a - b)).sum(axis=1).mean()
    same = (a.argmax(axis=1) == b.argmax(axis=1)).mean()
    # The loss of the token behind each id but the last.
    want = np.exp(their_exact[context - 1 : context + count - 1].mean())
    got, bound = found["a"]["perplexity"]["perplexity"], found["divergence"]["kl"]
    print(f"quality pass       perplexity in f32 {got:.4f}, llama.cpp {want:.4f}: {got / want - 1:+.3%}")
    print(f"                   KL at least {bound:.5f}, exactly {exact:.5f}; rest {found['divergence']['rest']:.2%}; same top {same:.1%}")
    if not abs(got / want - 1) <= EXACT:
        problems.append(f"the quality pass has another perplexity than llama.cpp, by more than {EXACT:.2%}")
    if not 0.9 * exact <= bound <= 1.0001 * exact:
        problems.append("the KL divergence is not a close lower bound")
    if abs(found["divergence"]["same_top"] - same) > 1e-9:
        problems.append("the shares of the same most likely tokens differ")


def main():
    path = json.loads(inferometer("model", "show", NAME, "--format", "json"))["path"]
    settings = dict(model_path=path, n_ctx=max(TOKENS, 1024), n_threads=2, n_batch=512, verbose=False)
    model = llama_cpp.Llama(**settings)
    prompt = check_template(path, model) or QUESTION
    check_greedy(path, model, prompt)
    settings.pop("model_path")
    check_quality(path, model, check_perplexity(path, model, settings))
    for line in problems:
        print("DIFFERENT:", line)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
