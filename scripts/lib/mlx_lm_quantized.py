"""Compares folders of quantized and half-precision weights with MLX and mlx_lm. Called by `check-mlx-lm quantized`.

usage: mlx_lm_quantized.py PROGRAMS FOLDER

PROGRAMS has `inferometer`, `examples/logits` and `examples/dequantize`; FOLDER is for the models.

Three things are compared:
- our quantizer with mx.quantize, and our dequantizer with mx.dequantize, bit by bit;
- our folders with mlx_lm's strict loader, and mlx_lm.convert's folders with our loader;
- logits along the same tokens. Both sides compute in f32 from the same stored numbers (mlx_lm's scales are widened, which
  is exact), so that only the order of sums differs.

A comparison that cannot fail proves nothing, so at the end our side gets damaged folders, which must be detected.
"""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.convert import convert
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

# Of the largest logit's magnitude, per step: ten times what is seen. One scale of 2 % too much makes 6e-2.
TOLERANCE = 1e-4
# Prompt length, chunk size and generated tokens.
RUNS = [(7, 2048, 8), (67, 16, 8)]
DTYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}
# Architecture, format of weights or scales, bits, group size.
MADE = [
    ("llama", "f32", 4, 64),
    ("qwen3", "f32", 8, 32),
    ("qwen3", "bf16", 4, 64),
    ("llama", "bf16", 8, 128),
    ("llama", "f16", 4, 32),
    ("qwen3", "f16", None, None),
    ("llama", "bf16", None, None),
]
# What mlx_lm.convert is asked for: architecture, arguments.
CONVERTED = {
    "llama, 4 bits": ("llama", {"q_bits": 4, "q_group_size": 64}),
    "qwen3, 8 bits": ("qwen3", {"q_bits": 8, "q_group_size": 32}),
    "qwen3, 4 bits, bf16": ("qwen3", {"q_bits": 4, "q_group_size": 32, "dtype": "bfloat16"}),
    "llama, mixed": ("llama", {"q_bits": 4, "q_group_size": 64, "quant_predicate": lambda path, _: mixed(path)}),
}


def mixed(path):
    """As mlx_lm's recipes: more bits for some matrices, by name."""
    more = "v_proj" in path or "lm_head" in path
    return {"group_size": 32, "bits": 8} if more else {"group_size": 64, "bits": 4}


