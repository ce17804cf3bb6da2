//! A weights file, mapped read-only.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use cloister_domain::Digest;

use crate::{Entry, Metadata, Name, Tensor, WeightsError, gguf, safetensors};

/// An open weights file: its tensors are views of the map.
pub struct File {
    map: Bytes,
    tensors: BTreeMap<String, Tensor>,
    metadata: Metadata,
    skipped: Vec<Name>,
}

impl File {
    /// Maps the file and checks its header; GGUF and safetensors are told apart by the first bytes.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Open`], and what the header is refused for.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        Self::from_bytes(map::read_only(path)?)
    }

    /// The same for bytes that are in memory already.
    ///
    /// # Errors
    ///
    /// What the header is refused for.
    pub fn from_bytes(map: Bytes) -> Result<Self, WeightsError> {
        let (entries, metadata, skipped) = if map.starts_with(&gguf::MAGIC) {
            let header = gguf::parse(&map)?;
            (header.entries, header.metadata, Vec::new())
        } else {
            let header = safetensors::parse(&map)?;
            (header.entries, Metadata::default(), header.skipped)
        };
        let mut tensors = BTreeMap::new();
        for Entry { name, dtype, shape, range } in entries {
            let printable = Name::of(&name);
            let index = |n: u64| {
                usize::try_from(n)
                    .map_err(|_too_large| WeightsError::Range { name: Name::of(&name) })
            };
            let bytes = map.slice(index(range.start)?..index(range.end)?);
            let shape =
                shape.iter().map(|&n| index(n)).collect::<Result<Vec<usize>, WeightsError>>()?;
            tensors.insert(name, Tensor::new(printable, dtype, shape, bytes));
        }
        Ok(Self { map, tensors, metadata, skipped })
    }

    /// The tensor called `name`.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// All tensors by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The metadata of a GGUF file; empty for safetensors.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Integer tensors that are no weights and were left out.
    #[must_use]
    pub fn skipped(&self) -> &[Name] {
        &self.skipped
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn size(&self) -> cloister_domain::ByteCount {
        cloister_domain::ByteCount(u64::try_from(self.map.len()).expect("a length fits 64 bits"))
    }

    /// SHA-256 of the whole file: the full check, about half a second a GiB.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.map)
    }

    /// Checks that no weight is NaN or infinite; reads the whole file.
    ///
    /// # Errors
    ///
    /// [`WeightsError::NotFinite`] with the first such tensor.
    pub fn check_finite(&self) -> Result<(), WeightsError> {
        self.tensors.values().try_for_each(Tensor::check_finite)
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File")
            .field("size", &self.size())
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

mod map {
    #![expect(unsafe_code, reason = "mapping a file is the one way to use weights without a copy")]

    use std::path::Path;

    use bytes::Bytes;
    use memmap2::Mmap;

    use crate::WeightsError;

    /// Maps a whole file for reading.
    pub(super) fn read_only(path: &Path) -> Result<Bytes, WeightsError> {
        let file = std::fs::File::open(path).map_err(WeightsError::Open)?;
        // SAFETY: the map is sound as long as no process changes the file. Files on the shelf are written
        // once, have mode 0444, are replaced by rename only, and belong to another user than the engine's.
        let map = unsafe { Mmap::map(&file) }.map_err(WeightsError::Open)?;
        Ok(Bytes::from_owner(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        DType,
        gguf_write::{Source, Writer},
    };
    use cloister_domain::Coded;

    #[test]
    fn tensors_are_views_and_are_read_as_f32() {
        let mut writer = Writer::new();
        let floats: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        writer.tensor("f32", DType::F32, &[2], Source::Bytes(floats));
        writer.tensor("f16", DType::F16, &[1], Source::Made(Box::new(|| vec![0x00, 0x3e])));
        writer.tensor("bf16", DType::Bf16, &[1], Source::Bytes(vec![0xc0, 0x3f]));
        let mut block = vec![0x00, 0x38]; // 0.5
        block.extend([0x80, 0x7f]);
        block.resize(34, 1);
        writer.tensor("q8", DType::Q8_0, &[1, 32], Source::Bytes(block));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        writer.write_to(&mut std::fs::File::create(&path).unwrap()).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(file.tensor("f32").unwrap().to_f32(), [1.5, -2.0]);
        assert_eq!(file.tensor("f16").unwrap().to_f32(), [1.5]);
        assert_eq!(file.tensor("bf16").unwrap().to_f32(), [1.5]);
        assert_eq!(file.tensor("q8").unwrap().to_f32()[..3], [-64.0, 63.5, 0.5]);
        assert!(file.tensor("none").is_none());
        file.check_finite().unwrap();
        assert_eq!(file.digest(), Digest::of(&writer.to_bytes().unwrap()));
    }

    #[test]
    fn a_weight_that_is_not_finite_is_found() {
        for (dtype, shape, bytes) in [
            (DType::F32, vec![1], f32::NAN.to_le_bytes().to_vec()),
            (DType::F32, vec![1], f32::INFINITY.to_le_bytes().to_vec()),
            (DType::F16, vec![1], vec![0x01, 0x7c]),
            (DType::Bf16, vec![1], vec![0x80, 0xff]),
            (DType::Q8_0, vec![32], [&[0x00, 0x7c], [0; 32].as_slice()].concat()),
        ] {
            let mut writer = Writer::new();
            writer.tensor("bad", dtype, &shape, Source::Bytes(bytes));
            let file = File::from_bytes(writer.to_bytes().unwrap().into()).unwrap();
            assert_eq!(file.check_finite().expect_err("refused").code(), "weights.not-finite");
        }
    }

    #[test]
    fn a_missing_or_empty_file_is_an_error_not_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        assert_eq!(File::open(&path).expect_err("absent").code(), "weights.open");
        std::fs::File::create(&path).unwrap();
        assert_eq!(File::open(&path).expect_err("empty").code(), "weights.truncated");
    }
}
