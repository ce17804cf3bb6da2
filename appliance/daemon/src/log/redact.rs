//! The redacting layer: decides what of an event may leave the process.
//!
//! Numbers and truth values pass. Text passes where it was compiled into the program
//! ([`Image::holds`]): messages, names of variants, stable codes, `[sensitive]`. Whatever a message
//! or a printed value adds to that at run time becomes `…`, so a prompt cannot pass at any level and
//! by any field, however it is printed. What is computed and yet harmless passes by the name of its
//! field and its exact shape: digests, numbers of imports and records, stable codes.
//!
//! Of other people's crates only warnings and errors are heard, and of those only level and target.

use std::{error::Error, fmt};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Value, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::Interest,
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};
use zeroize::Zeroizing;

use super::image::Image;

/// In place of what was not compiled in.
const WITHHELD: &str = "…";

/// Hands `L` events that hold nothing but what may be logged.
#[derive(Debug)]
pub(crate) struct Redacting<L> {
    inner: L,
    level: LevelFilter,
    image: Image,
}

impl<L> Redacting<L> {
    pub(crate) fn new(inner: L, level: LevelFilter, image: Image) -> Self {
        Self { inner, level, image }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let most = if is_ours(metadata) { self.level } else { self.level.min(LevelFilter::WARN) };
        *metadata.level() <= most
    }
}

/// Targets are module paths unless an event sets its own; those of our crates begin with our name.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("cloister_")
}

impl<S, L> Layer<S> for Redacting<L>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    L: Layer<S>,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    /// Spans pass by name, without fields.
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        let fields = attributes.metadata().fields();
        let nothing = vec![None; fields.len()];
        let values = fields.value_set_all(&nothing);
        let bare = span::Attributes::new(attributes.metadata(), &values);
        self.inner.on_new_span(&bare, id, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let fields = metadata.fields();
        let mut shown = Shown { image: &self.image, values: Vec::new() };
        shown.values.resize_with(fields.len(), || None);
        if is_ours(metadata) {
            event.record(&mut shown);
        }
        let values: Vec<Option<&dyn Value>> =
            shown.values.iter().map(|value| value.as_deref()).collect();
        let values = fields.value_set_all(&values);
        self.inner.on_event(&Event::new(metadata, &values), context);
    }
}

/// Collects what may be shown of each field.
struct Shown<'a> {
    image: &'a Image,
    values: Vec<Option<Box<dyn Value>>>,
}

impl Shown<'_> {
    fn put(&mut self, field: &Field, value: impl Value + 'static) {
        if let Some(place) = self.values.get_mut(field.index()) {
            *place = Some(Box::new(value));
        }
    }

    fn put_printed(&mut self, field: &Field, print: impl FnOnce(&mut Pieces<'_>) -> fmt::Result) {
        let mut pieces = Pieces::new(self.image);
        let printed = print(&mut pieces);
        let text = match printed {
            Ok(()) if pieces.whole_has_shape_of(field.name()) => pieces.whole.to_string(),
            Ok(()) => pieces.shown,
            Err(fmt::Error) => WITHHELD.to_owned(),
        };
        self.put(field, text);
    }
}

impl Visit for Shown<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.put(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_printed(field, |pieces| fmt::Write::write_str(pieces, value));
    }

    fn record_bytes(&mut self, field: &Field, _value: &[u8]) {
        self.put(field, WITHHELD);
    }

    /// The error and its causes, as far as their texts were compiled in.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put_printed(field, |pieces| {
            fmt::write(pieces, format_args!("{value}"))?;
            let mut cause = value.source();
            while let Some(error) = cause {
                fmt::write(pieces, format_args!(": {error}"))?;
                cause = error.source();
            }
            Ok(())
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_printed(field, |pieces| fmt::write(pieces, format_args!("{value:?}")));
    }
}

/// The longest text that passes by shape: a digest.
const WHOLE_BYTES_MAX: usize = 64;

/// Receives a value as it prints itself, piece by piece, and keeps the pieces that were compiled in.
struct Pieces<'a> {
    image: &'a Image,
    shown: String,
    /// All pieces, as long as they can be of a known shape; wiped, since they may be anything.
    whole: Zeroizing<String>,
    /// Whether there was more than `whole` can hold.
    longer: bool,
}

impl<'a> Pieces<'a> {
    fn new(image: &'a Image) -> Self {
        let whole = Zeroizing::new(String::with_capacity(WHOLE_BYTES_MAX));
        Self { image, shown: String::new(), whole, longer: false }
    }

    fn whole_has_shape_of(&self, field: &str) -> bool {
        let whole = self.whole.as_bytes();
        !self.longer
            && match field {
                "digest" | "generation" | "bundle" | "tree" | "root" | "package" | "document"
                | "volume" | "object" | "leaf" | "from" | "to" => {
                    whole.len() == 64
                        && whole.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
                }
                "import" | "record" | "sequence" => {
                    (1..=20).contains(&whole.len()) && whole.iter().all(u8::is_ascii_digit)
                }
                "code" => is_code(whole),
                _ => false,
            }
    }
}

/// A stable code: words of lower-case letters and hyphens, joined by at least one dot.
fn is_code(text: &[u8]) -> bool {
    let is_word =
        |word: &[u8]| !word.is_empty() && word.iter().all(|c| c.is_ascii_lowercase() || *c == b'-');
    text.contains(&b'.') && text.split(|c| *c == b'.').all(is_word)
}

impl fmt::Write for Pieces<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.whole.len() + piece.len() <= WHOLE_BYTES_MAX {
            self.whole.push_str(piece);
        } else {
            self.longer = true;
        }
        if self.image.holds(piece) {
            self.shown.push_str(piece);
        } else if !self.shown.ends_with(WITHHELD) {
            self.shown.push_str(WITHHELD);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
