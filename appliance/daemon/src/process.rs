//! What a process of the appliance gives up at its start: core dumps and talkative panics.

use nix::sys::{
    prctl,
    resource::{Resource, setrlimit},
};

use crate::StartError;

/// Makes sure that no memory of this process reaches a disk or a debugger of its own user.
pub(crate) fn no_core_dumps() -> Result<(), StartError> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(StartError::system("turn core dumps off"))?;
    prctl::set_dumpable(false).map_err(StartError::system("refuse to be traced"))
}

/// From now on a panic logs file and line, never its message, which may quote people's words, and
/// ends the process: what is broken is started again by the service manager, not patched up.
pub(crate) fn panics_name_the_place_only() {
    std::panic::set_hook(Box::new(|panic| {
        match panic.location() {
            Some(place) => {
                tracing::error!(
                    file = place.file(),
                    line = place.line(),
                    "panic; the process ends"
                );
            }
            None => tracing::error!("panic; the process ends"),
        }
        std::process::abort();
    }));
}
