//! Products with matrices in GGML's quantized types, in place of candle's.
//!
//! In candle's pool each product spins until all threads have run. On a busy machine each of the
//! hundred products of a token may then wait for a time slice of the scheduler. candle also has no
//! fast product for several types (Q4_1, Q5_0, Q5_1), and keeps two copies of a Q8_0 matrix. Here
//! no product waits for a thread that is not scheduled, and the matrix is stored once, in as many
//! bits as in the file and in the order in which it is read.
//!
//! Layout: columns of the product in tiles of 16, each tile in blocks of 32 inputs, so that one
//! instruction multiplies four inputs with the weights of several columns (`kinds`). Inputs are
//! rounded to 8 bits (`inputs`). A tile's weights are unpacked to 8 bits on the way to the product,
//! once for many rows (`multiply`).

mod inputs;
mod kinds;
mod multiply;

use candle_core::quantized::{GgmlDType, QTensor};
use rayon::prelude::*;

use super::pages::{Pages, Plain};
use super::{failed, threads};
use inferometer_host::Result;
use inferometer_protocol::EngineError;
use inputs::Inputs;
use kinds::{Kind, Line, PerColumn};
pub use multiply::Instructions;
use multiply::Job;

/// Columns of the product in a tile.
const TILE: usize = 16;
/// Values that share a scale, in most types of weights and in inputs.
const BLOCK: usize = 32;
/// Inputs multiplied by one instruction.
const QUAD: usize = 4;
/// Quads of a block.
const QUADS: usize = BLOCK / QUAD;
/// With up to this many rows of inputs, threads share the columns; with more, the rows.
const FEW: usize = 8;
/// Most rows of inputs that one thread multiplies with a tile before it takes the next tile.
const MOST: usize = 64;
/// Products with fewer weights stay on the calling thread.
const PARALLEL_FROM: usize = 1 << 16;

/// A matrix [columns, inputs] laid out for products.
pub struct Packed {
    kind: GgmlDType,
    instructions: Instructions,
    columns: usize,
    inputs: usize,
    /// [tiles, inputs / 32, bits of a number]
    lines: Pages<Line>,
    /// [tiles, inputs / values of a stored block, bytes]
    scales: Pages<u8>,
    finite: bool,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({:?}, {}, {})", self.kind, self.columns, self.inputs)
    }
}

/// Evaluates an expression with `K` as the layout of a type, or the other expression if it has
/// none.
macro_rules! with_kind {
    ($kind:expr, $K:ident => $do:expr, else $none:expr) => {
        match $kind {
            GgmlDType::Q4_0 => with_kind!(@ $K, Q4_0, $do),
            GgmlDType::Q4_1 => with_kind!(@ $K, Q4_1, $do),
            GgmlDType::Q5_0 => with_kind!(@ $K, Q5_0, $do),
            GgmlDType::Q5_1 => with_kind!(@ $K, Q5_1, $do),
            GgmlDType::Q8_0 => with_kind!(@ $K, Q8_0, $do),
            GgmlDType::Q4K => with_kind!(@ $K, Q4K, $do),
            GgmlDType::Q5K => with_kind!(@ $K, Q5K, $do),
            GgmlDType::Q6K => with_kind!(@ $K, Q6K, $do),
            _ => $none,
        }
    };
    (@ $K:ident, $name:ident, $do:expr) => {{
        type $K = kinds::$name;
        $do
    }};
}

/// The fastest instructions of this processor for a type; `None`: candle's product is used.
#[must_use]
pub fn instructions(kind: GgmlDType) -> Option<Instructions> {
    let bits = with_kind!(kind, K => K::BITS, else return None);
    Instructions::found().into_iter().find(|with| with.exact(bits) && with.pays(kind))
}

/// Whether a matrix can be packed on this machine.
#[must_use]
pub fn fits(kind: GgmlDType, columns: usize, inputs: usize) -> bool {
    instructions(kind).is_some() && inputs.is_multiple_of(kind.block_size()) && columns * inputs > 0
}

