//! One tensor's bytes and what they mean.

use bytes::Bytes;
use half::{bf16, f16};

use crate::{DType, Name, Q8_0_BLOCK, Q8_0_BLOCK_BYTES, WeightsError};

/// A tensor as a view of its file's map: cloning it copies nothing, and it keeps the map alive.
#[derive(Clone)]
pub struct Tensor {
    name: Name,
    dtype: DType,
    shape: Vec<usize>,
    bytes: Bytes,
}

impl Tensor {
    pub(crate) fn new(name: Name, dtype: DType, shape: Vec<usize>, bytes: Bytes) -> Self {
        Self { name, dtype, shape, bytes }
    }

    /// The name in the file.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Type of the elements.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// Dimensions, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The stored bytes: elements little-endian, or blocks of Q8_0, row after row.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// All elements as f32, in the order of the file.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        let mut elements = Vec::with_capacity(self.elements());
        widen(self.dtype, &self.bytes, &mut elements);
        elements
    }

    /// Appends row `index` of a matrix to `elements` as f32.
    ///
    /// # Panics
    ///
    /// When the tensor is no matrix or has no such row.
    pub fn row_to_f32(&self, index: usize, elements: &mut Vec<f32>) {
        let &[rows, _] = self.shape.as_slice() else {
            panic!("a row of something else than a matrix")
        };
        let bytes = self.bytes.len() / rows;
        widen(self.dtype, &self.bytes[index * bytes..(index + 1) * bytes], elements);
    }

    /// Checks that no element is NaN or infinite.
    ///
    /// # Errors
    ///
    /// [`WeightsError::NotFinite`].
    pub fn check_finite(&self) -> Result<(), WeightsError> {
        if self.dtype.all_finite(&self.bytes) {
            Ok(())
        } else {
            Err(WeightsError::NotFinite { name: self.name.clone() })
        }
    }
}

/// Appends stored elements as f32.
fn widen(dtype: DType, bytes: &[u8], elements: &mut Vec<f32>) {
    let halves = || bytes.as_chunks::<2>().0.iter();
    match dtype {
        DType::F32 => {
            elements.extend(bytes.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)));
        }
        DType::F16 => elements.extend(halves().map(|&word| f16::from_le_bytes(word).to_f32())),
        DType::Bf16 => elements.extend(halves().map(|&word| bf16::from_le_bytes(word).to_f32())),
        DType::Q8_0 => {
            for block in bytes.as_chunks::<Q8_0_BLOCK_BYTES>().0 {
                let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
                let values: &[u8; Q8_0_BLOCK] =
                    block[2..].try_into().expect("a block is a scale and 32 values");
                elements.extend(values.map(|v| scale * f32::from(v.cast_signed())));
            }
        }
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tensor")
            .field("name", &self.name)
            .field("dtype", &self.dtype)
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}
