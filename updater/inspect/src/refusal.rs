//! Why an artefact is refused.

use cloister_domain::{Class, Coded};
use cloister_formats::WeightsError;
use cloister_tokenize::{LoadError, template::TemplateError};

use crate::Kind;

/// The format of a file of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// GGUF.
    Gguf,
    /// safetensors.
    Safetensors,
}

/// Content that has no place in a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// A Python pickle, alone or inside a zip archive: loading one runs it.
    #[error("the file is a Python pickle, which is a program; convert it to safetensors")]
    Pickle,
    /// An archive or a compressed file.
    #[error("the file is an archive or compressed; a release holds plain files")]
    Archive,
    /// An ELF program or shared object.
    #[error("the file is a program or library (ELF)")]
    Elf,
    /// A Windows program or library.
    #[error("the file is a Windows program or library")]
    Pe,
    /// A macOS program or library.
    #[error("the file is a macOS program or library")]
    MachO,
    /// A text that begins as one that an interpreter, a server or a desktop runs.
    #[error("the file is a script; leave it out, or put a heading before it if it is an example")]
    Script,
    /// A page, or a message that holds one.
    #[error("the file is an HTML page; convert it to plain text or Markdown before it is minted")]
    Html,
    /// SVG or other XML.
    #[error("the file is XML or SVG; convert it to plain text or Markdown before it is minted")]
    Xml,
    /// PDF, wherever its mark stands.
    #[error("the file is a PDF document; convert it to plain text before it is minted")]
    Pdf,
    /// Rich Text Format.
    #[error("the file is an RTF document; convert it to plain text before it is minted")]
    Rtf,
    /// PostScript, which is a program.
    #[error("the file is PostScript; convert it to plain text before it is minted")]
    PostScript,
    /// Compiled Python.
    #[error("the file is compiled Python")]
    PythonBytecode,
    /// A Java class or an Android program.
    #[error("the file is compiled Java")]
    JavaClass,
    /// A WebAssembly module.
    #[error("the file is a WebAssembly module")]
    Wasm,
    /// HDF5, whose readers follow links and unpickle.
    #[error("the file is HDF5; convert it to safetensors")]
    Hdf5,
    /// LLVM bitcode.
    #[error("the file is compiled code (LLVM)")]
    Bitcode,
}

/// What is wrong with a header of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Another version or another format.
    #[error("the weights are of another format or version than is read")]
    Version,
    /// The file ends too early.
    #[error("the weights end inside their header")]
    Truncated,
    /// A count or a size above the limit.
    #[error("the header of the weights claims more than any model has")]
    Limits,
    /// Not UTF-8, or not the JSON of the format.
    #[error("the header of the weights is not written as its format demands")]
    Syntax,
    /// An empty name, one that comes twice, or one with other characters than printable ASCII.
    #[error("a name in the header of the weights is empty, comes twice or is not printable ASCII")]
    Name,
    /// A bad alignment, or a tensor that does not keep to it.
    #[error("the weights are not aligned as their format demands")]
    Alignment,
    /// An element type that is not read.
    #[error("a tensor has an element type that is not read; F32, F16, BF16 and Q8_0 are")]
    DType,
    /// Dimensions that cannot be, or that do not give the tensor's size.
    #[error("the dimensions of a tensor cannot be")]
    Shape,
    /// A tensor beyond the end of the file.
    #[error("a tensor reaches beyond the end of the file")]
    Bounds,
    /// Two tensors that share bytes.
    #[error("two tensors share bytes")]
    Overlap,
    /// Bytes that belong to no tensor.
    #[error("bytes of the file belong to no tensor")]
    Gap,
    /// A value of a kind that it cannot have.
    #[error("a value in the header of the weights is of a kind that it cannot have")]
    Metadata,
}

