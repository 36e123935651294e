#!/usr/bin/env python3
"""Python's mlx_lm as an engine of Inferometer: the engine protocol around `mlx_lm.generate.generate_step`.

    pip install 'mlx-lm==0.32.2'      # on Linux 'mlx[cpu]==0.32.2' too: the version that an MLX build of Inferometer has
    inferometer engines check --model MODEL_DIR -- python3 examples/mlx_lm_adapter.py

    [[engine]]                        # in a scenario with exact prompt `lengths`
    name = "exec"
    options = { command = ["python3", "examples/mlx_lm_adapter.py"] }

Inferometer and this adapter both load the libmlx that LD_LIBRARY_PATH names, if it names one; Python's mlx must
have the same version. Prompts are token ids, so conversations of messages are not supported. Requests that name a
conversation reuse the longest common prefix. `--prefill-step-size` is mlx_lm's own setting. Its meaning differs from
that of the toggle `prefill_chunk_size` (the last prompt token is always run alone), so that toggle is not honoured;
the step is in the receipt's details.
"""

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path

import mlx.core as mx
import mlx.utils
import mlx_lm
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import can_trim_prompt_cache, make_prompt_cache, trim_prompt_cache
from mlx_lm.sample_utils import make_logits_processors, make_sampler
from mlx_lm.utils import load_model

PROTOCOL = {"major": 1, "minor": 4}
DEFAULT_WINDOW_CAP = 768


