//! People's words: prompts, answers, documents, file names and queries.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroize;

/// Content that must not reach a log, a record, an error or a panic; wiped when dropped.
///
/// It has no `Display`, `Deref`, `AsRef`, `Borrow` or `Serialize`; `Debug` prints `[sensitive]`.
/// The one way out is [`Sensitive::expose`], whose uses are listed and reviewed.
///
/// ```compile_fail
/// let prompt = cloister_domain::Sensitive::new(String::from("who"));
/// println!("{prompt}");
/// ```
///
/// ```compile_fail
/// let prompt = cloister_domain::Sensitive::new(String::from("who"));
/// serde_json::to_string(&prompt);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive<T: Zeroize>(T);

impl<T: Zeroize> Sensitive<T> {
    /// Marks `content` as somebody's words.
    pub const fn new(content: T) -> Self {
        Self(content)
    }

    /// The content, for the one call that works on it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Sensitive<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sensitive]")
    }
}

impl<'de, T: Zeroize + Deserialize<'de>> Deserialize<'de> for Sensitive<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

impl<T: Zeroize> Sensitive<T> {
    /// Serialises the content for a socket between two processes of the appliance.
    ///
    /// For `#[serde(serialize_with = "Sensitive::onto_socket")]` on fields of internal messages;
    /// nothing that is logged or recorded holds such a field.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn onto_socket<S: Serializer>(content: &Self, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Serialize,
    {
        content.0.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Holder {
        #[expect(dead_code, reason = "printed through Debug")]
        prompt: Sensitive<String>,
    }

    #[test]
    fn debug_of_a_holder_prints_a_placeholder() {
        let holder = Holder { prompt: Sensitive::new(String::from("patient Jane Doe")) };
        assert_eq!(format!("{holder:?}"), "Holder { prompt: [sensitive] }");
    }
}
