//! The evaluation set of a release: what the candidate is asked, and the bounds that its publisher
//! sets. Parsed once, strictly; everything in it that is somebody's words stays [`Sensitive`].

use cloister_attest::json;
use cloister_domain::{Class, Coded, LabelSet, Sensitive, TokenCount};
use cloister_wire::engine::{Message, Role};
use serde::{Deserialize, Serialize};

/// Where the set lies in a release's tree.
pub(crate) const PATH: &str = "evaluation/evaluation.json";
/// Where the list of a release's documents lies.
pub(crate) const COLLECTIONS_PATH: &str = "documents/collections.json";
/// The largest set, and the largest list of documents.
pub(crate) const EXAM_BYTES_MAX: u64 = 4 << 20;
/// The largest held-out text: it crosses a socket in one frame, escaped.
pub(crate) const HELDOUT_BYTES_MAX: u64 = 8 << 20;
/// More questions than this would let a bundle occupy the machine for days.
const QUESTIONS_MAX: usize = 4096;
/// No answer to a golden question is longer.
const ANSWER_TOKENS_MAX: u32 = 4096;

/// An evaluation set, or a list of documents, that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ExamError {
    /// Not JSON, or not of schema 1.
    #[error("the release's evaluation set is not of schema 1; ask its publisher")]
    Form,
    /// Its held-out text is missing, too long or not UTF-8.
    #[error("the release's held-out text is missing or not usable; ask its publisher")]
    Heldout,
    /// It expects a document that the release does not hold.
    #[error(
        "the release's evaluation set expects a document that the release lacks (question {question})"
    )]
    Document {
        /// Position of the question, from 0.
        question: usize,
    },
    /// The list of documents is malformed.
    #[error("the release's list of documents is not of the accepted form; ask its publisher")]
    Collections,
}

impl Coded for ExamError {
    fn class(&self) -> Class {
        Class::Refused
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Form => "evaluation.form",
            Self::Heldout => "evaluation.heldout",
            Self::Document { .. } => "evaluation.document",
            Self::Collections => "evaluation.collections",
        }
    }
}

/// The bounds that the publisher sets; an absent one decides nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Policy {
    /// Most bits, in thousandths, for a byte of the held-out text.
    pub(crate) heldout_millibits_per_byte_max: Option<u32>,
    /// How much worse than the active generation it may be there, in thousandths.
    pub(crate) heldout_worse_permille_max: Option<u32>,
    /// Golden questions that must be answered as expected.
    pub(crate) golden_passed_min: Option<u32>,
    /// How many fewer than the active generation it may answer.
    pub(crate) golden_fewer_max: Option<u32>,
    /// Questions, in thousandths, whose document must be among the first three hits.
    pub(crate) retrieval_hit3_permille_min: Option<u32>,
    /// Speed of writing, in thousandths of the active generation's.
    pub(crate) decode_tokens_per_s_permille_of_active_min: Option<u32>,
    /// Most memory that the engine may have used.
    pub(crate) peak_memory_bytes_max: Option<u64>,
    /// Most memory, in thousandths of the active generation's.
    pub(crate) peak_memory_permille_of_active_max: Option<u32>,
}

/// A question whose answer must hold one of some texts.
#[derive(Clone, Debug)]
pub(crate) struct Golden {
    pub(crate) messages: Vec<Message>,
    pub(crate) expect_any: Sensitive<Vec<String>>,
    pub(crate) max_tokens: TokenCount,
}

/// A question whose document must be among the first hits.
#[derive(Clone, Debug)]
pub(crate) struct Retrieval {
    pub(crate) query: Sensitive<String>,
    pub(crate) collections: Vec<String>,
    /// Collection and name of the document, as the release's list gives them.
    pub(crate) expected: (String, Sensitive<String>),
}

