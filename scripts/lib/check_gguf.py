"""Compares metadata and tensors. Called by check-gguf.

usage: check_gguf.py PROGRAM FILE...
"""

import hashlib
import json
import math
import subprocess
import sys

import gguf


def same(ours, theirs):
    if isinstance(theirs, list):
        return isinstance(ours, list) and len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(theirs, float):
        # JSON has no infinity and no NaN.
        return ours == theirs or (ours is None and not math.isfinite(theirs))
    return type(ours) is type(theirs) and ours == theirs


def main():
    program, *files = sys.argv[1:]
    failed = False
    for path in files:
        ours = json.loads(subprocess.run([program, "contents", path], capture_output=True, check=True).stdout)
        reader = gguf.GGUFReader(path)
        # The reader adds three fields of its own for the header.
        metadata = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
        tensors = {}
        for tensor in reader.tensors:
            shape = [int(n) for n in reversed(tensor.shape)]
            hash = hashlib.sha256(tensor.data.tobytes()).hexdigest()
            tensors[tensor.name] = {"shape": shape, "kind": tensor.tensor_type.name, "sha256": hash}
        wrong = [f"key {key}" for key in metadata.keys() ^ ours["metadata"].keys()]
        wrong += [f"key {key}" for key in metadata.keys() & ours["metadata"].keys() if not same(ours["metadata"][key], metadata[key])]
        wrong += [f"tensor {name}" for name in tensors.keys() | ours["tensors"].keys() if tensors.get(name) != ours["tensors"].get(name)]
        for name in sorted(wrong):
            print(f"{path}: {name} differs")
        failed |= bool(wrong)
        print(f"{path}: {len(metadata)} keys, {len(tensors)} tensors, {len(wrong)} differences; opened in {ours['opened_ms']:.0f} ms")
    sys.exit(failed)


main()
