//! The engine of one slot: loads a generation from the shelf, and answers, embeds and scores with it.
//!
//! A connection's thread checks and tokenizes; one worker thread owns the models and runs batches.
//! They talk by channels. A generation is replaced only by one that loaded completely; answers that
//! run go on with the one that began them. The engine reads the shelf and writes nothing.

mod answer;
mod connection;
mod error;
mod job;
mod load;
mod memory;
mod serving;
mod shared;
mod worker;

use std::{path::Path, thread};

use cloister_config::Device as Wanted;
use cloister_daemon::{Daemon, Limits};
use cloister_domain::{Coded, GenerationId, Slot};
use cloister_model::{Device, Options, cuda_present};

pub use error::{EngineError, RunError};

use crate::shared::Shared;

/// Connections at a time: each of the other daemons and the operator have a few.
const CONNECTIONS_MAX: usize = 256;

/// Serves the engine of the daemon's slot until it is told to stop.
///
/// # Errors
/// [`RunError::Slot`], [`RunError::Device`], [`RunError::Thread`], [`RunError::Listen`], [`RunError::Serve`].
pub fn run(daemon: &Daemon) -> Result<(), RunError> {
    let slot = daemon.slot().ok_or(RunError::Slot)?;
    let options = options(daemon)?;
    tracing::info!(slot = slot.name(), device = %options.device, "products run here");
    let listener = daemon.listener().map_err(RunError::Listen)?;
    let (commands, received) = worker::channel(CONNECTIONS_MAX);
    let shared = Shared::new(options, daemon.config().engine.sequences_max, commands);
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("model".to_owned());
        worker
            .spawn_scoped(scope, {
                let shared = &shared;
                move || worker::work(shared, &received)
            })
            .map_err(RunError::Thread)?;
        load_own(&shared, &daemon.config().paths.shelf(), slot);
        daemon.ready();
        let limits = Limits { connections_max: CONNECTIONS_MAX };
        let served = daemon
            .serve(listener, limits, |connection| connection::serve(&shared, &connection))
            .map_err(RunError::Serve);
        shared.stop();
        served
    })
}

/// How models are loaded, with the device settled.
fn options(daemon: &Daemon) -> Result<Options, RunError> {
    let engine = &daemon.config().engine;
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = match engine.threads {
        0 => cores,
        threads => usize::try_from(threads).expect("at most 1024"),
    };
    let device = match engine.device {
        Wanted::Cpu => Device::Cpu,
        Wanted::Auto if !cuda_present(0) => Device::Cpu,
        Wanted::Auto | Wanted::Cuda => Device::Cuda(0),
    };
    let device = match device {
        Device::Cuda(index) if !cuda_present(index) => {
            let error = match cfg!(feature = "cuda") {
                true => cloister_model::ModelError::DeviceAbsent,
                false => cloister_model::ModelError::DeviceUnsupported,
            };
            if !engine.cpu_fallback {
                return Err(RunError::Device(error));
            }
            tracing::warn!(code = error.code(), "no CUDA device is used; the CPU is instead");
            Device::Cpu
        }
        device => device,
    };
    // Room for four conversations of the longest kind (or many shorter ones), and for one score.
    let context = engine.context_tokens_max;
    let longest = engine.sequences_max.min(4) + 1;
    Ok(Options {
        device,
        threads,
        context_tokens_max: context,
        cache_tokens_max: cloister_domain::TokenCount(context.0.saturating_mul(longest)),
        ..Options::cpu(threads)
    })
}

/// Loads what the shelf has for this slot. An engine that cannot is still there to be told another.
fn load_own(shared: &Shared, shelf: &Path, slot: Slot) {
    let link = shelf.join("slots").join(slot.name());
    let Ok(target) = std::fs::read_link(&link) else {
        tracing::info!(slot = slot.name(), "nothing is on the shelf for this slot");
        return;
    };
    let name = target.file_name().and_then(|name| name.to_str());
    let Some(generation) = name.and_then(|name| name.parse::<GenerationId>().ok()) else {
        tracing::error!(code = "engine.slot.link", "the slot's link names no generation");
        return;
    };
    let directory = shelf.join("generations").join(generation.to_string());
    match load::load(shared, generation, &directory, false)
        .and_then(|new| shared.install(Some(new)))
    {
        Ok(()) => tracing::info!(%generation, "loaded"),
        Err(error) => error.log("the slot's generation was not loaded"),
    }
}
