//! Memory that the engine reports: a formula over requests. Nothing is really allocated.

use inferometer_protocol::EngineMemory;

/// How the memory in use changes from request to request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Constant,
    /// Rises from `base` by `swing` over `period` requests, then drops back at once.
    Sawtooth,
    /// Grows by `swing` every `period` requests and never falls.
    Leak,
}

impl Shape {
    pub const ALL: [Shape; 3] = [Shape::Constant, Shape::Sawtooth, Shape::Leak];
    pub const NAMES: [&'static str; 3] = ["constant", "sawtooth", "leak"];

    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|at| Self::ALL[at])
    }
}

/// A shape with its sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pattern {
    pub shape: Shape,
    pub base_bytes: u64,
    pub swing_bytes: u64,
    /// At least 1.
    pub period: u64,
    pub kv_bytes_per_token: u64,
}

impl Pattern {
    /// Memory after the request in `slot`, with `tokens` in the KV cache. Memory that the sawtooth
    /// has released is in the allocator's cache; the peak is the memory in use plus the KV cache.
    #[must_use]
    pub fn at(&self, slot: u64, tokens: usize) -> EngineMemory {
        let step = |n: u64| (self.swing_bytes as f64 * n as f64 / self.period as f64) as u64;
        let above = match self.shape {
            Shape::Constant => 0,
            Shape::Sawtooth => step(slot % self.period),
            Shape::Leak => step(slot),
        };
        let kv = self.kv_bytes_per_token.saturating_mul(tokens as u64);
        let cached = if self.shape == Shape::Sawtooth { self.swing_bytes.saturating_sub(above) } else { 0 };
        let active = self.base_bytes.saturating_add(above).saturating_add(kv);
        EngineMemory {
            active_bytes: Some(active),
            cache_bytes: Some(cached),
            peak_bytes: Some(active),
            kv_cache_bytes: Some(kv),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(shape: Shape) -> Vec<u64> {
        let pattern = Pattern { shape, base_bytes: 100, swing_bytes: 40, period: 4, kv_bytes_per_token: 0 };
        (0..9).map(|slot| pattern.at(slot, 7).active_bytes.unwrap()).collect()
    }

    #[test]
    fn patterns_are_what_they_are_called() {
        assert_eq!(active(Shape::Constant), [100; 9]);
        assert_eq!(active(Shape::Sawtooth), [100, 110, 120, 130, 100, 110, 120, 130, 100]);
        assert_eq!(active(Shape::Leak), [100, 110, 120, 130, 140, 150, 160, 170, 180]);
    }

    #[test]
    fn the_kv_cache_counts_by_its_tokens() {
        let pattern =
            Pattern { shape: Shape::Sawtooth, base_bytes: 1, swing_bytes: 4, period: 4, kv_bytes_per_token: 16 };
        let memory = pattern.at(1, 3);
        assert_eq!((memory.kv_cache_bytes, memory.cache_bytes, memory.peak_bytes), (Some(48), Some(3), Some(50)));
    }
}
