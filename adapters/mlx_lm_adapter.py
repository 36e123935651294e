#!/usr/bin/env python3
"""The engine `mlx-lm`: Python's mlx_lm behind the engine protocol.

`inferometer engines install mlx-lm` puts this file beside an mlx_lm of its own; scenarios then say `name = "mlx-lm"`.
With another mlx_lm, run it yourself:

    inferometer engines check --engine mlx-lm --model MODEL_DIR -- python3 adapters/mlx_lm_adapter.py

    [[engine]]                        # in a scenario
    name = "exec"
    options = { command = ["python3", "./adapters/mlx_lm_adapter.py"] }

Tokens come from mlx_lm's own `generate_step` and `speculative_generate_step`; this file adds stamps. Inferometer and
this adapter both load the libmlx that LD_LIBRARY_PATH names, if it names one; Python's mlx must have the same version.
"""

import argparse
import gc
import importlib.metadata
import json
import os
import sys
import threading
import time
from pathlib import Path

import mlx.core as mx
import mlx.utils
import mlx_lm
from mlx_lm.generate import generate_step, generation_stream, speculative_generate_step, wired_limit
from mlx_lm.models.cache import KVCache, RotatingKVCache, can_trim_prompt_cache, make_prompt_cache, trim_prompt_cache
from mlx_lm.sample_utils import make_logits_processors, make_sampler
from mlx_lm.utils import load_model, load_tokenizer

PROTOCOL = {"major": 1, "minor": 6}
DEFAULT_WINDOW_CAP = 768
MOST_DRAFT_TOKENS = 64
# mlx_lm's own defaults.
OPTIONS = {
    "prefill_step_size": 2048,
    "max_kv_size": None,
    "kv_bits": None,
    "kv_group_size": 64,
    "quantized_kv_start": 5000,
}
SAMPLING = ["seed", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "repetition_context_size"]
TOGGLES = [
    "repetition_penalty",
    "repetition_context_size",
    "repetition_window_cap",
    "kv_reuse",
    "kv_cache",
    "memory_limit",
    "cache_limit",
    "lazy_pipeline",
    "num_draft_tokens",
    "draft_model",
    "sampling_order",
]
NOT_HONOURED = {
    "prefill_chunk_size": "mlx_lm runs the last prompt token alone, whatever the step; see the option prefill_step_size",
    "cache_clear_chunks": "mlx_lm clears the cache after every prefill step, and this cannot be changed",
    "cache_clear_tokens": "mlx_lm clears the cache every 256 tokens, and this cannot be changed",
    "wired_limit": "on Metal, mlx_lm itself wires as much as the device recommends",
    "threads": "MLX has no setting for threads: Metal has none, and on the CPU its BLAS chooses",
    "dtype": "mlx_lm computes in the format that the model's folder has",
    "compile": "mlx_lm's models decide what is compiled",
    "lookup_ngram": "mlx_lm drafts with a draft model only",
    "kv_dtype": "keys and values have the format of the activations; the option kv_bits quantizes them",
}
# Versions of these are in the receipt: they decide what is computed, or how a text is tokenized.
PACKAGES = ["mlx", "mlx-cpu", "mlx-metal", "mlx-lm", "numpy", "transformers", "tokenizers", "jinja2"]


