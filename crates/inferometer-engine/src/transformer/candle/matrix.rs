//! Matrices in memory: how each is held, and how it is loaded.

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use safetensors::Dtype;

use super::plain::Plain16;
use super::{CandleBackend, Format, failed, packed, tensor};
use crate::transformer::finite::all_finite;
use crate::transformer::gguf::{GgmlTensor, form};
use crate::transformer::quantized::Weight;
use inferometer_host::Result;
use inferometer_protocol::EngineError;

/// A matrix [out, in].
#[derive(Debug)]
pub enum Matrix {
    Plain(Tensor),
    Quantized(Arc<QTensor>, QMatMul),
    Packed(Arc<packed::Packed>),
    Half(Arc<Plain16>),
    /// Rows of several matrices, stored differently.
    Parts(Vec<Matrix>),
}

impl CandleBackend {
    /// Loads a matrix whose rows are those of the parts, one after the other.
    pub(super) fn matrix(&mut self, parts: Vec<Weight>) -> Result<Matrix> {
        if self.format == Format::Stored && parts.iter().any(|part| part.ggml().is_some()) {
            return self.stored(parts);
        }
        let format = match (self.format, parts.first().map(Weight::form).as_deref()) {
            (Format::Stored, Some("f16")) => Format::F16,
            (Format::Stored, Some("bf16")) => Format::Bf16,
            (Format::Stored, _) => Format::F32,
            (format, _) => format,
        };
        let columns = parts.first().and_then(|part| part.shape().get(1)).copied().unwrap_or(0);
        let rows: usize = parts.iter().map(|part| part.shape()[0]).sum();
        let block = GgmlDType::Q8_0.block_size();
        let quantize = format == Format::Q8_0 && columns.is_multiple_of(block);
        if format == Format::Q8_0 && !quantize {
            self.held.unquantized.extend(parts.iter().map(|part| part.name().to_owned()));
        }
        let held = if format == Format::Q8_0 && !quantize { Format::F32 } else { format }.name();
        self.held.converted.extend(parts.iter().map(Weight::form).filter(|form| form != held && form != "f32"));
        self.held.formats.insert(held);
        let half = match format {
            Format::F16 => Plain16::f16(columns, narrowed(parts, Dtype::F16, f16::from_le_bytes, f16::from_f32))?,
            Format::Bf16 => Plain16::bf16(columns, narrowed(parts, Dtype::BF16, bf16::from_le_bytes, bf16::from_f32))?,
            _ => return self.wide(parts, quantize),
        };
        self.held.bytes += (rows * columns * size_of::<f16>()) as u64;
        Ok(Matrix::Half(Arc::new(half)))
    }

    /// A matrix in f32, or quantized.
    fn wide(&mut self, parts: Vec<Weight>, quantize: bool) -> Result<Matrix> {
        let columns = parts.first().and_then(|part| part.shape().get(1)).copied().unwrap_or(0);
        let rows: usize = parts.iter().map(|part| part.shape()[0]).sum();
        let mut values = Vec::new();
        for part in parts {
            let mut part_values = part.to_f32();
            if quantize && !all_finite(&part_values) {
                return Err(EngineError::not_finite(format!(
                    "tensor {} holds values that are not finite (NaN or infinity), which {} would turn into numbers; \
                     `inferometer model verify` names all such tensors",
                    part.name(),
                    Format::Q8_0.name()
                )));
            }
            drop(part);
            // A matrix of one part, such as the embedding, is not copied once more.
            if values.is_empty() {
                values = part_values;
                values.reserve_exact(rows * columns - values.len());
            } else {
                values.append(&mut part_values);
            }
        }
        let plain = tensor(values, (rows, columns))?;
        if !quantize {
            self.held.bytes += (rows * columns * size_of::<f32>()) as u64;
            return Ok(Matrix::Plain(plain));
        }
        let quantized = QTensor::quantize(&plain, GgmlDType::Q8_0).map_err(failed)?;
        drop(plain);
        self.quantized(quantized)
    }