/// Why an artefact is refused. Never quotes what the artefact holds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Content that has no place in a release.
    #[error("{0}")]
    Foreign(Foreign),
    /// Neither weights nor text.
    #[error("the file is neither weights nor text; only what the appliance uses is taken")]
    Unknown,
    /// The name says something else than the content.
    #[error("the file's name promises {kind}, and its content is {content}")]
    Name {
        /// What the content is.
        content: &'static str,
        /// What the name promises.
        kind: Kind,
    },
    /// The name's ending is not one that a release may have.
    #[error("the ending of the file's name is not one that a release may have")]
    Ending,
    /// A file of weights that lies about itself.
    #[error("{fault}")]
    Weights {
        /// Its format.
        format: Weights,
        /// What is wrong.
        fault: Fault,
        /// Where.
        #[source]
        cause: WeightsError,
    },
    /// A weight, or a scale of a block of weights, is NaN or infinite.
    #[error("the weights hold a value that is not a finite number")]
    NotFinite,
    /// Bytes between tensors, or behind the last, hold something.
    #[error("the bytes between the tensors, or behind the last, are not zero")]
    Padding,
    /// A document is larger than its kind may be.
    #[error("the file has {bytes} bytes; a file of its kind may have {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// A text that is not UTF-8, or holds a character that hides, moves or steers.
    #[error(
        "the text is not UTF-8 at byte {at}, or has a character there that is not seen or steers; \
         take it out, or save the text as UTF-8"
    )]
    Text {
        /// Where.
        at: u64,
    },
    /// Not one strict JSON value.
    #[error("the JSON is not valid at line {line}, column {column}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// A key twice in one object.
    #[error("an object of the JSON has a key twice, at line {line}, column {column}")]
    JsonKey {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// More keys than any document has.
    #[error("the JSON has objects with more than {max} keys")]
    JsonKeys {
        /// The bound.
        max: usize,
    },
    /// Nested too deep.
    #[error("the JSON is nested deeper than {max}")]
    JsonDepth {
        /// The bound.
        max: u32,
    },
    /// A chat template that is a program: a Jinja file, or one inside another file that cannot be
    /// followed to plain data.
    #[error(
        "the file holds a chat template that is a program; mint the release again with `prepare`"
    )]
    Jinja,
    /// A text in the header of weights that holds what no text may hold.
    #[error(
        "a text in the header of the weights holds a character that is not seen or steers; take it out"
    )]
    HeaderText {
        /// The format of the file.
        format: Weights,
    },
    /// A message format that is not taken.
    #[error("the message format is refused: {0}")]
    Template(#[source] TemplateError),
    /// A tokenizer that the appliance cannot use as its maker meant it.
    #[error("the tokenizer is refused: {0}")]
    Tokenizer(#[source] LoadError),
    /// The bytes could not be read, or changed in size.
    #[error("the file could not be read to its end")]
    Unreadable,
}

impl Foreign {
    const fn code(self) -> &'static str {
        match self {
            Self::Pickle => "inspect.pickle",
            Self::Archive => "inspect.archive",
            Self::Elf => "inspect.elf",
            Self::Pe => "inspect.pe",
            Self::MachO => "inspect.macho",
            Self::Script => "inspect.script",
            Self::Html => "inspect.html",
            Self::Xml => "inspect.xml",
            Self::Pdf => "inspect.pdf",
            Self::Rtf => "inspect.rtf",
            Self::PostScript => "inspect.postscript",
            Self::PythonBytecode => "inspect.python-bytecode",
            Self::JavaClass => "inspect.java-class",
            Self::Wasm => "inspect.wasm",
            Self::Hdf5 => "inspect.hdf5",
            Self::Bitcode => "inspect.bitcode",
        }
    }
}

