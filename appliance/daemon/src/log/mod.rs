//! The daemons' log: one redacting layer, and behind it the journal, or JSON lines on standard
//! error where there is no journal.

mod image;
mod redact;
mod stderr;

use cloister_config::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, Registry, layer::SubscriberExt as _};

use crate::StartError;
use image::Image;
use redact::Redacting;

/// Sends what the process logs, from `level` on, through the redacting layer.
pub(crate) fn install(level: Level) -> Result<(), StartError> {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let image = Image::of_this_process()?;
    match tracing_journald::layer() {
        Ok(journal) => {
            // The prefix keeps our field names apart from the journal's own.
            let journal = journal.with_field_prefix(Some("CLOISTER".to_owned()));
            set(Redacting::new(journal, level, image))
        }
        Err(_no_journal) => set(Redacting::new(stderr::JsonLines, level, image)),
    }
}

fn set(layer: impl Layer<Registry> + Send + Sync) -> Result<(), StartError> {
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_set_before| StartError::Twice)
}