class Refused(Exception):
    """The request cannot be fulfilled; the engine is still in order and continues."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


def loaded(folder, what):
    if folder is None:
        raise Refused("model", "mlx_lm needs a model folder")
    try:
        return load_model(Path(folder))
    except Exception as problem:
        raise Refused("model", f"{what} {folder}: {type(problem).__name__}: {problem}")


def offset(cache):
    """Positions that the cache has seen; None if it does not say."""
    return max((layer.offset for layer in cache if hasattr(layer, "offset")), default=None)


class Engine:
    def __init__(self, message, step):
        options = message.get("engine", {}).get("options", {})
        self.options = {name: options.get(name, usual) for name, usual in OPTIONS.items()}
        self.options["prefill_step_size"] = options.get("prefill_step_size", step)
        if self.options["prefill_step_size"] < 1:
            raise Refused("bad_request", "`prefill_step_size` must be at least 1")
        self.toggles = message.get("toggles", {})
        self.folder = message.get("model")
        self.model, self.config = loaded(self.folder, "model")
        self.tokenizer, self.no_tokenizer = self.load_tokenizer()
        self.kv_cache = self.kind_of_cache()
        self.draft = self.load_draft()
        self.limits = {}
        for name, limit in (("memory_limit", mx.set_memory_limit), ("cache_limit", mx.set_cache_limit)):
            if name in self.toggles:
                limit(self.toggles[name])
                self.limits[name] = limit(self.toggles[name])  # setting it again returns what was in force
        # As mlx_lm's `stream_generate` does; nothing without Metal.
        self.wired = wired_limit(self.model, [generation_stream])
        self.wired.__enter__()
        self.caches = {}  # conversation -> (cache, draft model's cache, the tokens in it)

    def load_tokenizer(self):
        try:
            return load_tokenizer(Path(self.folder), eos_token_ids=self.config.get("eos_token_id")), None
        except Exception as problem:  # folders without a tokenizer take token ids
            return None, f"{type(problem).__name__}: {problem}"

    def kind_of_cache(self):
        """What the cache is made of, after a look at whether the model allows it."""
        asked, most, bits = self.toggles.get("kv_cache", "full"), self.options["max_kv_size"], self.options["kv_bits"]
        plain = all(type(layer) is KVCache for layer in make_prompt_cache(self.model))
        if asked != "full" and not plain:
            raise Refused("unsupported", f"kv_cache = {asked!r}: this model already has caches of other kinds")
        if most is not None and asked != "full":
            raise Refused("bad_request", "`max_kv_size` and `kv_cache` both bound the cache; set one of them")
        if most is not None and (most <= 4 or hasattr(self.model, "make_cache")):
            why = "it must be above 4" if most <= 4 else "mlx_lm ignores it for a model that makes its own caches"
            raise Refused("bad_request", f"`max_kv_size`: {why}")
        if bits is not None and (bits not in (2, 3, 4, 5, 6, 8) or self.options["kv_group_size"] not in (32, 64, 128)):
            raise Refused("bad_request", "`kv_bits` is 2, 3, 4, 5, 6 or 8, and `kv_group_size` 32, 64 or 128")
        if bits is not None and (not plain or asked != "full" or most is not None):
            raise Refused("unsupported", "`kv_bits`: mlx_lm quantizes no rotating KV cache")
        return f"first_4_and_rotating:{most}" if most is not None else asked

    def load_draft(self):
        folder = self.toggles.get("draft_model", "none")
        if folder == "none":
            return None
        if self.options["kv_bits"] is not None:
            raise Refused("unsupported", "`kv_bits` with a draft model: mlx_lm loses the quantized cache between calls")
        draft, config = loaded(folder, "draft_model")
        ours, its = self.vocabulary(), config.get("vocab_size")
        if ours != its:
            raise Refused("model", f"draft_model {folder}: its vocabulary has {its} tokens, the model's {ours}")
        return draft

    def vocabulary(self):
        return self.config.get("vocab_size") or self.config.get("text_config", {}).get("vocab_size")

    def new_cache(self, model):
        if self.kv_cache.startswith("rotating:"):
            window = int(self.kv_cache.removeprefix("rotating:"))
            return [RotatingKVCache(max_size=window) for _ in make_prompt_cache(model)]
        return make_prompt_cache(model, max_kv_size=self.options["max_kv_size"])

    def stops(self):
        """End-of-sequence tokens: the configuration's, else the tokenizer's."""
        stops = self.config.get("eos_token_id")
        if stops is None:
            return set(self.tokenizer.eos_token_ids) if self.tokenizer else set()
        return set(stops if isinstance(stops, list) else [stops])

    def receipt(self):
        parameters = [array for _, array in mlx.utils.tree_flatten(self.model.parameters())]
        chats = self.tokenizer is not None and self.tokenizer.has_chat_template
        return {
            "engine": "mlx_lm",
            "version": mlx_lm.__version__,
            "backend": f"mlx {mx.__version__}",
            "device": "metal" if mx.metal.is_available() else "cpu",
            "model": {
                "name": os.path.basename(os.path.realpath(self.folder)),
                "path": str(self.folder),
                "architecture": self.config.get("model_type"),
                "weight_bytes": sum(array.nbytes for array in parameters),
                "vocabulary": self.vocabulary(),
                "context_length": self.config.get("max_position_embeddings"),
                "synthetic": "inferometer_synthetic" in self.config,
            },
            "capabilities": {
                "tokens": True,
                "text": self.tokenizer is not None,
                "messages": chats,
                "tools": chats,
                "forced_tokens": True,
                "choices": True,
                "logprobs": True,
                "cancel": True,
                "reset": True,
                "clear_cache": True,
                "memory": True,
                "stream": True,
                "unload": True,
            },
            "toggles": TOGGLES,
            "sampling": SAMPLING,
            "not_honoured": NOT_HONOURED,
            "token_timing": "exact",
            "deterministic": True,
            "includes": ["sampling"],
            "settings": {
                "kv_cache": self.kv_cache,
                "draft_model": self.toggles.get("draft_model", "none"),
                **self.limits,
            },
            "details": self.details(),
        }

    def details(self):
        found = {"python": sys.version.split()[0]}
        found.update({name: str(value) for name, value in self.options.items() if value is not None})
        if self.options["kv_bits"] is None:
            del found["kv_group_size"], found["quantized_kv_start"]
        for package in PACKAGES:
            try:
                found[f"package {package}"] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                pass
        if self.draft is not None:
            weights = mlx.utils.tree_flatten(self.draft.parameters())
            found["draft_weight_bytes"] = str(sum(array.nbytes for _, array in weights))
        if self.no_tokenizer is not None:
            found["no tokenizer"] = self.no_tokenizer
        return found

    def reset(self):
        self.caches = {}
        mx.clear_cache()

    def unload(self):
        mx.synchronize(generation_stream)  # `generate_step` leaves a step in work
        self.wired.__exit__(None, None, None)
        self.model = self.draft = self.tokenizer = None
        self.caches = {}
        gc.collect()
        mx.clear_cache()

    def caches_for(self, name, prompt, reuse, drafting):
        """Caches of both models, and how many of the prompt's tokens they hold; the last token is always run."""
        cache, drafts, held = self.caches.pop(name, (None, None, []))
        if not drafting:
            drafts = None  # it would fall behind
        elif drafts is None:
            held = []
        same = 0
        while reuse and same < min(len(held), len(prompt) - 1) and held[same] == prompt[same]:
            same += 1
        caches = [cache] if drafts is None else [cache, drafts]
        if same > 0:
            same = min(same, *(offset(one) or 0 for one in caches))
        if same > 0 and all(same == offset(one) or can_trim_prompt_cache(one) for one in caches):
            for one in caches:
                trim_prompt_cache(one, offset(one) - same)
            return cache, drafts, same
        return self.new_cache(self.model), self.new_cache(self.draft) if drafting else None, 0

    def memory(self):
        layers = [layer for caches in self.caches.values() for cache in caches[:2] for layer in cache or []]
        return {
            "active_bytes": mx.get_active_memory(),
            "cache_bytes": mx.get_cache_memory(),
            "peak_bytes": mx.get_peak_memory(),
            "kv_cache_bytes": sum(layer.nbytes for layer in layers if getattr(layer, "keys", True) is not None),
        }


