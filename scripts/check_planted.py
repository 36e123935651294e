"""Judges commits whose harm is known by `inferometer ab`. Called by check-planted, which says how.

Measured by hand, release builds on a busy virtual machine (two cores of an AMD EPYC with AVX-512 VNNI), the scenario's model in q8_0 on one
thread, medians of the gap between tokens, base and planted taking turns:

    context           128     256     512    1024    2048   mean of ln(B/A)
    base, ms        0.102   0.142   0.225   0.359   0.679
    kv-copy         1.197   1.196   1.129   1.276   1.382   0.200   (B/A; 3 deltas are 0.09)
    constant-cost   1.478   1.345   1.226   1.151   1.106   0.229   (0.05 ms everywhere)
    reorder         0.998   1.001   1.011   0.997   1.008   0.005

Along the base's tokens `reorder` prefers others in four of the five cells, where its two best logits are at most 0.037 apart (half of all gaps
are above 0.55); `token` has gaps from 0.18 to 1.98 at the token it changes. In q8_0 a changed last bit moves a value across a
border of its 8 bits here and there, which is what such gaps come from; in f32 they would be about 1e-6.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCENARIO = ROOT / "scenarios/ab-growth.toml"
DELTA = "3%"
# Of logits: `reorder` needs 0.037, and `token` is allowed nowhere.
MARGIN = "0.1"
CONTEXT, TOKEN = "per-token-of-context", "per-token"
# The first row of the differential table of decoding at the longest context must hold one word of each group, in the function's name
# or in those of its callers: what it does, and where.
NAMED_BY_PROFILE = {"kv-copy": [("memmove", "memcpy", "copy", "contiguous"), ("attention", "attend")]}
# A token of the tiny model takes less than a millisecond: many iterations make the samples.
PROFILE = ["--profile", "--set", "profile.iterations=12", "--set", "profile.frequency_hz=999"]
# Name, outputs rule, verdicts that are right with their exit codes, coefficient of decoding that must be named.
PLANTED = [
    ("kv-copy", "identical", {"regressed": 1}, CONTEXT),
    ("constant-cost", "identical", {"regressed": 1}, TOKEN),
    ("token", "identical", {"output-changed": 4}, None),
    ("token", "margin", {"output-changed": 4}, None),
    ("reorder", "identical", {"output-changed": 4}, None),
    # The outputs part where two tokens are nearly as likely: that is allowed, and it is no slower than the base.
    ("reorder", "margin", {"unchanged": 0, "improved": 0, "inconclusive": 3}, None),
    ("stamps", "identical", {"invalid": 4}, None),
]


def git(clone, *arguments):
    command = ["git", "-C", clone, "-c", "user.name=planted", "-c", "user.email=planted@example.invalid", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def harness():
    profile = os.environ.get("PROFILE", "release")
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--profile", profile, "--bin", "inferometer"], check=True)
    return target() / ("debug" if profile == "dev" else profile) / "inferometer"


def target():
    return Path(os.environ.get("CARGO_TARGET_DIR", "target")).resolve()


def clone_of_head():
    """A clone at this tree's HEAD. It stays, for what was built of it is kept under its name."""
    clone = target() / "planted/clone"
    head = git(ROOT, "rev-parse", "HEAD")
    if not clone.exists():
        clone.parent.mkdir(parents=True, exist_ok=True)
        git(ROOT, "clone", "--quiet", "--no-checkout", ROOT, clone)
    git(clone, "fetch", "--quiet", ROOT, "HEAD")
    return clone, head


def commit(clone, head, name):
    """The planted commit on top of `head`."""
    git(clone, "checkout", "--quiet", "--force", "--detach", head)
    git(clone, "apply", ROOT / f"tests/planted/{name}.patch")
    git(clone, "commit", "--quiet", "--all", "--message", f"planted: {name}")
    return git(clone, "rev-parse", "HEAD")


