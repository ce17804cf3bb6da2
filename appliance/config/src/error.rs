//! Why a configuration is refused.

use cloister_domain::{Class, Coded};

/// A configuration that cannot be used. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is not TOML 1.0.
    #[error("the configuration is not TOML: line {line}, column {column}")]
    Syntax {
        /// Line of the error, from 1.
        line: usize,
        /// Column of the error in characters, from 1.
        column: usize,
    },
    /// A section that is not known.
    #[error("the configuration has no section [{name}]; {hint}")]
    UnknownSection {
        /// The name as written.
        name: String,
        /// What may have been meant.
        hint: Hint,
    },
    /// A key that is not known.
    #[error("the configuration has no key {key}; {hint}")]
    UnknownKey {
        /// Section and key as written.
        key: String,
        /// What may have been meant.
        hint: Hint,
    },
    /// A section's name that is given to a plain value.
    #[error("[{name}] must be a section")]
    NotASection {
        /// The section's name.
        name: &'static str,
    },
    /// A value of the wrong kind or outside its range.
    #[error("{section}.{key} must be {wanted}")]
    Value {
        /// The section.
        section: &'static str,
        /// The key.
        key: &'static str,
        /// What it takes.
        wanted: String,
    },
    /// The name that the package leaves open was not filled in.
    #[error(
        "record.origin is empty: name this appliance's log, such as hospital-north/appliance-1, before \
         anything is started; see the runbook `set-up`"
    )]
    Unnamed,
}

/// What may have been meant by an unknown name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint(Option<String>);

impl std::fmt::Display for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "did you mean {name}?"),
            None => f.write_str("docs/reference/config.md lists all"),
        }
    }
}

impl ConfigError {
    pub(crate) fn syntax(text: &str, error: &toml::de::Error) -> Self {
        let offset = error.span().map_or(0, |span| span.start);
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Self::Syntax { line, column }
    }

    pub(crate) fn unknown_section(name: &str, known: impl Iterator<Item = &'static str>) -> Self {
        let hint = Hint(nearest(name, known).map(|name| format!("[{name}]")));
        Self::UnknownSection { name: name.to_owned(), hint }
    }

    pub(crate) fn unknown_key(
        section: &'static str,
        key: &str,
        known: impl Iterator<Item = &'static str>,
    ) -> Self {
        let hint = Hint(nearest(key, known).map(|name| format!("{section}.{name}")));
        Self::UnknownKey { key: format!("{section}.{key}"), hint }
    }
}

impl Coded for ConfigError {
    fn class(&self) -> Class {
        Class::Refused
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "config.syntax",
            Self::UnknownSection { .. } => "config.section.unknown",
            Self::UnknownKey { .. } => "config.key.unknown",
            Self::NotASection { .. } => "config.section.kind",
            Self::Value { .. } => "config.value",
            Self::Unnamed => "config.unnamed",
        }
    }
}

/// The known name that needs the fewest edits, if they are at most a third of its length.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    known
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(edits, candidate)| edits * 3 <= candidate.len().max(3))
        .min()
        .map(|(_edits, candidate)| candidate)
}

/// Levenshtein distance, one row at a time.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_with_fewest_edits() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(
            nearest("sequence_max", ["sequences_max", "threads"].into_iter()),
            Some("sequences_max")
        );
        assert_eq!(nearest("xyz", ["threads"].into_iter()), None);
    }
}
