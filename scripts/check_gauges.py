"""Compares the gauges with what other programs read of the same process at the same time. See scripts/check-gauges."""

import csv
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import time

PROGRAM = os.environ["INFEROMETER"]
TICK = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20
TOLERANCE = 0.02
INTERVAL_S = 0.02

BUSY = "while True: pass"
# Grows by 8 MiB every 50 ms, then lets go of all of it, again and again.
BREATHE = """
import mmap, time
piece = b'x' * (1 << 20)
while True:
    held = []
    for _ in range(20):
        block = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block.write(piece * 8)
        held.append(block)
        time.sleep(0.05)
    for block in held:
        block.close()
    time.sleep(0.3)
"""
# A thread that sleeps a thousand times a second beside one that sleeps a hundred times.
SLEEPY = """
import threading, time
def sleep(seconds):
    while True:
        time.sleep(seconds)
threading.Thread(target=sleep, args=(0.01,), daemon=True).start()
sleep(0.001)
"""
# 300 MiB for a second, between two moments that hold little; over the life of a process.
PEAK = """
import mmap, time
time.sleep(1.0)
block = mmap.mmap(-1, 300 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
piece = b'x' * (1 << 20)
for _ in range(300):
    block.write(piece)
time.sleep(1.5)
block.close()
time.sleep(1.0)
"""

failures = []


def check(what, ours, theirs, slack=0.0):
    """Within 2 %, or within `slack`: what may change in one sampling interval, or the other program's own resolution."""
    off = abs(ours - theirs)
    good = off <= max(TOLERANCE * abs(theirs), slack)
    print(f"{'ok  ' if good else 'OFF '} {what}: {ours:.6g} against {theirs:.6g}")
    if not good:
        failures.append(what)


def skip(what, why):
    print(f"skip {what}: {why}")