impl Fault {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what else the reader may come to say is about the metadata between the tensors"
    )]
    pub(crate) const fn of(cause: &WeightsError) -> Self {
        match cause {
            WeightsError::Magic | WeightsError::Version { .. } => Self::Version,
            WeightsError::Truncated => Self::Truncated,
            WeightsError::HeaderSize { .. } | WeightsError::Count { .. } => Self::Limits,
            WeightsError::Text | WeightsError::Syntax { .. } => Self::Syntax,
            WeightsError::NoName
            | WeightsError::NameCharacters { .. }
            | WeightsError::Duplicate { .. } => Self::Name,
            WeightsError::Alignment { .. } | WeightsError::Misaligned { .. } => Self::Alignment,
            WeightsError::DType { .. } => Self::DType,
            WeightsError::Shape { .. } | WeightsError::Size { .. } => Self::Shape,
            WeightsError::Range { .. } => Self::Bounds,
            WeightsError::Overlap { .. } => Self::Overlap,
            WeightsError::Uncovered { .. } => Self::Gap,
            _ => Self::Metadata,
        }
    }

    /// The codes in GGUF and in safetensors.
    const fn codes(self) -> [&'static str; 2] {
        match self {
            Self::Version => ["inspect.gguf.version", "inspect.safetensors.version"],
            Self::Truncated => ["inspect.gguf.truncated", "inspect.safetensors.truncated"],
            Self::Limits => ["inspect.gguf.limits", "inspect.safetensors.limits"],
            Self::Syntax => ["inspect.gguf.syntax", "inspect.safetensors.syntax"],
            Self::Name => ["inspect.gguf.name", "inspect.safetensors.name"],
            Self::Alignment => ["inspect.gguf.alignment", "inspect.safetensors.alignment"],
            Self::DType => ["inspect.gguf.dtype", "inspect.safetensors.dtype"],
            Self::Shape => ["inspect.gguf.shape", "inspect.safetensors.shape"],
            Self::Bounds => ["inspect.gguf.bounds", "inspect.safetensors.bounds"],
            Self::Overlap => ["inspect.gguf.overlap", "inspect.safetensors.overlap"],
            Self::Gap => ["inspect.gguf.gap", "inspect.safetensors.gap"],
            Self::Metadata => ["inspect.gguf.metadata", "inspect.safetensors.metadata"],
        }
    }
}

impl Refusal {
    pub(crate) const fn weights(format: Weights, cause: WeightsError) -> Self {
        let fault = Fault::of(&cause);
        Self::Weights { format, fault, cause }
    }
}

impl Coded for Refusal {
    fn class(&self) -> Class {
        if matches!(self, Self::Unreadable) { Class::Fault } else { Class::Refused }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Foreign(foreign) => foreign.code(),
            Self::Unknown => "inspect.unknown",
            Self::Name { .. } => "inspect.name",
            Self::Ending => "inspect.name.ending",
            Self::Weights { format, fault, .. } => {
                let [gguf, safetensors] = fault.codes();
                match format {
                    Weights::Gguf => gguf,
                    Weights::Safetensors => safetensors,
                }
            }
            Self::HeaderText { format: Weights::Gguf } => "inspect.gguf.text",
            Self::HeaderText { format: Weights::Safetensors } => "inspect.safetensors.text",
            Self::NotFinite => "inspect.not-finite",
            Self::Padding => "inspect.padding",
            Self::TooLarge { .. } => "inspect.too-large",
            Self::Text { .. } => "inspect.text",
            Self::Json { .. } => "inspect.json",
            Self::JsonKey { .. } => "inspect.json.key",
            Self::JsonKeys { .. } => "inspect.json.keys",
            Self::JsonDepth { .. } => "inspect.json.depth",
            Self::Jinja => "inspect.template.program",
            Self::Template(_) => "inspect.template",
            Self::Tokenizer(LoadError::Json { .. }) => "inspect.tokenizer.json",
            Self::Tokenizer(LoadError::Unsupported { .. }) => "inspect.tokenizer.unsupported",
            Self::Tokenizer(LoadError::TooMany { .. }) => "inspect.tokenizer.limits",
            Self::Tokenizer(
                LoadError::Merge { .. }
                | LoadError::MergeTwice { .. }
                | LoadError::ControlMerge { .. },
            ) => "inspect.tokenizer.merge",
            Self::Tokenizer(_) => "inspect.tokenizer.vocabulary",
            Self::Unreadable => "inspect.unreadable",
        }
    }
}
