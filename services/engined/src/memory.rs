//! How much memory this process has used at most since it last loaded a generation.

use std::path::Path;

use cloister_daemon::files::read_limited;
use cloister_domain::ByteCount;

/// Begins a new peak, so that what was loaded is judged by what it needs and not by the traffic
/// before it. Where the kernel does not do it, the peak stays that of the whole process.
pub(crate) fn forget() {
    if !cloister_daemon::forget_peak_memory() {
        tracing::debug!("the peak of memory cannot begin anew");
    }
}

/// The largest resident size since [`forget`] or the start (`VmHWM` of `/proc/self/status`, proc(5));
/// 0 where the kernel does not say.
pub(crate) fn peak() -> ByteCount {
    let status = read_limited(Path::new("/proc/self/status"), 64 << 10).unwrap_or_default();
    ByteCount(peak_in(&String::from_utf8_lossy(&status)).unwrap_or(0))
}

fn peak_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_before_is_forgotten() {
        let before = peak();
        drop(std::hint::black_box(vec![1u8; 256 << 20]));
        let used = peak();
        assert!(used.0 > before.0 + (200 << 20), "{before:?} {used:?}");
        forget();
        assert!(peak().0 < used.0 - (100 << 20), "{used:?} {:?}", peak());
    }

    #[test]
    fn the_peak_is_read_in_bytes() {
        assert_eq!(peak_in("VmPeak:\t9 kB\nVmHWM:\t    1234 kB\nVmRSS:\t1 kB\n"), Some(1_263_616));
        assert_eq!(peak_in("VmHWM:\tmany kB"), None);
        assert!(peak().0 > 1 << 20, "this very process");
    }
}