fn unsupported(kind: GgmlDType) -> EngineError {
    EngineError::unsupported(format!("matrices of type {kind:?} cannot be packed on this machine"))
}

impl Packed {
    /// Packs a matrix that [`fits`].
    ///
    /// # Errors
    /// When its bytes cannot be read, or are not whole blocks.
    pub fn new(matrix: &QTensor) -> Result<Self> {
        let (columns, inputs) = matrix.shape().dims2().map_err(failed)?;
        Self::from_bytes(matrix.dtype(), columns, inputs, &matrix.data().map_err(failed)?)
    }

    /// Packs a matrix that [`fits`] from its bytes in a GGUF file.
    ///
    /// # Errors
    /// When the number of bytes is not that of the shape.
    pub fn from_bytes(kind: GgmlDType, columns: usize, inputs: usize, bytes: &[u8]) -> Result<Self> {
        let packed = Self::stacked(kind, inputs, &[bytes], &mut |_| {})?;
        if packed.columns != columns {
            return Err(EngineError::internal(format!(
                "{} bytes are {} rows of {inputs} values in {kind:?}, not {columns}",
                bytes.len(),
                packed.columns
            )));
        }
        Ok(packed)
    }

    /// Packs matrices of one type and number of inputs, one below the other. Calls `read` after
    /// every few megabytes, with the number of stored bytes since the last call: they are not read
    /// again.
    ///
    /// # Errors
    /// When a part's bytes are not whole rows.
    pub fn stacked(kind: GgmlDType, inputs: usize, parts: &[&[u8]], read: &mut dyn FnMut(usize)) -> Result<Self> {
        let with = instructions(kind).ok_or_else(|| unsupported(kind))?;
        Self::with(with, kind, inputs, parts, read)
    }

    /// [`Self::stacked`] with chosen instructions, for tests and benchmarks.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// When this processor does not have them.
    pub fn with(
        instructions: Instructions,
        kind: GgmlDType,
        inputs: usize,
        parts: &[&[u8]],
        read: &mut dyn FnMut(usize),
    ) -> Result<Self> {
        assert!(Instructions::found().contains(&instructions), "{} was not found", instructions.name());
        let row = inputs / kind.block_size() * kind.type_size();
        let whole = |part: &&[u8]| !part.is_empty() && part.len().is_multiple_of(row.max(1));
        if row == 0 || !inputs.is_multiple_of(kind.block_size()) || parts.is_empty() || !parts.iter().all(whole) {
            return Err(EngineError::internal(format!("the bytes are not whole rows of {inputs} values in {kind:?}")));
        }
        let rows: Vec<&[u8]> = parts.iter().flat_map(|part| part.chunks_exact(row)).collect();
        let (lines, scales, finite) =
            with_kind!(kind, K => pack::<K>(inputs, &rows, read), else return Err(unsupported(kind)));
        Ok(Self { kind, instructions, columns: rows.len(), inputs, lines, scales, finite })
    }

