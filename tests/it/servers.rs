//! The engine `openai` against servers of several kinds, well-behaved and hostile. What they send
//! has the form that the documentation and the tests of these projects show.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use inferometer::record::{Cause, FinishState, Status, Timing};
use serde_json::{Value, json};

use crate::lab::{Lab, measured, statuses};

// macOS trusts its keychain alone, which a test does not change.
#[cfg(target_os = "linux")]
mod certificates;
mod scripted;

use scripted::{FIRST, GAP, Scripted, Seen, end, event, head, send, whole};

const WORDS: [&str; 12] = ["One", " day", " a", " fox", " saw", " the", " sea", ",", " and", " it", " was", " wide"];

/// A scenario that sends a text to the server.
fn scenario(lab: &Lab, server: &Scripted, options: &str, rest: &str) -> PathBuf {
    let model = lab.path("model");
    fs_err::create_dir_all(&model).unwrap();
    let url = server.url();
    let workload = match rest.contains("[workload]") {
        true => "",
        false => "[workload]\nkind = \"prompt\"\ntext = \"one two three four five\"\nmax_tokens = 12\n",
    };
    let engine = format!("[[engine]]\nname = \"openai\"\noptions = {{ url = {url:?}{options} }}\n");
    lab.write("scenario.toml", format!("name = \"servers\"\n[model]\npath = {model:?}\n{engine}{workload}{rest}"))
}

const FOUR: &str = "[run]\niterations = 4\n";

fn models(owner: &str) -> Value {
    json!({"object": "list", "data": [{"id": "fox-1b", "object": "model", "created": 1, "owned_by": owner}]})
}

fn limit(seen: &Seen) -> usize {
    seen.body["max_tokens"].as_u64().or(seen.body["n_predict"].as_u64()).unwrap() as usize
}

/// A stream of completions as vLLM and others send it: one event for each word, then the counts.
fn completions(seen: &Seen, stream: &mut TcpStream, ids: bool) {
    let count = limit(seen).min(WORDS.len());
    head(stream);
    sleep(FIRST);
    for (at, word) in WORDS[..count].iter().enumerate() {
        let finish = if at + 1 == count { json!("length") } else { Value::Null };
        let mut choice = json!({"index": 0, "text": word, "logprobs": null, "finish_reason": finish});
        if ids {
            choice["token_ids"] = json!([1000 + at]);
        }
        send(
            stream,
            event(&json!({"id": "cmpl-1", "object": "text_completion", "model": "fox-1b", "choices": [choice]})),
        );
        sleep(GAP);
    }
    let usage = json!({"prompt_tokens": 5, "completion_tokens": count, "total_tokens": 5 + count});
    send(stream, event(&json!({"id": "cmpl-1", "object": "text_completion", "choices": [], "usage": usage})));
    send(stream, "data: [DONE]\n\n");
    end(stream);
}

/// What was posted, for a look at it.
type Posted = Arc<Mutex<Vec<Seen>>>;

fn remembered(
    reply: impl Fn(&Seen, &mut TcpStream) + Send + Sync + 'static,
) -> (Posted, impl Fn(&Seen, &mut TcpStream) + Send + Sync) {
    let posted = Posted::default();
    let kept = Arc::clone(&posted);
    (posted, move |seen: &Seen, stream: &mut TcpStream| {
        kept.lock().unwrap().push(seen.clone());
        reply(seen, stream);
    })
}

