//! Takes tensors out of a file by name and shape, and accounts for each of them.

use std::collections::BTreeSet;

use cloister_weights::{File, Name, Tensor};

use crate::{ModelError, Ops};

/// The tensors of one file that were not used yet.
pub(super) struct Parts<'a, O: Ops> {
    ops: &'a O,
    file: &'a File,
    used: BTreeSet<String>,
}

impl<'a, O: Ops> Parts<'a, O> {
    pub(super) fn new(ops: &'a O, file: &'a File) -> Self {
        Self { ops, file, used: BTreeSet::new() }
    }

    /// The matrix `[outputs, inputs]` called `name`.
    pub(super) fn matrix(
        &mut self,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<O::Matrix, ModelError> {
        let tensor = self.tensor(name, &[outputs, inputs])?;
        self.ops.matrix(tensor)
    }

    /// The vector `[count]` called `name`.
    pub(super) fn vector(&mut self, name: &str, count: usize) -> Result<O::Vector, ModelError> {
        let tensor = self.tensor(name, &[count])?;
        Ok(self.ops.vector(tensor))
    }

    /// The vector called `name` if the architecture has it.
    pub(super) fn vector_if(
        &mut self,
        has: bool,
        name: &str,
        count: usize,
    ) -> Result<Option<O::Vector>, ModelError> {
        has.then(|| self.vector(name, count)).transpose()
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<&'a Tensor, ModelError> {
        let missing = || ModelError::TensorMissing { name: Name::of(name) };
        let tensor = self.file.tensor(name).ok_or_else(missing)?;
        if tensor.shape() != shape {
            return Err(ModelError::TensorShape { name: Name::of(name) });
        }
        self.used.insert(name.to_owned());
        Ok(tensor)
    }

    /// Refuses a file with a tensor that was not used, unless `inert` knows that it changes nothing.
    pub(super) fn finish(self, inert: impl Fn(&str) -> bool) -> Result<(), ModelError> {
        let unused = |name: &&str| !self.used.contains(*name) && !inert(name);
        match self.file.tensors().map(|(name, _)| name).find(unused) {
            Some(name) => Err(ModelError::TensorUnknown { name: Name::of(name) }),
            None => Ok(()),
        }
    }
}