    /// Whether no scale is NaN or infinite, as in a damaged file. Products with such scales are not
    /// finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.finite
    }

    /// Bytes in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (size_of_val(&*self.lines) + size_of_val(&*self.scales)) as u64
    }

    /// The type of the stored weights.
    #[must_use]
    pub fn kind(&self) -> GgmlDType {
        self.kind
    }

    /// Columns of a result's row.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Length of an input row.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    fn tiles(&self) -> usize {
        self.columns.div_ceil(TILE)
    }

    /// Rows of the matrix itself: [ids, inputs].
    ///
    /// # Panics
    /// When an id is not below [`Self::columns`].
    #[must_use]
    pub fn rows_at(&self, ids: &[u32]) -> Vec<f32> {
        let mut out = vec![0.0; ids.len() * self.inputs];
        with_kind!(self.kind, K => {
            for (id, out) in ids.iter().zip(out.chunks_exact_mut(self.inputs)) {
                let id = *id as usize;
                assert!(id < self.columns, "row {id} of {}", self.columns);
                let (lines, scales) = self.tile(id / TILE);
                unpack_column::<K>(lines, scales, id % TILE, out);
            }
        }, else unreachable!("never packed"));
        out
    }

    /// Rows `x` [n, inputs] times the matrix: [n, columns]. The result of a row does not depend on
    /// other rows.
    #[must_use]
    pub fn product(&self, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.inputs;
        assert_eq!(x.len(), rows * self.inputs, "shapes were checked before");
        let mut out = vec![0.0; rows * self.columns];
        with_kind!(self.kind, K => self.product_into::<K>(x, rows, &mut out), else unreachable!("never packed"));
        out
    }

    fn product_into<K: Kind>(&self, x: &[f32], rows: usize, out: &mut [f32]) {
        let inputs = Inputs::new::<K>(x, self.inputs);
        if rows > FEW {
            let each = rows.div_ceil(4 * threads::count()).next_multiple_of(FEW).min(MOST);
            let parts = out.par_chunks_mut(each * self.columns).enumerate();
            return threads::install(|| parts.for_each(|(at, out)| self.some_rows::<K>(&inputs, at * each, out)));
        }
        let tiles = self.tiles();
        let at_once =
            if self.columns * self.inputs < PARALLEL_FROM { tiles } else { tiles.div_ceil(8 * threads::count()) };
        let each = at_once * TILE * rows;
        if rows == 1 && self.columns.is_multiple_of(TILE) {
            return threads::share(out, each, |at, out| self.some_tiles::<K>(&inputs, at * at_once, out));
        }
        // First tile by tile, each with all rows; then put in row order.
        let mut tiled = vec![0.0; tiles * TILE * rows];
        threads::share(&mut tiled, each, |at, out| self.some_tiles::<K>(&inputs, at * at_once, out));
        for (tile, values) in tiled.chunks_exact(TILE * rows).enumerate() {
            for (row, values) in values.chunks_exact(TILE).enumerate() {
                self.put(&mut out[row * self.columns..][..self.columns], tile, values);
            }
        }
    }

    /// Puts the results of a tile, of which the last may have fewer columns, into a row.
    fn put(&self, row: &mut [f32], tile: usize, values: &[f32]) {
        let to = &mut row[tile * TILE..self.columns.min((tile + 1) * TILE)];
        to.copy_from_slice(&values[..to.len()]);
    }

    /// All rows of the tiles from `first` on: `out` [tiles, rows, 16], of zeros.
    fn some_tiles<K: Kind>(&self, inputs: &Inputs, first: usize, out: &mut [f32]) {
        let rows = inputs.scales.len() / inputs.blocks;
        for (at, out) in out.chunks_exact_mut(rows * TILE).enumerate() {
            self.multiply::<K>(first + at, inputs, 0, out.as_chunks_mut().0);
        }
    }

    /// The rows from `first` on: `out` [rows, columns].
    fn some_rows<K: Kind>(&self, inputs: &Inputs, first: usize, out: &mut [f32]) {
        let count = out.len() / self.columns;
        for tile in 0..self.tiles() {
            let mut values = [[0.0; TILE]; MOST];
            self.multiply::<K>(tile, inputs, first, &mut values[..count]);
            for (row, values) in out.chunks_exact_mut(self.columns).zip(&values) {
                self.put(row, tile, values);
            }
        }
    }

    fn multiply<K: Kind>(&self, tile: usize, inputs: &Inputs, first: usize, out: &mut [PerColumn]) {
        let (lines, scales) = self.tile(tile);
        multiply::multiply::<K>(self.instructions, &Job { lines, scales, inputs, first }, out);
    }

    /// Lines and scales of a tile.
    fn tile(&self, tile: usize) -> (&[Line], &[u8]) {
        let (lines, scales) = (self.lines.len() / self.tiles(), self.scales.len() / self.tiles());
        (&self.lines[tile * lines..][..lines], &self.scales[tile * scales..][..scales])
    }
}

