//! Where products run, and whether that place exists.

use std::{fmt, str::FromStr};

use crate::{ModelError, Options};

/// A place where products run; written `cpu`, `cuda` or `cuda:1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// A CUDA device, counted from 0.
    Cuda(u16),
}

impl Device {
    /// The device to use: this one if it is there, else the CPU if `options` allow that.
    ///
    /// # Errors
    ///
    /// [`ModelError::DeviceUnsupported`] in a build without CUDA, [`ModelError::DeviceAbsent`] without a device.
    pub(crate) fn resolve(options: &Options) -> Result<Self, ModelError> {
        let missing = match options.device {
            Self::Cpu => return Ok(Self::Cpu),
            Self::Cuda(_) if !cfg!(feature = "cuda") => ModelError::DeviceUnsupported,
            Self::Cuda(index) if cuda_present(index) => return Ok(options.device),
            Self::Cuda(_) => ModelError::DeviceAbsent,
        };
        if options.cpu_fallback { Ok(Self::Cpu) } else { Err(missing) }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// A text that names no device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device is `cpu`, `cuda` or `cuda:` and a number")]
pub struct DeviceError;

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let index = text.strip_prefix("cuda:").ok_or(DeviceError)?;
                index.parse().map(Self::Cuda).map_err(|_no_number| DeviceError)
            }
        }
    }
}

/// Whether this CUDA device answers. Asks for the library first: burn-cuda 0.21 panics without it.
#[must_use]
#[cfg(feature = "cuda")]
pub fn cuda_present(index: u16) -> bool {
    if !library::is_present() {
        return false;
    }
    let count = cudarc::driver::CudaContext::device_count().unwrap_or(0);
    i32::from(index) < count
}

/// Whether this CUDA device answers; never in a build without the feature `cuda`.
#[must_use]
#[cfg(not(feature = "cuda"))]
pub const fn cuda_present(_index: u16) -> bool {
    false
}

#[cfg(feature = "cuda")]
mod library {
    #![expect(unsafe_code, reason = "the only clean question whether libcuda can be opened")]

    /// Whether libcuda can be opened.
    pub(super) fn is_present() -> bool {
        // SAFETY: opens the driver's library as the first CUDA call would; its initialisers are NVIDIA's,
        // and the file comes from the operating system's library path, which only root writes.
        unsafe { cudarc::driver::sys::is_culib_present() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_domain::Coded;

    #[test]
    fn a_device_has_a_name() {
        for (text, device) in
            [("cpu", Device::Cpu), ("cuda", Device::Cuda(0)), ("cuda:3", Device::Cuda(3))]
        {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for text in ["", "gpu", "cuda:", "cuda:x", "cuda:70000"] {
            assert_eq!(text.parse::<Device>(), Err(DeviceError));
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_refused_unless_the_fallback_is_allowed() {
        let mut options = Options { device: Device::Cuda(60_000), ..Options::cpu(1) };
        let code = Device::resolve(&options).expect_err("absent").code();
        assert!(code == "model.device.absent" || code == "model.device.unsupported");
        options.cpu_fallback = true;
        assert_eq!(Device::resolve(&options).unwrap(), Device::Cpu);
    }
}
