//! `run.json` and `ab.json` of a redacted record.

use std::collections::BTreeMap;

use super::Scrub;
use super::scrub::TEXT;
use crate::record::ab::{AbManifest, SideInfo};
use crate::record::schema::{HostInfo, Machine, Manifest, Redacted};
use crate::spec::{BuildSettings, Scenario, Workload};
use inferometer_protocol::{ModelSpec, Receipt, Value};

pub(super) fn run(mut manifest: Manifest, name: &str, scrub: &Scrub) -> Manifest {
    name.clone_into(&mut manifest.run);
    scenario(&mut manifest.scenario, scrub);
    for cell in &mut manifest.plan.cells {
        cell.label = scrub.text(&cell.label);
        let settings = [&mut cell.toggles, &mut cell.load, &mut cell.predicted];
        settings.into_iter().chain(&mut cell.merged).for_each(|settings| toggles(settings.values_mut(), scrub));
    }
    machine(&mut manifest.machine, scrub);
    for gauge in &mut manifest.gauges {
        gauge.source = scrub.text(&gauge.source);
        each(&mut gauge.absent, scrub);
    }
    manifest.hosts.iter_mut().for_each(|one| host(one, scrub));
    manifest.warnings.iter_mut().for_each(|warning| *warning = scrub.text(warning));
    manifest.texts.clear();
    if let Some(imported) = &mut manifest.imported {
        imported.file = scrub.text(&imported.file);
    }
    manifest.redacted = Some(Redacted::now());
    manifest
}

pub(super) fn session(mut manifest: AbManifest, name: &str, scrub: &Scrub) -> AbManifest {
    name.clone_into(&mut manifest.session);
    manifest.scenario = scrub.text(&manifest.scenario);
    manifest.sides.iter_mut().for_each(|one| side(one, scrub));
    for gate in &mut manifest.gates {
        gate.because = scrub.text(&gate.because);
        each(&mut gate.gate.cells.engine, scrub);
    }
    machine(&mut manifest.machine, scrub);
    if let Some(outputs) = &mut manifest.outputs {
        for divergence in &mut outputs.divergences {
            (divergence.a, divergence.b) = (None, None);
        }
        if let Some(failed) = &mut outputs.failed {
            failed.reason = scrub.text(&failed.reason);
        }
    }
    each(&mut manifest.refused, scrub);
    manifest.warnings.iter_mut().for_each(|warning| *warning = scrub.text(warning));
    manifest.redacted = Some(Redacted::now());
    manifest
}

/// Values of toggles: a `draft_model` is a path.
fn toggles<'a>(values: impl Iterator<Item = &'a mut Value>, scrub: &Scrub) {
    for value in values {
        if let Value::Text(text) = value {
            *text = scrub.text(text);
        }
    }
}

fn each(text: &mut Option<String>, scrub: &Scrub) {
    if let Some(text) = text {
        *text = scrub.text(text);
    }
}

fn scenario(scenario: &mut Scenario, scrub: &Scrub) {
    scenario.name = scrub.text(&scenario.name);
    each(&mut scenario.description, scrub);
    if let ModelSpec::Path(path) = &mut scenario.model {
        *path = scrub.word(&path.display().to_string().replace(char::is_whitespace, "_")).into();
    }
    for engine in &mut scenario.engines {
        engine.label = scrub.text(&engine.label);
        scrub.settings(&mut engine.options);
    }
    let axes = scenario.toggles.iter_mut().chain(scenario.engine_toggles.values_mut().flatten());
    axes.for_each(|axis| toggles(axis.values.iter_mut(), scrub));
    workload(&mut scenario.workload);
    if let Some(quality) = &mut scenario.quality {
        TEXT.clone_into(&mut quality.text);
        quality.text_file = None;
    }
    for gate in &mut scenario.gates {
        each(&mut gate.cells.engine, scrub);
    }
    if let Some(BuildSettings { command, program, toolchain, .. }) = &mut scenario.build {
        for words in [command, program, toolchain] {
            *words = scrub.words(words);
        }
    }
    for setting in &mut scenario.overrides {
        *setting = scrub.setting(setting);
    }
}

fn workload(workload: &mut Workload) {
    let remove = |text: &mut Option<String>| {
        if let Some(text) = text {
            TEXT.clone_into(text);
        }
    };
    match workload {
        Workload::Prompt(work) => {
            TEXT.clone_into(&mut work.text);
            work.messages = None;
            work.text_file = None;
        }
        Workload::Conversation(work) => {
            remove(&mut work.system);
            for turn in &mut work.turns {
                TEXT.clone_into(&mut turn.user);
                remove(&mut turn.reply);
            }
            (work.system_file, work.turns_file) = (None, None);
            (work.tools, work.template_arguments) = (None, Default::default());
        }
    }
}

fn machine(machine: &mut Machine, scrub: &Scrub) {
    machine.os = scrub.text(&machine.os);
    for fact in [&mut machine.kernel, &mut machine.cpu, &mut machine.accelerator, &mut machine.power_source] {
        each(fact, scrub);
    }
}

fn host(host: &mut HostInfo, scrub: &Scrub) {
    host.command = scrub.words(&host.command);
    let mut hashes = BTreeMap::new();
    for (file, hash) in std::mem::take(&mut host.command_sha256) {
        let name = scrub.word(&file);
        // Files of the same name in different folders both stay.
        let free = (1..).map(|n| if n == 1 { name.clone() } else { format!("{name} ({n})") });
        let free = free.into_iter().find(|name| !hashes.contains_key(name));
        hashes.insert(free.expect("one of endless names is free"), hash);
    }
    host.command_sha256 = hashes;
    toggles(host.load.values_mut(), scrub);
    receipt(&mut host.receipt, scrub);
}

fn receipt(receipt: &mut Receipt, scrub: &Scrub) {
    for text in [&mut receipt.engine, &mut receipt.version] {
        *text = scrub.text(text);
    }
    for text in [&mut receipt.commit, &mut receipt.backend, &mut receipt.device] {
        each(text, scrub);
    }
    receipt.model.name = scrub.text(&receipt.model.name);
    receipt.model.path = format!("[path]/{}", receipt.model.name);
    receipt.includes.iter_mut().chain(receipt.not_honoured.values_mut()).for_each(|text| *text = scrub.text(text));
    toggles(receipt.settings.values_mut(), scrub);
    // An engine may put anything here, such as its own arguments.
    for text in receipt.details.values_mut() {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        *text = scrub.text(&scrub.words(&words).join(" "));
    }
}

fn side(side: &mut SideInfo, scrub: &Scrub) {
    for setting in &mut side.settings {
        *setting = scrub.setting(setting);
    }
    // Without commits the label repeats the settings.
    let names = ["workload.", "options", "description"].iter().any(|key| side.label.contains(key));
    side.label = if names { side.settings.join(", ") } else { scrub.text(&side.label) };
    if let Some(commit) = &mut side.commit {
        commit.subject.clear();
        commit.revision = scrub.text(&commit.revision);
        commit.program = scrub.words(&commit.program);
        each(&mut commit.toolchain, scrub);
    }
}
