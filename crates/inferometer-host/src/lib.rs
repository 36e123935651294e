//! The child side of the engine protocol: the traits that an engine implements, and the process
//! around it.
//!
//! An engine runs in its own process, the *engine host*. To write one, implement [`Engine`] and
//! [`Session`] and call [`serve()`]:
//!
//! ```no_run
//! # use inferometer_host::{Load, Result, Session};
//! # struct MyEngine;
//! # impl inferometer_host::Engine for MyEngine {
//! #     fn name(&self) -> &'static str { "my-engine" }
//! #     fn offer(&self) -> inferometer_host::protocol::Offer { unimplemented!() }
//! #     fn open(&self, _: &Load) -> Result<Box<dyn Session>> {
//! #         unimplemented!()
//! #     }
//! # }
//! fn main() -> std::process::ExitCode {
//!     inferometer_host::serve(&[&MyEngine])
//! }
//! ```
//!
//! Any `inferometer` then runs it as an `exec` engine. See `examples/custom-engine` for a complete
//! engine.

pub mod alloc;
mod engine;
pub mod guard;
pub mod heap;
pub mod placement;
mod process;
pub mod recorder;
pub mod rng;
pub mod sampling;
pub mod serve;
pub mod simulated;
pub mod slow_down;

pub use engine::{Engine, Load, MemoryProbe, Result, Session, SpanKey, TokenSink};
/// The protocol's types and messages, re-exported so that an engine depends on this crate only.
pub use inferometer_protocol as protocol;
pub use inferometer_protocol::{Detail, Instrumentation};
pub use process::serve;

/// What an engine offers: its own options and those that the host adds.
#[must_use]
pub fn offer(engine: &dyn Engine) -> protocol::Offer {
    let mut offer = engine.offer();
    offer.built_in = true;
    offer.options.extend([placement::OPTION, slow_down::OPTION]);
    offer
}

/// The environment that a host of `engine` must be started with; see [`Engine::environment`].
#[must_use]
pub fn environment(
    engine: &dyn Engine,
    spec: &protocol::EngineSpec,
    toggles: &protocol::Settings,
) -> Vec<(&'static str, String)> {
    let cpus = placement::allowed(spec);
    // The engine does not know the options that the host adds.
    let mut own = spec.clone();
    for option in [placement::OPTION, slow_down::OPTION] {
        own.options.remove(option.name);
    }
    engine.environment(&own, toggles, cpus)
}

/// For the example, which the tests compile as a module of this crate.
#[cfg(test)]
extern crate self as inferometer_host;
