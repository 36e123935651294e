#!/usr/bin/env python3
"""An engine host that misbehaves as told: faulty.py FAULT [FILE]. Standard library only."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

FAULT = sys.argv[1]
FILE = sys.argv[2] if len(sys.argv) > 2 else None
HANGS = FAULT.startswith("hang-in-")
RECEIPT = {"engine": "faulty", "version": "1",
           "capabilities": {"tokens": True, "cancel": True, "text": HANGS, "reset": HANGS, "profile": HANGS}}


def now():
    clock = time.monotonic_ns()
    return clock + clock // 500 if FAULT == "drift" else clock  # 2000 ppm too fast


def send(id, **message):
    sys.stdout.write(json.dumps({"id": id, **message}) + "\n")
    sys.stdout.flush()


def forever(text):
    while True:
        sys.stdout.write(text)


def leave_children():
    """Two children that hold its stdout, one of them in a session of its own."""
    children = [subprocess.Popen(["sleep", "1000"], start_new_session=own) for own in (False, True)]
    with open(FILE, "w") as file:
        file.write(" ".join(str(child.pid) for child in children))


def result(id, accepted, count):
    tokens = list(range(count))
    if FAULT == "drift":
        time.sleep(0.2)
    stamps = [now() for _ in tokens]
    finished = now()
    spans = []
    if FAULT == "backwards":
        stamps.reverse()
        stamps[0] += 1000
        finished = max(stamps) + 1
    elif FAULT == "too-fast":  # works for a second and claims next to nothing
        time.sleep(1)
    elif FAULT == "squeezed":  # works for a second, and stamps its tokens as if they had come at its beginning
        time.sleep(1)
        finished = now()
    elif FAULT == "tiny-prefill":  # works for a second before the first token, and calls the end of it prefill
        time.sleep(1)
        stamps = [now() for _ in tokens]
        finished = now()
        spans = [{"phase": "prefill", "start_ns": stamps[0] - 1000, "end_ns": stamps[0]}]
    elif FAULT == "early":  # claims the work was done seconds ago
        ago = 5 * 10**9
        accepted, finished, stamps = accepted - ago, finished - ago, [t - ago for t in stamps]
    elif FAULT == "stray-span":
        spans = [{"phase": "prefill", "start_ns": accepted - 5, "end_ns": finished}]
    elif FAULT == "few-stamps":
        stamps.pop()
    send(id, type="result", tokens=tokens, token_ns=stamps, accepted_ns=accepted, finished_ns=finished, spans=spans,
         finish_reason="length", prompt_tokens=1, reused_tokens=0, prefill_tokens=1, cache_tokens=None, effective={})


def generate(message, accepted):
    id = message["id"]
    if FAULT == "die-in-generate":
        os.kill(os.getpid(), signal.SIGKILL)
    elif FAULT == "exit-in-generate":
        print("tensor blew up\nat layer 3", file=sys.stderr)
        sys.exit(7)
    elif FAULT == "hang":
        time.sleep(1000)
    elif FAULT == "deaf":  # hangs and does not notice that its input ends
        with open(FILE, "w") as file:
            file.write(str(os.getpid()))
        time.sleep(1000)
    elif FAULT == "flood":
        forever("x" * 65536)
    elif FAULT == "endless-progress":
        forever(json.dumps({"id": id, "type": "progress", "generated_tokens": 1}) + "\n")
    elif FAULT == "garbage":
        sys.stdout.write("Loading weights\x1b[31m 50%\n")
    elif FAULT == "endless-type":
        send(id, type="\x1b[31m" + "x" * (10 << 20))
    elif FAULT == "not-utf8":
        sys.stdout.buffer.write(b"\xff\xfe\x00\n")
    elif FAULT == "half-line":
        sys.stdout.write('{"id": %d, "type": "resu' % id)
        sys.stdout.flush()
        os._exit(0)
    elif FAULT == "half-line-then-silence":
        sys.stdout.write('{"id": %d, "type": "resu' % id)
        sys.stdout.flush()
        time.sleep(1000)
    elif FAULT == "closed-stdout":
        sys.stdout.flush()
        os.close(1)
        time.sleep(1000)
    elif FAULT == "wrong-id":
        result(id + 1000, accepted, message["max_tokens"])
    elif FAULT == "wrong-type":
        send(id, type="done")
    elif FAULT == "too-many":
        result(id, accepted, message["max_tokens"] + 1)
    elif FAULT == "stderr-flood":
        for _ in range(200):
            sys.stderr.write("noise " * 10000 + "\n")
        result(id, accepted, message["max_tokens"])
    elif FAULT in ("die-leaving-children", "exit-leaving-children", "answer-and-die-leaving-children"):
        leave_children()
        if FAULT == "exit-leaving-children":
            os._exit(5)
        if FAULT == "answer-and-die-leaving-children":
            result(id, accepted, message["max_tokens"])
        os.kill(os.getpid(), signal.SIGSEGV)
    elif FAULT == "leaves-its-group":  # a signal to its own group does not reach it any more
        leave_children()
        os.setpgid(0, os.getpgid(os.getppid()))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        time.sleep(1000)
    elif FAULT == "stderr-without-end":
        while True:
            os.write(2, b"noise " * 10000 + b"\n")
    elif FAULT == "grandchild":
        child = subprocess.Popen(["sleep", "1000"])
        with open(FILE, "w") as file:
            file.write(str(child.pid))
        time.sleep(1000)
    elif FAULT == "cancel-late":  # answers the generation first, the cancel after it
        cancel = json.loads(sys.stdin.readline())
        assert cancel["type"] == "cancel" and cancel["request"] == id, cancel
        result(id, accepted, 1)
        send(cancel["id"], type="done")
    elif FAULT == "evil-error":
        send(id, type="error", kind="out_of_memory", message="no \x1b[2Jmemory")
    else:
        result(id, accepted, message["max_tokens"])


def answer(message, accepted):
    id, kind = message["id"], message["type"]
    if FAULT == f"hang-in-{kind}":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        leave_children()
        time.sleep(1000)
    if kind == "hello" and FAULT == "version-2":
        send(id, type="hello", protocol={"major": 2, "minor": 1}, greeting="other words than version 1's")
    elif kind == "hello":
        send(id, type="hello", protocol={"major": 1, "minor": 0}, host="faulty 1")
        if FAULT == "does-not-read":
            time.sleep(1000)
    elif kind == "ping":
        send(id, type="pong", clock="monotonic", now_ns=2**64 - 1 if FAULT == "absurd-clock" else now())
    elif kind == "open":
        if FAULT == "die-in-open":
            os.kill(os.getpid(), signal.SIGKILL)
        if FAULT == "evil-receipt":
            RECEIPT.update(version="2\x1b]0;pwned\x07", settings={"dtype": "\x1b[2J"}, details={"\x1b[31m": "x" * 10**6})
        send(id, type="ready", **RECEIPT, load_ns=now() - accepted)
        if FAULT == "reads-no-request":
            time.sleep(1000)
    elif kind == "generate":
        generate(message, accepted)
    elif kind == "close" and FAULT == "ignores-close":
        pass
    elif kind == "close" and FAULT == "stays-after-close":
        send(id, type="done")
        time.sleep(1000)
    elif kind == "close" and FAULT == "fails-at-close":
        send(id, type="done")
        sys.exit(3)
    else:
        send(id, type="done")
    if kind == "close":
        sys.exit(0 if FAULT != "ignores-close" else time.sleep(1000))


def wait_for_the_end_of_input():
    """Obeys the contract in the middle of work: a thread reads, and the end of the input ends the process."""
    def read():
        for line in sys.stdin:
            answer(json.loads(line), now())
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    with open(FILE, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(1000)


if FAULT == "busy":
    wait_for_the_end_of_input()
if FAULT == "dies-at-once":
    sys.exit("cannot import the engine")
for line in sys.stdin:
    answer(json.loads(line), now())
