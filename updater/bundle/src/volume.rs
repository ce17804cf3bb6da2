//! A volume's first member: which part of which release it claims to be.

use cloister_attest::json;
use cloister_domain::GenerationId;
use serde::{Deserialize, Serialize};

use crate::{BundleError, limits};

/// `clb/00-head`. Hints that choose what to read; nothing is trusted for what they say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeHead {
    /// The format of the container; 1.
    pub format: u32,
    /// The release that the volume says it belongs to.
    pub bundle: GenerationId,
    /// This volume, from 1.
    pub volume: u32,
    /// Volumes of the release.
    pub volumes: u32,
    /// The first chunk in this volume.
    pub first_chunk: u64,
    /// Chunks in this volume.
    pub chunks: u64,
}

impl VolumeHead {
    /// Reads the member.
    ///
    /// # Errors
    /// [`BundleError::Head`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let value = json::parse_strict(bytes, 2).map_err(|_cause| BundleError::Head)?;
        let head: Self = serde_json::from_value(value).map_err(|_cause| BundleError::Head)?;
        let counted = (1..=limits::VOLUMES_MAX).contains(&head.volumes)
            && (1..=head.volumes).contains(&head.volume);
        let whole = head.volumes > 1 || head.first_chunk == 0;
        if head.format == 1 && counted && whole { Ok(head) } else { Err(BundleError::Head) }
    }

    /// The member's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let value = serde_json::to_value(self).expect("numbers and one digest");
        json::canonical(&value).expect("a volume holds fewer than 2^53 chunks")
    }
}

/// The file name of a volume: `<name>-<version>.v0001.clb`.
#[must_use]
pub fn volume_file_name(name: &str, version: &str, volume: u32) -> String {
    format!("{name}-{version}.v{volume:04}.clb")
}

#[cfg(test)]
mod tests {
    use cloister_domain::Digest;

    use super::*;

    #[test]
    fn a_volume_is_called_by_its_number() {
        assert_eq!(volume_file_name("demo", "1.0.0", 12), "demo-1.0.0.v0012.clb");
    }

    #[test]
    fn a_head_returns_and_nonsense_is_refused() {
        let bundle = GenerationId(Digest::of(b"x"));
        let good =
            VolumeHead { format: 1, bundle, volume: 1, volumes: 1, first_chunk: 0, chunks: 9 };
        let second = VolumeHead { volume: 2, volumes: 2, first_chunk: 7, ..good };
        for head in [&good, &second] {
            assert_eq!(VolumeHead::parse(&head.encode()).as_ref(), Ok(head));
        }
        for bad in [
            VolumeHead { format: 2, ..good.clone() },
            VolumeHead { volume: 0, ..good.clone() },
            VolumeHead { volume: 2, ..good.clone() },
            VolumeHead { volumes: 10_000, ..good.clone() },
            VolumeHead { first_chunk: 1, ..good },
        ] {
            assert_eq!(VolumeHead::parse(&bad.encode()), Err(BundleError::Head));
        }
        // Numbers of more than 53 bits, whose sum could be more than 64.
        let second = String::from_utf8(second.encode()).expect("text");
        let vast = second.replace(r#""first_chunk":7"#, r#""first_chunk":18446744073709551615"#);
        assert_ne!(vast, second);
        for text in ["{}", "[]", r#"{"format":1,"format":1}"#, &vast] {
            assert_eq!(VolumeHead::parse(text.as_bytes()), Err(BundleError::Head));
        }
    }
}