    /// Matrices in blocks of GGML, kept so: one product for neighbours of the same type, and one
    /// for each other.
    fn stored(&mut self, parts: Vec<Weight>) -> Result<Matrix> {
        let mut made = Vec::new();
        let mut rest = parts.into_iter().peekable();
        while let Some(part) = rest.next() {
            let mut alike = match part {
                Weight::Ggml(first) => vec![first],
                other => {
                    made.push(self.matrix(vec![other])?);
                    continue;
                }
            };
            let kind = alike[0].kind;
            while let Some(Weight::Ggml(next)) = rest.next_if(|next| next.ggml().is_some_and(|next| next.kind == kind))
            {
                alike.push(next);
            }
            made.push(self.alike(alike)?);
        }
        Ok(if made.len() == 1 { made.remove(0) } else { Matrix::Parts(made) })
    }

    /// Matrices of one type of GGML, stacked.
    fn alike(&mut self, parts: Vec<GgmlTensor>) -> Result<Matrix> {
        let (kind, [_, columns]) = (parts[0].kind, parts[0].shape);
        let rows = parts.iter().map(|part| part.shape[0]).sum();
        let names = parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join(", ");
        self.held.formats.insert(parts[0].form());
        if packed::fits(kind, rows, columns) {
            let bytes: Vec<&[u8]> = parts.iter().map(|part| &*part.bytes).collect();
            // Pages of the file go as their bytes come into the copy: the largest matrix is never
            // in memory twice.
            let mut read = 0;
            let packed = packed::Packed::stacked(kind, columns, &bytes, &mut |bytes| {
                forget(&parts, read..read + bytes);
                read += bytes;
            })?;
            if !packed.is_finite() {
                return Err(EngineError::not_finite(format!(
                    "tensor {names} has scales that are not finite (NaN or infinity); `inferometer model verify` names all \
                     such tensors"
                )));
            }
            self.held.bytes += packed.bytes();
            return Ok(Matrix::Packed(Arc::new(packed)));
        }
        let bytes: Vec<u8> = parts.iter().map(|part| &*part.bytes).collect::<Vec<_>>().concat();
        drop(parts);
        let storage = QStorage::from_data(bytes.into(), &Device::Cpu, kind).map_err(failed)?;
        self.quantized(QTensor::new(storage, (rows, columns)).map_err(failed)?)
    }

    fn quantized(&mut self, matrix: QTensor) -> Result<Matrix> {
        let (rows, columns) = matrix.shape().dims2().map_err(failed)?;
        self.held.formats.insert(form(matrix.dtype()));
        self.held.bytes += matrix.storage_size_in_bytes() as u64;
        if packed::fits(matrix.dtype(), rows, columns) {
            return Ok(Matrix::Packed(Arc::new(packed::Packed::new(&matrix)?)));
        }
        if matrix.dtype() == GgmlDType::Q8_0 && repacks(rows, columns) {
            self.held.copies += matrix.storage_size_in_bytes() as u64;
        }
        let matrix = Arc::new(matrix);
        Ok(Matrix::Quantized(matrix.clone(), QMatMul::from_arc(matrix).map_err(failed)?))
    }
}

/// The values of all parts in a type of 16 bits. Those that are stored in it are taken as they are.
fn narrowed<N>(parts: Vec<Weight>, stored: Dtype, taken: fn([u8; 2]) -> N, rounded: fn(f32) -> N) -> Vec<N> {
    let mut values = Vec::with_capacity(parts.iter().map(|part| part.shape().iter().product::<usize>()).sum());
    for part in parts {
        match part.plain().filter(|tensor| tensor.dtype == stored) {
            Some(tensor) => values.extend(tensor.bytes.as_chunks().0.iter().map(|bytes| taken(*bytes))),
            None => values.extend(part.to_f32().into_iter().map(rounded)),
        }
    }
    values
}

/// Gives back pages of the parts' files that hold a range of their bytes, counted from the first
/// part's first byte.
fn forget(parts: &[GgmlTensor], range: std::ops::Range<usize>) {
    let mut before = 0;
    for part in parts {
        let here = |at: usize| at.saturating_sub(before).min(part.bytes.len());
        part.bytes.forget(here(range.start)..here(range.end));
        before += part.bytes.len();
    }
}

/// Whether candle keeps a second copy of a Q8_0 matrix, laid out for this processor (its
/// `repack_x86::select`).
fn repacks(rows: usize, columns: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let vnni = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni")
            || is_x86_feature_detected!("avxvnni") && is_x86_feature_detected!("avx2");
        vnni && rows.is_multiple_of(16) && columns.is_multiple_of(256)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (rows, columns);
        false
    }
}