def known_ids(engine, what, ids):
    vocabulary = engine.vocabulary()
    if not all(isinstance(id, int) and 0 <= id < vocabulary for id in ids):
        raise Refused("bad_request", f"{what}: a token id is outside 0..{vocabulary - 1}")
    return ids


def prompt_ids(engine, prompt):
    """The prompt's token ids. A text is tokenized as mlx_lm's `generate` does it."""
    tokenizer = engine.tokenizer
    if prompt.get("tokens"):
        return known_ids(engine, "prompt", prompt["tokens"])
    if "tokens" in prompt or not prompt:
        raise Refused("bad_request", 'this engine takes a prompt of at least one token id: {"tokens": [..]}')
    if tokenizer is None:
        raise Refused("unsupported", f"the model has no tokenizer ({engine.no_tokenizer}); it takes token ids")
    if "text" in prompt:
        special = tokenizer.bos_token is None or not prompt["text"].startswith(tokenizer.bos_token)
        ids = tokenizer.encode(prompt["text"], add_special_tokens=special)
    else:
        if not tokenizer.has_chat_template:
            raise Refused("unsupported", "the model has no chat template, so it takes no messages")
        more = {"tools": prompt["tools"]} if prompt.get("tools") else {}
        more.update(prompt.get("template_arguments") or {})
        try:
            ids = tokenizer.apply_chat_template(prompt["messages"], add_generation_prompt=True, **more)
        except Exception as problem:
            raise Refused("bad_request", f"the chat template: {type(problem).__name__}: {problem}")
    if not ids:
        raise Refused("bad_request", "the prompt has no tokens")
    return list(ids)