class Check:
    def __init__(self, programs, root):
        self.programs, self.root, self.problems = programs, root, []

    def run(self, program, *arguments, text=None):
        command = [str(self.programs / program), *map(str, arguments)]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} failed: {done.stderr.strip()}")
        return done.stdout

    def made(self, name, arch, dtype, bits=None, group_size=None):
        options = ["--dtype", dtype] + (["--bits", bits, "--group-size", group_size] if bits else [])
        self.run("inferometer", "-q", "model", "new", "--arch", arch, "--preset", "tiny", *options, self.root / name)
        return self.root / name

    def differs(self, line):
        self.problems.append(line)
        print("DIFFERENT:", line)

    def dequantized(self, name, folder):
        """Our values of every tensor equal MLX's; returns how many were quantized."""
        file = self.root / "ours.safetensors"
        self.run("examples/dequantize", folder, file)
        ours, stored = mx.load(str(file)), mx.load(str(folder / "model.safetensors"))
        config = json.loads((folder / "config.json").read_text())
        form, quantized = config.get("quantization", {}), 0
        for key, value in ours.items():
            module = key.removesuffix(".weight")
            theirs = stored[key].astype(mx.float32) if stored[key].dtype != mx.uint32 else None
            if theirs is None:
                own = form.get(module, form)
                scales, biases = (stored[f"{module}.{part}"].astype(mx.float32) for part in ("scales", "biases"))
                theirs = mx.dequantize(stored[key], scales, biases, group_size=own["group_size"], bits=own["bits"])
                quantized += 1
            if not mx.array_equal(value, theirs).item():
                self.differs(f"{name}: values of {key}")
        matrices = sum(value.ndim == 2 for value in ours.values())
        if quantized != (matrices if form else 0):
            self.differs(f"{name}: {quantized} of {matrices} matrices are quantized")
        return quantized

    def quantized_alike(self, name, folder, plain, dtype, bits, group_size):
        """What our quantizer made is what mx.quantize makes of the same weights."""
        stored, weights = mx.load(str(folder / "model.safetensors")), mx.load(str(plain / "model.safetensors"))
        for key, weight in weights.items():
            if weight.ndim != 2:
                continue
            theirs = mx.quantize(weight.astype(DTYPES[dtype]), group_size=group_size, bits=bits)
            for part, value in zip(("weight", "scales", "biases"), theirs, strict=True):
                ours = stored[f"{key.removesuffix('.weight')}.{part}"]
                if ours.dtype != value.dtype or not mx.array_equal(ours, value).item():
                    self.differs(f"{name}: {part} of {key}")

    def logits(self, folder, theirs_folder=None):
        """The largest difference of logits along the tokens that we choose, of the largest logit."""
        vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
        prompts = [[(i * i * 31 + i * 7 + 11) % (vocabulary - 300) + 300 for i in range(length)] for length, *_ in RUNS]
        runs = [{"ids": ids, "chunk": chunk, "steps": steps} for ids, (_, chunk, steps) in zip(prompts, RUNS)]
        ours = json.loads(self.run("examples/logits", text=json.dumps({"model": str(folder), "runs": runs})))
        # Strict: a missing, extra or misshapen tensor is an error.
        model, _ = load_model(theirs_folder or folder, strict=True)
        model.set_dtype(mx.float32)
        floats = {value.dtype for _, value in tree_flatten(model.parameters())} - {mx.uint32}
        assert floats == {mx.float32}, floats
        worst = 0.0
        for run, found in zip(runs, ours["runs"], strict=True):
            cache, ids = make_prompt_cache(model), run["ids"]
            last = (len(ids) - 1) // run["chunk"] * run["chunk"]
            for start in range(0, last, run["chunk"]):
                mx.eval(model(mx.array([ids[start : start + run["chunk"]]]), cache=cache))
            step = ids[last:]
            for token, mine in zip(found["tokens"], found["logits"], strict=True):
                theirs = model(mx.array([step]), cache=cache)[0, -1]
                worst = max(worst, (mx.abs(mx.array(mine) - theirs).max() / mx.abs(theirs).max()).item())
                step = [token]
        return worst

    def same_logits(self, name, folder):
        off = self.logits(folder)
        print(f"{name:32} worst logit difference {off:.1e}")
        if not off <= TOLERANCE:
            self.differs(f"{name}: logits are off by {off:.2e} of the largest")

    def damaged(self, folder, what, change):
        """Our side reads a damaged copy, mlx_lm the whole: that must show."""
        copy = self.root / "damaged"
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        weights = mx.load(str(folder / "model.safetensors"))
        change(weights)
        mx.save_safetensors(str(copy / "model.safetensors"), weights, metadata={"format": "pt"})
        off = self.logits(copy, folder)
        print(f"{what:32} worst logit difference {off:.1e}")
        if off <= TOLERANCE:
            self.problems.append(what)
            print("NOT NOTICED:", what)


def scaled(weights):
    weights["model.layers.1.mlp.up_proj.scales"] *= 1.02


def swapped(weights):
    words = weights["model.layers.1.mlp.up_proj.weight"]
    # The two numbers of every byte change places: high bits first.
    weights["model.layers.1.mlp.up_proj.weight"] = ((words & 0x0F0F0F0F) << 4) | ((words >> 4) & 0x0F0F0F0F)


def main():
    check = Check(Path(sys.argv[1]), Path(sys.argv[2]))
    plain = {arch: check.made(f"{arch} plain", arch, "f32") for arch in ("llama", "qwen3")}
    for arch, dtype, bits, group_size in MADE:
        name = f"{arch}, {dtype}" + (f", {bits} bits, groups of {group_size}" if bits else "")
        folder = check.made(name, arch, dtype, bits, group_size)
        check.dequantized(name, folder)
        if bits:
            check.quantized_alike(name, folder, plain[arch], dtype, bits, group_size)
        check.same_logits(name, folder)
    for name, (arch, arguments) in CONVERTED.items():
        folder = check.root / f"{name} converted"
        with contextlib.redirect_stdout(io.StringIO()):
            convert(str(plain[arch]), str(folder), quantize=True, **arguments)
        check.dequantized(f"{name}, converted", folder)
        check.same_logits(f"{name}, converted", folder)
    check.damaged(folder, "scales of a matrix off by 2 %", scaled)
    check.damaged(folder, "numbers of a byte swapped", swapped)
    print("different" if check.problems else "equal; errors put in on purpose were noticed")
    return 1 if check.problems else 0


if __name__ == "__main__":
    sys.exit(main())