#[test]
fn vllm_tells_ids_and_gets_a_salt_for_each_iteration() {
    let lab = Lab::new();
    let (posted, reply) = remembered(|seen, stream| completions(seen, stream, true));
    let version = |path: &str| (path == "/version").then(|| json!({"version": "0.28.0"}));
    let server = Scripted::start(models("vllm"), version, reply);
    let rest = "[workload]\nkind = \"prompt\"\ntext = \"one two three four five\"\nmax_tokens = 12\nignore_eos = true\n\
                [sampling]\nseed = 7\ntemperature = 0.5\ntop_k = 40\n[run]\niterations = 4\n";
    lab.measure(&scenario(&lab, &server, "", rest), &[]).expect(0);
    let record = lab.record();
    assert_eq!(statuses(&record), [Status::Ok; 4]);
    let ids: Vec<u32> = record.tokens.iter().filter_map(|row| row.id).collect();
    assert_eq!(&ids[ids.len() - 12..], (1000..1012).collect::<Vec<_>>());
    let row = measured(&record)[3];
    assert_eq!((row.prompt_tokens, row.generated_tokens, row.counted_tokens), (Some(5), Some(12), None));
    assert_eq!(row.timing, Some(Timing::Verified));
    // The server waits before the first token and between two; nothing here is quicker.
    assert!(row.ttft_ms.unwrap() >= FIRST.as_secs_f64() * 1e3, "{:?}", row.ttft_ms);
    let least = FIRST + 11 * GAP;
    assert!(row.e2e_ms.unwrap() >= least.as_secs_f64() * 1e3, "{:?}", row.e2e_ms);
    assert!(row.first_byte_ms.unwrap() <= row.ttft_ms.unwrap());
    assert!(row.first_visible_ms.unwrap() >= row.ttft_ms.unwrap());
    let receipt = &record.manifest.hosts[0].receipt;
    assert_eq!(receipt.backend.as_deref(), Some("vllm 0.28.0"));
    assert_eq!(receipt.model.name, "fox-1b");
    let posted = posted.lock().unwrap();
    let last = &posted.last().unwrap().body;
    for (key, value) in [
        ("model", json!("fox-1b")),
        ("max_tokens", json!(12)),
        ("stream_options", json!({"include_usage": true})),
        ("ignore_eos", json!(true)),
        ("return_token_ids", json!(true)),
        ("seed", json!(7)),
        ("temperature", json!(0.5)),
        ("top_k", json!(40)),
    ] {
        assert_eq!(last[key], value, "{key}");
    }
    let salts: std::collections::BTreeSet<&str> =
        posted[posted.len() - 4..].iter().map(|seen| seen.body["cache_salt"].as_str().unwrap()).collect();
    assert_eq!(salts.len(), 4, "no iteration may find the prompt of another in the cache");
}

/// As llama-server's README and tests show `/completion` with `stream` and `return_tokens`.
#[test]
fn llama_server_is_driven_by_its_own_completion() {
    let lab = Lab::new();
    let reply = |seen: &Seen, stream: &mut TcpStream| {
        assert_eq!(seen.path, "/completion");
        let count = limit(seen);
        head(stream);
        sleep(FIRST);
        for at in 0..count {
            let word = WORDS[at % WORDS.len()];
            send(stream, event(&json!({"index": 0, "content": word, "tokens": [at], "stop": false, "id_slot": -1})));
            sleep(GAP);
        }
        let last = json!({"index": 0, "content": "", "tokens": [], "id_slot": 0, "stop": true, "model": "fox",
            "tokens_predicted": count, "tokens_evaluated": 5, "stop_type": "limit", "truncated": false, "tokens_cached": 16,
            "timings": {"cache_n": if seen.body["cache_prompt"] == json!(false) { 0 } else { 4 }, "prompt_n": 5}});
        send(stream, event(&last));
        end(stream);
    };
    let (posted, reply) = remembered(reply);
    let props = |path: &str| (path == "/props").then(|| json!({"build_info": "b9100-1e98c5f96"}));
    let server = Scripted::start(models("llamacpp"), props, reply);
    lab.measure(&scenario(&lab, &server, "", FOUR), &[]).expect(0);
    let record = lab.record();
    assert_eq!(statuses(&record), [Status::Ok; 4]);
    assert_eq!(record.manifest.hosts[0].receipt.backend.as_deref(), Some("llama-server b9100-1e98c5f96"));
    assert_eq!(measured(&record)[0].reused_tokens, Some(0));
    let last = posted.lock().unwrap().last().unwrap().body.clone();
    assert_eq!((&last["return_tokens"], &last["repeat_penalty"]), (&json!(true), &json!(1.0)));
    assert_eq!(last["cache_prompt"], json!(false), "the cache was reset before the iteration");
}