class Gauges:
    """Samples a process in the background; rows are (time on this clock, {gauge: value})."""

    def __init__(self, pid, seconds, interval_s=INTERVAL_S):
        command = [PROGRAM, "gauges", "--pid", str(pid), "--seconds", str(seconds)]
        command += ["--interval", str(round(interval_s * 1000)), "--groups", "cpu,memory"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def rows(self):
        out, err = self.process.communicate()
        if self.process.returncode != 0:
            sys.exit(f"{PROGRAM} gauges failed:\n{err}")
        origin = re.search(r"counts from (\S+)", err).group(1)
        origin = datetime.datetime.fromisoformat(origin.replace("Z", "+00:00")).timestamp()
        found = []
        for row in csv.DictReader(out.splitlines()):
            at = origin + int(row.pop("t_ns")) / 1e9
            found.append((at, {name: float(value) for name, value in row.items() if value}))
        return found


def start(text):
    process = subprocess.Popen([sys.executable, "-c", text])
    time.sleep(0.3)
    return process


def proc(pid, file):
    with open(f"/proc/{pid}/{file}") as opened:
        return opened.read()


def cpu_seconds(pid):
    fields = proc(pid, "stat").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def waiting_seconds(pid):
    """Time that the main thread was ready to run and had no core."""
    return int(proc(pid, "schedstat").split()[1]) / 1e9


def number(text, name):
    return int(re.search(rf"^{name}:\s+(\d+)", text, re.M).group(1))


def series(rows, name, begin, end):
    return [(at, values[name]) for at, values in rows if name in values and begin <= at <= end]


def integral(samples):
    """Of a rate: each value holds since the one before it."""
    return sum(value * (at - before) for (before, _), (at, value) in zip(samples, samples[1:]))


def during(process, seconds, look):
    """Samples `process` while `look` reads it some other way; the rows and what `look` gave."""
    gauges = Gauges(process.pid, seconds)
    time.sleep(0.5)
    seen = look(process.pid)
    rows = gauges.rows()
    process.kill()
    process.wait()
    return rows, seen


def cpu():
    def look(pid):
        begin, before, waited = time.time(), cpu_seconds(pid), waiting_seconds(pid)
        time.sleep(4)
        return begin, time.time(), cpu_seconds(pid) - before, waiting_seconds(pid) - waited

    rows, (begin, end, used, waited) = during(start(BUSY), 6, look)
    samples = series(rows, "process_cpu_percent", begin, end)
    ours = integral(samples) / 100
    # What Python saw covers all of the time, ours what lies between the first and the last sample in it.
    ours *= (end - begin) / (samples[-1][0] - samples[0][0])
    check("CPU seconds of a busy process, /proc/<pid>/stat", ours, used, slack=2 / TICK)
    check("its threads, /proc/<pid>/status", series(rows, "process_threads", begin, end)[-1][1], 1)
    # What a busy thread does not get on a busy machine it waits for, and the kernel counts that.
    check("a busy thread: its CPU and its waiting for a core, percent", 100 * (ours + waited) / (end - begin), 100)
    if not shutil.which("pidstat"):
        return skip("CPU by pidstat", "not installed (apt install sysstat)")

    def pidstat(pid):
        begin = time.time()
        plain = {**os.environ, "LC_ALL": "C"}
        command = ["pidstat", "-u", "-p", str(pid), "4", "1"]
        out = subprocess.run(command, capture_output=True, text=True, env=plain)
        lines = [line.split() for line in out.stdout.splitlines()]
        column = next(line.index("%CPU") for line in lines if "%CPU" in line)
        return begin, time.time(), float(next(line[column] for line in lines if line[:1] == ["Average:"]))

    rows, (begin, end, percent) = during(start(BUSY), 6, pidstat)
    samples = series(rows, "process_cpu_percent", begin, end)
    ours = integral(samples) / (samples[-1][0] - samples[0][0])
    check("CPU percent of a busy process, pidstat", ours, percent, slack=100 * 2 / TICK / 4)


def memory():
    def look(pid):
        seen, end = [], time.time() + 4
        while time.time() < end:
            before = time.time()
            status, rollup = proc(pid, "status"), proc(pid, "smaps_rollup")
            sizes = [number(status, "VmRSS"), number(status, "RssAnon"), number(rollup, "Pss")]
            seen.append((before, *(kib * 1024 for kib in sizes), time.time()))
            time.sleep(0.005)
        return seen

    rows, seen = during(start(BREATHE), 6, look)
    for name, column in [("rss_bytes", 1), ("rss_anon_bytes", 2), ("pss_bytes", 3)]:
        judged = off = 0
        for at, ours in series(rows, name, seen[0][0] + INTERVAL_S, seen[-1][0] - INTERVAL_S):
            # Python's readings from the last one an interval before to the first one an interval after: on a busy machine
            # it is not always there.
            before = max((i for i, look in enumerate(seen) if look[-1] < at - INTERVAL_S), default=0)
            after = min((i for i, look in enumerate(seen) if look[0] > at + INTERVAL_S), default=len(seen) - 1)
            near = [look[column] for look in seen[before : after + 1]]
            # Within one sampling interval the value of the other program changes itself.
            judged += 1
            off += not min(near) * (1 - TOLERANCE) <= ours <= max(near) * (1 + TOLERANCE)
        if judged == 0:
            skip(f"{name} against Python at the same moment", "no reading lies between two of Python's")
            continue
        check(f"{name} against Python at the same moment, samples that agree of {judged}", judged - off, judged)
    ours = series(rows, "rss_bytes", seen[0][0], seen[-1][0])
    spread = lambda values: max(values) - min(values)
    check("how far memory rises and falls", spread([v for _, v in ours]), spread([v for _, v, *_ in seen]), slack=8 * MIB)


def peak():
    if not os.path.exists("/usr/bin/time"):
        return skip("peak memory", "/usr/bin/time is not installed (apt install time)")
    timed = subprocess.Popen(["/usr/bin/time", "-v", sys.executable, "-c", PEAK], stderr=subprocess.PIPE, text=True)
    time.sleep(0.3)
    child = int(proc(timed.pid, f"task/{timed.pid}/children").split()[0])
    rows = Gauges(child, 10).rows()
    theirs = int(re.search(r"Maximum resident set size \(kbytes\): (\d+)", timed.communicate()[1]).group(1)) * 1024
    check("highest rss_bytes, /usr/bin/time -v", max(values.get("rss_bytes", 0) for _, values in rows), theirs)


def switches():
    def look(pid):
        def counted():
            statuses = [proc(pid, f"task/{task}/status") for task in os.listdir(f"/proc/{pid}/task")]
            return sum(number(status, "voluntary_ctxt_switches") for status in statuses)

        begin, before = time.time(), counted()
        time.sleep(5)
        return begin, time.time(), counted() - before

    rows, (begin, end, count) = during(start(SLEEPY), 7, look)
    samples = series(rows, "voluntary_switches_per_s", begin, end)
    ours = integral(samples) / (samples[-1][0] - samples[0][0])
    theirs = count / (end - begin)
    # Both count at a steady rate, but not over quite the same stretch.
    check("voluntary switches a second of two sleepy threads, /proc/<pid>/task", ours, theirs, slack=theirs * 0.25 / 5)


def counters():
    listed = subprocess.run([PROGRAM, "gauges", "--format", "json"], capture_output=True, text=True, check=True).stdout
    absent = next(gauge["absent"] for gauge in json.loads(listed) if gauge["name"] == "process_instructions_per_s")
    if absent:
        return skip("instructions and cycles by perf stat", absent)
    if not shutil.which("perf"):
        return skip("instructions and cycles by perf stat", "perf is not installed")

    def look(pid):
        begin = time.time()
        command = ["perf", "stat", "-x,", "-e", "instructions:u,cycles:u", "-p", str(pid), "--", "sleep", "4"]
        out = subprocess.run(command, capture_output=True, text=True).stderr
        counted = [float(line.split(",")[0]) for line in out.splitlines() if ":u" in line]
        return begin, time.time(), counted

    rows, (begin, end, counted) = during(start(BUSY), 7, look)
    for name, theirs in zip(["process_instructions_per_s", "process_cycles_per_s"], counted):
        samples = series(rows, name, begin, end)
        check(f"{name}, perf stat", integral(samples) / (samples[-1][0] - samples[0][0]), theirs / 4)


WORKLOADS = {"cpu": cpu, "memory": memory, "peak": peak, "switches": switches, "counters": counters}

if __name__ == "__main__":
    if not sys.platform.startswith("linux"):
        sys.exit("check-gauges: Linux only")
    for wanted in sys.argv[1:] or WORKLOADS:
        if wanted not in WORKLOADS:
            sys.exit(f"no workload {wanted}: {', '.join(WORKLOADS)}")
        WORKLOADS[wanted]()
    if failures:
        sys.exit(f"{len(failures)} gauges are off: {'; '.join(failures)}")
    print("all agree")
