//! Opens hosts, and refuses engines that do not honour what the scenario requests.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use super::Worker;
use crate::engines;
use crate::record::HostInfo;
use crate::run::attempt::Attempt;
use crate::run::error::RunError;
use crate::run::host::HostError;
use crate::run::pool;
use crate::run::pool::{Key, OpenError, Pool, Resident};
use crate::run::progress::{Event, Observer};
use crate::run::validity;
use crate::spec::{Cell, Isolation, Level};
use crate::telemetry;
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::{Prompt, Receipt};

/// Refuses an engine that cannot follow forced tokens and report its own choices.
pub(super) fn can_follow(receipt: &Receipt) -> Result<(), RunError> {
    let can = receipt.capabilities;
    let missing = match (can.choices, can.forced_tokens) {
        (true, true) => return Ok(()),
        (false, true) => "report its own choices (capability `choices`)",
        (true, false) => "follow forced tokens (capability `forced_tokens`)",
        (false, false) => {
            "report its own choices and follow forced tokens (capabilities `choices` and `forced_tokens`)"
        }
    };
    let engine = &receipt.engine;
    let told = format!("`outputs = \"margin\"` needs an engine that can {missing}; `{engine}` cannot");
    Err(RunError::Ab(format!("{told}: use `outputs = \"identical\"` or `\"any\"`")))
}