/// The words of a text, and one token that begins it.
fn tokens_of(text: &str) -> usize {
    1 + text.split_whitespace().count()
}

/// llama-server counts at `/tokenize`, others with each request.
#[test]
fn bench_of_a_server_needs_no_model_here() {
    for llama in [true, false] {
        let lab = Lab::new();
        let reply = move |seen: &Seen, stream: &mut TcpStream| {
            let text = seen.body["content"].as_str().or(seen.body["prompt"].as_str()).unwrap();
            let prompt = tokens_of(text);
            if seen.path == "/tokenize" {
                return whole(stream, "200 OK", &json!({"tokens": vec![1; prompt]}));
            }
            let count = limit(seen).min(WORDS.len());
            let usage = json!({"prompt_tokens": prompt, "completion_tokens": count});
            if seen.body["stream"] == json!(false) {
                return whole(stream, "200 OK", &json!({"choices": [{"text": " a"}], "usage": usage}));
            }
            head(stream);
            for (at, word) in WORDS[..count].iter().enumerate() {
                sleep(GAP);
                match llama {
                    true => send(stream, event(&json!({"content": word, "tokens": [at], "stop": false}))),
                    false => send(stream, event(&json!({"choices": [{"text": word, "finish_reason": null}]}))),
                }
            }
            send(
                stream,
                match llama {
                    true => event(&json!({"content": "", "tokens": [], "stop": true, "tokens_predicted": count,
                        "tokens_evaluated": prompt, "stop_type": "limit", "timings": {"cache_n": 0, "prompt_n": prompt}})),
                    false => event(&json!({"choices": [{"text": "", "finish_reason": "length"}], "usage": usage})),
                },
            );
            end(stream);
        };
        let (posted, reply) = remembered(reply);
        let props = move |path: &str| (llama && path == "/props").then(|| json!({"build_info": "b1"}));
        let server = Scripted::start(models(if llama { "llamacpp" } else { "someone" }), props, reply);
        let url = server.url();
        let eos = if llama { "workload.ignore_eos=true" } else { "workload.ignore_eos=false" };
        lab.run(&["bench", "--url", &url, "-p", "20,7", "-n", "6", "-r", "3", "--set", eos]).expect(0);
        let record = lab.record();
        assert_eq!(statuses(&record), [Status::Ok; 6]);
        let mut counted: Vec<u32> = measured(&record).iter().map(|row| row.prompt_tokens.unwrap()).collect();
        counted.sort_unstable();
        assert_eq!(counted, [7, 7, 7, 20, 20, 20]);
        assert_eq!(record.manifest.title(), "bench: fox-1b");
        let posted = posted.lock().unwrap();
        let asked = posted.iter().filter(|seen| seen.path == "/tokenize").count();
        assert_eq!(asked > 0, llama, "only llama-server is asked at that address");
        let sent =
            |seen: &&Seen| seen.body["stream"] == json!(true) && seen.body["prompt"] != json!("One, two, three,");
        let texts: std::collections::BTreeSet<&str> =
            posted.iter().filter(sent).map(|seen| seen.body["prompt"].as_str().unwrap()).collect();
        assert_eq!(texts.len(), 2, "one text for each length, in every iteration: {texts:?}");
    }
}

#[test]
fn a_server_that_cannot_cut_a_prompt_says_so() {
    let lab = Lab::new();
    let reply = |seen: &Seen, stream: &mut TcpStream| {
        if seen.body["stream"] == json!(false) {
            return whole(stream, "200 OK", &json!({"choices": [], "usage": {"prompt_tokens": 3}}));
        }
        completions(seen, stream, false);
    };
    let server = Scripted::start(models("someone"), |_| None, reply);
    let eos = "workload.ignore_eos=false";
    lab.run(&["bench", "--url", &server.url(), "-p", "20", "-n", "6", "--set", eos])
        .expect(2)
        .says("no part of the text has exactly 20 tokens");
    // The transformer engine needs a model.
    lab.run(&["bench", "--url", &server.url(), "--engine", "transformer"]).expect(2);
}

