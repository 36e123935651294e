# Chores, one recipe each. `just` lists them; https://just.systems says how to install it. Nothing depends on it: each recipe
# is a command that you can also type.

set positional-arguments

export PYTHONDONTWRITEBYTECODE := "1"

[private]
default:
    @just --list --unsorted

# Format all code
[group('every change')]
fmt:
    cargo fmt --all
    cargo fmt --manifest-path examples/custom-engine/Cargo.toml

# Lint for this machine, warnings are errors
[group('every change')]
lint:
    cargo clippy --locked --workspace --all-targets -- -D warnings
    cargo clippy --locked -p inferometer --test slow -- -D warnings

# Run the unit and integration tests; arguments go to `cargo test`
[group('every change')]
test *arguments:
    cargo test --locked --workspace "$@"

# Lint the code for Apple Silicon, with Metal, on Linux
[group('before a pull request')]
lint-macos:
    scripts/mlx-linux --bindings-only
    cargo clippy --config target/mlx/apple.toml --locked --workspace --all-targets --target aarch64-apple-darwin -- -D warnings

# Run the checks of our own program that take minutes; arguments filter them by name
[group('before a pull request')]
slow *names:
    cargo test --locked --release -p inferometer --test slow -- "$@"

# Run everything that CI runs on Linux, from installing to the book
[group('before a pull request')]
gate:
    .ci/run

# Build the book and open it
[group('documentation')]
book:
    mdbook build docs --dest-dir "$PWD/target/book" --open

# Build the API pages and open those of the library for engine authors
[group('documentation')]
api:
    cargo doc --locked --workspace --no-deps --lib
    cargo doc --locked -p inferometer-host --no-deps --lib --open

# Install what the checks need on Debian or Ubuntu
[group('set-up')]
setup:
    scripts/setup-linux

# Build MLX for Linux, on the CPU, and the program with it
[group('set-up')]
mlx:
    scripts/mlx-linux
    cargo build --config target/mlx/config.toml --locked --release --features mlx

# Compare with Python mlx_lm: `candle`, `quantized`, `mlx`, or all three without an argument
[group('checks')]
check-mlx-lm *what:
    scripts/check-mlx-lm "$@"

# Compare token ids and chat templates with Python's `tokenizers` and Jinja
[group('checks')]
check-tokenizers *models:
    scripts/check-tokenizers "$@"

# Open report pages in a browser: those given, or simulated ones
[group('checks')]
check-report *folders:
    scripts/check-report "$@"

# Check the files of a profiled cell with protobuf, Graphviz and an XML parser
[group('checks')]
check-profile cell:
    scripts/check-profile "$@"

# Check workflows and action.yml against GitHub's schemas
[group('checks')]
check-workflows:
    scripts/check-workflows

# Compare the gauges with other programs on the same processes (Linux)
[group('checks')]
check-gauges *workloads:
    scripts/check-gauges "$@"

# Check that memory known to go up and down is reported so (five minutes)
[group('checks')]
check-oscillation *program:
    scripts/check-oscillation "$@"

# Read exports with the programs that they are for (two minutes)
[group('checks')]
check-interchange:
    scripts/check-interchange

# Check the spans of a token, and what the profiled pass costs
[group('checks')]
check-spans *arguments:
    scripts/check-spans "$@"

# Check that `ab` finds commits whose harm is known (an hour or more)
[group('checks')]
check-planted *arguments:
    scripts/check-planted "$@"

# Measure candle beside llama.cpp and this machine's bounds
[group('benchmarks')]
bench-engines *arguments:
    scripts/bench-engines "$@"

# Run the micro-benchmarks and print a table; arguments filter them by name
[group('benchmarks')]
bench-micro *arguments:
    scripts/bench-micro "$@"

# Measure the MLX backend against Python mlx_lm in balanced pairs
[group('benchmarks')]
bench-mlx *pairs:
    scripts/bench-mlx "$@"

# Measure what the harness costs a decode, and what recording a token costs
[group('benchmarks')]
bench-overhead:
    cargo bench --locked --bench overhead
    cargo bench --locked --bench recorder -- --warm-up-time 1 --measurement-time 3

# Measure time and memory of a report with a million token rows
[group('benchmarks')]
bench-report *rows:
    scripts/bench-report "$@"

# Measure what sampling the gauges costs
[group('benchmarks')]
bench-sampling *seconds_and_pairs:
    scripts/bench-sampling "$@"

# Measure the time of `inferometer --help`
[group('benchmarks')]
bench-startup:
    scripts/bench-startup

# Write the fixtures that statistics are tested against: `stats`, `growth` or `oscillation`
[group('rarely')]
fixtures which:
    scripts/fixtures "$@"

# Run everything that needs a quiet machine (hours); `just nightly selftest` runs the self-test alone
[group('rarely')]
nightly *arguments:
    scripts/nightly "$@"
