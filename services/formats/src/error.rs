//! Why a weights file is refused.

use cloister_domain::{Class, Coded};

use crate::Name;

/// A file of weights that is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file cannot be opened, mapped or read.
    #[error("the weights file cannot be opened or read")]
    Open(#[source] std::io::Error),
    /// Writing failed.
    #[error("the weights file cannot be written")]
    Write(#[source] std::io::Error),
    /// The file is not of the format that its name says.
    #[error("the file is not of the format that its name says")]
    Magic,
    /// GGUF of another version than 3.
    #[error("GGUF version {version} is not supported; version 3 is")]
    Version {
        /// The version in the file.
        version: u32,
    },
    /// The file ends inside its header.
    #[error("the file ends inside its header")]
    Truncated,
    /// The header is longer than the limit.
    #[error("the header claims {bytes} bytes; {bytes_max} are allowed")]
    HeaderSize {
        /// Size in the file.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The header is not the JSON of the format.
    #[error("the header is not valid at byte {at}")]
    Syntax {
        /// Offset inside the header.
        at: usize,
    },
    /// A count is larger than the limit.
    #[error("the header claims {count} {what}; {count_max} are allowed")]
    Count {
        /// What is counted.
        what: &'static str,
        /// The claim.
        count: u64,
        /// The limit.
        count_max: u64,
    },
    /// A text in the header is not UTF-8.
    #[error("a text in the header is not UTF-8")]
    Text,
    /// A key or a tensor has an empty name.
    #[error("a key or a tensor has no name")]
    NoName,
    /// The name of a key or a tensor holds something else than printable ASCII.
    #[error("the name {name} of a key or a tensor is not printable ASCII; rename it")]
    NameCharacters {
        /// The name.
        name: Name,
    },
    /// A metadata value is of a kind that the format does not have, or is nested.
    #[error("the metadata value {key} has an unknown kind")]
    ValueKind {
        /// The key.
        key: Name,
    },
    /// A metadata value has another kind or range than its key demands.
    #[error("the metadata value {key} has another kind than its meaning demands")]
    Value {
        /// The key.
        key: Name,
    },
    /// A name occurs twice.
    #[error("the name {name} occurs twice")]
    Duplicate {
        /// The name.
        name: Name,
    },
    /// The alignment is not a power of two from 8 to 4096.
    #[error("the alignment {alignment} is not a power of two from 8 to 4096")]
    Alignment {
        /// The value in the file.
        alignment: u64,
    },
    /// An element type that is not read.
    #[error(
        "the tensor {name} has an element type that is not supported; F32, F16, BF16 and Q8_0 are"
    )]
    DType {
        /// The tensor.
        name: Name,
    },
    /// Dimensions outside 1 to 2²⁴, too many of them, or not whole blocks.
    #[error("the shape of the tensor {name} is not allowed")]
    Shape {
        /// The tensor.
        name: Name,
    },
    /// A tensor's bytes are not as many as its shape says.
    #[error("the tensor {name} has another size than its shape says")]
    Size {
        /// The tensor.
        name: Name,
    },
    /// A tensor does not start at a multiple of what the format or its elements demand.
    #[error("the tensor {name} is not aligned")]
    Misaligned {
        /// The tensor.
        name: Name,
    },
    /// A tensor lies beyond the end of the file.
    #[error("the tensor {name} reaches beyond the end of the file")]
    Range {
        /// The tensor.
        name: Name,
    },
    /// Two tensors share bytes.
    #[error("the tensor {name} overlaps the one before it")]
    Overlap {
        /// The second of the two.
        name: Name,
    },
    /// Bytes of the file belong to no tensor.
    #[error("{bytes} bytes of the file belong to no tensor")]
    Uncovered {
        /// How many.
        bytes: u64,
    },
    /// A weight is NaN or infinite.
    #[error("the tensor {name} holds a value that is not finite")]
    NotFinite {
        /// The tensor.
        name: Name,
    },
}

impl Coded for WeightsError {
    fn class(&self) -> Class {
        match self {
            Self::Open(_) | Self::Write(_) => Class::Fault,
            _ => Class::Refused,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Open(_) => "weights.open",
            Self::Write(_) => "weights.write",
            Self::Magic => "weights.magic",
            Self::Version { .. } => "weights.version",
            Self::Truncated => "weights.truncated",
            Self::HeaderSize { .. } => "weights.header.size",
            Self::Syntax { .. } => "weights.header.syntax",
            Self::Count { .. } => "weights.count",
            Self::Text => "weights.text",
            Self::NoName => "weights.no-name",
            Self::NameCharacters { .. } => "weights.name.characters",
            Self::ValueKind { .. } => "weights.value.kind",
            Self::Value { .. } => "weights.value",
            Self::Duplicate { .. } => "weights.duplicate",
            Self::Alignment { .. } => "weights.alignment",
            Self::DType { .. } => "weights.tensor.type",
            Self::Shape { .. } => "weights.tensor.shape",
            Self::Size { .. } => "weights.tensor.size",
            Self::Misaligned { .. } => "weights.tensor.misaligned",
            Self::Range { .. } => "weights.tensor.range",
            Self::Overlap { .. } => "weights.tensor.overlap",
            Self::Uncovered { .. } => "weights.uncovered",
            Self::NotFinite { .. } => "weights.not-finite",
        }
    }
}
