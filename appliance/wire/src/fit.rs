//! The fit worksheet: every term by which a release fits a machine or does not, with what is needed
//! and what is there. It is made before the first chunk is read.

use serde::{Deserialize, Serialize};

/// One term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// `disk`, `inodes`, `ram`, `ram-while-judged`, `vram`, `runtime`, `features`, `licence`,
    /// `attestations`.
    pub name: String,
    /// What is compared.
    pub measure: Measure,
}

/// What a term compares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// An amount.
    Amount {
        /// `bytes` or `files`.
        unit: String,
        /// What the release takes, by what for.
        parts: Vec<Part>,
        /// What the release takes: the sum of the parts.
        needed: u64,
        /// What must be left over.
        reserve: u64,
        /// What the machine has; unknown where it does not say, and then nothing is refused for it.
        there: Option<u64>,
    },
    /// Words, each of which must be there.
    Words {
        /// All that are asked for.
        needed: Vec<String>,
        /// Those that are not there.
        missing: Vec<String>,
    },
}

/// One part of an amount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it is for, in a person's words.
    pub what: String,
    /// How much, in the term's unit.
    pub amount: u64,
}

impl Term {
    /// A term whose need is the sum of its parts; a sum beyond `u64` is the greatest.
    #[must_use]
    pub fn amount(
        name: &str,
        unit: &str,
        parts: Vec<Part>,
        reserve: u64,
        there: Option<u64>,
    ) -> Self {
        let needed = parts.iter().map(|part| part.amount).fold(0, u64::saturating_add);
        let measure = Measure::Amount { unit: unit.to_owned(), parts, needed, reserve, there };
        Self { name: name.to_owned(), measure }
    }

    /// Whether it holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        match &self.measure {
            Measure::Amount { there: None, .. } => true,
            Measure::Amount { .. } => self.margin().is_some_and(|margin| margin >= 0),
            Measure::Words { missing, .. } => missing.is_empty(),
        }
    }

    /// What is left over once needs and reserve are met; negative when they are not.
    #[must_use]
    pub fn margin(&self) -> Option<i128> {
        match self.measure {
            Measure::Amount { needed, reserve, there: Some(there), .. } => {
                Some(i128::from(there) - i128::from(needed) - i128::from(reserve))
            }
            Measure::Amount { there: None, .. } | Measure::Words { .. } => None,
        }
    }
}