// SAFETY: bytes, aligned to 64.
unsafe impl Plain for Line {}

/// Stored bytes that are packed before the caller hears of it.
const AT_ONCE: usize = 8 << 20;

/// Stored rows in tiles: lines and scales, and whether all scales are finite.
fn pack<K: Kind>(inputs: usize, rows: &[&[u8]], read: &mut dyn FnMut(usize)) -> (Pages<Line>, Pages<u8>, bool) {
    let (stored, parts) = (inputs / K::VALUES, K::VALUES / BLOCK);
    let tiles = rows.len().div_ceil(TILE);
    let (line, scale) = (stored * parts * K::BITS, stored * K::SCALES);
    let mut lines = Pages::zeroed(tiles * line);
    let mut scales = Pages::<u8>::zeroed(tiles * scale);
    let at_once = (AT_ONCE / (TILE * stored * K::BYTES)).max(1);
    let some = lines.chunks_mut(at_once * line).zip(scales.chunks_mut(at_once * scale));
    let mut finite = true;
    for ((lines, scales), rows) in some.zip(rows.chunks(at_once * TILE)) {
        let tiles = (lines.par_chunks_mut(line), scales.par_chunks_mut(scale), rows.par_chunks(TILE));
        let tiles = tiles.into_par_iter().map(|(lines, scales, rows)| pack_tile::<K>(rows, lines, scales));
        // Not `all`, which would leave the rest unpacked.
        finite &= threads::install(|| tiles.reduce(|| true, |a, b| a & b));
        read(rows.len() * stored * K::BYTES);
    }
    (lines, scales, finite)
}

/// Packs up to 16 rows; whether all their scales are finite.
fn pack_tile<K: Kind>(rows: &[&[u8]], lines: &mut [Line], scales: &mut [u8]) -> bool {
    let mut finite = true;
    for (column, row) in rows.iter().enumerate() {
        let scales = scales.chunks_exact_mut(K::SCALES);
        let lines = lines.chunks_exact_mut(K::VALUES / BLOCK * K::BITS);
        for ((block, scales), lines) in row.chunks_exact(K::BYTES).zip(scales).zip(lines) {
            finite &= K::floats(block).iter().all(|float| half::f16::from_le_bytes(*float).is_finite());
            K::pack_scales(block, column, scales);
            for (part, lines) in lines.chunks_exact_mut(K::BITS).enumerate() {
                kinds::pack::<K>(&K::numbers(block, part), column, lines);
            }
        }
    }
    finite
}

/// The weights of one column of a tile.
fn unpack_column<K: Kind>(lines: &[Line], scales: &[u8], column: usize, out: &mut [f32]) {
    let mut quads = [Line([0; TILE * QUAD]); QUADS];
    let blocks = scales.chunks_exact(K::SCALES).zip(lines.chunks_exact(K::VALUES / BLOCK * K::BITS));
    for ((scales, lines), out) in blocks.zip(out.chunks_exact_mut(K::VALUES)) {
        let (mut factors, mut minimums) = ([[0.0; TILE]; 16], [[0.0; TILE]; 8]);
        K::scales(scales, kinds::widen, &mut factors, &mut minimums);
        for (part, (lines, out)) in lines.chunks_exact(K::BITS).zip(out.chunks_exact_mut(BLOCK)).enumerate() {
            kinds::unpack::<K>(lines, &mut quads);
            let numbers = quads.iter().flat_map(|line| &line.0[column * QUAD..][..QUAD]);
            for (at, (out, number)) in out.iter_mut().zip(numbers).enumerate() {
                let factor = factors[(part * BLOCK + at) / K::GROUP][column];
                let minimum = if K::MINIMUM { minimums[part][column] } else { 0.0 };
                *out = (i32::from(*number) - K::OFFSET) as f32 * factor + minimum;
            }
        }
    }
}

#[cfg(test)]
mod tests;