def judge(program, clone, head, name, outputs, more):
    results = tempfile.mkdtemp(prefix="planted-")
    sides = ["--base", head, "--head", commit(clone, head, name), "--repo", clone]
    rules = ["--delta", DELTA, "--outputs", outputs, *(["--margin", MARGIN] if outputs == "margin" else [])]
    # A pilot would turn a busy machine away, on which harm of this size can be seen all the same.
    rules += ["--pilot", "0"]
    rules += PROFILE if name in NAMED_BY_PROFILE else []
    command = [program, "ab", SCENARIO, *sides, *rules, "--format", "json", "--results", results, "--no-report", "-q", *more]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    shutil.rmtree(results, ignore_errors=True)
    try:
        return done.returncode, json.loads(done.stdout)
    except json.JSONDecodeError:
        return done.returncode, {}


def named(said):
    """The coefficient of decoding that is named as moved, or why none can be."""
    decode = next((law for law in said.get("laws") or [] if law["law"] == "decode"), {})
    return (decode.get("change") or {}).get("named") or decode.get("not_identifiable") or "none"


def first_row(said):
    """Function and callers of the row that changed most in decoding at the longest context, with the call that one side alone makes; or
    why there is none."""
    cells = [cell for cell in said.get("profiles") or [] if cell["phases"]]
    if not cells:
        return "", "; ".join(str(cell["remark"]) for cell in said.get("profiles") or []) or "no profiles"
    longest = max(cells, key=lambda cell: said["cells"][cell["cell_a"]]["length"] or 0)
    decode = next(phase for phase in longest["phases"] if phase["phase"] in ("decode", None))
    row = decode["functions"][0]
    new = row["new_call"]
    told = f"{row['name']} < {' < '.join(row['callers'])}"
    if new:
        told += f"; {'B' if new['by_b'] else 'A'} alone: {new['caller']} calls {new['callee']}"
    change, interval = row["self"]["change_ms_per_token"], row["self"]["interval"]
    return told, f"{told} ({change:+.4f} ms per token [{interval['lo']:+.4f}, {interval['hi']:+.4f}])"


def problems_of_profile(name, said):
    words, told = first_row(said)
    if any(not any(word in words for word in group) for group in NAMED_BY_PROFILE.get(name, [])):
        yield f"the first row of the differential table does not name it: {told}"


def problems(code, said, verdicts, coefficient):
    verdict = said.get("verdict")
    if verdict not in verdicts:
        yield f"verdict {verdict}, expected {' or '.join(verdicts)}"
    elif code != verdicts[verdict]:
        yield f"exit code {code}, expected {verdicts[verdict]} with {verdict}"
    if coefficient and named(said) != coefficient:
        yield f"coefficient of decoding named: {named(said)}; expected {coefficient}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--only", action="append", metavar="NAME")
    arguments.add_argument("--list", action="store_true")
    arguments.add_argument("more", nargs="*", metavar="ARGUMENT", help="goes to `inferometer ab`")
    asked = arguments.parse_args()
    names = {name for name, *_ in PLANTED}
    if unknown := set(asked.only or []) - names:
        sys.exit(f"no planted commit is called {', '.join(unknown)}; there are: {', '.join(sorted(names))}")
    todo = [row for row in PLANTED if not asked.only or row[0] in asked.only]
    if asked.list:
        for name, outputs, verdicts, coefficient in todo:
            print(f"{name:14} outputs = {outputs:9}  {' or '.join(verdicts)}{', names ' + coefficient if coefficient else ''}")
        return
    os.chdir(ROOT)
    program, (clone, head) = harness(), clone_of_head()
    failed = 0
    for name, outputs, verdicts, coefficient in todo:
        code, said = judge(program, clone, head, name, outputs, asked.more)
        wrong = [*problems(code, said, verdicts, coefficient), *problems_of_profile(name, said)]
        failed += bool(wrong)
        told = "; ".join(wrong) or f"{said['verdict']}, exit code {code}" + (f", names {coefficient}" if coefficient else "")
        print(f"{'FAIL' if wrong else 'pass'}  {name}, outputs = {outputs}: {told}", flush=True)
        if name in NAMED_BY_PROFILE:
            print(f"      first row of the differential table: {first_row(said)[1]}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