/// As Ollama's `openai.go` writes a chat: chunks with `delta`, the counts in the last event.
#[test]
fn a_chat_of_ollama_has_reasoning_before_the_visible_text() {
    let lab = Lab::new();
    let reply = |seen: &Seen, stream: &mut TcpStream| {
        if seen.path == "/v1/completions" {
            return completions(seen, stream, false);
        }
        assert_eq!(seen.path, "/v1/chat/completions");
        head(stream);
        sleep(FIRST);
        let deltas = [
            json!({"role": "assistant", "content": "", "reasoning": "Hm"}),
            json!({"content": "", "reasoning": "."}),
            json!({"content": "A fox"}),
            json!({"content": " ran"}),
        ];
        for delta in deltas.into_iter().take(limit(seen)) {
            let choice = json!({"index": 0, "delta": delta, "finish_reason": null});
            send(
                stream,
                event(
                    &json!({"object": "chat.completion.chunk", "system_fingerprint": "fp_ollama", "choices": [choice]}),
                ),
            );
            sleep(GAP);
        }
        let choice = json!({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "stop"});
        send(stream, event(&json!({"object": "chat.completion.chunk", "choices": [choice]})));
        let usage = json!({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14});
        send(stream, event(&json!({"object": "chat.completion.chunk", "choices": [], "usage": usage})));
        send(stream, "data: [DONE]\n\n");
        end(stream);
    };
    let version = |path: &str| (path == "/api/version").then(|| json!({"version": "0.12.3"}));
    let server = Scripted::start(models("library"), version, reply);
    let rest = "[workload]\nkind = \"prompt\"\nchat = true\ntext = \"Tell me a story\"\nmax_tokens = 12\n[run]\niterations = 2\n";
    lab.measure(&scenario(&lab, &server, "", rest), &[]).expect(0);
    let record = lab.record();
    let row = measured(&record)[1];
    assert_eq!((row.status, row.generated_tokens), (Status::Ok, Some(4)), "{}", row.reason);
    let (first, visible) = (row.ttft_ms.unwrap(), row.first_visible_ms.unwrap());
    assert!(visible >= first + 2.0 * GAP.as_secs_f64() * 1e3, "{first} {visible}");
    assert_eq!(record.manifest.hosts[0].receipt.backend.as_deref(), Some("ollama 0.12.3"));
    assert!(record.manifest.texts.iter().any(|text| text.1.contains("A fox ran")), "{:?}", record.manifest.texts);
}

/// A server that collects tokens says at the end that there were more than pieces.
#[test]
fn pieces_of_several_tokens_have_no_token_times() {
    let lab = Lab::new();
    let reply = |seen: &Seen, stream: &mut TcpStream| {
        let count = limit(seen);
        head(stream);
        for at in 0..count / 2 {
            sleep(GAP);
            let choice = json!({"index": 0, "text": format!("{} {}", at, at), "finish_reason": null});
            send(stream, event(&json!({"choices": [choice]})));
        }
        let choice = json!({"index": 0, "text": "", "finish_reason": "length"});
        send(stream, event(&json!({"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": count}})));
        send(stream, "data: [DONE]\n\n");
        end(stream);
    };
    let server = Scripted::start(models("someone"), |_| None, reply);
    lab.measure(&scenario(&lab, &server, "", FOUR), &[]).expect(0);
    let record = lab.record();
    let row = measured(&record)[0];
    assert_eq!((row.generated_tokens, row.counted_tokens), (Some(6), Some(12)));
    assert_eq!((row.timing, row.decode_tps, row.tpot_ms), (Some(Timing::Inexact), None, None));
    assert!(row.e2e_ms.is_some());
}

