//! The plan for people (80 columns, Markdown) and for programs (CSV, JSON).

use std::fmt::Write;

use serde::Serialize;

use super::estimate::Estimate;
use crate::report::quality;
use crate::report::summary::QualityText;
use crate::report::table::{Table, escape, escape_sentence};
use crate::report::text::{label, list, paragraph, plural, sentence};
use crate::scenario::{Outline, short};
use crate::spec::{
    Axis, Cell, ConversationWorkload, Isolation, Plan, PromptWorkload, QualitySettings, Replies, Scenario, Workload,
};
use inferometer_protocol::effective::{EFFECTIVE_CHUNK, EFFECTIVE_PENALTY, EFFECTIVE_WINDOW};
use inferometer_protocol::units::duration_ns;
use inferometer_protocol::{EngineSpec, ModelSpec, Sampling, Value};

/// Rows of the order that are shown.
const ORDER_SHOWN: usize = 3;
/// Cells of each that are shown.
const CELLS_SHOWN: usize = 24;

/// Everything there is to say about a plan. Its JSON is the verb's.
#[derive(Debug, Serialize)]
pub struct View<'a> {
    pub scenario: &'a Scenario,
    pub plan: &'a Plan,
    pub outline: &'a Outline,
    pub estimate: Option<&'a Estimate>,
    /// Labels of the engines that say only when they run which toggles and sampling they honour.
    pub not_known: Vec<&'a str>,
    /// Those that the run begins with.
    pub warnings: Vec<String>,
}