class Steering:
    """Decodes along forced tokens, if there are any, and records what would have been chosen, if requested.

    `generate_step` calls both methods once for each token, in order, and for one token more than it returns."""

    def __init__(self, sampler, forced, watched, top):
        self.sampler, self.forced, self.watched, self.top = sampler, forced, watched, top
        self.tokens, self.gaps, self.logprobs, self.steps = [], [], [], 0

    def needed(self):
        return self.watched or self.forced is not None or self.top is not None

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

    def report(self, count):
        gaps = zip(self.tokens[:count], self.gaps)
        choices = {"choices": [{"token": token, "gap": gap} for token, gap in gaps]} if self.watched else {}
        return choices | ({"logprobs": self.logprobs[:count]} if self.top is not None else {})


def window(context, cap, history):
    """Number of tokens that the penalty considers; a bound of 0 means none."""
    return min([history] + [bound for bound in (context, cap) if bound > 0])


class Penalty:
    """The repetition penalty of a request: mlx_lm's own, over the history that its caller knows."""

    def __init__(self, message, length):
        sampling, toggles = message.get("sampling", {}), message.get("toggles", {})
        self.factor = toggles.get("repetition_penalty", sampling.get("repetition_penalty", 1.0))
        self.context = toggles.get("repetition_context_size", sampling.get("repetition_context_size", 20))
        self.cap = toggles.get("repetition_window_cap", DEFAULT_WINDOW_CAP)
        self.bound = window(self.context, self.cap, length)

    def processors(self, before):
        """`before`: tokens in front of those that mlx_lm runs, which it does not show to its processors."""
        made = make_logits_processors(
            repetition_penalty=self.factor if self.factor != 1.0 else None, repetition_context_size=self.bound
        )
        before = mx.array(before[-self.bound :]) if before and made else None
        if before is None:
            return made
        return [lambda tokens, logits, one=one: one(mx.concatenate([before, tokens]), logits) for one in made]

    def effective(self, history):
        size = 0 if self.factor == 1.0 else window(self.context, self.cap, history)
        return {"repetition_penalty": self.factor, "repetition_window": size}


