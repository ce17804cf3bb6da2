//! The choice among the implementations.

#[cfg(target_arch = "x86_64")]
use crate::x86::{Avx2, Avx512, Vnni};

/// One implementation that this CPU can run. The value is the proof: only [`Kernels::available`] and
/// [`Kernels::best`] make one, after asking the CPU.
#[derive(Clone, Copy, Debug)]
pub struct Kernels(pub(crate) Level);

/// The implementations, slowest first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Vnni(Vnni),
}

impl Kernels {
    /// Everything that this CPU can run, slowest first; never empty.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(Avx2::new().map(Level::Avx2));
            levels.extend(Avx512::new().map(Level::Avx512));
            levels.extend(Vnni::new().map(Level::Vnni));
        }
        levels.into_iter().map(Self).collect()
    }

    /// The fastest that this CPU can run.
    #[must_use]
    pub fn best() -> Self {
        Self::available().pop().expect("the portable implementation runs everywhere")
    }

    /// `portable`, `avx2`, `avx512` or `avx512-vnni`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Vnni(_) => "avx512-vnni",
        }
    }
}