class Refused(Exception):
    """The request cannot be fulfilled; the engine is still in order and continues."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Engine:
    def __init__(self, folder, prefill_step_size):
        if folder is None:
            raise Refused("model", "mlx_lm needs a model folder")
        try:
            self.model, self.config = load_model(Path(folder))
        except Exception as problem:
            raise Refused("model", f"{folder}: {problem}")
        self.folder, self.step = folder, prefill_step_size
        self.caches = {}  # conversation -> (cache, the tokens in it)

    def receipt(self):
        weights = sum(array.nbytes for _, array in mlx.utils.tree_flatten(self.model.parameters()))
        return {
            "engine": "mlx_lm",
            "version": mlx_lm.__version__,
            "backend": f"mlx {mx.__version__}",
            "device": "metal" if mx.metal.is_available() else "cpu",
            "model": {
                "name": os.path.basename(os.path.realpath(self.folder)),
                "path": str(self.folder),
                "architecture": self.config.get("model_type"),
                "weight_bytes": weights,
                "vocabulary": self.config.get("vocab_size"),
                "context_length": self.config.get("max_position_embeddings"),
                "synthetic": "inferometer_synthetic" in self.config,
            },
            "capabilities": {
                "tokens": True,
                "forced_tokens": True,
                "choices": True,
                "logprobs": True,
                "cancel": True,
                "reset": True,
                "clear_cache": True,
                "memory": True,
                "stream": True,
            },
            "toggles": [
                "kv_reuse",
                "repetition_penalty",
                "repetition_context_size",
                "repetition_window_cap",
                "lazy_pipeline",
            ],
            "sampling": [
                "seed",
                "temperature",
                "top_k",
                "top_p",
                "min_p",
                "repetition_penalty",
                "repetition_context_size",
            ],
            "token_timing": "exact",
            "deterministic": True,
            "includes": ["sampling"],
            "settings": {"kv_cache": "full"},
            "details": {"prefill_step_size": str(self.step), "python": sys.version.split()[0]},
        }

    def reset(self):
        self.caches = {}
        mx.clear_cache()

    def cache_for(self, name, prompt, reuse):
        """A cache for the prompt, and how many of its tokens it already holds; the last token is always run."""
        cache, held = self.caches.pop(name, (None, []))
        same = 0
        while reuse and same < min(len(held), len(prompt) - 1) and held[same] == prompt[same]:
            same += 1
        if cache is not None and same > 0 and (same == len(held) or can_trim_prompt_cache(cache)):
            trim_prompt_cache(cache, cache[0].offset - same)
            return cache, same
        return make_prompt_cache(self.model), 0

    def memory(self):
        return {
            "active_bytes": mx.get_active_memory(),
            "cache_bytes": mx.get_cache_memory(),
            "peak_bytes": mx.get_peak_memory(),
        }


def known_ids(engine, what, ids):
    vocabulary = engine.config["vocab_size"]
    if not all(isinstance(id, int) and 0 <= id < vocabulary for id in ids):
        raise Refused("bad_request", f"{what}: a token id is outside 0..{vocabulary - 1}")
    return ids


def prompt_ids(engine, message):
    prompt = message.get("prompt", {}).get("tokens")
    if not prompt:
        raise Refused("bad_request", 'this engine takes a prompt of at least one token id: {"tokens": [..]}')
    return known_ids(engine, "prompt", prompt)


class Steering:
    """Decodes along forced tokens, if there are any, and records what would have been chosen, if requested.

    `generate_step` calls both methods once for each token, in order, and for one token more than it returns."""

    def __init__(self, sampler, forced, watched, top):
        self.sampler, self.forced, self.watched, self.top = sampler, forced, watched, top
        self.tokens, self.gaps, self.logprobs, self.steps = [], [], [], 0

    def keep(self, _, logits):
        """The first of the logits processors: nothing has changed its input yet."""
        self.raw = logits
        return logits

    def look(self, _, logits):
        """The last of the logits processors: its input is already penalized."""
        best = mx.sort(logits.astype(mx.float32), axis=-1)[0, -2:]
        self.gaps.append((best[1] - best[0]).item())
        return logits

    def sample(self, logprobs):
        chosen = self.sampler(logprobs)
        if self.watched:
            self.tokens.append(chosen.item())
        if self.forced is not None:
            chosen = mx.array([self.forced[min(self.steps, len(self.forced) - 1)]], dtype=chosen.dtype)
        if self.top is not None:
            self.logprobs.append(self.logprob(chosen.item()))
        self.steps += 1
        return chosen

    def logprob(self, token):
        logits = self.raw[0].astype(mx.float32)
        logprobs = logits - mx.logsumexp(logits)
        best = mx.argsort(-logprobs)[: self.top]
        top = list(zip(best.tolist(), logprobs[best].tolist())) if self.top else []
        return {"logprob": logprobs[token].item(), "top": top}

    def choices(self, count):
        return [{"token": token, "gap": gap} for token, gap in zip(self.tokens[:count], self.gaps)]


def window(context, cap, history):
    """Number of tokens that the penalty considers; a bound of 0 means none."""
    return min([history] + [bound for bound in (context, cap) if bound > 0])


def generate(engine, message, accepted_ns, cancelled, send):
    prompt, limit = prompt_ids(engine, message), message.get("max_tokens", 0)
    if not isinstance(limit, int) or limit < 1:
        raise Refused("bad_request", "`max_tokens` must be a whole number, at least 1")
    forced, watched = message.get("forced_tokens"), message.get("choices", False)
    top = message.get("top_logprobs")
    if forced is not None:
        limit = min(limit, len(known_ids(engine, "forced_tokens", forced)))
        if limit == 0:
            raise Refused("bad_request", "`forced_tokens` is empty; at least one token is generated")
    sampling, toggles = message.get("sampling", {}), message.get("toggles", {})
    penalty = toggles.get("repetition_penalty", sampling.get("repetition_penalty", 1.0))
    context = toggles.get("repetition_context_size", sampling.get("repetition_context_size", 20))
    cap = toggles.get("repetition_window_cap", DEFAULT_WINDOW_CAP)
    bound = window(context, cap, len(prompt) + limit)
    reuse = toggles.get("kv_reuse") != "none"
    mx.random.seed(sampling.get("seed", 0))
    mx.reset_peak_memory()
    started = time.monotonic_ns()
    cache, reused = engine.cache_for(message.get("conversation"), prompt, reuse)
    sampler = make_sampler(
        temp=sampling.get("temperature", 0.0),
        top_p=sampling.get("top_p", 1.0),
        min_p=sampling.get("min_p", 0.0),
        top_k=sampling.get("top_k", 0),
    )
    steering = Steering(sampler, forced, watched, top)
    processors = make_logits_processors(
        repetition_penalty=penalty if penalty != 1.0 else None, repetition_context_size=bound
    )
    steps = generate_step(
        mx.array(prompt[reused:]),
        engine.model,
        max_tokens=limit,
        prompt_cache=cache,
        prefill_step_size=engine.step,
        # A timed pass uses mlx_lm's own sampler and nothing else.
        sampler=steering.sample if watched or forced is not None or top is not None else sampler,
        logits_processors=[steering.keep] * (top is not None) + processors + [steering.look] * watched,
    )
    stops = engine.config.get("eos_token_id")
    stops = [] if stops is None else stops if isinstance(stops, list) else [stops]
    stops = [] if message.get("ignore_eos") or forced is not None else stops
    tokens, stamps, finish = [], [], "length"
    for token, _ in steps:
        stamps.append(time.monotonic_ns())  # `generate_step` has read it already
        tokens.append(int(token))
        if message.get("stream"):  # in warm-ups: the harness compares the arrivals with these stamps
            send({"type": "token", "index": len(tokens) - 1, "token": tokens[-1]})
        if token in stops or cancelled():
            finish = "stop" if token in stops else "cancelled"
            break
    done = time.monotonic_ns()
    known = prompt + tokens
    held = cache[0].offset
    trim_prompt_cache(cache, max(0, held - len(known)))
    engine.caches[message.get("conversation")] = (cache, known[: cache[0].offset])
    spans = [
        {"phase": "prefill", "index": 0, "start_ns": started, "end_ns": stamps[0]},
        {"phase": "decode", "index": 0, "start_ns": stamps[0], "end_ns": done},
    ]
    return {
        "type": "result",
        "tokens": tokens,
        "token_ns": stamps,
        "accepted_ns": accepted_ns,
        "finished_ns": done,
        "spans": spans,
        **({"choices": steering.choices(len(tokens))} if watched else {}),
        **({"logprobs": steering.logprobs[: len(tokens)]} if top is not None else {}),
        "finish_reason": finish,
        "prompt_tokens": len(prompt),
        "reused_tokens": reused,
        "prefill_tokens": len(prompt) - reused,
        "cache_tokens": cache[0].offset,
        "effective": {
            "repetition_penalty": penalty,
            "repetition_window": 0 if penalty == 1.0 else window(context, cap, len(known) - 1),
            "kv_reuse": "prefix" if reuse else "none",
            "lazy_pipeline": True,  # `generate_step` always works this way
        },
        "memory": engine.memory(),
    }


def answer(state, message, accepted_ns, cancelled, send):
    kind, engine = message.get("type"), state.get("engine")
    if kind == "hello":
        if message["protocol"]["major"] != PROTOCOL["major"]:
            return error("protocol", f"this host speaks engine protocol {PROTOCOL['major']}")
        return {"type": "hello", "protocol": PROTOCOL, "host": f"mlx_lm_adapter.py, mlx_lm {mlx_lm.__version__}"}
    if kind == "ping":
        return {"type": "pong", "clock": "python time.monotonic_ns", "now_ns": time.monotonic_ns()}
    if kind == "open":
        engine = state["engine"] = Engine(message.get("model"), state["step"])
        return {"type": "ready", **engine.receipt(), "load_ns": time.monotonic_ns() - accepted_ns}
    if kind == "close":
        return {"type": "done"}
    if kind in ("generate", "reset", "clear_cache", "memory") and engine is None:
        return error("bad_request", "no model is open; send `open` first")
    if kind == "generate":
        return generate(engine, message, accepted_ns, cancelled, send)
    if kind == "reset":
        engine.reset()
        return {"type": "done"}
    if kind == "clear_cache":
        mx.clear_cache()
        return {"type": "done"}
    if kind == "memory":
        return {"type": "memory", **engine.memory()}
    if kind in ("profile_start", "profile_stop"):
        return error("unsupported", f"this engine has no `{kind}`")
    return error("protocol", f"unknown message type {kind!r}")


def error(kind, text):
    return {"type": "error", "kind": kind, "message": text}


class Wire:
    """Standard input read on a thread of its own, so that `cancel` arrives during work."""

    def __init__(self):
        self.messages, self.ready = [], threading.Condition()
        self.cancelled, self.lock = set(), threading.Lock()
        # Other output must not appear between the answers.
        self.out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in sys.stdin:
            accepted_ns, message = time.monotonic_ns(), json.loads(line)
            if message.get("type") == "cancel":
                self.cancelled.add(message.get("request"))
                self.send(message["id"], {"type": "done"})
                continue
            with self.ready:
                self.messages.append((message, accepted_ns))
                self.ready.notify()
        os._exit(0)  # the harness has ended

    def next(self):
        with self.ready:
            self.ready.wait_for(lambda: self.messages)
            return self.messages.pop(0)

    def send(self, id, reply):
        with self.lock:
            self.out.write(json.dumps({"id": id, **reply}) + "\n")
            self.out.flush()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--prefill-step-size", type=int, default=2048)
    state, wire = {"step": arguments.parse_args().prefill_step_size}, Wire()
    while True:
        message, accepted_ns = wire.next()
        id = message["id"]
        try:
            reply = answer(state, message, accepted_ns, lambda: id in wire.cancelled, lambda body: wire.send(id, body))
        except Refused as problem:
            reply = error(problem.kind, str(problem))
        except Exception as problem:
            reply = error("internal", f"{type(problem).__name__}: {problem}")
        wire.send(id, reply)
        if message.get("type") == "close":
            return


if __name__ == "__main__":
    main()
