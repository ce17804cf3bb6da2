//! What can be wrong with a bundle's form.

use cloister_attest::AttestError;
use cloister_domain::{Class, Coded};

use crate::{foreign::Foreign, path::PathRule};

/// Why bytes are not a bundle of the accepted form. Names of files inside are never quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The file is of another kind, and begins so.
    #[error("the file is {0}")]
    Foreign(Foreign),
    /// A member's header is not the one that its name and size give.
    #[error(
        "the volume is damaged, or is none: the header of member {member} (the first is 0) is not of \
         the accepted form; copy it to the stick again"
    )]
    Header {
        /// Position of the member in the volume, from 0.
        member: u64,
    },
    /// A member is larger than its kind may be.
    #[error("member {member} of the volume has {bytes} bytes, more than the {max} allowed")]
    MemberSize {
        /// Position of the member in the volume, from 0.
        member: u64,
        /// Bytes that its header states.
        bytes: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// The bytes after a member, up to the next block, are not zero.
    #[error("the padding after member {member} of the volume is not zero")]
    Padding {
        /// Position of the member in the volume, from 0.
        member: u64,
    },
    /// The volume ends too early.
    #[error("the volume ends in the middle; copy it to the stick again")]
    Truncated,
    /// The two zero blocks at the end are missing, or something follows them.
    #[error("the volume does not end where it must")]
    End,
    /// A name or size that no header can hold.
    #[error("a member's name or size does not fit into a header")]
    Unnameable,
    /// The volume's first member is not a head of format 1, or contradicts itself.
    #[error("the volume's head is not of format 1")]
    Head,
    /// The volume's first member describes a range of chunks that the signed index has not.
    #[error(
        "the volume's head says other chunks than the signed index has for it; the volume is damaged or \
         was changed: copy it to the stick again"
    )]
    HeadRange,
    /// The volume's metadata is not a container of well-named files.
    #[error("the volume's trust metadata is not of the accepted form")]
    Meta,
    /// The manifest's envelope or statement is malformed.
    #[error("the manifest is not a signed release statement")]
    Manifest(#[source] AttestError),
    /// The manifest lacks a field, has an unknown one, or one out of range.
    #[error("the manifest's release is not of the accepted form ({field})")]
    Release {
        /// The field that is wrong.
        field: &'static str,
    },
    /// A licence is not an SPDX expression.
    #[error(
        "licence {licence} of the release is no SPDX expression: write identifiers as \
         spdx.org/licenses lists them, such as `MIT OR Apache-2.0`, and others as `LicenseRef-NAME`"
    )]
    Licence {
        /// Position of the licence in the manifest, from 1.
        licence: u64,
    },
    /// The versions of the appliance that the release was made for are not versions, or none is between
    /// them.
    #[error(
        "the appliance's versions that the release needs are no range of three numbers each, such as \
         0.2.0 (SemVer 2.0.0, clause 2)"
    )]
    Runtime,
    /// A path inside the release breaks a rule.
    #[error("the path of file {file} breaks a rule: {rule}")]
    Path {
        /// Position of the file in the manifest, from 0.
        file: u64,
        /// The rule.
        rule: PathRule,
    },
    /// The digest over all files is not the statement's subject.
    #[error("the manifest's files are not those that its subject names")]
    Tree,
    /// The chunk index is not of the accepted form.
    #[error("the chunk index is not of the accepted form (chunk {chunk})")]
    Index {
        /// Position of the chunk, from 0; the chunk count for what concerns the whole.
        chunk: u64,
    },
    /// The chunk index is well formed and does not cover the manifest's files exactly.
    #[error("the chunk index does not cover the manifest's files (chunk {chunk})")]
    Coverage {
        /// Position of the chunk, from 0; the chunk count for what concerns the whole.
        chunk: u64,
    },
    /// What a thin volume says it carries does not fit its range.
    #[error("what the thin volume says it carries does not fit its range of chunks")]
    Carried,
    /// A receipt or a request is malformed, or not signed by the host.
    #[error("the list of chunks is not one, or is not signed by the appliance's host key")]
    Receipt,
    /// Bytes do not have the digest that the signed manifest or index names for them.
    #[error("bytes do not have the digest that was signed for them (chunk {chunk})")]
    Digest {
        /// Position of the chunk, from 0; the chunk count for the index itself.
        chunk: u64,
    },
}

impl Coded for BundleError {
    fn class(&self) -> Class {
        Class::Refused
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Foreign(_) => "bundle.container.foreign",
            Self::Header { .. } => "bundle.container.header",
            Self::MemberSize { .. } => "bundle.container.size",
            Self::Padding { .. } => "bundle.container.padding",
            Self::Truncated => "bundle.container.truncated",
            Self::End => "bundle.container.end",
            Self::Unnameable => "bundle.container.unnameable",
            Self::Head => "bundle.head",
            Self::HeadRange => "bundle.head.range",
            Self::Meta => "bundle.meta",
            Self::Manifest(_) => "bundle.manifest.envelope",
            Self::Release { .. } => "bundle.manifest.release",
            Self::Licence { .. } => "bundle.manifest.licence",
            Self::Runtime => "bundle.manifest.runtime",
            Self::Path { .. } => "bundle.manifest.path",
            Self::Tree => "bundle.manifest.tree",
            Self::Index { .. } => "bundle.index.form",
            Self::Coverage { .. } => "bundle.index.coverage",
            Self::Carried => "bundle.carried",
            Self::Receipt => "bundle.receipt",
            Self::Digest { .. } => "bundle.digest",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_code() {
        for (error, code) in [
            (BundleError::Foreign(Foreign::Empty), "bundle.container.foreign"),
            (BundleError::Header { member: 0 }, "bundle.container.header"),
            (BundleError::MemberSize { member: 0, bytes: 2, max: 1 }, "bundle.container.size"),
            (BundleError::Padding { member: 0 }, "bundle.container.padding"),
            (BundleError::Truncated, "bundle.container.truncated"),
            (BundleError::End, "bundle.container.end"),
            (BundleError::Unnameable, "bundle.container.unnameable"),
            (BundleError::Head, "bundle.head"),
            (BundleError::HeadRange, "bundle.head.range"),
            (BundleError::Meta, "bundle.meta"),
            (BundleError::Manifest(AttestError::PredicateType), "bundle.manifest.envelope"),
            (BundleError::Release { field: "name" }, "bundle.manifest.release"),
            (BundleError::Licence { licence: 1 }, "bundle.manifest.licence"),
            (BundleError::Runtime, "bundle.manifest.runtime"),
            (BundleError::Path { file: 0, rule: PathRule::Dots }, "bundle.manifest.path"),
            (BundleError::Tree, "bundle.manifest.tree"),
            (BundleError::Index { chunk: 0 }, "bundle.index.form"),
            (BundleError::Coverage { chunk: 0 }, "bundle.index.coverage"),
            (BundleError::Carried, "bundle.carried"),
            (BundleError::Receipt, "bundle.receipt"),
            (BundleError::Digest { chunk: 0 }, "bundle.digest"),
        ] {
            assert_eq!((error.code(), error.class()), (code, Class::Refused));
        }
    }
}
