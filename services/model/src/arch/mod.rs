//! One file per architecture, and the choice among them.

use crate::{Decoder, Device, Encoder, Error, Options, folder::Folder, pooling::Pooling};

/// Loads the language model that a folder holds.
pub(crate) fn decoder(
    _folder: Folder,
    _device: Device,
    _options: &Options,
) -> Result<Decoder, Error> {
    Err(Error::Architecture { name: cloister_weights::Name::of("llama") })
}

/// Loads the embedding model that a folder holds.
pub(crate) fn encoder(
    _folder: Folder,
    _pooling: Pooling,
    _device: Device,
    _options: &Options,
) -> Result<Encoder, Error> {
    Err(Error::Architecture { name: cloister_weights::Name::of("bert") })
}
