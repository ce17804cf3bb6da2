//! Many texts in one allocation.

/// An array of texts, such as the tokens of a vocabulary. A text costs its bytes and four more, so that
/// memory follows the file that it is read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// All of them, one after another.
    text: String,
    /// Where each ends; an array of a header is shorter than 2³² bytes.
    ends: Vec<u32>,
}

impl Texts {
    /// Adds a text; `None` when there are 2³² bytes.
    pub(crate) fn push(&mut self, text: &str) -> Option<()> {
        let end = self.text.len().checked_add(text.len())?;
        self.ends.push(u32::try_from(end).ok()?);
        self.text.push_str(text);
        Some(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = usize::try_from(*self.ends.get(index)?).ok()?;
        let before = index.checked_sub(1).and_then(|before| self.ends.get(before));
        let start = before.map_or(Some(0), |start| usize::try_from(*start).ok())?;
        self.text.get(start..end)
    }

    /// All in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<T: AsRef<str>> FromIterator<T> for Texts {
    /// # Panics
    /// When there are more than 2³² bytes.
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let mut texts = Self::default();
        for text in all {
            texts.push(text.as_ref()).expect("fewer than 2^32 bytes");
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_as_they_went() {
        let all = ["a", "", "€", "xyz", ""];
        let texts: Texts = all.into_iter().collect();
        assert_eq!(texts.iter().collect::<Vec<_>>(), all);
        assert_eq!((texts.len(), texts.get(3), texts.get(5)), (5, Some("xyz"), None));
        assert!(Texts::default().is_empty());
    }
}
