//! What a case expects: `expected.safetensors`, read whole and checked before a model is loaded.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail, ensure};
use cloister_domain::TokenId;
use serde::Deserialize;

/// What the reference made of a case's tokens.
pub(super) enum Expected {
    /// Of a language model.
    Continuation(Continuation),
    /// Of an embedding model.
    Hidden(Hidden),
    /// Of a reranker, which is not compared.
    Scores,
}

/// Logits of a prompt, and how it goes on.
pub(super) struct Continuation {
    /// At least one token.
    pub(super) prompt: Vec<TokenId>,
    /// At least one token.
    pub(super) greedy: Vec<TokenId>,
    /// `[T, V]`, one row for each token of the prompt.
    pub(super) logits: Vec<f32>,
    /// `V`.
    pub(super) vocabulary: usize,
}

/// Last hidden states of several texts.
pub(super) struct Hidden {
    /// At least one text.
    pub(super) texts: Vec<HiddenText>,
    /// `D`.
    pub(super) width: usize,
}

/// A text without its padding.
pub(super) struct HiddenText {
    /// At least one token.
    pub(super) tokens: Vec<TokenId>,
    /// One for each token.
    pub(super) segments: Vec<u8>,
    /// `[T, D]`.
    pub(super) hidden: Vec<f32>,
}

impl Expected {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When a tensor is missing, lies outside the file, does not fit the others, or holds a value that
    /// nothing can be compared with.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = super::read(path)?;
        Self::parse(&bytes).context("expected.safetensors")
    }

    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let tensors = Tensors::parse(bytes)?;
        if tensors.has("logits") {
            Ok(Self::Continuation(Continuation::of(&tensors)?))
        } else if tensors.has("hidden") {
            Ok(Self::Hidden(Hidden::of(&tensors)?))
        } else {
            tensors.floats("scores").context("neither logits nor hidden is there")?;
            Ok(Self::Scores)
        }
    }
}

impl Continuation {
    fn of(tensors: &Tensors<'_>) -> anyhow::Result<Self> {
        let (prompt, prompt_shape) = tensors.ids("input_ids")?;
        let (greedy, greedy_shape) = tensors.ids("greedy")?;
        ensure!(prompt_shape.len() == 1 && !prompt.is_empty(), "input_ids is not a list of tokens");
        ensure!(greedy_shape.len() == 1 && !greedy.is_empty(), "greedy is not a list of tokens");
        let (logits, shape) = tensors.floats("logits")?;
        match *shape {
            [rows, vocabulary] if rows == prompt.len() => {
                Ok(Self { prompt, greedy, logits, vocabulary })
            }
            _ => bail!("logits does not have one row for each token of input_ids"),
        }
    }
}

impl Hidden {
    fn of(tensors: &Tensors<'_>) -> anyhow::Result<Self> {
        let (ids, shape) = tensors.ids("input_ids")?;
        let &[texts, length] = shape else { bail!("input_ids is not a table of texts and tokens") };
        ensure!(texts > 0 && length > 0, "input_ids holds no token");
        let beside = |name: &str| {
            let (numbers, other) = tensors.integers(name)?;
            ensure!(other == shape, "{name} has another shape than input_ids");
            Ok(numbers)
        };
        let mask = beside("attention_mask")?;
        let segments = match tensors.has("token_type_ids") {
            true => beside("token_type_ids")?,
            false => vec![0; ids.len()],
        };
        let (hidden, hidden_shape) = tensors.floats("hidden")?;
        let width = match *hidden_shape {
            [rows, columns, width] if [rows, columns] == [texts, length] && width > 0 => width,
            _ => bail!("hidden does not have one row for each token of input_ids"),
        };
        let mut cut = Vec::with_capacity(texts);
        for text in 0..texts {
            // Within the whole shapes, whose products were checked.
            let at = text * length;
            let end = at + real_tokens(&mask[at..at + length])?;
            cut.push(HiddenText {
                tokens: ids[at..end].to_vec(),
                segments: token_types(&segments[at..end])?,
                hidden: hidden[at * width..end * width].to_vec(),
            });
        }
        Ok(Self { texts: cut, width })
    }
}

