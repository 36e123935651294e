//! A session of the simulated engine: tokens by formula, time really spent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::faults::Fault;
use super::noise::Noise;
use super::options::Options;
use super::slots::Slots;
use crate::{MemoryProbe, Result, Session, SpanKey, TokenSink};
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::{
    Completion, EngineError, EngineMemory, FinishReason, Phase, Prompt, Receipt, Request, Settings, SpanTiming,
};

/// Generated ids are below this.
pub const VOCABULARY: u32 = 32_000;
/// The system wakes a sleeping thread late, so the last stretch is a busy wait.
const AWAKE_NS: u64 = 500_000;
/// Sleeps are split so that `cancel` takes effect.
const NAP_NS: u64 = 20_000_000;

pub struct SimulatedSession {
    options: Options,
    receipt: Receipt,
    slots: Slots,
    noise: SlotNoise,
    /// Memory during the latest request, from its start on.
    memory: Arc<Mutex<EngineMemory>>,
    /// Held by the session that computes: one request at a time, as on one accelerator without
    /// batching.
    turn: Arc<Mutex<()>>,
}

/// The noise process, read at increasing slots.
struct SlotNoise {
    process: Noise,
    next: u64,
}

impl SlotNoise {
    fn at(&mut self, slot: u64, options: &Options) -> f64 {
        if slot < self.next {
            // The shared count was restarted.
            *self = Self::new(options);
        }
        let skip = usize::try_from(slot - self.next).unwrap_or(usize::MAX);
        self.next = slot + 1;
        self.process.nth(skip).expect("the noise never ends")
    }

    fn new(options: &Options) -> Self {
        Self { process: Noise::new(options.noise, options.seed), next: 0 }
    }
}

/// Spends `ns` from now on; returns early, with `false`, when asked to stop. Time that the sink
/// takes is not compensated, as in a real engine.
fn spend(ns: u64, sink: &dyn TokenSink) -> bool {
    let until = now_ns().saturating_add(ns);
    loop {
        if sink.cancelled() {
            return false;
        }
        let left = until.saturating_sub(now_ns());
        match left {
            0 => return true,
            1..=AWAKE_NS => std::hint::spin_loop(),
            _ => std::thread::sleep(Duration::from_nanos((left - AWAKE_NS).min(NAP_NS))),
        }
    }
}

/// The tokens of one generation: a pure function of prompt, seeds and position.
struct Formula<'a> {
    key: u64,
    changed: Option<u64>,
    forced: Option<&'a [u32]>,
}

impl Formula<'_> {
    fn token(&self, index: usize) -> u32 {
        if let Some(forced) = self.forced {
            return forced[index];
        }
        let id = (mixed(self.key ^ mixed(index as u64)) % u64::from(VOCABULARY)) as u32;
        if self.changed == Some(index as u64) { (id + 1) % VOCABULARY } else { id }
    }
}

