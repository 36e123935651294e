//! Gauges: series of the machine and the engine process over time, sampled by one thread.
