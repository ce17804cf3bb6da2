//! The merges of a `tokenizer.json`, each checked as it passes by; the rest of the file was read before.

use std::fmt;

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::Found;
use crate::build::MergeList;

/// Reads the merges of a file into a list.
pub(super) struct Merges<'a, 'b> {
    list: &'a mut MergeList<'b>,
    found: &'a Found,
    /// Where in the file it is.
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    File,
    Model,
    List,
    Merge,
}

impl<'a, 'b> Merges<'a, 'b> {
    pub(super) fn new(list: &'a mut MergeList<'b>, found: &'a Found) -> Self {
        Self { list, found, place: Place::File }
    }

    fn at(&mut self, place: Place) -> Merges<'_, 'b> {
        Merges { list: self.list, found: self.found, place }
    }

    fn push<E: de::Error>(self, left: &str, right: &str) -> Result<(), E> {
        self.list.push(left, right).map_err(|cause| self.found.refused(cause))
    }
}

impl<'de> DeserializeSeed<'de> for Merges<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Merges<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("merges")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let (key, next) = match self.place {
            Place::File => ("model", Place::Model),
            Place::Model => ("merges", Place::List),
            Place::List | Place::Merge => return Err(de::Error::custom("a merge")),
        };
        while let Some(found) = map.next_key::<String>()? {
            if found == key {
                map.next_value_seed(self.at(next))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    /// The list, or a merge that is written `["a", "b"]`.
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let wrong = || de::Error::custom("a merge");
        match self.place {
            Place::List => {
                while seq.next_element_seed(self.at(Place::Merge))?.is_some() {}
                Ok(())
            }
            Place::Merge => {
                let mut next = || seq.next_element::<String>()?.ok_or_else(wrong);
                let (left, right) = (next()?, next()?);
                match seq.next_element::<IgnoredAny>()? {
                    None => self.push(&left, &right),
                    Some(_third) => Err(wrong()),
                }
            }
            Place::File | Place::Model => Err(wrong()),
        }
    }

    /// A merge that is written `"a b"`.
    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        match (self.place, text.split_once(' ')) {
            (Place::Merge, Some((left, right))) => self.push(left, right),
            _ => Err(E::custom("a merge")),
        }
    }
}
