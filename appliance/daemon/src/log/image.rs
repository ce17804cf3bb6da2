//! Which text was compiled into this program.
//!
//! A text whose bytes lie in the read-only part of the program's own file was there before the
//! program ran, so it cannot be anybody's words. Everything that arrives at run time lies on the
//! heap, on a stack, or in some other mapping.

use std::{fs::File, io::Read as _, ops::Range};

use crate::StartError;

/// The read-only address ranges of the program's own file.
#[derive(Clone, Debug)]
pub(crate) struct Image(Vec<Range<usize>>);

/// A text that is certainly in the image, to find it by.
static ANCHOR: &str = "cloister: this text is in the program's image";

/// The list of mappings of a daemon is some tens of kilobytes long.
const MAPS_BYTES_MAX: u64 = 16 << 20;

impl Image {
    /// Reads the ranges from `/proc/self/maps` (proc(5)).
    pub(crate) fn of_this_process() -> Result<Self, StartError> {
        let failed = |source| StartError::System { act: "list the process's memory", source };
        // Bytes: paths of mapped files need not be UTF-8.
        let mut maps = Vec::new();
        let file = File::open("/proc/self/maps").map_err(failed)?;
        file.take(MAPS_BYTES_MAX).read_to_end(&mut maps).map_err(failed)?;
        let mappings: Vec<Mapping> =
            maps.split(|byte| *byte == b'\n').filter_map(Mapping::parse).collect();
        let anchor = ANCHOR.as_ptr().addr();
        let own = mappings.iter().find(|mapping| mapping.range.contains(&anchor));
        let not_found = || failed(std::io::ErrorKind::NotFound.into());
        let file = own.ok_or_else(not_found)?.file.clone();
        let read_only = |mapping: &Mapping| mapping.file == file && !mapping.writable;
        Ok(Self(mappings.into_iter().filter(read_only).map(|mapping| mapping.range).collect()))
    }

    /// Whether `text` was compiled into the program. The empty text was.
    pub(crate) fn holds(&self, text: &str) -> bool {
        let start = text.as_ptr().addr();
        text.is_empty()
            || self.0.iter().any(|range| {
                range.contains(&start) && start.saturating_add(text.len()) <= range.end
            })
    }
}

/// One line of `/proc/self/maps`.
struct Mapping {
    range: Range<usize>,
    writable: bool,
    /// Device and inode; what maps no file has inode 0.
    file: (Vec<u8>, Vec<u8>),
}

impl Mapping {
    /// `5581e000-5581f000 r--p 00000000 fe:00 1234   /path`
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        let range = std::str::from_utf8(words.next()?).ok()?;
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        let writable = words.next()?.contains(&b'w');
        let _offset = words.next()?;
        let file = (words.next()?.to_vec(), words.next()?.to_vec());
        (file.1 != b"0").then_some(Self { range: start..end, writable, file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_in_the_image_and_what_comes_at_run_time_is_not() {
        let image = Image::of_this_process().expect("proc is mounted");
        assert!(image.holds("a literal") && image.holds("") && image.holds(ANCHOR));
        let heap = String::from("a literal");
        assert!(!image.holds(&heap));
        let stack = *b"a literal";
        assert!(!image.holds(std::str::from_utf8(std::hint::black_box(&stack)).expect("text")));
        let leaked: &'static str = Box::leak(heap.into_boxed_str());
        assert!(!image.holds(leaked), "'static by type is not enough");
    }
}
