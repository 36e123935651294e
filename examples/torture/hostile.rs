//! Engine hosts that misbehave. A hostile host conforms until it is about to do its worst, in a
//! message and a generation that the round drew.

use std::io::{BufRead, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use inferometer::record::{Cause, Status};
use serde_json::{Value, json};

use crate::kills::HEAD;
use crate::lab::{Fault, Lab, Random, io, lost, read, tail};

/// What a host does. `harmless`: the measurement may still be valid.
struct Deed {
    name: &'static str,
    harmless: bool,
    act: fn(&Message) -> Option<Value>,
}

/// The message that it does not answer well.
struct Message {
    id: Value,
    /// Its honest answer.
    honest: Value,
}

const DEEDS: [Deed; 17] = [
    Deed { name: "rubbish", harmless: false, act: |_| raw(b"\x00\xff\x1b[2J not json {{{\n", 1).map(|()| Value::Null) },
    Deed { name: "half-a-line", harmless: false, act: |_| raw(b"{\"id\":", 1).and_then(|()| end(0)) },
    Deed { name: "endless-line", harmless: false, act: |_| raw(&[b'['; 1 << 16], 4096).map(|()| Value::Null) },
    Deed {
        name: "nested",
        harmless: false,
        act: |_| raw(&[b'['; 1 << 16], 1).and_then(|()| raw(b"\n", 1)).map(|()| Value::Null),
    },
    Deed { name: "endless-progress", harmless: false, act: flood },
    Deed { name: "silence", harmless: false, act: |_| sleep() },
    Deed { name: "exit", harmless: false, act: |_| end(0) },
    Deed { name: "exit-7", harmless: false, act: |_| end(7) },
    Deed { name: "abort", harmless: false, act: |_| std::process::abort() },
    Deed { name: "child-holds-stdout", harmless: false, act: |_| leave_child().and_then(|()| end(3)) },
    Deed { name: "stderr", harmless: true, act: complain },
    Deed { name: "wrong-id", harmless: false, act: |m| Some(merged(m, json!({"id": 99_999_999}))) },
    Deed { name: "wrong-type", harmless: false, act: |m| Some(json!({"id": m.id, "type": "nonsense"})) },
    Deed { name: "not-mine", harmless: false, act: |m| Some(json!({"id": m.id, "type": "memory", "active_bytes": 1})) },
    Deed {
        name: "backwards",
        harmless: true,
        act: |m| Some(merged(m, json!({"accepted_ns": u64::MAX, "finished_ns": 0, "now_ns": 0}))),
    },
    Deed {
        name: "no-time",
        harmless: true,
        act: |m| {
            let mut answer = m.honest.clone();
            let tokens = answer["token_ns"].as_array().map_or(0, Vec::len);
            if tokens > 0 {
                answer["token_ns"] = json!(vec![answer["accepted_ns"].clone(); tokens]);
                answer["finished_ns"] = answer["accepted_ns"].clone();
            }
            Some(answer)
        },
    },
    Deed {
        name: "too-much",
        harmless: true,
        act: |m| Some(merged(m, json!({"prompt_tokens": u32::MAX, "prefill_tokens": u32::MAX, "load_ns": u64::MAX}))),
    },
];

/// Messages in which a host can misbehave.
const WHERE: [&str; 5] = ["hello", "ping", "open", "generate", "reset"];

pub fn round(lab: &Lab, random: &mut Random) -> Result<(), Fault> {
    let deed = &DEEDS[random.below(DEEDS.len() as u64) as usize];
    let place = WHERE[random.below(WHERE.len() as u64) as usize];
    let nth = 1 + random.below(6);
    let own = std::env::current_exe().map_err(io)?;
    let command = [own.display().to_string(), "hostile".into(), deed.name.into(), place.into(), nth.to_string()];
    let text = format!(
        "{HEAD}[[engine]]\nname = \"exec\"\noptions = {{ command = {command:?} }}\n\
         [workload]\ntext = \"one two three\"\nmax_tokens = 4\nignore_eos = true\n\
         [run]\niterations = 3\nwarmup = 1\ntimeout_s = 2.0\nexternal_causes = \"warn\"\n"
    );
    let scenario = lab.write("scenario.toml", &text)?.display().to_string();
    let told = |what: String| lost(format!("host {} in {place} {nth}: {what}", deed.name));
    let begun = Instant::now();
    let done = lab.finish(&["run", &scenario, "--no-report"])?;
    // Three iterations, three attempts each, and time-outs of 2 s.
    if begun.elapsed() > Duration::from_secs(90) {
        return told(format!("the run took {:?}", begun.elapsed()));
    }
    if !matches!(done.code, Some(0 | 1 | 2 | 4)) {
        return told(format!("code {:?}: {}", done.code, tail(&done.stderr)));
    }
    if done.stderr.contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
        return told("control characters reach the terminal".to_owned());
    }
    let Some(dir) = lab.folder() else {
        return if done.code == Some(2) { Ok(()) } else { told("there is no record".to_owned()) };
    };
    let record = read(&dir)?;
    for row in record.requests.iter().filter(|row| !row.warmup && row.status == Status::Ok) {
        if row.decode_tps.is_some_and(|tps| tps > 1e6) || row.prompt_tokens.is_some_and(|n| n > 1000) {
            return told(format!("a false figure passes as valid: {:?} tok/s", row.decode_tps));
        }
    }
    let spoiled = record.requests.iter().any(|row| row.status != Status::Ok && row.cause != Some(Cause::LateStamps));
    if done.code == Some(0) && spoiled && record.requests.iter().any(|row| !row.warmup && row.status != Status::Ok) {
        return told("iterations failed, but the exit code is 0".to_owned());
    }
    if deed.harmless && done.code == Some(1) && !spoiled {
        return told(format!("a harmless host failed: {}", tail(&done.stderr)));
    }
    let logs = fs_err::read_dir(dir.join("logs")).into_iter().flatten().flatten();
    let largest = logs.filter_map(|log| log.metadata().ok()).map(|log| log.len()).max().unwrap_or(0);
    if largest > 2 << 20 {
        return told(format!("a log of {largest} bytes"));
    }
    lab.must(&["results", "show", &dir.display().to_string()])
}