impl View<'_> {
    /// For the terminal.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", label(&self.scenario.name));
        if let Some(description) = &self.scenario.description {
            paragraph(&mut out, &sentence(description), "");
        }
        out.push('\n');
        for (name, value) in self.facts() {
            paragraph(&mut out, &format!("{name:<11} {value}"), "            ");
        }
        out.push('\n');
        out.push_str(&self.cells().terminal());
        if !self.outline.merges.is_empty() {
            out.push_str("\nNot run again, because it would be the same work:\n");
            for line in self.merges() {
                paragraph(&mut out, &format!("  {line}"), "    ");
            }
        }
        for line in self.notes() {
            out.push('\n');
            paragraph(&mut out, &line, "");
        }
        out.push('\n');
        for (name, value) in self.totals() {
            paragraph(&mut out, &format!("{name:<11} {value}"), "            ");
        }
        out
    }

    pub fn markdown(&self) -> String {
        let mut out = format!("# {}\n\n", escape(&self.scenario.name));
        if let Some(description) = &self.scenario.description {
            let _ = writeln!(out, "{}\n", escape_sentence(description));
        }
        let facts = self.facts().into_iter().chain(self.totals());
        for (name, value) in facts {
            let _ = writeln!(out, "- {name}: {}", escape(&value));
        }
        out.push('\n');
        out += &self.cells().markdown();
        if !self.outline.merges.is_empty() {
            out.push_str("Not run again, because it would be the same work:\n\n");
            for line in self.merges() {
                let _ = writeln!(out, "- {}", escape(&line));
            }
        }
        for line in self.notes() {
            let _ = writeln!(out, "\n{}", escape(&line));
        }
        out
    }

    /// A row a cell, for programs.
    pub fn csv(&self) -> String {
        let text = |value: Option<&Value>| value.map(ToString::to_string);
        let mut table = Table::of("", &self.plan.cells)
            .number("cell", |cell| cell.id)
            .text("label", |cell| &cell.label)
            .text("engine", |cell| &self.scenario.engines[cell.engine as usize].label)
            .number("length", |cell| cell.length);
        let toggles = self.scenario.all_toggles();
        for axis in &toggles {
            table = table.text(&axis.toggle, |cell| text(cell.toggles.get(&axis.toggle)));
        }
        for name in [EFFECTIVE_PENALTY, EFFECTIVE_WINDOW, EFFECTIVE_CHUNK] {
            table = table.text(format!("predicted_{name}"), |cell| text(cell.predicted.get(name)));
        }
        table.number("merged", |cell| cell.merged.len()).csv()
    }

    /// What holds in every cell.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let scenario = self.scenario;
        let mut facts = vec![("model", model(&scenario.model))];
        facts.extend(scenario.engines.iter().map(|e| ("engine", engine(e, scenario.own_toggles(e)))));
        facts.extend(match &scenario.workload {
            Workload::Prompt(workload) => vec![("prompt", prompt(workload))],
            Workload::Conversation(workload) => conversation(workload),
        });
        facts.push(("sampling", sampling(&scenario.sampling)));
        let fixed = scenario.toggles.iter().filter(|a| a.values.len() == 1);
        let fixed: Vec<String> = fixed.map(|a| format!("{} {}", a.toggle, a.values[0])).collect();
        if !fixed.is_empty() {
            facts.push(("toggles", fixed.join(", ")));
        }
        facts.push((
            "telemetry",
            match scenario.telemetry.interval_ms {
                0 => "off".to_owned(),
                _ if scenario.telemetry.gauges.is_empty() => "off".to_owned(),
                ms => format!("{} every {ms} ms", scenario.telemetry.gauges.join(", ")),
            },
        ));
        facts.extend(scenario.profile.as_ref().map(|pass| ("profile", super::profile::fact(pass, &scenario.run))));
        let scored = |pass: &QualitySettings| {
            let text = quality::scored(&QualityText::of(pass));
            format!("perplexity of {text}, after the timed iterations")
        };
        facts.extend(scenario.quality.as_ref().map(|pass| ("quality", scored(pass))));
        facts.extend(super::ab::facts(scenario, self.plan));
        if !scenario.overrides.is_empty() {
            facts.push(("overridden", sentence(&scenario.overrides.join(", "))));
        }
        facts
    }

    fn totals(&self) -> Vec<(&'static str, String)> {
        let run = &self.scenario.run;
        let outline = self.outline;
        let workload = &self.scenario.workload;
        let each = match run.isolation {
            Isolation::Run if outline.hosts == 1 => " for the whole run",
            Isolation::Run => ", one for each engine and its load-time settings",
            Isolation::Cell => ", one for each cell",
            Isolation::Iteration => ", one for each iteration",
            Isolation::Load => ", one for each cell, which loads the model for each iteration",
        };
        let hosts = format!("{} engine process{}{each}", outline.hosts, if outline.hosts == 1 { "" } else { "es" });
        let mut requests = format!(
            "{} measured ({} of {}{}), {} before them",
            outline.requests,
            plural(run.iterations as usize, "iteration"),
            plural(outline.cells as usize, "cell"),
            match workload {
                Workload::Prompt(_) => String::new(),
                Workload::Conversation(work) => format!(", {} each", plural(work.turns.len(), "turn")),
            },
            plural(outline.warmup_requests as usize, "warm-up"),
        );
        if run.cooldown_s > 0.0 {
            let _ = write!(requests, "; {} s of pause before each iteration", run.cooldown_s);
        }
        let prefill = match outline.prefill_tokens {
            Some(tokens) => format!("{} to prefill", thousands(tokens)),
            None => "as many to prefill as the tokenizer makes of the text".to_owned(),
        };
        let most = if workload.ignore_eos() { "" } else { "at most " };
        vec![
            ("order", self.order()),
            ("hosts", hosts),
            ("requests", requests),
            ("tokens", format!("{prefill}, {most}{} to generate, warm-ups apart", thousands(outline.generated_tokens))),
            (
                "time",
                match self.estimate {
                    None => "not known before a first run".to_owned(),
                    Some(e) => format!("about {}, as in {}", duration_ns((e.seconds * 1e9) as u64), e.run.display()),
                },
            ),
        ]
    }

    /// The first rows of the order, by cell number.
    fn order(&self) -> String {
        let ids = |row: &Vec<u32>| {
            let shown: Vec<String> = row.iter().take(CELLS_SHOWN).map(ToString::to_string).collect();
            shown.join(" ") + if row.len() > CELLS_SHOWN { " ..." } else { "" }
        };
        let rows = &self.plan.order;
        if self.plan.cells.len() < 2 {
            return "one cell, again and again".to_owned();
        }
        if self.scenario.run.isolation.by_cell() {
            return format!("all iterations of a cell together; cells {}", rows.first().map(ids).unwrap_or_default());
        }
        let shown: Vec<String> = rows.iter().take(ORDER_SHOWN).map(ids).collect();
        let more = if rows.len() > ORDER_SHOWN { "; ..." } else { "" };
        format!("cells take turns, shuffled by seed {}: {}{more}", self.scenario.run.order_seed, shown.join("; "))
    }

    /// One line for all cells in which the same values of a toggle are alike for the same reason.
    fn merges(&self) -> Vec<String> {
        let mut alike: Vec<(String, Vec<u32>)> = Vec::new();
        for merge in &self.outline.merges {
            let others: Vec<String> = merge.values[1..].iter().map(ToString::to_string).collect();
            let (toggle, first, why) = (&merge.toggle, &merge.values[0], &merge.why);
            let what = format!("{toggle} {} is as {toggle} {first}: {why}", others.join(" or "));
            match alike.iter_mut().find(|(known, _)| *known == what) {
                Some((_, cells)) => cells.push(merge.cell),
                None => alike.push((what, vec![merge.cell])),
            }
        }
        let line = |(what, cells): (String, Vec<u32>)| {
            format!("{} {}, {what}", if cells.len() == 1 { "cell" } else { "cells" }, list(&cells, cells.len()))
        };
        alike.into_iter().map(line).collect()
    }

    /// Why equal work may be done twice.
    fn not_merged(&self) -> Option<String> {
        let names: Vec<String> = self.outline.not_merged.iter().map(|name| label(name)).collect();
        (!names.is_empty()).then(|| {
            let (what, runs) = match names.len() {
                1 => ("this engine honours", "it runs"),
                _ => ("these engines honour", "they run"),
            };
            format!("Cells of {} are not merged: what {what} is known only when {runs}", list(&names, 6))
        })
    }

    fn notes(&self) -> impl Iterator<Item = String> {
        let warnings = self.warnings.iter().map(|warning| format!("Warning: {}", sentence(warning)));
        self.not_merged().into_iter().chain(self.not_known()).chain(warnings)
    }

    /// What this check cannot tell.
    fn not_known(&self) -> Option<String> {
        let names: Vec<String> = self.not_known.iter().map(|name| label(name)).collect();
        let runs = if names.len() == 1 { "it runs" } else { "they run" };
        (!names.is_empty()).then(|| {
            format!(
                "Not checked: {} tell only when {runs} whether the model opens, and which toggles and sampling fields have an effect",
                list(&names, 6)
            )
            .replace(" tell only when it runs", " tells only when it runs")
        })
    }

    /// Whether a toggle was requested with several values.
    fn differs_in(&self, toggle: &str) -> bool {
        let mut asked = self.plan.cells.iter().flat_map(|cell| std::iter::once(&cell.toggles).chain(&cell.merged));
        let first = asked.next().and_then(|settings| settings.get(toggle));
        asked.any(|settings| settings.get(toggle) != first)
    }

    /// A row a cell, with what differs between them.
    fn cells(&self) -> Table<&Cell> {
        // A value that is the same in every cell says nothing here; only the chunk, which every
        // plan has, stays.
        let differs = |name: &str| {
            self.plan.cells.iter().any(|c| c.predicted.get(name) != self.plan.cells[0].predicted.get(name))
        };
        let known = self.plan.cells.iter().any(|c| !c.predicted.is_empty());
        let varied = self.scenario.all_toggles();
        let varied = varied.iter().filter(|a| self.differs_in(&a.toggle)).map(|a| a.toggle.as_str());
        let predicted = [(EFFECTIVE_PENALTY, "penalty"), (EFFECTIVE_WINDOW, "window"), (EFFECTIVE_CHUNK, "chunk")]
            .into_iter()
            .filter(|(name, _)| differs(name) || known && *name == EFFECTIVE_CHUNK);
        let mut table = Table::of("Cells", &self.plan.cells).gap(2).number("#", |cell| cell.id);
        table = table.said("cell", |cell| label(&cell.label));
        for toggle in varied {
            table = table.number(format!("{}\nasked", short(toggle)), |cell| asked(cell, toggle));
        }
        for (name, title) in predicted {
            table = table.number(format!("{title}\nin force"), |cell| in_force(cell, name));
        }
        table
    }
}

