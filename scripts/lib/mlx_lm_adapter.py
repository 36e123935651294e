"""Checks the installed engine `mlx-lm` through the harness. Called by `check-mlx-lm adapter`.

usage: mlx_lm_adapter.py INFEROMETER FOLDER

The scenarios name the engine; its tokens must be those of the candle backend in f32 on the same folder. A comparison that
cannot fail proves nothing, so at the end one side gets another model, which must be detected.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path

TEXT = "The harbour was quiet, and the keeper wrote down what the instruments said before the morning ferry came in. "
CANDLE = '[[engine]]\nname = "transformer"\noptions = { backend = "candle" }\ntoggles = { dtype = "f32" }\n'
MLX_LM = '[[engine]]\nname = "mlx-lm"\n'
PROMPT = f'[workload]\ntext = "{TEXT}"\nlengths = [{{}}]\nmax_tokens = {{}}\nignore_eos = true\n'
TURNS = "".join(
    f'[[workload.turn]]\nuser = "{text}"\n'
    for text in ("What did the keeper see?", "And in the evening?", "Write it down once more, please.")
)
CONVERSATION = f'[workload]\nkind = "conversation"\nmax_tokens = 24\nignore_eos = true\n{TURNS}'
# Name, toggles, workload, engines.
SCENARIOS = [
    ("a text that the engine tokenizes", "", PROMPT.replace("lengths = [{}]\n", "").format(16), MLX_LM + CANDLE),
    ("reuse", 'kv_reuse = ["prefix", "none"]', CONVERSATION, MLX_LM + CANDLE),
    ("penalty", "repetition_penalty = 1.3\nrepetition_context_size = 64\nkv_reuse = [\"prefix\", \"none\"]", CONVERSATION,
     MLX_LM + CANDLE),
    ("rotating", 'kv_cache = "rotating:48"', PROMPT.format(96, 32), MLX_LM + CANDLE),
    ("drafts", 'num_draft_tokens = [0, 1, 3]\ndraft_model = "{draft}"', PROMPT.format(48, 40), MLX_LM + CANDLE),
    ("drafts with a penalty",
     'num_draft_tokens = [0, 3]\ndraft_model = "{draft}"\nrepetition_penalty = 1.3\nrepetition_context_size = 0',
     PROMPT.format(48, 40), MLX_LM + CANDLE),
    ("its own draft model", 'num_draft_tokens = 3\ndraft_model = "{model}"', PROMPT.format(48, 41), MLX_LM + CANDLE),
    ("drafts in a conversation", 'num_draft_tokens = [0, 3]\ndraft_model = "{draft}"\nkv_reuse = "prefix"', CONVERSATION,
     MLX_LM),
]
# Options of mlx_lm that change the tokens, or may: only their validity is checked.
OPTIONS = ["prefill_step_size = 16", "max_kv_size = 64", "kv_bits = 8, kv_group_size = 32, quantized_kv_start = 0"]
TRIES = 4  # of a run that a busy machine disturbed


class Check:
    def __init__(self, program, folder):
        self.program, self.folder, self.problems = program, folder, []
        # Other programs must not decide what is compared here; a debug build allows late stamps.
        self.environment = {**os.environ, "INFEROMETER_TEST_PATIENCE_MS": "20000"}

    def differs(self, line):
        self.problems.append(line)
        print("DIFFERENT:", line)

    def model(self, arch, seed):
        path = self.folder / f"{arch}-{seed}"
        if not path.exists():
            command = [self.program, "-q", "model", "new", "--arch", arch, "--preset", "tiny", "--dtype", "f32"]
            subprocess.run([*command, "--seed", str(seed), path], check=True, stdout=subprocess.DEVNULL)
        return path

    def rows(self, model, engines, workload, toggles="", iterations=1, isolation="run"):
        """Measured requests that are valid; a run that a busy machine disturbed is repeated."""
        text = (
            f'name = "check"\n[model]\npath = "{model}"\n{engines}{workload}[toggles]\n{toggles}\n[run]\n'
            f'iterations = {iterations}\nexternal_causes = "warn"\nisolation = "{isolation}"\n'
        )
        scenario = self.folder / "check.toml"
        scenario.write_text(text)
        for attempt in range(TRIES):
            results = self.folder / "results"
            command = [self.program, "run", scenario, "--results", results, "--reports", self.folder / "reports"]
            told = subprocess.run(command, env=self.environment, capture_output=True, text=True)
            if told.returncode not in (0, 4):
                sys.exit(f"{text}\n{told.stdout}{told.stderr}")
            newest = max(results.iterdir(), key=lambda path: path.name)
            rows = [row for row in csv.DictReader((newest / "requests.csv").open()) if row["warmup"] == "false"]
            wrong = [row["reason"] for row in rows if row["status"] != "ok"]
            if not wrong:
                return rows
        self.differs(f"{text}: {len(wrong)} of {len(rows)} invalid in {attempt + 1} runs: {wrong[0]}")
        return rows

    def abilities(self, model):
        told = subprocess.run(
            [self.program, "engines", "check", "--engine", "mlx-lm", "--model", model],
            env=self.environment, capture_output=True, text=True,
        )
        print(f"engines check, {model.name}: {told.stdout.splitlines()[-1]}")
        if told.returncode != 0:
            self.differs(told.stdout + told.stderr)

    def tokens(self, what, rows):
        """Every cell has the same tokens, turn by turn."""
        hashes = {}
        for row in rows:
            hashes.setdefault(row["turn"], set()).add(row["token_hash"])
        if any(len(found) > 1 for found in hashes.values()):
            self.differs(f"{what}: tokens differ: {[(row['engine'], row['turn'], row['token_hash']) for row in rows]}")
            return False
        print(f"equal tokens: {what}, {len(rows)} requests")
        return True


def ten_iterations(check, model):
    rows = check.rows(model, MLX_LM + CANDLE, PROMPT.format(64, 48), iterations=10)
    check.tokens(f"{model.name}, ten iterations", rows)
    timing = {row["timing"] for row in rows if row["engine"] == "mlx-lm"}
    print(f"token times of mlx-lm: {', '.join(timing)}")
    if timing != {"verified"}:
        check.differs("token times of mlx-lm are not verified")
    chunks = {row["effective_prefill_chunk_size"] for row in rows if row["engine"] == "mlx-lm"}
    if chunks != {"63"}:
        check.differs(f"64 tokens of a prompt have passes of {chunks}, not of 63 and 1")


def toggles(check, model, draft):
    for name, toggles, workload, engines in SCENARIOS:
        rows = check.rows(model, engines, workload, toggles.format(draft=draft, model=model))
        check.tokens(f"{model.name}, {name}", rows)
        ours = [row for row in rows if row["engine"] == "mlx-lm"]
        if name == "reuse" and not any(int(row["reused_tokens"] or 0) > 0 for row in ours):
            check.differs("no turn reused the cache")
        if name == "its own draft model":
            counts = {tuple(int(row[f"{what}_tokens"]) for what in ("drafted", "accepted")) for row in rows}
            print(f"its own draft model: (drafted, accepted) {counts}")
            if counts != {(30, 30)}:
                check.differs(f"drafts of the model itself were not all right: {counts}")


def options(check, model):
    for option in OPTIONS:
        engine = f'[[engine]]\nname = "mlx-lm"\noptions = {{ {option} }}\n'
        rows = check.rows(model, engine, PROMPT.format(96, 32), iterations=2)
        if len({row["token_hash"] for row in rows}) == 1:
            print(f"valid, and equal tokens in two iterations: {option}")
        else:
            check.differs(f"{option}: two iterations have different tokens")


def unloads(check, model):
    rows = check.rows(model, MLX_LM, PROMPT.format(16, 8), iterations=3, isolation="load")
    check.tokens("a model unloaded and loaded three times", rows)


def main():
    check = Check(*map(Path, sys.argv[1:]))
    models = [check.model(arch, 1) for arch in ("qwen3", "llama", "gemma3")]
    check.abilities(models[0])
    for model in models:
        ten_iterations(check, model)
    toggles(check, models[0], check.model("qwen3", 2))
    options(check, models[0])
    unloads(check, models[0])
    for at, model in enumerate((models[0], check.model("qwen3", 2))):
        rows = check.rows(model, MLX_LM, PROMPT.format(64, 48))
        first = first + rows if at else rows
    found = {row["token_hash"] for row in first}
    print("noticed: another model" if len(found) == 2 else "NOT NOTICED: another model")
    if len(found) != 2:
        check.problems.append("another model was not noticed")
    sys.exit(1 if check.problems else 0)


if __name__ == "__main__":
    main()
