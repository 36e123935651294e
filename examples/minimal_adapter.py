#!/usr/bin/env python3
"""A minimal engine for Inferometer: the engine protocol in one file, standard library only.

It is a toy without a model, and its receipt says so. The next token is

    next = (31 * last + 7 * position + 1) mod vocabulary

where `last` is the previous token (prompt included), `position` is the number of previous tokens, and `vocabulary`
is `vocab_size` in the model folder's config.json, or 1000 without a model. So equal prompts give equal tokens, and
different prompts give different ones. Replace `ToyEngine` by a real engine and keep the rest. The guide is
docs/guides/adding-an-engine.md; adapters/mlx_lm_adapter.py is an adapter of a real library.

    inferometer engines check -- python3 examples/minimal_adapter.py
"""

import json
import os
import sys
import time

PROTOCOL = {"major": 1, "minor": 4}


class Refused(Exception):
    """The request cannot be fulfilled; the engine is still in order and continues."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class ToyEngine:
    def __init__(self, model):
        """Loads the model; here, only the size of its vocabulary."""
        self.name, self.vocabulary = "toy formula (no model)", 1000
        if model is not None:
            try:
                with open(os.path.join(model, "config.json")) as file:
                    self.vocabulary = json.load(file)["vocab_size"]
            except (OSError, ValueError, KeyError) as problem:
                raise Refused("model", f"{model} has no config.json with a `vocab_size`: {problem}")
            self.name = f"toy formula with the vocabulary of {os.path.basename(model)}"

    def receipt(self):
        return {
            "engine": "minimal-adapter",
            "version": "1.0.0",
            "backend": "none: a toy that computes ids by a formula",
            "device": "cpu",
            "model": {"name": self.name, "vocabulary": self.vocabulary, "synthetic": True},
            "capabilities": {"tokens": True, "forced_tokens": True, "reset": True, "stream": True},
            "toggles": [],
            "sampling": [],  # the fields of the request's `sampling` that the engine obeys; this one ignores it
            "token_timing": "exact",
            "deterministic": True,
            "includes": [],
            "settings": {},
        }

    def generate(self, prompt, max_tokens, forced):
        """Yields the generated ids one by one. A real engine obeys the fields of `sampling` that its receipt lists."""
        last = prompt[-1]
        for step in range(max_tokens):
            if forced is not None and step == len(forced):
                return
            last = (31 * last + 7 * (len(prompt) + step) + 1) % self.vocabulary
            if forced is not None:
                last = forced[step]
            yield last

    def reset(self):
        """Drops the KV cache. The toy keeps nothing between requests."""


def prompt_ids(engine, message):
    prompt = message.get("prompt", {}).get("tokens")
    if not prompt:
        raise Refused("bad_request", "this engine takes a prompt of at least one token id: {\"tokens\": [..]}")
    if not all(isinstance(id, int) and 0 <= id < engine.vocabulary for id in prompt):
        raise Refused("bad_request", f"the prompt has a token id outside 0..{engine.vocabulary - 1}")
    return prompt


def generate(engine, message, accepted_ns):
    prompt = prompt_ids(engine, message)
    max_tokens = message.get("max_tokens")
    if not isinstance(max_tokens, int) or max_tokens < 1:
        raise Refused("bad_request", "`max_tokens` must be a whole number, at least 1")
    tokens, token_ns = [], []
    for token in engine.generate(prompt, max_tokens, message.get("forced_tokens")):
        tokens.append(token)
        token_ns.append(time.monotonic_ns())  # now, when the token can be read; never later
        if message.get("stream"):  # in warm-ups: the harness compares the arrivals with these stamps
            send(message["id"], {"type": "token", "index": len(tokens) - 1, "token": token})
    return {
        "type": "result",
        "tokens": tokens,
        "token_ns": token_ns,
        "accepted_ns": accepted_ns,
        "finished_ns": time.monotonic_ns(),
        "finish_reason": "length",
        "prompt_tokens": len(prompt),
        "reused_tokens": 0,
        "prefill_tokens": len(prompt),
        "cache_tokens": None,
        "effective": {},
    }


def answer(state, message, accepted_ns):
    kind, engine = message.get("type"), state.get("engine")
    if kind == "hello":
        if message["protocol"]["major"] != PROTOCOL["major"]:
            return error("protocol", f"this host speaks engine protocol {PROTOCOL['major']}")
        return {"type": "hello", "protocol": PROTOCOL, "host": "minimal_adapter.py 1.0.0"}
    if kind == "ping":
        return {"type": "pong", "clock": "python time.monotonic_ns", "now_ns": time.monotonic_ns()}
    if kind == "open":
        engine = state["engine"] = ToyEngine(message.get("model"))
        return {"type": "ready", **engine.receipt(), "load_ns": time.monotonic_ns() - accepted_ns}
    if kind in ("cancel", "close"):  # one thread: what was to be cancelled has ended
        return {"type": "done"}
    if kind in ("generate", "reset") and engine is None:
        return error("bad_request", "no model is open; send `open` first")
    if kind == "generate":
        return generate(engine, message, accepted_ns)
    if kind == "reset":
        engine.reset()
        return {"type": "done"}
    if kind in ("clear_cache", "memory", "profile_start", "profile_stop"):
        return error("unsupported", f"this engine has no `{kind}`")
    return error("protocol", f"unknown message type {kind!r}")


def error(kind, text):
    return {"type": "error", "kind": kind, "message": text}


def send(id, body):
    sys.stdout.write(json.dumps({"id": id, **body}) + "\n")
    sys.stdout.flush()


def main():
    state = {}
    for line in sys.stdin:  # ends when the harness ends
        accepted_ns = time.monotonic_ns()
        message = json.loads(line)
        try:
            reply = answer(state, message, accepted_ns)
        except Refused as problem:
            reply = error(problem.kind, str(problem))
        except Exception as problem:
            reply = error("internal", f"{type(problem).__name__}: {problem}")
        send(message["id"], reply)
        if message.get("type") == "close":
            return


if __name__ == "__main__":
    main()