/// What a hostile server does with one request, by name, and what the row then says.
type Hostility = (&'static str, fn(&mut TcpStream), &'static str);

const HOSTILE: &[Hostility] = &[
    (
        "no final chunk",
        |stream| {
            head(stream);
            send(stream, event(&json!({"choices": [{"text": "a", "finish_reason": null}]})));
            end(stream);
        },
        "ends its stream without saying why",
    ),
    (
        "wrong JSON",
        |stream| {
            head(stream);
            send(stream, "data: {\"choices\": [{]}\n\n");
            end(stream);
        },
        "not of the API",
    ),
    (
        "error in the head",
        |stream| whole(stream, "500 Internal Server Error", &json!({"error": {"message": "out of slots"}})),
        "out of slots",
    ),
    (
        "error in the stream",
        |stream| {
            head(stream);
            send(stream, event(&json!({"choices": [{"text": "a", "finish_reason": null}]})));
            send(stream, event(&json!({"error": {"code": 500, "message": "context shift is disabled"}})));
            end(stream);
        },
        "context shift is disabled",
    ),
    (
        "reset",
        |stream| {
            head(stream);
            send(stream, "data: {\"choices\"");
            end(stream);
        },
        "ends its stream without saying why",
    ),
    (
        "redirect",
        |stream| {
            send(
                stream,
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/x\r\nContent-Length: 0\r\n\r\n",
            );
        },
        "redirects to http://127.0.0.1:1/x",
    ),
    (
        "packed stream",
        |stream| {
            send(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n\x1f\x08",
            );
            end(stream);
        },
        "packed with \"gzip\"",
    ),
    ("no stream", |stream| whole(stream, "200 OK", &json!({"choices": []})), "not a stream of events"),
    (
        "an event of 10 MB",
        |stream| {
            head(stream);
            send(stream, "data: ");
            let part = vec![b'x'; 1 << 20];
            (0..10).for_each(|_| send(stream, &part));
            end(stream);
        },
        "an event of more than 1048576 bytes",
    ),
    (
        "an endless stream of nothing",
        |stream| {
            head(stream);
            while stream.write_all(event(&json!({"choices": []})).as_bytes()).is_ok() {}
        },
        "many events without tokens",
    ),
    (
        "an endless stream of tokens",
        |stream| {
            head(stream);
            while stream.write_all(event(&json!({"choices": [{"text": "a"}]})).as_bytes()).is_ok() {}
        },
        "more than the 12 tokens",
    ),
    (
        "silence",
        |stream| {
            head(stream);
            send(stream, event(&json!({"choices": [{"text": "a"}]})));
            sleep(Duration::from_secs(4));
        },
        "is late",
    ),
    (
        "one byte at a time, for ever",
        |stream| {
            head(stream);
            while stream.write_all(b":").is_ok() {
                sleep(Duration::from_millis(100));
            }
        },
        "is late",
    ),
    ("no answer", |stream| sleep_and_end(stream), "is late"),
    (
        "a wrong head",
        |stream| {
            send(stream, "ICY 200 OK\r\n\r\n");
            end(stream);
        },
        "cannot be used",
    ),
    (
        "two answers",
        |stream| {
            head(stream);
            send(stream, event(&json!({"choices": [{"text": "a"}, {"text": "b"}]})));
            end(stream);
        },
        "several answers",
    ),
];

fn sleep_and_end(stream: &mut TcpStream) {
    sleep(Duration::from_secs(4));
    end(stream);
}

/// Before it: the request that `open` sends, a warm-up, and the first measured one.
const SECOND_MEASURED: u32 = 3;
const FIRST_MEASURED: u32 = SECOND_MEASURED - 1;