class Plain:
    """One token a step: `generate_step`."""

    def __init__(self, engine, prompt, reused, limit, penalty, steering, cache):
        self.chunks = []  # (tokens of the prompt done, time)
        options = engine.options
        self.steps = generate_step(
            mx.array(prompt[reused:]),
            engine.model,
            max_tokens=limit,
            prompt_cache=cache,
            prefill_step_size=options["prefill_step_size"],
            kv_bits=options["kv_bits"],
            kv_group_size=options["kv_group_size"],
            quantized_kv_start=options["quantized_kv_start"],
            prompt_progress_callback=lambda done, _: self.chunks.append((done, time.monotonic_ns())),
            # A timed pass uses mlx_lm's own sampler and nothing else.
            sampler=steering.sample if steering.needed() else steering.sampler,
            logits_processors=[steering.keep] * (steering.top is not None)
            + penalty.processors(prompt[:reused])
            + [steering.look] * steering.watched,
        )

    def tokens(self):
        for token, _ in self.steps:
            yield token, time.monotonic_ns()  # `generate_step` has read it already

    def close(self):
        self.steps.close()

    def report(self, tokens):
        pairs = list(zip(self.chunks, self.chunks[1:]))
        spans = [
            {"phase": "prefill_chunk", "index": index, "start_ns": start, "end_ns": end}
            for index, ((_, start), (_, end)) in enumerate(pairs)
        ]
        effective = {
            "prefill_chunk_size": max(after - before for (before, _), (after, _) in pairs),
            "cache_clear_chunks": 1,
            "cache_clear_tokens": 256,
            "lazy_pipeline": True,  # `generate_step` always works this way
            "num_draft_tokens": 0,
        }
        return {}, spans, effective


class Drafted:
    """Several tokens a pass: `speculative_generate_step`. The first token comes from a pass of its own, so that it
    belongs to the prefill; mlx_lm's own loop drafts in front of it too."""

    def __init__(self, engine, prompt, reused, limit, penalty, sampler, caches, drafts):
        self.drafts, self.left = drafts, limit - 1
        self.passes = self.verified = self.drafted = self.accepted = 0
        last, step = prompt[-1], engine.options["prefill_step_size"]
        self.largest = max(1, min(step, len(prompt) - reused - 1))

        def steps(ids, before, count, drafts):
            return speculative_generate_step(
                mx.array(ids),
                engine.model,
                engine.draft,
                num_draft_tokens=drafts,
                max_tokens=count,
                sampler=sampler,
                logits_processors=penalty.processors(before),
                prompt_cache=caches[0] + caches[1],
                prefill_step_size=step,
            )

        # It shows its processors the last token of the prompt and what comes after.
        self.first = steps(prompt[reused:], prompt[:-1], 1, 0)
        self.then = lambda token: steps([token], prompt, self.left, drafts)
        self.run_draft = lambda: engine.draft(mx.array([[last]]), cache=caches[1])
        self.open = self.first

    def tokens(self):
        for token, _, _ in self.first:
            stamp = time.monotonic_ns()
            yield token, stamp
        if self.left == 0:
            return
        with mx.stream(generation_stream):
            self.run_draft()  # its cache lacks the prompt's last token; computed with the first draft
        self.open, begins = self.then(token), True
        for token, _, accepted in self.open:
            if begins:  # the tokens of a pass become readable together
                stamp, drafts = time.monotonic_ns(), min(self.left, self.drafts)
                self.passes, self.verified = self.passes + 1, self.verified + (drafts > 0)
                self.drafted += drafts
            self.accepted += accepted
            self.left -= 1
            begins = not accepted
            yield token, stamp

    def close(self):
        self.open.close()

    def report(self, tokens):
        counts = {
            "passes": self.passes,
            "verify_passes": self.verified,
            "drafted_tokens": self.drafted,
            "accepted_tokens": self.accepted,
        }
        effective = {
            "prefill_chunk_size": self.largest,
            "cache_clear_chunks": 1,
            "cache_clear_tokens": 0,
            "lazy_pipeline": False,
            "num_draft_tokens": self.drafts,
        }
        return {"speculation": counts}, [], effective