/// A bijection that leaves no visible pattern (the finalizer of splitmix64; Steele, Lea and Flood
/// 2014).
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Number of prompt tokens (one per word for text), and a hash of the prompt and the seeds.
fn key(request: &Request, seed: u64) -> (usize, u64) {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(request.sampling.seed.to_le_bytes());
    let mut words = 0;
    let mut text = |hash: &mut Sha256, text: &str| {
        words += text.split_whitespace().count();
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    match &request.prompt {
        Prompt::Tokens(ids) => {
            words = ids.len();
            ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
        }
        Prompt::Text(prompt) => text(&mut hash, prompt),
        Prompt::Messages(chat) => {
            for message in &chat.messages {
                text(&mut hash, message.role());
                text(&mut hash, &message.text());
            }
        }
    }
    let digest = hash.finalize();
    (words, u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes")))
}

impl SimulatedSession {
    /// Waits for the configured load time, and leaks as configured.
    #[must_use]
    pub fn open(options: Options, receipt: Receipt) -> Self {
        std::thread::sleep(Duration::from_nanos(options.law.load_ns()));
        // Not zeros, which the system would give without memory.
        std::mem::forget(vec![1_u8; usize::try_from(options.leak_bytes).unwrap_or(usize::MAX)]);
        let slots = Slots::new(options.state.clone());
        let noise = SlotNoise::new(&options);
        Self { options, receipt, slots, noise, memory: Arc::default(), turn: Arc::default() }
    }

    /// Applies a fault before the first token. Some never return.
    fn struck(&self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Crash => std::process::abort(),
            Fault::Hang => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
            Fault::Error => Err(EngineError::internal("the simulated engine fails, as its options say")),
            Fault::OutOfMemory | Fault::NoTokens | Fault::EarlyStamps => Ok(()),
        }
    }
}

/// The work of one request.
struct Work {
    prompt: usize,
    tokens: usize,
    factor: f64,
    fault: Option<Fault>,
}

impl SimulatedSession {
    fn work(&mut self, request: &Request, prompt: usize) -> Result<Work> {
        if prompt == 0 {
            return Err(EngineError::bad_request("the prompt is empty; it needs at least one token"));
        }
        if let Some(name) = request.toggles.keys().next() {
            return Err(EngineError::unsupported(format!("toggle {name} is not honoured; this engine has none")));
        }
        let most = request.max_tokens as usize;
        let tokens = request.forced_tokens.as_ref().map_or(most, |forced| most.min(forced.len()));
        if tokens == 0 {
            let told = "max_tokens is 0 or forced_tokens is empty; at least one token is generated";
            return Err(EngineError::bad_request(told));
        }
        let slot = self.slots.take()?;
        let factor = self.options.law.factor(slot, self.noise.at(slot, &self.options));
        let memory = self.options.memory.at(slot, prompt + tokens - 1);
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory;
        Ok(Work { prompt, tokens, factor, fault: self.options.faults.strike(slot) })
    }

    /// Returns the number of generated tokens, and whether that is all of them.
    fn decode(&self, work: &Work, formula: &Formula<'_>, sink: &mut dyn TokenSink) -> usize {
        for index in 0..work.tokens {
            // The first token's cost is part of the prefill.
            let cost = if index == 0 { 0 } else { self.options.law.decode_ns(work.prompt + index, work.factor) };
            let forward = sink.begin(Phase::Forward);
            let went_on = spend(cost, sink);
            sink.end(forward);
            if !went_on {
                return index;
            }
            if work.fault == Some(Fault::OutOfMemory) && index == work.tokens / 2 {
                kill_this_process();
            }
            let sample = sink.begin(Phase::Sample);
            let token = formula.token(index);
            sink.end(sample);
            sink.token(token);
        }
        work.tokens
    }

    /// Stamps all tokens as soon as the work is known, then does the work.
    fn stamp_early(&self, work: &Work, formula: &Formula<'_>, sink: &mut dyn TokenSink) {
        (0..work.tokens).for_each(|index| sink.token(formula.token(index)));
        let law = &self.options.law;
        let decode = (1..work.tokens).map(|index| law.decode_ns(work.prompt + index, work.factor)).sum::<u64>();
        spend(law.prefill_ns(work.prompt, work.factor) + decode, sink);
    }
}

/// Ends the process as the kernel does when memory runs out: no message, no destructor.
fn kill_this_process() {
    // A process may always kill itself; if this failed, the generation would go on and the fault's
    // test would fail.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

impl Session for SimulatedSession {
    fn receipt(&self) -> Receipt {
        self.receipt.clone()
    }

    fn generate(&mut self, request: &Request, sink: &mut dyn TokenSink) -> Result<Completion> {
        let turn = Arc::clone(&self.turn);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let prefill = sink.begin(Phase::Prefill);
        let (prompt, key) = key(request, self.options.seed);
        let work = self.work(request, prompt)?;
        let changed = self.options.change_token_at;
        let formula = Formula { key, changed, forced: request.forced_tokens.as_deref() };
        if let Some(fault) = work.fault {
            self.struck(fault)?;
        }
        let decode = |sink: &mut dyn TokenSink, prefill: SpanKey| {
            sink.end(prefill);
            sink.begin(Phase::Decode)
        };
        let (done, span) = match work.fault {
            Some(Fault::EarlyStamps) => {
                let span = decode(sink, prefill);
                self.stamp_early(&work, &formula, sink);
                (work.tokens, span)
            }
            fault => {
                let forward = sink.begin(Phase::Forward);
                let went_on = spend(self.options.law.prefill_ns(prompt, work.factor), sink);
                sink.end(forward);
                let span = decode(sink, prefill);
                let none = fault == Some(Fault::NoTokens) || !went_on;
                (if none { 0 } else { self.decode(&work, &formula, sink) }, span)
            }
        };
        sink.end(span);
        let stopped = done < work.tokens && work.fault != Some(Fault::NoTokens);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Completion {
            finish_reason: if stopped { FinishReason::Cancelled } else { FinishReason::Length },
            prompt_tokens: count(prompt),
            reused_tokens: 0,
            prefill_tokens: count(prompt),
            // The last token is generated but not fed back.
            cache_tokens: Some(count(prompt + done.saturating_sub(1))),
            effective: Settings::new(),
            speculation: None,
            served: None,
        })
    }

    fn another(&self) -> Result<Box<dyn Session + Send>> {
        Ok(Box::new(Self {
            options: self.options.clone(),
            receipt: self.receipt.clone(),
            slots: Slots::new(self.options.state.clone()),
            noise: SlotNoise::new(&self.options),
            memory: Arc::clone(&self.memory),
            turn: Arc::clone(&self.turn),
        }))
    }

    fn reset(&mut self) -> Result<()> {
        Ok(())
    }

    fn memory(&self) -> EngineMemory {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory_probe(&self) -> Option<MemoryProbe> {
        let memory = Arc::clone(&self.memory);
        Some(Arc::new(move || *memory.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn span_timing(&self, _: bool) -> Option<SpanTiming> {
        Some(SpanTiming::Done)
    }

    fn decode(&self, tokens: &[u32]) -> Option<String> {
        Some(tokens.iter().map(|id| format!("t{id}")).collect::<Vec<_>>().join(" "))
    }
}