#[test]
fn a_hostile_reply_is_a_row_and_the_run_goes_on() {
    let mut faults = String::new();
    for (name, hostile, told) in HOSTILE {
        let lab = Lab::new();
        let reply = move |seen: &Seen, stream: &mut TcpStream| match seen.number {
            SECOND_MEASURED => hostile(stream),
            _ => completions(seen, stream, false),
        };
        let server = Scripted::start(models("someone"), |_| None, reply);
        let options = ", idle_timeout_s = 1.0, request_timeout_s = 2.0";
        let begun = Instant::now();
        lab.measure(&scenario(&lab, &server, options, "[run]\niterations = 3\n"), &[]).expect(1);
        let record = lab.record();
        let found: Vec<_> = measured(&record).iter().map(|row| (row.cause, row.reason.clone())).collect();
        let failed: Vec<_> = found.iter().filter(|(cause, _)| *cause == Some(Cause::Server)).collect();
        if failed.len() != 1 || !failed[0].1.contains(told) || found.len() != 3 {
            let _ = writeln!(faults, "{name}: {told:?} in {found:?}");
        }
        assert_eq!(record.manifest.state, FinishState::Finished, "{name}");
        assert_eq!(record.manifest.hosts.len(), 1, "{name}: the host is still of use");
        assert!(begun.elapsed() < Duration::from_secs(60), "{name}");
    }
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn text_and_events_may_be_split_anywhere() {
    let lab = Lab::new();
    let reply = |seen: &Seen, stream: &mut TcpStream| {
        let count = limit(seen).min(4);
        head(stream);
        let mut text = String::from("\u{feff}: comment\r\n\r\nretry: 3\r\n\r\n");
        for word in &["Füchse", " 🦊", " sehen", "\n"][..count] {
            text.push_str(&event(&json!({"choices": [{"text": word, "finish_reason": null}]})).replace('\n', "\r\n"));
        }
        let usage = json!({"prompt_tokens": 5, "completion_tokens": count});
        text.push_str(&event(&json!({"choices": [{"text": "", "finish_reason": "stop"}], "usage": usage})));
        // Characters and line ends are cut in the middle.
        for byte in text.as_bytes() {
            send(stream, [*byte]);
        }
        send(stream, "data: [DONE]\n\n");
        end(stream);
    };
    let server = Scripted::start(models("someone"), |_| None, reply);
    lab.measure(&scenario(&lab, &server, "", FOUR), &[]).expect(0);
    let record = lab.record();
    assert_eq!(statuses(&record), [Status::Ok; 4]);
    assert!(record.manifest.texts.iter().any(|text| text.1 == "Füchse 🦊 sehen\n"), "{:?}", record.manifest.texts);
}

#[test]
fn keys_are_sent_and_never_recorded() {
    let lab = Lab::new();
    let reply = |seen: &Seen, stream: &mut TcpStream| {
        let key = seen.headers.iter().find(|(name, _)| name == "authorization").map(|(_, value)| value.clone());
        match (key.as_deref(), seen.number) {
            // Some servers repeat what they do not like.
            (Some(key), SECOND_MEASURED) => {
                whole(stream, "401 Unauthorized", &json!({"error": {"message": format!("wrong key: {key}")}}))
            }
            // Where the words are cut, no part of it may be left, and generated text is recorded
            // too.
            (Some(_), FIRST_MEASURED) => {
                head(stream);
                send(stream, event(&json!({"choices": [{"text": " sk-Very5ecret", "finish_reason": null}]})));
                send(stream, format!("data: [[{} sk-Very5ecret\n\n", "x".repeat(186)));
                end(stream);
            }
            (Some("Bearer sk-Very5ecret"), _) => completions(seen, stream, false),
            other => panic!("{other:?}"),
        }
    };
    let server = Scripted::start(models("someone"), |_| None, reply);
    let scenario = scenario(&lab, &server, ", key_env = \"FOX_KEY\"", "[run]\niterations = 3\n");
    let arguments = ["run", scenario.to_str().unwrap()];
    let done = lab.done(lab.program(&arguments).env("FOX_KEY", "sk-Very5ecret").output().unwrap());
    let done = done.expect(1);
    assert!(!(done.stderr.clone() + &done.stdout).contains("Very5ecret"));
    let record = lab.record();
    let failed: Vec<&str> = measured(&record).iter().map(|row| row.reason.as_str()).filter(|r| !r.is_empty()).collect();
    assert!(failed.len() == 2 && failed[1].contains("401") && failed[1].contains("***"), "{failed:?}");
    assert!(failed[0].contains("not of the API"), "{failed:?}");
    for folder in ["results", "reports"] {
        for file in files(&lab.path(folder)) {
            let bytes = fs_err::read(&file).unwrap();
            assert!(!bytes.windows(8).any(|part| part == b"Very5ecr"), "{}", file.display());
        }
    }
}

fn files(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    assert!(!found.is_empty());
    found
}

/// Each connection is answered at once, so eight requests run beside each other.
#[test]
fn a_server_answers_many_requests_at_the_same_time() {
    let lab = Lab::new();
    let running = Arc::new(Mutex::new((0, 0)));
    let seen_at_once = Arc::clone(&running);
    let reply = move |seen: &Seen, stream: &mut TcpStream| {
        let count = |change: i32| {
            let mut running = seen_at_once.lock().unwrap();
            running.0 += change;
            running.1 = running.1.max(running.0);
        };
        count(1);
        completions(seen, stream, true);
        count(-1);
    };
    let (posted, reply) = remembered(reply);
    let version = |path: &str| (path == "/version").then(|| json!({"version": "0.28.0"}));
    let server = Scripted::start(models("vllm"), version, reply);
    let rest = "[run]\niterations = 2\nexternal_causes = \"warn\"\n[load]\nsessions = [8]\nrequests = 40\n";
    lab.measure(&scenario(&lab, &server, "", rest), &[]).expect(0);
    let record = lab.record();
    assert_eq!(statuses(&record), [Status::Ok; 80]);
    // The server counts a request a little longer than its client.
    assert!(running.lock().unwrap().1 >= 8);
    assert!(measured(&record).iter().all(|row| row.generated_tokens == Some(12) && row.late_ms.is_some()));
    // None may find the prompt of another in the server's cache.
    let posted = posted.lock().unwrap();
    let salts: std::collections::BTreeSet<&str> =
        posted.iter().filter_map(|seen| seen.body["cache_salt"].as_str()).collect();
    assert_eq!(salts.len(), posted.len());
}

/// A server without a way to forget prompts may compute almost nothing of them.
#[test]
fn a_prefix_cache_that_makes_the_first_token_quick_is_told() {
    let lab = Lab::new();
    let reply = |seen: &Seen, stream: &mut TcpStream| {
        head(stream);
        for word in &WORDS[..limit(seen).min(4)] {
            sleep(GAP);
            send(stream, event(&json!({"choices": [{"text": word, "finish_reason": null}]})));
        }
        let usage = json!({"prompt_tokens": 5, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 4}});
        send(stream, event(&json!({"choices": [{"text": "", "finish_reason": "stop"}], "usage": usage})));
        end(stream);
    };
    let server = Scripted::start(models("someone"), |_| None, reply);
    lab.measure(&scenario(&lab, &server, "", FOUR), &[])
        .expect(0)
        .says("4 of 5 prompt tokens were in the engine's cache");
    assert!(lab.record().manifest.warnings.iter().any(|told| told.contains("TTFT is not that of the whole prompt")));
}

#[test]
fn a_server_that_is_not_there_ends_the_run_with_advice() {
    let lab = Lab::new();
    let server = Scripted { port: 1 };
    lab.measure(&scenario(&lab, &server, "", FOUR), &[]).expect(2).says("refuses the connection; is it running");
    // A TLS handshake with a server that speaks plain HTTP.
    let server = Scripted::start(models("someone"), |_| None, |seen, stream| completions(seen, stream, false));
    let path = scenario(&lab, &server, "", FOUR);
    let text = fs_err::read_to_string(&path).unwrap().replace("http://", "https://");
    fs_err::remove_dir_all(lab.path("results")).unwrap();
    fs_err::write(&path, text).unwrap();
    lab.measure(&path, &[]).expect(2).says("cannot be used");
}
