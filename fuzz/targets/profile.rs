//! A profile as a host sends it: folded stacks, call graph, profile.proto and, of some,
//! flamegraphs.
#![no_main]

use inferometer::profile::flamegraph::{Look, flamegraph_svg};
use inferometer::profile::{achieved_hz, callgraph_dot, folded, functions, protobuf};
use inferometer::spec::Threads;
use inferometer_protocol::{Phase, Profile};

libfuzzer_sys::fuzz_target!(|json: &[u8]| {
    let Ok(profile) = serde_json::from_slice::<Profile>(json) else { return };
    if profile.check().is_err() {
        return;
    }
    let profiles = [&profile];
    for phase in [None, Some(Phase::Decode)] {
        let stacks = folded(&profiles, phase, Threads::Apart);
        let _ = (functions(&profiles, phase), callgraph_dot(&profiles, phase, "t"));
        // Drawing is slow.
        if json.len() % 64 == 0 {
            let look = Look { title: "t", subtitle: "s", narrowest_percent: 0.1, interactive: false };
            let _ = flamegraph_svg(&stacks, &look);
        }
    }
    let _ = (protobuf(&profiles, "t"), achieved_hz(&profile));
});