/// The whole set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exam {
    /// Whether the release brought one.
    pub(crate) given: bool,
    pub(crate) heldout: Option<Sensitive<String>>,
    pub(crate) golden: Vec<Golden>,
    pub(crate) retrieval: Vec<Retrieval>,
    pub(crate) policy: Policy,
    /// All labels of the release's documents: the examiner may read what the release brought.
    pub(crate) labels: LabelSet,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    #[serde(default)]
    heldout: Option<String>,
    #[serde(default)]
    golden: Vec<GoldenEntry>,
    #[serde(default)]
    retrieval: Vec<RetrievalEntry>,
    #[serde(default)]
    policy: Policy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenEntry {
    messages: Vec<MessageEntry>,
    expect_any: Vec<String>,
    max_tokens: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageEntry {
    role: Role,
    content: Sensitive<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetrievalEntry {
    query: Sensitive<String>,
    #[serde(default)]
    collections: Vec<String>,
    expect_document: String,
}

#[derive(Deserialize)]
struct Collections {
    collections: Vec<Collection>,
}

#[derive(Deserialize)]
struct Collection {
    name: String,
    label: cloister_domain::Label,
    #[serde(default)]
    documents: Vec<Document>,
}

#[derive(Deserialize)]
struct Document {
    path: String,
    name: Sensitive<String>,
}

/// Reads files of a release's tree by path, at most so many bytes; `None` when there is no such file.
pub(crate) type Reader<'a, E> = dyn Fn(&str, u64) -> Result<Option<Vec<u8>>, E> + 'a;

/// Why a set could not be had: the release's fault or the reader's.
#[derive(Debug)]
pub(crate) enum ReadError<E> {
    Exam(ExamError),
    Reader(E),
}

impl<E> From<ExamError> for ReadError<E> {
    fn from(error: ExamError) -> Self {
        Self::Exam(error)
    }
}

impl Exam {
    /// The set of the release whose tree `read` reads; an empty one when it brings none.
    pub(crate) fn read<E>(read: &Reader<'_, E>) -> Result<Self, ReadError<E>> {
        let get = |path: &str, max| read(path, max).map_err(ReadError::Reader);
        let collections = match get(COLLECTIONS_PATH, EXAM_BYTES_MAX)? {
            Some(bytes) => strict(&bytes).ok_or(ExamError::Collections)?,
            None => Collections { collections: Vec::new() },
        };
        let labels: LabelSet =
            collections.collections.iter().map(|collection| collection.label.clone()).collect();
        let Some(bytes) = get(PATH, EXAM_BYTES_MAX)? else {
            return Ok(Self { labels, ..Self::default() });
        };
        let file: File = strict(&bytes).ok_or(ExamError::Form)?;
        let questions = file.golden.len().max(file.retrieval.len());
        if file.schema != 1 || questions > QUESTIONS_MAX {
            return Err(ExamError::Form.into());
        }
        let heldout = match &file.heldout {
            None => None,
            Some(path) => {
                let bytes = get(path, HELDOUT_BYTES_MAX)?.ok_or(ExamError::Heldout)?;
                let text = String::from_utf8(bytes).map_err(|_quotes| ExamError::Heldout)?;
                Some(Sensitive::new(text))
            }
        };
        // A file that asks nothing is no set.
        let given = heldout.is_some() || questions > 0;
        Ok(Self {
            given,
            heldout,
            golden: file.golden.into_iter().map(golden).collect::<Result<_, _>>()?,
            retrieval: (0..)
                .zip(file.retrieval)
                .map(|(question, entry)| retrieval(question, entry, &collections))
                .collect::<Result<_, _>>()?,
            policy: file.policy,
            labels,
        })
    }
}

/// Strict JSON, so that two readers never see two documents in the same bytes.
fn strict<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value = json::parse_strict(bytes, json::DEPTH_MAX).ok()?;
    serde_json::from_value(value).ok()
}

fn golden(entry: GoldenEntry) -> Result<Golden, ExamError> {
    // An empty text stands in every answer.
    let nothing = |text: &String| text.trim().is_empty();
    let asked = !entry.messages.is_empty()
        && !entry.expect_any.is_empty()
        && !entry.expect_any.iter().any(nothing);
    if !asked || !(1..=ANSWER_TOKENS_MAX).contains(&entry.max_tokens) {
        return Err(ExamError::Form);
    }
    let message = |entry: MessageEntry| Message { role: entry.role, content: entry.content };
    Ok(Golden {
        messages: entry.messages.into_iter().map(message).collect(),
        expect_any: Sensitive::new(entry.expect_any),
        max_tokens: TokenCount(entry.max_tokens),
    })
}

fn retrieval(
    question: usize,
    entry: RetrievalEntry,
    collections: &Collections,
) -> Result<Retrieval, ExamError> {
    let expected = collections
        .collections
        .iter()
        .flat_map(|collection| collection.documents.iter().map(move |found| (collection, found)))
        .find(|(_, document)| document.path == entry.expect_document)
        .map(|(collection, document)| (collection.name.clone(), document.name.clone()))
        .ok_or(ExamError::Document { question })?;
    Ok(Retrieval { query: entry.query, collections: entry.collections, expected })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, convert::Infallible};

    use super::*;

    const COLLECTIONS: &str = r#"{"collections":[{"name":"handbook","label":"open",
        "documents":[{"path":"documents/handbook/a.md","name":"Pumps"}]}]}"#;

    fn read(files: &[(&str, &str)]) -> Result<Exam, ExamError> {
        let files: BTreeMap<&str, &str> = files.iter().copied().collect();
        let reader = |path: &str, _max: u64| -> Result<Option<Vec<u8>>, Infallible> {
            Ok(files.get(path).map(|text| text.as_bytes().to_vec()))
        };
        Exam::read(&reader).map_err(|error| match error {
            ReadError::Exam(error) => error,
            ReadError::Reader(never) => match never {},
        })
    }

    #[test]
    fn a_whole_set_is_read() {
        let set = r#"{"schema":1,"heldout":"evaluation/heldout.txt",
            "golden":[{"messages":[{"role":"user","content":"2+2?"}],"expect_any":["4"],"max_tokens":8}],
            "retrieval":[{"query":"pump","collections":["handbook"],"expect_document":"documents/handbook/a.md"}],
            "policy":{"golden_passed_min":1}}"#;
        let exam = read(&[
            (PATH, set),
            ("evaluation/heldout.txt", "text"),
            (COLLECTIONS_PATH, COLLECTIONS),
        ])
        .expect("a good set");
        assert!(exam.given && exam.heldout.is_some());
        assert_eq!(exam.retrieval[0].expected.0, "handbook");
        assert_eq!(exam.retrieval[0].expected.1.expose(), "Pumps");
        assert_eq!(exam.policy, Policy { golden_passed_min: Some(1), ..Policy::default() });
        assert_eq!(exam.labels.len(), 1);
    }

    #[test]
    fn a_release_without_a_set_has_an_empty_one() {
        let exam = read(&[(COLLECTIONS_PATH, COLLECTIONS)]).expect("none is needed");
        assert!(!exam.given && exam.golden.is_empty());
        let asks_nothing = read(&[(PATH, r#"{"schema":1}"#)]).expect("of the right form");
        assert!(!asks_nothing.given, "a file that asks nothing is no set");
        assert_eq!(exam.labels.len(), 1);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let expects = r#"{"schema":1,"retrieval":[{"query":"q","expect_document":"x"}]}"#;
        for (set, error) in [
            (r#"{"schema":2}"#, ExamError::Form),
            (r#"{"schema":1,"policy":{"golden_min":1}}"#, ExamError::Form),
            (r#"{"schema":1,"schema":1}"#, ExamError::Form),
            (
                r#"{"schema":1,"golden":[{"messages":[],"expect_any":["x"],"max_tokens":1}]}"#,
                ExamError::Form,
            ),
            (
                r#"{"schema":1,"golden":[{"messages":[{"role":"user","content":"a"}],
                    "expect_any":["x", " "],"max_tokens":1}]}"#,
                ExamError::Form,
            ),
            (r#"{"schema":1,"heldout":"evaluation/none.txt"}"#, ExamError::Heldout),
            (expects, ExamError::Document { question: 0 }),
        ] {
            assert_eq!(read(&[(PATH, set)]).expect_err(set), error, "{set}");
        }
        let bad_list = read(&[(COLLECTIONS_PATH, "[]")]);
        assert_eq!(bad_list.expect_err("not a list"), ExamError::Collections);
    }
}