class MemorySamples(threading.Thread):
    """Reads MLX's memory at intervals while a request runs."""

    def __init__(self, interval_ms):
        super().__init__(daemon=True)
        self.interval_s, self.over, self.samples = interval_ms / 1000, threading.Event(), []

    def run(self):
        while not self.over.wait(self.interval_s):
            sample = {"active_bytes": mx.get_active_memory(), "cache_bytes": mx.get_cache_memory()}
            self.samples.append({"t_ns": time.monotonic_ns(), **sample})

    def end(self):
        self.over.set()
        self.join()
        return {"memory_samples": self.samples}


def checked(engine, message):
    """The request's limit of tokens, its forced tokens and its drafts, if they can be fulfilled."""
    limit, forced, toggles = message.get("max_tokens", 0), message.get("forced_tokens"), message.get("toggles", {})
    if not isinstance(limit, int) or limit < 1:
        raise Refused("bad_request", "`max_tokens` must be a whole number, at least 1")
    if forced is not None:
        limit = min(limit, len(known_ids(engine, "forced_tokens", forced)))
        if limit == 0:
            raise Refused("bad_request", "`forced_tokens` is empty; at least one token is generated")
    drafts = toggles.get("num_draft_tokens", 0)
    if drafts > 0:
        steered = [name for name in ("forced_tokens", "choices", "top_logprobs") if message.get(name) not in (None, False)]
        if engine.draft is None:
            raise Refused("bad_request", f"num_draft_tokens = {drafts}, but nothing drafts: load a draft_model")
        if drafts > MOST_DRAFT_TOKENS:
            raise Refused("bad_request", f"num_draft_tokens = {drafts} is more than {MOST_DRAFT_TOKENS}")
        if steered:
            raise Refused("unsupported", f"mlx_lm has no `{steered[0]}` with drafted tokens")
    if toggles.get("lazy_pipeline", drafts == 0) != (drafts == 0):
        raise Refused("unsupported", "mlx_lm always works with lazy_pipeline = true, and with drafts never")
    if toggles.get("sampling_order", "filters_first") != "filters_first":
        raise Refused("unsupported", "mlx_lm filters first: sampling_order = \"filters_first\"")
    return limit, forced, drafts


def drafts_fit(engine, caches, length, drafts):
    """mlx_lm silently keeps refused drafts in a rotating cache that is full, so that is refused here."""
    windows = [layer.max_size for layer in caches[0] + caches[1] if isinstance(layer, RotatingKVCache)]
    if windows and length + drafts >= min(windows):
        raise Refused(
            "unsupported",
            f"mlx_lm cannot take drafted tokens back from a full rotating KV cache: the request has up to {length} "
            f"tokens and {drafts} drafted ones, and the smallest cache {min(windows)} positions",
        )


