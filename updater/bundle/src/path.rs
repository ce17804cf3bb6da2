//! Paths of files inside a release: a closed language that every file system spells alike.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use unicode_normalization::{UnicodeNormalization as _, is_nfc};

use crate::limits::{PATH_BYTES_MAX, PATH_COMPONENT_BYTES_MAX, PATH_COMPONENTS_MAX};

/// A rule that a path breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathRule {
    /// The whole path or one component is empty or too long, or there are too many components.
    #[error("it is empty or too long")]
    Length,
    /// A component is `.` or `..`.
    #[error("a component is '.' or '..'")]
    Dots,
    /// A backslash, a colon, or a control or formatting character.
    #[error("it holds a character that is not allowed")]
    Character,
    /// A component ends with a dot or begins or ends with a space.
    #[error("a component ends with a dot or a space")]
    Trailing,
    /// A component is the name of a device on Windows, such as `NUL` or `com1.txt`.
    #[error("a component is the name of a device")]
    Device,
    /// Not in Unicode's composed form (NFC), so that it has a twin that looks the same.
    #[error("it is not in composed form")]
    NotComposed,
    /// The manifest's paths are not in ascending order of their bytes.
    #[error("it is out of order")]
    Order,
    /// It is another path but for case, or runs through another file.
    #[error("it clashes with another path")]
    Clash,
}

/// A relative path that stays inside the release's tree. Compared by bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleasePath(String);

impl ReleasePath {
    /// The path, with `/` between components.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What two paths share when a file system that ignores case would confuse them.
    pub(crate) fn folded(&self) -> String {
        // Upper case first: it unites what lower case alone keeps apart, such as `ß` and `ss`.
        self.0.to_uppercase().to_lowercase().nfc().collect()
    }
}

impl FromStr for ReleasePath {
    type Err = PathRule;

    fn from_str(text: &str) -> Result<Self, PathRule> {
        if text.len() > PATH_BYTES_MAX || text.split('/').count() > PATH_COMPONENTS_MAX {
            return Err(PathRule::Length);
        }
        text.split('/').try_for_each(check_component)?;
        if !is_nfc(text) {
            return Err(PathRule::NotComposed);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ReleasePath {
    type Error = PathRule;

    fn try_from(text: String) -> Result<Self, PathRule> {
        text.parse()
    }
}

impl From<ReleasePath> for String {
    fn from(path: ReleasePath) -> Self {
        path.0
    }
}

impl fmt::Display for ReleasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_component(part: &str) -> Result<(), PathRule> {
    if part.is_empty() || part.len() > PATH_COMPONENT_BYTES_MAX {
        return Err(PathRule::Length);
    }
    if part == "." || part == ".." {
        return Err(PathRule::Dots);
    }
    if part.chars().any(is_forbidden) {
        return Err(PathRule::Character);
    }
    if part.ends_with(['.', ' ']) || part.starts_with(' ') {
        return Err(PathRule::Trailing);
    }
    if is_device(part) {
        return Err(PathRule::Device);
    }
    Ok(())
}

/// Characters that mean something to a file system or a shell on some platform, and those that
/// change how a name is shown: controls, zero-width and bidirectional marks.
fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{10ffff}')
}

fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part).trim_end().to_ascii_uppercase();
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") {
        return true;
    }
    let Some(unit) = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT")) else {
        return false;
    };
    matches!(unit, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_are_paths() {
        for good in ["a", "model/config.json", "documents/Übung 1.md", "licences/Apache-2.0.txt"] {
            assert_eq!(good.parse::<ReleasePath>().map(String::from), Ok(good.to_owned()));
            assert_eq!(good.parse::<ReleasePath>().expect("a path").to_string(), good);
        }
    }

    #[test]
    fn a_path_may_reach_each_bound() {
        let longest = format!("{}/{}", vec!["x".repeat(200); 5].join("/"), "x".repeat(19));
        for path in ["x".repeat(255), vec!["a"; 64].join("/"), longest.clone()] {
            assert!(path.parse::<ReleasePath>().is_ok(), "{path:?}");
        }
        assert_eq!(longest.len(), 1024);
        assert_eq!(format!("{longest}x").parse::<ReleasePath>(), Err(PathRule::Length));
    }

    #[test]
    fn each_rule_has_its_breakers() {
        let long = "x".repeat(256);
        let deep = "a/".repeat(64) + "a";
        let huge = vec!["x".repeat(200); 6].join("/");
        for (rule, paths) in [
            (PathRule::Length, vec!["", "/a", "a/", "a//b", &long, &deep, &huge]),
            (PathRule::Dots, vec![".", "..", "a/../b", "../a", "a/."]),
            (
                PathRule::Character,
                vec!["a\\b", "c:", "a\0", "a\nb", "a\u{202e}b", "a\u{200b}", "a?"],
            ),
            (PathRule::Trailing, vec!["a.", "a ", "a /b", " a"]),
            (PathRule::Device, vec!["NUL", "nul.txt", "a/com1", "LPT9.tar.gz", "COM¹"]),
            (PathRule::NotComposed, vec!["a\u{308}", "\u{212b}"]),
        ] {
            for path in paths {
                assert_eq!(path.parse::<ReleasePath>(), Err(rule), "{path:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn an_accepted_path_never_climbs(text in "[a./\\\\: \u{308}A-C0-9]{0,12}") {
            if let Ok(path) = text.parse::<ReleasePath>() {
                let inside = std::path::Path::new(path.as_str()).components()
                    .all(|part| matches!(part, std::path::Component::Normal(_)));
                prop_assert!(inside);
            }
        }
    }
}