/// The host's side: `hostile DEED WHERE NTH`.
pub fn host(words: &[String]) -> ExitCode {
    let [deed, place, nth] = words else { return ExitCode::FAILURE };
    let Some(deed) = DEEDS.iter().find(|one| one.name == deed) else { return ExitCode::FAILURE };
    let mut left: u64 = nth.parse().unwrap_or(1);
    for line in std::io::stdin().lock().lines() {
        let Ok(message) = line.map_err(drop).and_then(|line| serde_json::from_str::<Value>(&line).map_err(drop)) else {
            break;
        };
        let honest = answer(&message);
        let mut said = Some(honest.clone());
        if message["type"] == place.as_str() {
            left = left.saturating_sub(1);
            if left == 0 {
                said = (deed.act)(&Message { id: message["id"].clone(), honest });
            }
        }
        let Some(said) = said else { return ExitCode::SUCCESS };
        if raw(format!("{said}\n").as_bytes(), 1).is_none() || message["type"] == "close" {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn answer(message: &Value) -> Value {
    let id = message["id"].clone();
    let now = inferometer_protocol::clock::now_ns;
    match message["type"].as_str().unwrap_or_default() {
        "hello" => json!({"id": id, "type": "hello", "protocol": {"major": 1, "minor": 3}, "host": "hostile"}),
        "ping" => json!({"id": id, "type": "pong", "clock": inferometer_protocol::clock::CLOCK_ID, "now_ns": now()}),
        "open" => json!({"id": id, "type": "ready", "engine": "hostile", "version": "1", "model": {"name": "none"},
            "capabilities": {"text": true, "reset": true}, "toggles": [], "load_ns": 1}),
        "generate" => {
            let accepted = now();
            let mut stamps = Vec::new();
            let tokens: Vec<u64> = (0..message["max_tokens"].as_u64().unwrap_or(1)).collect();
            for _ in &tokens {
                std::thread::sleep(Duration::from_millis(3));
                stamps.push(now());
            }
            json!({"id": id, "type": "result", "tokens": tokens, "token_ns": stamps, "accepted_ns": accepted,
                "finished_ns": now(), "finish_reason": "length", "prompt_tokens": 3, "reused_tokens": 0,
                "prefill_tokens": 3, "effective": {}})
        }
        _ => json!({"id": id, "type": "done"}),
    }
}

fn merged(message: &Message, changes: Value) -> Value {
    let mut answer = message.honest.clone();
    for (key, value) in changes.as_object().into_iter().flatten() {
        // Only what the answer has; otherwise it would be another message.
        if let Some(own) = answer.get_mut(key) {
            *own = value.clone();
        }
    }
    answer
}

/// Writes these bytes so often; `None` when nobody reads.
fn raw(bytes: &[u8], times: usize) -> Option<()> {
    let mut out = std::io::stdout().lock();
    for _ in 0..times {
        out.write_all(bytes).ok()?;
    }
    out.flush().ok()?;
    Some(())
}

fn end(code: i32) -> Option<Value> {
    std::process::exit(code)
}

fn sleep() -> Option<Value> {
    std::thread::sleep(Duration::from_secs(600));
    None
}

fn flood(message: &Message) -> Option<Value> {
    let line = format!("{}\n", json!({"id": message.id, "type": "progress", "generated_tokens": 1}));
    while raw(line.as_bytes(), 100).is_some() {}
    None
}

fn complain(message: &Message) -> Option<Value> {
    let line = [b'\x1b'; 4096];
    let mut out = std::io::stderr().lock();
    for _ in 0..4096 {
        out.write_all(&line).ok()?;
    }
    Some(message.honest.clone())
}

/// A process that keeps this one's stdout open.
fn leave_child() -> Option<()> {
    Command::new("sleep").arg("300").stdin(Stdio::null()).spawn().ok()?;
    Some(())
}
