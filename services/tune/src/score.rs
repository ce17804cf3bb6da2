//! How good a model is: bits per byte on text, exact answers, golden questions.

use anyhow::{Result, anyhow};
use burn::backend::Flex;
use burn::prelude::{Int, Tensor};
use burn::tensor::TensorData;
use burn::tensor::activation::log_softmax;
use serde::Deserialize;

use crate::bpe::Id;
use crate::conversation::{Conversation, Rendered};
use crate::folder::Model;
use crate::network::Frame;

/// A message of a golden question.
#[derive(Debug, Clone, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// A question whose answer must hold one of the given texts.
#[derive(Debug, Clone, Deserialize)]
pub struct Golden {
    /// The conversation up to the question.
    pub messages: Vec<Message>,
    /// One of these must occur in the answer.
    pub expect_any: Vec<String>,
    /// Where the answer is cut off.
    pub max_tokens: usize,
}

impl Model<Flex> {
    /// Bits that the model needs for a byte of `text`, cut into windows of the whole context; the first
    /// window begins after the end-of-text token, each later one after the last token of the one before.
    ///
    /// # Errors
    /// When burn gives the scores in another type than it was given.
    pub fn bits_per_byte(&mut self, text: &str) -> Result<f64> {
        let mut ids = vec![self.bpe.end_of_text()];
        ids.extend(self.bpe.encode(text));
        let mut nats = 0.0;
        let mut from = 0;
        while from + 1 < ids.len() {
            let to = (from + self.shape.context).min(ids.len() - 1);
            let rows = log_softmax(self.forward(&ids[from..to]), 1);
            let count = to - from;
            let picked = rows.gather(1, column(&ids[from + 1..=to]));
            let values = picked
                .reshape([count])
                .into_data()
                .to_vec::<f32>()
                .map_err(|error| anyhow!("the scores are not of f32: {error:?}"))?;
            nats -= values.iter().map(|v| f64::from(*v)).sum::<f64>();
            from = to;
        }
        Ok(nats / std::f64::consts::LN_2 / text.len() as f64)
    }

    /// Whether greedy decoding gives exactly the answer of the last turn.
    ///
    /// One pass over the whole conversation decides it: greedy decoding gives the answer if and only if
    /// each of its tokens is the likeliest after those before it.
    ///
    /// # Errors
    /// As [`Model::bits_per_byte`].
    pub fn answers_exactly(&mut self, talk: &Conversation) -> Result<bool> {
        let asked = talk.render(&mut self.bpe, true).ids.len();
        let mut ids = talk.render(&mut self.bpe, false).ids;
        let end = self.bpe.control(2);
        while ids.pop_if(|last| *last != end).is_some() {}
        let best = self.likeliest(&ids)?;
        Ok((asked..ids.len()).all(|at| best[at - 1] == ids[at]))
    }

    /// Continues `ids` greedily until a control token, at most `count` tokens.
    ///
    /// # Errors
    /// As [`Model::bits_per_byte`].
    pub fn continue_greedily(&self, ids: &[Id], count: usize) -> Result<Vec<Id>> {
        let mut all = ids.to_vec();
        for _ in 0..count {
            let best = self.likeliest(&all)?.last().copied().unwrap_or_default();
            if best >= self.bpe.control(0) {
                break;
            }
            all.push(best);
        }
        Ok(all.split_off(ids.len()))
    }

    /// The model's answer to a golden question, as text.
    ///
    /// # Errors
    /// As [`Model::bits_per_byte`].
    pub fn answer(&mut self, golden: &Golden) -> Result<String> {
        let mut asked = Rendered { ids: Vec::new(), spoken: Vec::new() };
        for message in &golden.messages {
            asked.message(&mut self.bpe, &message.role, &message.content);
        }
        asked.ask(&mut self.bpe);
        let answer = self.continue_greedily(&asked.ids, golden.max_tokens)?;
        Ok(String::from_utf8_lossy(&self.bpe.decode(&answer)).into_owned())
    }

    fn forward(&self, ids: &[Id]) -> Tensor<Flex, 2> {
        let frame = Frame::new(&self.shape, ids.len());
        self.network.logits(&self.shape, &frame, column(ids).reshape([1, ids.len()]))
    }

    /// The likeliest token after each of `ids`.
    pub(crate) fn likeliest(&self, ids: &[Id]) -> Result<Vec<Id>> {
        let best = self.forward(ids).argmax(1).into_data();
        Ok(best.iter::<i64>().map(Id::try_from).collect::<Result<_, _>>()?)
    }
}

fn column(ids: &[Id]) -> Tensor<Flex, 2, Int> {
    let values: Vec<i32> =
        ids.iter().map(|id| i32::try_from(*id).expect("ids are small")).collect();
    Tensor::from_data(TensorData::new(values, [ids.len(), 1]), &Default::default())
}