/// How many tokens stand before the padding, which is not run at all.
fn real_tokens(mask: &[i64]) -> anyhow::Result<usize> {
    let real = mask.iter().take_while(|mask| **mask == 1).count();
    let is_padding = mask[real..].iter().all(|mask| *mask == 0);
    ensure!(is_padding, "attention_mask is not ones and then zeros");
    ensure!(real > 0, "attention_mask leaves a text without a token");
    Ok(real)
}

fn token_types(numbers: &[i64]) -> anyhow::Result<Vec<u8>> {
    let token_type = |number: &i64| u8::try_from(*number).ok();
    let types: Option<Vec<u8>> = numbers.iter().map(token_type).collect();
    types.context("a token type in token_type_ids is out of range")
}

/// The tensors of a safetensors file, integers among them.
struct Tensors<'a> {
    described: BTreeMap<String, Described>,
    data: &'a [u8],
}

#[derive(Deserialize)]
struct Described {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl<'a> Tensors<'a> {
    fn parse(bytes: &'a [u8]) -> anyhow::Result<Self> {
        let (length, rest) = bytes.split_first_chunk::<8>().context("there is no header")?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok();
        let (header, data) = length
            .and_then(|length| rest.split_at_checked(length))
            .context("the header is cut short")?;
        let described = serde_json::from_slice(header).context("the header cannot be read")?;
        Ok(Self { described, data })
    }

    fn has(&self, name: &str) -> bool {
        self.described.contains_key(name)
    }

    /// The elements of a tensor and its shape.
    fn elements<const BYTES: usize>(
        &self,
        name: &str,
        dtype: &str,
    ) -> anyhow::Result<(&'a [[u8; BYTES]], &[usize])> {
        let tensor = self.described.get(name).with_context(|| format!("{name} is not there"))?;
        ensure!(tensor.dtype == dtype, "{name} is not {dtype}");
        let (start, end) = tensor.data_offsets;
        let bytes =
            self.data.get(start..end).with_context(|| format!("{name} lies outside the file"))?;
        let bytes_wanted = tensor
            .shape
            .iter()
            .try_fold(BYTES, |product, size| product.checked_mul(*size))
            .with_context(|| format!("the shape of {name} is too large"))?;
        ensure!(bytes.len() == bytes_wanted, "{name} has another length than its shape says");
        Ok((bytes.as_chunks().0, &tensor.shape))
    }

    fn integers(&self, name: &str) -> anyhow::Result<(Vec<i64>, &[usize])> {
        let (elements, shape) = self.elements(name, "I64")?;
        Ok((elements.iter().map(|element| i64::from_le_bytes(*element)).collect(), shape))
    }

    fn ids(&self, name: &str) -> anyhow::Result<(Vec<TokenId>, &[usize])> {
        let (integers, shape) = self.integers(name)?;
        let ids: Option<Vec<TokenId>> =
            integers.into_iter().map(|id| u32::try_from(id).ok().map(TokenId)).collect();
        Ok((ids.with_context(|| format!("a token id in {name} is out of range"))?, shape))
    }

    /// Numbers that can be compared: a NaN would pass as small, since `f64::max` ignores it, and beside
    /// an infinity every error is small.
    fn floats(&self, name: &str) -> anyhow::Result<(Vec<f32>, &[usize])> {
        let (elements, shape) = self.elements(name, "F32")?;
        let floats: Vec<f32> =
            elements.iter().map(|element| f32::from_le_bytes(*element)).collect();
        ensure!(floats.iter().all(|x| x.is_finite()), "a value in {name} is not finite");
        Ok((floats, shape))
    }
}
