//! Who asks, and what a document may be shown to.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A name that is not 1 to 64 characters of `a-z 0-9 . _ -`, starting with a letter or digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name is 1 to 64 characters of a-z, 0-9, '.', '_' and '-', starting with a letter or digit"
)]
pub struct NameError;

fn checked(text: &str) -> Result<String, NameError> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = (1..=64).contains(&text.len())
        && text.bytes().all(|c| plain(c) || matches!(c, b'.' | b'_' | b'-'))
        && text.bytes().next().is_some_and(plain);
    if good { Ok(text.to_owned()) } else { Err(NameError) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                checked(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A mark on a document, such as `open` or `reactor`; a reader needs the same mark.
    Label
}
name! {
    /// A person or program that asks: the owner of an API key.
    Principal
}

/// The labels that a principal holds.
pub type LabelSet = BTreeSet<Label>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_a_closed_alphabet() {
        for good in ["a", "open", "team-7", "9.1_x"] {
            assert!(good.parse::<Label>().is_ok(), "{good}");
        }
        for bad in ["", "A", "-a", ".a", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert_eq!(bad.parse::<Principal>(), Err(NameError));
        }
    }
}
