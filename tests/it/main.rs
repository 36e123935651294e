//! Whole-program tests, one binary so that they link once.

mod ab;
mod book;
mod build;
mod ci;
mod cli;
mod compare;
mod conversation;
mod difference;
mod doctor;
mod engine;
mod external;
mod faults;
mod fetching;
mod floors;
mod found;
mod gate;
mod gauges;
mod history;
mod import;
mod installing;
mod lab;
#[cfg(target_os = "linux")]
mod lacking;
// Only Linux reports a process's memory immediately and exactly.
#[cfg(target_os = "linux")]
mod load;
mod memory;
mod models;
mod oscillation;
mod outlets;
mod planted;
mod profile;
mod protocol;
mod quality;
mod record;
mod report;
mod report_ab;
mod results;
mod sampling;
mod scenario;
mod servers;
mod side_by_side;
mod simulated_ab;
mod simulated_engine;
mod simulated_run;
mod spans;
mod timing;
#[path = "../../examples/torture/counts.rs"]
mod torture_counts;
mod width;