def generate(engine, message, accepted_ns, cancelled, send):
    limit, forced, drafts = checked(engine, message)
    tokenizing = time.monotonic_ns()
    prompt = prompt_ids(engine, message.get("prompt", {}))
    sampling = message.get("sampling", {})
    penalty = Penalty(message, len(prompt) + limit)
    reuse = message.get("toggles", {}).get("kv_reuse") != "none"
    mx.random.seed(sampling.get("seed", 0))
    mx.reset_peak_memory()
    samples = MemorySamples(message["interval_ms"]) if message.get("interval_ms") else None
    started = time.monotonic_ns()
    cache, draft_cache, reused = engine.caches_for(message.get("conversation"), prompt, reuse, drafts > 0)
    sampler = make_sampler(
        temp=sampling.get("temperature", 0.0),
        top_p=sampling.get("top_p", 1.0),
        min_p=sampling.get("min_p", 0.0),
        top_k=sampling.get("top_k", 0),
    )
    steering = Steering(sampler, forced, message.get("choices", False), message.get("top_logprobs"))
    if drafts > 0:
        drafts_fit(engine, (cache, draft_cache), len(prompt) + limit, drafts)
        loop = Drafted(engine, prompt, reused, limit, penalty, sampler, (cache, draft_cache), drafts)
    else:
        loop = Plain(engine, prompt, reused, limit, penalty, steering, cache)
    stops = set() if message.get("ignore_eos") or forced is not None else engine.stops()
    streams = message.get("stream", False)
    tokens, stamps, finish = [], [], "length"
    if samples:
        samples.start()
    try:
        for token, stamp in loop.tokens():
            stamps.append(stamp)
            tokens.append(token)
            if streams:  # in warm-ups: the harness compares the arrivals with these stamps
                send({"type": "token", "index": len(tokens) - 1, "token": token})
            if token in stops or cancelled():
                finish = "stop" if token in stops else "cancelled"
                break
        done = time.monotonic_ns()
        loop.close()
    finally:
        sampled = samples.end() if samples else {}
    known = prompt + tokens
    for one in filter(None, (cache, draft_cache)):
        trim_prompt_cache(one, max(0, (offset(one) or 0) - len(known)))
    held = offset(cache)
    if held is not None:
        engine.caches[message.get("conversation")] = (cache, draft_cache, known[:held])
        if engine.kv_cache.startswith("rotating:"):
            held = min(held, cache[0].max_size)
    more, chunks, effective = loop.report(tokens)
    spans = [
        {"phase": "prefill", "index": 0, "start_ns": started, "end_ns": stamps[0]},
        {"phase": "decode", "index": 0, "start_ns": stamps[0], "end_ns": done},
        *chunks,
    ]
    if "tokens" not in message["prompt"]:
        spans.insert(0, {"phase": "tokenize", "index": 0, "start_ns": tokenizing, "end_ns": started})
    text = {}
    if engine.tokenizer is not None:
        text = {"text": engine.tokenizer.decode(tokens[:-1] if finish == "stop" else tokens)}
    return {
        "type": "result",
        "tokens": tokens,
        "token_ns": stamps,
        "accepted_ns": accepted_ns,
        "finished_ns": done,
        "spans": spans,
        **steering.report(len(tokens)),
        **more,
        **text,
        "finish_reason": finish,
        "prompt_tokens": len(prompt),
        "reused_tokens": reused,
        "prefill_tokens": len(prompt) - reused,
        "cache_tokens": held,
        "effective": {
            **penalty.effective(len(known) - 1),
            "kv_reuse": "prefix" if reuse else "none",
            "sampling_order": "filters_first",
            **effective,
        },
        "memory": engine.memory(),
        **sampled,
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
        if engine is not None:
            return error("bad_request", "a model is open already; send `unload` first")
        state["interval_ms"] = message.get("memory_interval_ms")
        engine = state["engine"] = Engine(message, state["step"])
        return {"type": "ready", **engine.receipt(), "load_ns": time.monotonic_ns() - accepted_ns}
    if kind == "close":
        return {"type": "done"}
    if kind in ("generate", "reset", "clear_cache", "memory", "unload") and engine is None:
        return error("bad_request", "no model is open; send `open` first")
    if kind == "generate":
        message["interval_ms"] = state["interval_ms"]
        return generate(engine, message, accepted_ns, cancelled, send)
    if kind == "memory":
        return {"type": "memory", **engine.memory()}
    if kind == "reset":
        engine.reset()
    elif kind == "clear_cache":
        mx.clear_cache()
    elif kind == "unload":
        state["engine"] = None
        engine.unload()
    elif kind in ("profile_start", "profile_stop"):
        return error("unsupported", f"this engine has no `{kind}`")
    else:
        return error("protocol", f"unknown message type {kind!r}")
    return {"type": "done"}


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
    arguments.add_argument("--prefill-step-size", type=int, default=OPTIONS["prefill_step_size"])
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
            break


if __name__ == "__main__":
    main()
