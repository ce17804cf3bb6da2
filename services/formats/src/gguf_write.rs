//! Writes GGUF files, version 3; the same content gives the same bytes.

use std::io::Write;

use crate::{DType, WeightsError, gguf};

/// Where a tensor's bytes come from.
pub enum Source<'a> {
    /// They are here.
    Bytes(Vec<u8>),
    /// They are made when their turn comes, so that one tensor is in memory at a time.
    Made(Box<dyn Fn() -> Vec<u8> + 'a>),
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

/// A GGUF file in the making: keys and tensors in the order in which they are added.
#[derive(Debug, Default)]
pub struct Writer<'a> {
    keys: u64,
    metadata: Vec<u8>,
    tensors: Vec<Planned<'a>>,
}

#[derive(Debug)]
struct Planned<'a> {
    name: String,
    dtype: DType,
    shape: Vec<u64>,
    bytes: u64,
    source: Source<'a>,
}

impl<'a> Writer<'a> {
    /// A file with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text.
    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key, gguf::TEXT);
        put_text(&mut self.metadata, value);
        self
    }

    /// Adds a count (u32).
    pub fn count(&mut self, key: &str, value: u32) -> &mut Self {
        self.key(key, gguf::U32);
        self.metadata.extend(value.to_le_bytes());
        self
    }

    /// Adds a number (f32).
    pub fn float(&mut self, key: &str, value: f32) -> &mut Self {
        self.key(key, gguf::F32);
        self.metadata.extend(value.to_le_bytes());
        self
    }

    /// Adds a truth value.
    pub fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        self.key(key, gguf::BOOL);
        self.metadata.push(u8::from(value));
        self
    }

    /// Adds an array of texts.
    pub fn texts<T: AsRef<str>>(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    ) -> &mut Self {
        let values = values.into_iter();
        self.array(key, gguf::TEXT, values.len());
        for value in values {
            put_text(&mut self.metadata, value.as_ref());
        }
        self
    }

    /// Adds an array of i32.
    pub fn integers(&mut self, key: &str, values: &[i32]) -> &mut Self {
        self.array(key, gguf::I32, values.len());
        self.metadata.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self
    }

    /// Adds a tensor of `shape`, outermost dimension first.
    ///
    /// # Panics
    ///
    /// When `shape` is no shape of `dtype`; the caller knows its tensors.
    pub fn tensor(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[u64],
        source: Source<'a>,
    ) -> &mut Self {
        let bytes = crate::header::tensor_bytes(name, dtype, shape)
            .expect("the caller names a shape that exists");
        let shape = shape.to_vec();
        self.tensors.push(Planned { name: name.to_owned(), dtype, shape, bytes, source });
        self
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Write`].
    ///
    /// # Panics
    ///
    /// When a tensor's source gives another number of bytes than its shape says.
    pub fn write_to(&self, out: &mut dyn Write) -> Result<(), WeightsError> {
        let mut header = Vec::new();
        header.extend(gguf::MAGIC);
        header.extend(gguf::VERSION.to_le_bytes());
        header.extend(length(self.tensors.len()).to_le_bytes());
        header.extend(self.keys.to_le_bytes());
        header.extend(&self.metadata);
        let mut offset = 0u64;
        for tensor in &self.tensors {
            put_text(&mut header, &tensor.name);
            let rank =
                u32::try_from(tensor.shape.len()).expect("a shape has at most four dimensions");
            header.extend(rank.to_le_bytes());
            header.extend(tensor.shape.iter().rev().flat_map(|n| n.to_le_bytes()));
            header.extend(gguf::dtype_number(tensor.dtype).to_le_bytes());
            header.extend(offset.to_le_bytes());
            offset += tensor.bytes.next_multiple_of(gguf::ALIGNMENT);
        }
        let aligned = length(header.len()).next_multiple_of(gguf::ALIGNMENT);
        header.resize(usize::try_from(aligned).expect("a header fits memory"), 0);
        out.write_all(&header).map_err(WeightsError::Write)?;
        for tensor in &self.tensors {
            let made;
            let bytes = match &tensor.source {
                Source::Bytes(bytes) => bytes,
                Source::Made(make) => {
                    made = make();
                    &made
                }
            };
            assert_eq!(length(bytes.len()), tensor.bytes, "a source gives what its shape says");
            out.write_all(bytes).map_err(WeightsError::Write)?;
            let padding = tensor.bytes.next_multiple_of(gguf::ALIGNMENT) - tensor.bytes;
            let zeros = [0; 32];
            let padding = usize::try_from(padding).expect("padding is below the alignment");
            out.write_all(&zeros[..padding]).map_err(WeightsError::Write)?;
        }
        Ok(())
    }

    /// The file as bytes.
    ///
    /// # Errors
    ///
    /// None that memory can cause; see [`Self::write_to`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, WeightsError> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes)?;
        Ok(bytes)
    }

    fn key(&mut self, key: &str, kind: u32) {
        self.keys += 1;
        put_text(&mut self.metadata, key);
        self.metadata.extend(kind.to_le_bytes());
    }

    fn array(&mut self, key: &str, kind: u32, count: usize) {
        self.key(key, gguf::ARRAY);
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend(length(count).to_le_bytes());
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend(length(text.len()).to_le_bytes());
    out.extend(text.as_bytes());
}

fn length(count: usize) -> u64 {
    u64::try_from(count).expect("a length fits 64 bits")
}
