"""The checks of scripts/check-interchange.

usage: check_interchange.py PROGRAM FOLDER COMPARE
"""

import csv
import json
import os
import pathlib
import re
import sqlite3
import subprocess
import sys

import duckdb
import pyarrow.parquet
from prometheus_client.openmetrics.parser import text_string_to_metric_families

program, folder, compare = sys.argv[1:]
os.chdir(folder)
[run] = os.listdir("results")


def inferometer(*arguments):
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


def export(form, *arguments):
    return inferometer("export", run, "--format", form, *arguments)


summary = json.loads(export("json"))
measured = {
    (cell["label"], key): figures for cell in summary["cells"] for key, figures in cell["metrics"].items() if figures
}
assert measured and all(figures["n"] == 6 for (_, key), figures in measured.items() if key != "load_s"), measured


def openmetrics():
    found = 0
    for family in text_string_to_metric_families(export("openmetrics")):
        assert family.type == "gauge" and family.name.startswith("inferometer_"), family
        for sample in family.samples:
            figures = measured[sample.labels["cell"], family.name.removeprefix("inferometer_")]
            bound = sample.labels.get("bound")
            expected = figures["median"] if bound is None else figures["interval"]["lo" if bound == "lower" else "hi"]
            assert sample.value == expected, (sample, expected)
            found += bound is None
    wanted = sum(key != "load_s" for _, key in measured)
    assert found == wanted, (found, wanted)
    print(f"openmetrics: {found} medians, parsed by prometheus_client")


def llama_bench():
    rows = [json.loads(line) for line in export("llama-bench").splitlines()]
    assert len(rows) == 4, rows

    def changed(row, commit, factor):
        return {**row, "build_commit": commit, "avg_ts": row["avg_ts"] * factor}

    both = [changed(row, "aaaaaaaa", 1) for row in rows] + [changed(row, "bbbbbbbb", 1.25) for row in rows]
    pathlib.Path("both.jsonl").write_text("".join(json.dumps(row) + "\n" for row in both))
    statements = export("llama-bench-sql")
    with sqlite3.connect("both.sqlite") as database:
        commit = rows[0]["build_commit"]
        database.executescript(statements.replace(f"'{commit}'", "'aaaaaaaa'"))
        database.executescript(statements.replace(f"'{commit}'", "'bbbbbbbb'"))
        database.execute("UPDATE llama_bench SET avg_ts = avg_ts * 1.25 WHERE build_commit = 'bbbbbbbb'")
    for file in ["both.jsonl", "both.sqlite"]:
        command = [sys.executable, compare, "--tool", "llama-bench", "-b", "aaaaaaaa", "-c", "bbbbbbbb", "-i", file]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        table = [line for line in done.stdout.splitlines() if re.search(r"\| +(pp|tg)\d", line)]
        assert len(table) == 4 and all(line.rstrip(" |").endswith("1.25") for line in table), done.stdout
    print("llama-bench: JSON lines and SQL, compared by compare-llama-bench.py: four tests, ratio 1.25 as made")
    imported = "".join(json.dumps(row) + "\n" for row in rows)
    pathlib.Path("back.jsonl").write_text(imported)
    inferometer("import", "back.jsonl", "--results", "imported")
    [back] = os.listdir("imported")
    cells = json.loads(inferometer("export", back, "--results", "imported", "--format", "json"))["cells"]
    rates = sorted(figures["median"] for cell in cells for figures in cell["metrics"].values() if figures)
    wanted = sorted(figures["median"] for (_, key), figures in measured.items() if key in ("prefill_tps", "decode_tps"))
    # The format has whole nanoseconds.
    assert len(rates) == 4 and all(abs(a / b - 1) < 1e-6 for a, b in zip(rates, wanted)), (rates, wanted)
    print("llama-bench: imported again: the same four medians")


def go():
    """Go's benchmark format: https://go.googlesource.com/proposal/+/master/design/14313-benchmark-format.md, and the lines
    `Unit` of golang.org/x/perf/benchfmt."""
    counts, units = {}, set()
    for line in export("go").splitlines():
        if not line:
            continue
        if match := re.fullmatch(r"Unit (\S+) better=(higher|lower)", line):
            units.add(match[1])
        elif match := re.fullmatch(r"(Benchmark\S+) +(\d+)((?: +[0-9.eE+-]+ \S+)+)", line.replace("\t", " ")):
            name = match[1].removeprefix("Benchmark")
            assert name and not name[0].islower() and int(match[2]) > 0, line
            words = match[3].split()
            assert set(words[1::2]) <= units, line
            counts[name] = counts.get(name, 0) + 1
        else:
            assert re.fullmatch(r"[a-z][^A-Z\s:]*: .*", line), line
    assert list(counts.values()) == [6, 6], counts
    print("go: two benchmarks with six lines each, held to the grammar")


def shapes():
    bencher = json.loads(export("bencher"))
    for measures in bencher.values():
        for slug, metric in measures.items():
            assert re.fullmatch(r"[a-z0-9-]+", slug) and isinstance(metric["value"], float), (slug, metric)
            assert set(metric) <= {"value", "lower_value", "upper_value"}, metric
    print(f"bencher: {sum(map(len, bencher.values()))} measures")
    for form in ["github-bigger", "github-smaller"]:
        results = json.loads(export(form))
        for result in results:
            assert set(result) <= {"name", "unit", "value", "range", "extra"}, result
            assert isinstance(result["value"], (int, float)) and result["name"] and result["unit"], result
        assert len({result["name"] for result in results}) == len(results)
        print(f"{form}: {len(results)} results")


def parquet():
    for table in ["requests", "tokens", "spans", "telemetry"]:
        file = f"{table}.parquet"
        export("parquet", "--table", table, "-o", file)
        with open(f"results/{run}/{table}.csv", newline="") as source:
            rows = list(csv.DictReader(source))
        read = pyarrow.parquet.read_table(file)
        assert read.num_rows == len(rows) > 0, (table, read.num_rows, len(rows))
        for at, row in enumerate(read.to_pylist()):
            for name, value in row.items():
                if name not in rows[at]:
                    continue
                text = rows[at][name]
                same = value is None if text == "" else (
                    value == (text == "true") if isinstance(value, bool)
                    else float(text) == value if isinstance(value, (int, float))
                    else text == value
                )
                assert same, (table, at, name, text, value)
    [[mean]] = duckdb.sql("SELECT avg(decode_tps) FROM 'requests.parquet' WHERE NOT warmup AND cell = 0").fetchall()
    [[gap]] = duckdb.sql(
        "SELECT median(gap) FROM (SELECT t_ns - lag(t_ns) OVER (PARTITION BY request ORDER BY index) gap FROM 'tokens.parquet')"
    ).fetchall()
    assert mean > 0 and gap > 0
    print(f"parquet: four tables, equal to the CSV files in pyarrow; DuckDB finds a mean rate of {mean:.1f} tok/s")


openmetrics()
llama_bench()
go()
shapes()
parquet()