/// The values of a toggle that this cell stands for.
fn asked(cell: &Cell, toggle: &str) -> String {
    let mut values: Vec<String> = Vec::new();
    for settings in std::iter::once(&cell.toggles).chain(&cell.merged) {
        let value = settings.get(toggle).map_or_else(String::new, ToString::to_string);
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values.join(", ")
}

fn in_force(cell: &Cell, name: &str) -> String {
    match (name, cell.predicted.get(name)) {
        (_, None) => "?".to_owned(),
        (EFFECTIVE_PENALTY, Some(value)) if value.as_float() == Some(1.0) => "off".to_owned(),
        (_, Some(value)) => value.to_string(),
    }
}

fn model(model: &ModelSpec) -> String {
    match model {
        ModelSpec::Path(path) => label(&path.display().to_string()),
        ModelSpec::Served => "that of the server".to_owned(),
        ModelSpec::Synthetic { arch, preset, seed, dtype, quantization } => {
            let dtype = dtype.map(|dtype| format!(", {}", dtype.name())).unwrap_or_default();
            let quantization = quantization.map(|form| format!(", {form}")).unwrap_or_default();
            format!("synthetic {arch} {preset}, seed {seed}{dtype}{quantization}")
        }
    }
}

fn engine(engine: &EngineSpec, own: &[Axis]) -> String {
    let mut text = label(&engine.label);
    if engine.label != engine.name {
        let _ = write!(text, " ({})", engine.name);
    }
    for (name, value) in &engine.options {
        let _ = write!(text, ", {name} {}", label(&value.to_string()));
    }
    if !own.is_empty() {
        let values = |axis: &Axis| axis.values.iter().map(|v| label(&v.to_string())).collect::<Vec<_>>().join(" or ");
        let own: Vec<String> = own.iter().map(|axis| format!("{} {}", axis.toggle, values(axis))).collect();
        let _ = write!(text, "; its own toggles: {}", own.join(", "));
    }
    text
}

fn prompt(workload: &PromptWorkload) -> String {
    let source = workload.text_file.as_deref().map_or_else(|| "text of the scenario".to_owned(), label);
    let lengths: Vec<String> = workload.lengths.iter().map(ToString::to_string).collect();
    let size = match lengths.as_slice() {
        [] if workload.messages.is_some() => chat(workload),
        [] if workload.chat => " as a user's message".to_owned(),
        [] => " as it is".to_owned(),
        [one] => format!(", {one} tokens"),
        [head @ .., last] => format!(", {} and {last} tokens", head.join(", ")),
    };
    let most = if workload.ignore_eos { "exactly" } else { "up to" };
    format!("{source}{size}; then {most} {} generated", workload.max_tokens)
}

/// The size of a chat, and what else its template is given.
fn chat(workload: &PromptWorkload) -> String {
    let Some(chat) = &workload.messages else { return String::new() };
    let plural = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let mut text = format!(", a chat of {}", plural(chat.messages.len(), "message"));
    if let Some(tools) = &chat.tools {
        let _ = write!(text, " with {}", plural(tools.len(), "tool"));
    }
    for (name, value) in &chat.template_arguments {
        let _ = write!(text, ", {}", label(&format!("{name} = {value}")));
    }
    text
}

fn conversation(workload: &ConversationWorkload) -> Vec<(&'static str, String)> {
    let from = |file: &Option<String>| file.as_deref().map_or_else(|| "text of the scenario".to_owned(), label);
    let mut facts = Vec::new();
    if let Some(system) = &workload.system {
        facts.push(("system", format!("{}, {} characters", from(&workload.system_file), system.chars().count())));
    }
    let turns = &workload.turns;
    let replies = match workload.replies {
        Replies::Fixed => "fixed replies",
        Replies::Generated => "replies as generated",
    };
    let said: usize = turns.iter().map(|turn| turn.user.chars().count()).sum();
    let most = if workload.ignore_eos { "exactly" } else { "up to" };
    facts.push((
        "turns",
        format!(
            "{} of {} ({said} characters), {replies}; {most} {} generated in each",
            turns.len(),
            from(&workload.turns_file),
            plural(workload.max_tokens as usize, "token")
        ),
    ));
    facts
}

fn sampling(sampling: &Sampling) -> String {
    let mut text = match sampling.temperature {
        0.0 => "greedy".to_owned(),
        t => format!("temperature {t}, seed {}", sampling.seed),
    };
    if sampling.temperature > 0.0 {
        for (name, value, off) in
            [("top-k", f64::from(sampling.top_k), 0.0), ("top-p", sampling.top_p, 1.0), ("min-p", sampling.min_p, 0.0)]
        {
            if value != off {
                let _ = write!(text, ", {name} {value}");
            }
        }
    }
    if sampling.repetition_penalty == 1.0 {
        return text;
    }
    let over = match sampling.repetition_context_size {
        0 => "the whole history".to_owned(),
        n => format!("the last {}", plural(n as usize, "token")),
    };
    let _ = write!(text, "; repetition penalty {} over {over}", sampling.repetition_penalty);
    text
}

/// `1 234 567`, with a thin gap every three digits.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}
