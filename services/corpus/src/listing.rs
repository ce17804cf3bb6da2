//! The list of documents that a release carries: `tree/documents/collections.json`.

use std::collections::BTreeSet;

use cloister_domain::{Class, Coded, Label, Sensitive};
use serde::Deserialize;

/// Most documents of a release.
pub const DOCUMENTS_MAX: usize = 1_000_000;

/// Most collections of a release.
pub const COLLECTIONS_MAX: usize = 1000;

/// Longest name of a document, in bytes.
pub const NAME_BYTES_MAX: usize = 512;

/// A list that is refused. Its text names the rule, never what broke it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListingError {
    /// Not JSON of the expected form.
    #[error("the release's list of documents is not of the documented form, at line {line}")]
    Form {
        /// Where.
        line: usize,
    },
    /// A path that leaves `documents/` or is not plain.
    #[error("the release lists a document whose path is not plain below documents/")]
    Path,
    /// A name that is empty, too long, or has control characters.
    #[error("the release lists a document or collection whose name is not usable")]
    Name,
    /// More than the bounds.
    #[error("the release lists more documents or collections than may be")]
    Many,
    /// The same collection, or the same path in a collection, twice.
    #[error("the release lists a collection or a document twice")]
    Twice,
}

impl Coded for ListingError {
    fn class(&self) -> Class {
        Class::Refused
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Form { .. } => "corpus.listing.form",
            Self::Path => "corpus.listing.path",
            Self::Name => "corpus.listing.name",
            Self::Many => "corpus.listing.many",
            Self::Twice => "corpus.listing.twice",
        }
    }
}

/// What a release says about its documents, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Its collections, in the order of the list.
    pub collections: Vec<Collection>,
}

/// Documents that are searched together and have one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// Its name.
    pub name: String,
    /// What a reader must hold.
    pub label: Label,
    /// Its documents.
    pub documents: Vec<Source>,
}

/// A document of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path inside the release's tree: plain components below `documents/`.
    pub path: Sensitive<String>,
    /// Its name for people.
    pub name: Sensitive<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListing {
    collections: Vec<RawCollection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCollection {
    name: String,
    label: Label,
    documents: Vec<RawDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDocument {
    path: String,
    name: String,
}

/// Reads the list of a release's documents. Unknown keys are refused.
///
/// # Errors
/// [`ListingError`]; nothing of the list is then to be used.
pub fn listing(json: &[u8]) -> Result<Listing, ListingError> {
    let raw: RawListing = serde_json::from_slice(json)
        .map_err(|quotes_names| ListingError::Form { line: quotes_names.line() })?;
    let count: usize = raw.collections.iter().map(|collection| collection.documents.len()).sum();
    if raw.collections.len() > COLLECTIONS_MAX || count > DOCUMENTS_MAX {
        return Err(ListingError::Many);
    }
    let mut names = BTreeSet::new();
    let mut collections = Vec::with_capacity(raw.collections.len());
    for collection in raw.collections {
        check_name(&collection.name)?;
        if !names.insert(collection.name.clone()) {
            return Err(ListingError::Twice);
        }
        let documents = sources(collection.documents)?;
        collections.push(Collection { name: collection.name, label: collection.label, documents });
    }
    Ok(Listing { collections })
}

fn sources(raw: Vec<RawDocument>) -> Result<Vec<Source>, ListingError> {
    let mut paths = BTreeSet::new();
    let mut sources = Vec::with_capacity(raw.len());
    for document in raw {
        check_path(&document.path)?;
        check_name(&document.name)?;
        if !paths.insert(document.path.clone()) {
            return Err(ListingError::Twice);
        }
        sources.push(Source {
            path: Sensitive::new(document.path),
            name: Sensitive::new(document.name),
        });
    }
    Ok(sources)
}

/// Whether `name` may name a document or a collection: visible, at most [`NAME_BYTES_MAX`] bytes, and
/// without control characters.
///
/// # Errors
/// [`ListingError::Name`].
pub fn check_name(name: &str) -> Result<(), ListingError> {
    let usable = !name.trim().is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.chars().any(char::is_control);
    if usable { Ok(()) } else { Err(ListingError::Name) }
}

/// `documents/` and then plain components: no empty, `.` or `..`, no backslash or control character.
fn check_path(path: &str) -> Result<(), ListingError> {
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.len() <= 255
            && !part.chars().any(|c| c.is_control() || c == '\\')
    };
    let mut parts = path.split('/');
    let below = parts.next() == Some("documents");
    let rest: Vec<&str> = parts.collect();
    let good = below && path.len() <= 1024 && !rest.is_empty() && rest.into_iter().all(plain);
    if good { Ok(()) } else { Err(ListingError::Path) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(path: &str) -> Result<Listing, ListingError> {
        listing(
            serde_json::json!({"collections": [{"name": "handbook", "label": "open",
                "documents": [{"path": path, "name": "A"}]}]})
            .to_string()
            .as_bytes(),
        )
    }

    #[test]
    fn a_plain_list_is_read() {
        let read = one("documents/handbook/pump.md").expect("plain");
        assert_eq!(read.collections[0].documents.len(), 1);
        assert!(listing(b"{\"collections\":[]}").expect("empty").collections.is_empty());
    }

    #[test]
    fn paths_stay_below_the_folder() {
        for bad in [
            "",
            "documents",
            "documents/",
            "documents/../x",
            "/documents/x",
            "documents//x",
            "documents/./x",
            "model/x",
            "documents/a\\b",
            "documents/\u{0}",
        ] {
            assert_eq!(one(bad), Err(ListingError::Path));
        }
    }

    #[test]
    fn unknown_keys_and_repetitions_are_refused() {
        let refused = |json: &str| listing(json.as_bytes()).expect_err("refused");
        assert_eq!(refused("{\"collections\":[],\"x\":1}").code(), "corpus.listing.form");
        let twice = "{\"collections\":[{\"name\":\"a\",\"label\":\"open\",\"documents\":[]},\
                      {\"name\":\"a\",\"label\":\"open\",\"documents\":[]}]}";
        assert_eq!(refused(twice), ListingError::Twice);
    }

    proptest! {
        #[test]
        fn no_accepted_path_leaves_the_folder(path in "(documents/)?[a-z./\\\\]{0,12}") {
            if one(&path).is_ok() {
                prop_assert!(path.starts_with("documents/"));
                prop_assert!(path.split('/').all(|part| !part.is_empty() && part != ".."));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(listing(&bytes).is_err() || !bytes.is_empty());
        }
    }
}
