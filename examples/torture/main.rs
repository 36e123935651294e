//! Mistreats the program in seeded random rounds and counts what is lost: `cargo run --release
//! --example torture -- --rounds 100 --seed 1`.
//!
//! Each round draws a kind of mistreatment and everything about it from its own seed, which is the
//! first seed plus the number of the round. A round that lost something prints its seed; `--seed
//! THAT --rounds 1` draws the same round again. When a process is killed depends on the machine
//! too, so it may take more than one try.

mod clock;
mod counts;
mod hostile;
mod kills;
mod lab;
mod storage;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use inferometer_host::alloc::Counting;

use counts::{Count, table};
use lab::{Fault, Lab, Random};

/// As in the program, which this one can stand for.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Kills, full disks, hostile engines, clock jumps and deleted folders, at random; is anything
/// lost?
#[derive(Debug, Parser)]
#[command(name = "torture")]
struct Args {
    /// How many rounds
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    /// Seed of the first round; each further round adds one
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only rounds of this kind; may be repeated
    #[arg(long, value_parser = KINDS.map(|kind| kind.name))]
    kind: Vec<String>,
    /// Stop beginning rounds after so many seconds
    #[arg(long, value_name = "SECONDS")]
    within: Option<u64>,
    /// The `inferometer` to mistreat, instead of the one that is built into this program
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Keep the folder of a round that lost something
    #[arg(long)]
    keep: bool,
}

/// A kind of mistreatment.
struct Kind {
    name: &'static str,
    round: fn(&Lab, &mut Random) -> Result<(), Fault>,
}

const KINDS: [Kind; 11] = [
    Kind { name: "kill-run", round: kills::run },
    Kind { name: "kill-profile", round: kills::profile },
    Kind { name: "kill-conversation", round: kills::conversation },
    Kind { name: "kill-ab", round: kills::ab },
    Kind { name: "kill-host", round: kills::host },
    Kind { name: "full-file", round: storage::full_file },
    Kind { name: "full-disk", round: storage::full_disk },
    Kind { name: "full-stdout", round: storage::full_stdout },
    Kind { name: "folder", round: storage::folder },
    Kind { name: "hostile", round: hostile::round },
    Kind { name: "clock", round: clock::round },
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("hostile") => return hostile::host(&words[1..]),
        _ if std::env::var_os(lab::AS_PROGRAM).is_some() => return inferometer::cli::main(),
        _ => {}
    }
    let args = Args::parse();
    let kinds: Vec<&Kind> =
        KINDS.iter().filter(|kind| args.kind.is_empty() || args.kind.iter().any(|name| name == kind.name)).collect();
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    let begun = Instant::now();
    for seed in args.seed..args.seed + args.rounds {
        if args.within.is_some_and(|most| begun.elapsed() >= Duration::from_secs(most)) {
            break;
        }
        round(&args, &kinds, seed, &mut counts);
    }
    print(&table(&counts, begun.elapsed()));
    if counts.values().any(|count| count.lost > 0) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[expect(clippy::print_stderr, reason = "a program for people")]
fn round<'a>(args: &Args, kinds: &[&'a Kind], seed: u64, counts: &mut BTreeMap<&'a str, Count>) {
    let mut random = Random::new(seed);
    let kind = kinds[random.below(kinds.len() as u64) as usize];
    let count = counts.entry(kind.name).or_default();
    let begun = Instant::now();
    let lab = Lab::new(args.program.clone());
    let ended = lab.as_ref().map_err(|error| Fault::NotTried(error.to_string())).and_then(|lab| {
        (kind.round)(lab, &mut random)?;
        lab.nothing_runs()
    });
    match ended {
        Ok(()) => count.tried += 1,
        Err(Fault::NotTried(why)) => {
            count.not_tried += 1;
            count.why = why;
        }
        Err(Fault::Lost(what)) => {
            count.tried += 1;
            count.lost += 1;
            eprintln!("round with seed {seed}, {}: {what}", kind.name);
            if args.keep
                && let Ok(lab) = lab
            {
                eprintln!("its folder: {}", lab.keep().display());
            }
        }
    }
    count.seconds += begun.elapsed().as_secs_f64();
    let sum = |of: fn(&Count) -> u64| counts.values().map(of).sum::<u64>();
    let (tried, lost) = (sum(|count| count.tried), sum(|count| count.lost));
    if tried % 50 == 0 {
        eprintln!("{tried} rounds, {lost} lost");
    }
}

#[expect(clippy::print_stdout, reason = "a program for people")]
fn print(table: &str) {
    print!("{table}");
}
