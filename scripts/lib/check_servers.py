"""One server and the engine `openai`: python3 check_servers.py PROGRAM SCRATCH MODEL KIND SERVER-COMMAND...

The port is added to the server's command. See scripts/check-servers."""

import csv
import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

PROGRAM, SCRATCH, MODEL, KIND, *COMMAND = sys.argv[1:]
TEXT = "Once upon a time there was a small village by the sea, and in it lived"
TOKENS, ITERATIONS = 24, 6
scratch = pathlib.Path(SCRATCH)
scratch.mkdir()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def post(path, body):
    request = urllib.request.Request(f"{url}/v1{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def wait(server):
    for _ in range(600):
        if server.poll() is not None:
            sys.exit(f"the server ended: {log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(f"{url}/v1/models", timeout=5).read()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    sys.exit("the server does not answer")


def run(name, workload, model=f"path = {json.dumps(MODEL)}"):
    scenario = scratch / f"{name}.toml"
    scenario.write_text(
        f'name = "{name}"\n[model]\n{model}\n[[engine]]\nname = "openai"\noptions = {{ url = "{url}" }}\n'
        f'[workload]\n{workload}\nmax_tokens = {TOKENS}\n[run]\niterations = {ITERATIONS}\nexternal_causes = "warn"\n'
    )
    folder = scratch / name
    done = subprocess.run(
        [PROGRAM, "run", scenario, "--no-report", "--results", folder, "-q"], capture_output=True, text=True
    )
    if done.returncode != 0:
        sys.exit(f"{name}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    (record,) = folder.iterdir()
    manifest = json.loads((record / "run.json").read_text())
    with open(record / "requests.csv", newline="") as rows:
        rows = [row for row in csv.DictReader(rows) if row["warmup"] == "false"]
    return manifest, rows


failures = []


def same(what, ours, theirs):
    if ours != theirs:
        failures.append(f"{what}: {ours!r}, but the server alone says {theirs!r}")


port = free_port()
url, log = f"http://127.0.0.1:{port}", scratch / "server.log"
with open(log, "w") as out:
    server = subprocess.Popen([*COMMAND, str(port)], stdout=out, stderr=subprocess.STDOUT)
try:
    wait(server)
    name = json.load(urllib.request.urlopen(f"{url}/v1/models"))["data"][0]["id"]
    settings = {"model": name, "max_tokens": TOKENS, "temperature": 0.0}
    if KIND == "mlx-lm":
        settings["repetition_penalty"] = 1.0
    chat = [{"role": "user", "content": "Why is the sky blue?"}]
    plain = {
        "text": post("/completions", {**settings, "prompt": TEXT}),
        "chat": post("/chat/completions", {**settings, "messages": chat}),
    }
    workloads = {
        "text": f'kind = "prompt"\ntext = {json.dumps(TEXT)}',
        "chat": f'kind = "prompt"\nchat = true\ntext = {json.dumps(chat[0]["content"])}',
    }
    for kind, workload in workloads.items():
        manifest, rows = run(kind, workload)
        receipt = manifest["hosts"][0]["receipt"]
        same(f"{kind}: kind of server", receipt["details"]["server"], KIND)
        same(f"{kind}: process", receipt["works_in"], {"pid": server.pid})
        choice, usage = plain[kind]["choices"][0], plain[kind]["usage"]
        wanted = choice["text"] if kind == "text" else choice["message"]["content"]
        (text,) = set(manifest["texts"].values())
        same(f"{kind}: text", text, wanted)
        for row in rows:
            same(f"{kind}: status", (row["status"], row["reason"]), ("ok", ""))
            same(f"{kind}: prompt tokens", int(row["prompt_tokens"]), usage["prompt_tokens"])
            if "inexact" != row["timing"] or row["counted_tokens"]:
                counted = int(row["counted_tokens"] or row["generated_tokens"])
                same(f"{kind}: tokens", counted + (usage["completion_tokens"] == counted + 1), usage["completion_tokens"])
            if not int(row["peak_rss_bytes"]) > 50e6:
                failures.append(f"{kind}: peak memory {row['peak_rss_bytes']} is not that of the server")
        times = sorted(float(row["e2e_ms"]) for row in rows)
        print(f"{KIND:12} {kind}  {len(rows)} of {ITERATIONS} valid, timing {rows[0]['timing']}, e2e {times[0]:.0f} to {times[-1]:.0f} ms, {text[:40]!r}")
    # Without a copy of the model: the server's own counts cut the prompts.
    lengths = [48, 200]
    manifest, rows = run("served", f'kind = "prompt"\ntext = {json.dumps(TEXT + ". ")}\nlengths = {lengths}', "served = true")
    same("served: status", {(row["status"], row["reason"]) for row in rows}, {("ok", "")})
    for cell, length in enumerate(lengths):
        same("served: prompt tokens", {int(row["prompt_tokens"]) for row in rows if int(row["cell"]) == cell}, {length})
    print(f"{KIND:12} prompts of exactly {lengths} tokens by its own counts, {len(rows)} iterations valid")
finally:
    server.terminate()
    server.wait(30)
if failures:
    sys.exit("\n".join(failures[:10]))
