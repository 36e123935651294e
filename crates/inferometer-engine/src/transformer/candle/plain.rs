//! Products with matrices of floating-point numbers, kept as they are stored.
//!
//! candle's product of one row with an f32 matrix runs on one thread, and it has no fast product
//! with f16 or bf16 matrices on the CPU. Here one row is multiplied on all threads, and numbers of
//! 16 bits are widened in registers. Many rows are multiplied by candle's f32 product, with some
//! columns widened at a time. A row alone and a row among others thus differ by rounding.

use candle_core::{Device, Tensor};
use half::{bf16, f16};

use super::numbers::Number;
use super::{failed, numbers, tensor, threads, with_values};
use inferometer_host::Result;
use inferometer_protocol::EngineError;

/// Products with fewer weights stay on the calling thread.
const PARALLEL_FROM: usize = 1 << 16;
/// With up to this many rows of inputs, each is multiplied alone.
const FEW: usize = 4;
/// Values of a 16-bit matrix that are widened at once for many rows.
const WIDENED: usize = 1 << 20;

/// A matrix [columns, inputs] of 16-bit numbers.
#[derive(Debug)]
pub struct Plain16 {
    values: Values,
    inputs: usize,
}

#[derive(Debug)]
enum Values {
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl Plain16 {
    /// From f16 numbers, row by row.
    ///
    /// # Errors
    /// When they are not whole rows.
    pub fn f16(inputs: usize, values: Vec<f16>) -> Result<Self> {
        Self::new(inputs, values.len(), Values::F16(values))
    }

    /// From bf16 numbers, row by row.
    ///
    /// # Errors
    /// When they are not whole rows.
    pub fn bf16(inputs: usize, values: Vec<bf16>) -> Result<Self> {
        Self::new(inputs, values.len(), Values::Bf16(values))
    }

    fn new(inputs: usize, count: usize, values: Values) -> Result<Self> {
        if inputs == 0 || !count.is_multiple_of(inputs) {
            return Err(EngineError::internal(format!("{count} values are not whole rows of {inputs}")));
        }
        Ok(Self { values, inputs })
    }

    /// `f16` or `bf16`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.values {
            Values::F16(_) => "f16",
            Values::Bf16(_) => "bf16",
        }
    }

    /// Length of an input row.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Columns of a result's row.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.count() / self.inputs
    }

    /// Bytes in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.count() * size_of::<u16>()) as u64
    }

    fn count(&self) -> usize {
        match &self.values {
            Values::F16(values) => values.len(),
            Values::Bf16(values) => values.len(),
        }
    }

    /// Rows of the matrix itself: [ids, inputs].
    ///
    /// # Panics
    /// When an id is not below [`Self::columns`].
    #[must_use]
    pub fn rows_at(&self, ids: &[u32]) -> Vec<f32> {
        let mut out = vec![0.0; ids.len() * self.inputs];
        for (id, out) in ids.iter().zip(out.chunks_exact_mut(self.inputs)) {
            self.widen(*id as usize * self.inputs, out);
        }
        out
    }

    /// The numbers from `first` on.
    fn widen(&self, first: usize, out: &mut [f32]) {
        match &self.values {
            Values::F16(values) => numbers::widen(&values[first..][..out.len()], out),
            Values::Bf16(values) => numbers::widen(&values[first..][..out.len()], out),
        }
    }

    /// Rows `x` [n, inputs] times the matrix: [n, columns].
    ///
    /// # Errors
    /// When candle's product fails.
    pub fn product(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, inputs) = x.dims2().map_err(failed)?;
        if inputs != self.inputs {
            return Err(EngineError::internal(format!("rows of {inputs} values for a matrix of {}", self.inputs)));
        }
        let columns = self.columns();
        if rows > FEW {
            return threads::install(|| self.many_rows(x, columns));
        }
        let out = with_values(x, |x| match &self.values {
            Values::F16(values) => few_rows(values, inputs, x),
            Values::Bf16(values) => few_rows(values, inputs, x),
        })?;
        tensor(out, (rows, columns))
    }

    fn many_rows(&self, x: &Tensor, columns: usize) -> Result<Tensor> {
        let each = (WIDENED / self.inputs).max(1);
        let parts = (0..columns).step_by(each).map(|first| {
            let here = each.min(columns - first);
            let mut widened = vec![0.0; here * self.inputs];
            self.widen(first * self.inputs, &mut widened);
            let part = Tensor::from_vec(widened, (here, self.inputs), &Device::Cpu);
            part.and_then(|part| x.matmul(&part.t()?)).map_err(failed)
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        Tensor::cat(&parts, 1).map_err(failed)
    }
}

/// One row `x` [1, inputs] times a contiguous f32 matrix [columns, inputs] on all threads: [1,
/// columns].
///
/// # Errors
/// When the shapes do not fit.
pub fn one_row(x: &Tensor, matrix: &Tensor) -> Result<Tensor> {
    let (columns, inputs) = matrix.dims2().map_err(failed)?;
    if x.dims() != [1, inputs] {
        return Err(EngineError::internal(format!("{:?} is not one row of {inputs} values", x.dims())));
    }
    let out = with_values(x, |x| with_values(matrix, |matrix| few_rows(matrix, inputs, x)))??;
    tensor(out, (1, columns))
}

/// Rows `x` times a matrix, one row at a time: the result of a row does not depend on others.
fn few_rows<N: Number>(matrix: &[N], inputs: usize, x: &[f32]) -> Vec<f32> {
    let columns = matrix.len() / inputs;
    let mut out = vec![0.0; x.len() / inputs * columns];
    let once = if matrix.len() < PARALLEL_FROM { columns } else { columns.div_ceil(8 * threads::count()) };
    for (x, out) in x.chunks_exact(inputs).zip(out.chunks_exact_mut(columns)) {
        threads::share(out, once, |at, out| {
            numbers::products(&matrix[at * once * inputs..][..out.len() * inputs], x, inputs, out);
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(count: usize, f: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * f).sin() * (1.0 + (i % 7) as f32)).collect()
    }

    fn close(got: &Tensor, x: &[f32], matrix: &[f32], inputs: usize, what: &str) {
        let got = got.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let pairs = x.chunks(inputs).flat_map(|x| matrix.chunks(inputs).map(move |column| (x, column)));
        for (got, (x, column)) in got.iter().zip(pairs) {
            let products = x.iter().zip(column).map(|(x, w)| f64::from(*x) * f64::from(*w));
            let (want, size) = products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
            assert!((f64::from(*got) - want).abs() < 1e-5 * size, "{what}: {got} for {want}");
        }
    }

    /// Few and many rows, one and several threads, inputs that do not fill a register, columns that
    /// are widened in several parts.
    #[test]
    fn a_product_is_that_of_the_stored_numbers() {
        for (columns, inputs, rows) in
            [(3, 5, 1), (70, 1003, 1), (16, 64, 2), (40, 100, 7), (40, 100, 4), (1100, 1003, 5)]
        {
            let (plain, x) = (wave(columns * inputs, 0.37), wave(rows * inputs, 0.73));
            let input = Tensor::from_vec(x.clone(), (rows, inputs), &Device::Cpu).unwrap();
            let halves: Vec<_> = plain.iter().map(|x| f16::from_f32(*x)).collect();
            let brains: Vec<_> = plain.iter().map(|x| bf16::from_f32(*x)).collect();
            let of_halves: Vec<_> = halves.iter().map(|x| x.to_f32()).collect();
            let of_brains: Vec<_> = brains.iter().map(|x| x.to_f32()).collect();
            let halves = Plain16::f16(inputs, halves).unwrap();
            let brains = Plain16::bf16(inputs, brains).unwrap();
            assert_eq!(halves.rows_at(&[2, 0]), [&of_halves[2 * inputs..3 * inputs], &of_halves[..inputs]].concat());
            close(&halves.product(&input).unwrap(), &x, &of_halves, inputs, "f16");
            close(&brains.product(&input).unwrap(), &x, &of_brains, inputs, "bf16");
            if rows == 1 {
                let matrix = Tensor::from_vec(plain.clone(), (columns, inputs), &Device::Cpu).unwrap();
                close(&one_row(&input, &matrix).unwrap(), &x, &plain, inputs, "f32");
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        assert!(Plain16::f16(3, vec![f16::ONE; 4]).is_err());
        let matrix = Plain16::bf16(2, vec![bf16::ONE; 4]).unwrap();
        let x = Tensor::ones((1, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(matrix.product(&x).is_err());
        assert!(one_row(&x, &Tensor::ones((2, 2), candle_core::DType::F32, &Device::Cpu).unwrap()).is_err());
    }
}
