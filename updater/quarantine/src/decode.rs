//! Unpacks a chunk whose stored bytes were checked.

use std::io;

use cloister_bundle::{Chunk, Codec, limits::ZSTD_WINDOW_LOG_MAX};
use zstd::{bulk::Decompressor, zstd_safe};

use crate::QuarantineError;

/// Unpacks chunks into one buffer.
pub(crate) struct Decoder {
    zstd: Decompressor<'static>,
    plain: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new() -> io::Result<Self> {
        let mut zstd = Decompressor::new()?;
        zstd.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        Ok(Self { zstd, plain: Vec::new() })
    }

    /// The plain bytes of `chunk`, whose stored bytes are `stored`; `number` is its position.
    ///
    /// A packed chunk is one frame, without a dictionary, that states the signed size and fills it
    /// to the last byte. The buffer has that size, so no frame can make memory grow.
    pub(crate) fn plain<'a>(
        &'a mut self,
        number: u64,
        chunk: &Chunk,
        stored: &'a [u8],
    ) -> Result<&'a [u8], QuarantineError> {
        let wrong = QuarantineError::Unpack { chunk: number };
        let Ok(plain_bytes) = usize::try_from(chunk.plain_bytes) else { return Err(wrong) };
        match chunk.codec {
            Codec::Raw if stored.len() == plain_bytes => Ok(stored),
            Codec::Raw => Err(wrong),
            Codec::Zstd => {
                let single = zstd_safe::find_frame_compressed_size(stored) == Ok(stored.len());
                let stated = zstd_safe::get_frame_content_size(stored).ok().flatten();
                let sized = stated == Some(chunk.plain_bytes);
                let dictionary = zstd_safe::get_dict_id_from_frame(stored).is_some();
                if !single || !sized || dictionary || !fits_window(stored) {
                    return Err(wrong);
                }
                self.plain.resize(plain_bytes, 0);
                match self.zstd.decompress_to_buffer(stored, self.plain.as_mut_slice()) {
                    Ok(written) if written == plain_bytes => Ok(&self.plain),
                    Ok(_) | Err(_) => Err(wrong),
                }
            }
        }
    }
}

/// Whether a frame asks for a window that a chunk may have (RFC 8878, 3.1.1.1.2). The library keeps
/// `window_log_max` only where it unpacks in pieces, and here it unpacks in one.
fn fits_window(frame: &[u8]) -> bool {
    let (Some(descriptor), Some(window)) = (frame.get(4), frame.get(5)) else { return false };
    let single_segment = descriptor & 0x20 != 0;
    let log = 10u32.saturating_add(u32::from(window >> 3));
    let rounded_up = if window & 7 == 0 { log } else { log.saturating_add(1) };
    single_segment || rounded_up <= ZSTD_WINDOW_LOG_MAX
}

#[cfg(test)]
mod tests {
    use cloister_domain::{Coded as _, Digest};

    use super::*;

    fn chunk(stored: &[u8], plain: &[u8]) -> Chunk {
        Chunk {
            stored: Digest::of(stored),
            stored_bytes: stored.len() as u64,
            plain_bytes: plain.len() as u64,
            content: Digest::of(plain),
            codec: Codec::Zstd,
            file: 0,
            offset: 0,
        }
    }

    #[test]
    fn one_frame_of_the_signed_size_is_unpacked() {
        let plain = b"text text text text".repeat(1000);
        let stored = zstd::bulk::compress(&plain, 3).expect("packs");
        let mut decoder = Decoder::new().expect("a context");
        let unpacked = decoder.plain(0, &chunk(&stored, &plain), &stored).expect("good");
        assert_eq!(unpacked, plain);
    }

    #[test]
    fn a_chunk_that_is_not_packed_has_the_signed_size() {
        let mut decoder = Decoder::new().expect("a context");
        let signed = Chunk { codec: Codec::Raw, ..chunk(b"text", b"text") };
        assert_eq!(decoder.plain(0, &signed, b"text").expect("good"), b"text");
        for other in [&b"tex"[..], b"text ", b""] {
            let error = decoder.plain(0, &signed, other).expect_err("refused");
            assert_eq!(error.code(), "quarantine.unpack");
        }
    }

    #[test]
    fn anything_but_one_plain_frame_of_the_signed_size_is_refused() {
        let plain = b"text text text text".repeat(1000);
        let good = zstd::bulk::compress(&plain, 3).expect("packs");
        let empty_frame = zstd::bulk::compress(b"", 3).expect("packs");
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4], &good[..]].concat();
        let mut unsized_frame = zstd::Encoder::new(Vec::new(), 3).expect("an encoder");
        io::Write::write_all(&mut unsized_frame, &plain).expect("packs");
        let unsized_frame = unsized_frame.finish().expect("packs");
        let mut decoder = Decoder::new().expect("a context");
        for bad in [
            [&good[..], &empty_frame[..]].concat(),
            [&empty_frame[..], &good[..]].concat(),
            skippable,
            unsized_frame,
            good[..good.len() - 1].to_vec(),
            [&good[..], &[0]].concat(),
            zstd::bulk::compress(&plain[1..], 3).expect("packs"),
            b"no frame at all".to_vec(),
            Vec::new(),
        ] {
            let error = decoder.plain(4, &chunk(&bad, &plain), &bad).expect_err("refused");
            assert_eq!(error.code(), "quarantine.unpack");
        }
        // The good content, its frame rewritten to ask for a window of 4.5 MiB and of 2 GiB: 2 bytes
        // of content size follow (19000 - 256), then the same blocks.
        assert_eq!(good[4], 0x60, "a single segment with two bytes of size");
        for window in [(22 - 10) << 3 | 1, 21 << 3] {
            let bad = [&good[..4], &[0x40, window], &good[5..]].concat();
            let error = decoder.plain(4, &chunk(&bad, &plain), &bad).expect_err("refused");
            assert_eq!(error.code(), "quarantine.unpack");
        }
        let allowed = [&good[..4], &[0x40, (22 - 10) << 3], &good[5..]].concat();
        assert!(decoder.plain(4, &chunk(&allowed, &plain), &allowed).is_ok(), "4 MiB are allowed");
        // A dictionary that is named and not needed: one byte of its number, then the content's size.
        let named = [&good[..4], &[good[4] | 1, 7], &good[5..]].concat();
        let error = decoder.plain(4, &chunk(&named, &plain), &named).expect_err("refused");
        assert_eq!(error.code(), "quarantine.unpack");
        // A long frame behind a short promise cannot grow the buffer.
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).expect("packs");
        assert!(decoder.plain(4, &chunk(&bomb, &plain), &bomb).is_err());
        assert!(decoder.plain.capacity() <= plain.len());
    }
}