impl Worker<'_> {
    /// Starts a host. The outer error ends the run; the inner one has the number of the host that
    /// could not be opened, and why.
    pub(super) fn open(
        &mut self,
        key: &Key,
        observer: &mut dyn Observer,
    ) -> Result<Result<Resident, (u32, HostError)>, RunError> {
        observer.event(Event::Opening { engine: &self.engine(key.engine).label });
        self.log.sampler.watch(None);
        self.memory.loads(self.log.origin.t_ns(now_ns()));
        let number = self.pool.next_number();
        let work = &self.work;
        let (interrupt, origin) = (&work.options.interrupt, &self.log.origin);
        let (mut resident, info) = match self.pool.open(key, work.scenario, work.model, work.program, interrupt, origin)
        {
            Ok(opened) => opened,
            Err(OpenError::Engine(error)) => return Err(error.into()),
            Err(OpenError::Host(error)) => return Ok(Err((number, error))),
        };
        self.check_receipt(key, &info, observer)?;
        self.log.store.update(|manifest| manifest.hosts.push(info))?;
        self.opened = true;
        if let Err(error) = self.fit(&mut resident) {
            return Ok(Err((number, error)));
        }
        Ok(Ok(resident))
    }

    /// Has the engine cut the prompts of its cells to their lengths, once in a run.
    fn fit(&mut self, resident: &mut Resident) -> Result<(), HostError> {
        let key = &resident.key;
        for cell in self.work.plan.cells.iter().filter(|c| c.engine == key.engine && c.load == key.load) {
            let Some(tokens) = self.work.prompts.fit(cell) else { continue };
            let prompt = self.work.prompts.of(cell, &resident.receipt.capabilities);
            if let (Prompt::Text(text), Entry::Vacant(unknown)) = (prompt, self.fitted.entry((cell.engine, tokens))) {
                unknown.insert(Prompt::Text(resident.host.fit(text.clone(), tokens)?));
            }
        }
        Ok(())
    }

    /// Loads the model in a host that has unloaded it, or in a new one; errors as [`Self::open`].
    pub(super) fn opened(
        &mut self,
        unloaded: Option<Resident>,
        key: &Key,
        observer: &mut dyn Observer,
    ) -> Result<Result<Resident, (u32, HostError)>, RunError> {
        match unloaded {
            Some(resident) => self.reopen(resident, observer),
            None => self.open(key, observer),
        }
    }

    fn reopen(
        &mut self,
        mut resident: Resident,
        observer: &mut dyn Observer,
    ) -> Result<Result<Resident, (u32, HostError)>, RunError> {
        let number = resident.number;
        observer.event(Event::Opening { engine: &self.engine(resident.key.engine).label });
        self.memory.loads(self.log.origin.t_ns(now_ns()));
        let (load_s, receipt) = match Pool::reopen(&mut resident, self.work.scenario, self.work.model) {
            Ok(opened) => opened,
            Err(error) => return Ok(Err((number, error))),
        };
        let first = self.log.store.manifest().hosts.iter().find(|host| host.host == number).cloned();
        if let Some(first) = first {
            let key = resident.key.clone();
            self.check_receipt(&key, &HostInfo { receipt, ..first }, observer)?;
        }
        self.log.store.update(|manifest| {
            let host = manifest.hosts.iter_mut().find(|host| host.host == number);
            host.into_iter().for_each(|host| host.further_loads_s.push(load_s));
        })?;
        Ok(Ok(resident))
    }

    /// Under isolation `load`: unloads the model and notes how much memory is left, in the
    /// iteration's last request.
    pub(super) fn unload(
        &mut self,
        resident: &mut Resident,
        turns: &mut [Attempt],
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let Some(last) = turns.last_mut().filter(|last| !last.host_lost) else { return Ok(()) };
        match resident.host.unload() {
            Ok(()) => {
                resident.loaded = false;
                last.unloaded_bytes = resident.measured().and_then(telemetry::peak::current);
                if last.unloaded_bytes.is_none() {
                    self.warn("leak: not measured: a host's memory cannot be read here".to_owned(), observer)?;
                }
            }
            Err(error) => {
                // The iteration itself is whole; the next one gets another host.
                last.host_lost = true;
                // The second Ctrl-C ends the host.
                if !self.work.options.interrupt.at_once() {
                    self.warn(format!("leak: a host did not unload its model: {}", error.summary()), observer)?;
                }
            }
        }
        Ok(())
    }

    /// Refuses an engine that does not honour what its cells request, or that differs from the
    /// start of the run.
    pub(super) fn check_receipt(
        &mut self,
        key: &Key,
        info: &HostInfo,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let engine = self.engine(key.engine).label.clone();
        let mut asked = BTreeSet::new();
        for cell in self.work.plan.cells.iter().filter(|c| c.engine == key.engine && c.load == key.load) {
            asked.extend(validity::not_honoured(
                cell,
                self.work.prompts.of(cell, &info.receipt.capabilities),
                &info.receipt,
            ));
        }
        let fits = |cell: &&Cell| cell.engine == key.engine && self.work.prompts.fit(cell).is_some();
        if !info.receipt.capabilities.fit && self.work.plan.cells.iter().any(|cell| fits(&cell)) {
            asked.insert("prompts of an exact length without `[model]` (capability `fit`)".to_owned());
        }
        let sessions =
            self.work.plan.cells.iter().filter(|cell| cell.engine == key.engine).filter_map(|cell| cell.level);
        let sessions = sessions.map(|level| if let Level::Sessions(sessions) = level { sessions } else { 1 }).max();
        let most = info.receipt.capabilities.concurrent;
        if let Some(sessions) = sessions.filter(|sessions| *sessions > most) {
            asked.insert(format!("`[load]` with {sessions} at the same time (capability `concurrent`: {most})"));
        }
        if self.work.scenario.run.isolation == Isolation::Load && !info.receipt.capabilities.unload {
            asked.insert("`run.isolation = \"load\"` (capability `unload`)".to_owned());
        }
        if !asked.is_empty() {
            return Err(RunError::NotHonoured { engine, asked: asked.into_iter().collect() });
        }
        let earlier = self.log.store.manifest().hosts.iter().find(|h| h.engine == info.engine && h.load == info.load);
        let changes = earlier.map(|host| pool::changes(host, info)).unwrap_or_default();
        if !changes.is_empty() {
            if !self.work.options.allow_changed {
                return Err(RunError::Changed { what: format!("engine `{engine}`"), changes });
            }
            self.warn(format!("engine `{engine}` changed during the run: {}", changes.join("; ")), observer)?;
        }
        if !info.receipt.capabilities.reset {
            let told = "cannot drop its KV cache: its iterations may reuse tokens of earlier ones";
            self.warn(format!("engine `{engine}` {told}"), observer)?;
        }
        Ok(())
    }

    pub(super) fn open_error(&self, key: &Key, source: HostError) -> RunError {
        let log = self.pool.log(self.pool.next_number().saturating_sub(1));
        RunError::Open { engine: self.engine(key.engine).label.clone(), log, source: Box::new(source) }
    }

    /// Whether this program hosts every engine of the scenario.
    pub fn hosts_are_built_in(&self) -> bool {
        self.work.scenario.engines.iter().all(|spec| engines::is_built_in(&spec.name))
    }
}
