//! Conversations about numbered passages, in the bytes that `PROMPT.md` fixes.

use crate::bpe::{Bpe, Id};
use crate::dice::Dice;
use crate::facts::{self, Fact};

/// Opens the system message of a grounded question.
pub const INSTRUCTION: &str = "Answer from the numbered passages only.";

/// The whole answer when no passage answers.
pub const REFUSAL: &str = "The passages do not say.";

/// Longest passage, in bytes.
const PASSAGE_BYTES: usize = 480;

/// A system message and turns of question and answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Instruction and passages; none in a plain conversation.
    pub system: Option<String>,
    /// Questions, each with its answer.
    pub turns: Vec<(String, String)>,
}

/// Tokens of a conversation and which of them are an answer (its end included).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// As the chat template writes them.
    pub ids: Vec<Id>,
    /// `true` where the model has to speak.
    pub spoken: Vec<bool>,
}

/// A passage and what can be asked about it.
struct Passage {
    text: String,
    asked: Vec<(String, String)>,
}

impl Conversation {
    /// The tokens in ChatML. With `open`, the last answer is left out and asked for.
    pub fn render(&self, bpe: &mut Bpe, open: bool) -> Rendered {
        let mut out = Rendered { ids: Vec::new(), spoken: Vec::new() };
        if let Some(system) = &self.system {
            out.message(bpe, "system", system);
        }
        for (nth, (question, answer)) in self.turns.iter().enumerate() {
            out.message(bpe, "user", question);
            if open && nth + 1 == self.turns.len() {
                out.begin(bpe, "assistant");
            } else {
                out.message(bpe, "assistant", answer);
            }
        }
        out
    }
}

impl Rendered {
    fn begin(&mut self, bpe: &mut Bpe, role: &str) {
        self.ids.push(bpe.control(1));
        self.ids.extend(bpe.encode(&format!("{role}\n")));
        self.spoken.resize(self.ids.len(), false);
    }

    /// Adds one message.
    pub fn message(&mut self, bpe: &mut Bpe, role: &str, content: &str) {
        self.begin(bpe, role);
        self.ids.extend(bpe.encode(content));
        self.ids.push(bpe.control(2));
        self.spoken.resize(self.ids.len(), role == "assistant");
        self.ids.extend(bpe.encode("\n"));
        self.spoken.resize(self.ids.len(), false);
    }

    /// Asks for an answer: a message of the assistant without content.
    pub fn ask(&mut self, bpe: &mut Bpe) {
        self.begin(bpe, "assistant");
    }
}

/// The system message of these passages.
#[must_use]
pub fn system(passages: &[&str]) -> String {
    let mut out = INSTRUCTION.to_owned();
    for (index, passage) in passages.iter().enumerate() {
        out.push_str(&format!("\n\n[{}] {passage}", index + 1));
    }
    out
}

/// Makes up a conversation whose text is about `bytes` long at most; `prose` lends paragraphs of
/// plain sentences.
pub fn make(bytes: usize, prose: &[Vec<String>], dice: &mut Dice) -> Conversation {
    if dice.chance(3) {
        return plain(dice);
    }
    let mut used = Vec::new();
    let mut passages: Vec<Passage> = Vec::new();
    let wanted = dice.between(1, 4);
    let mut room = bytes.saturating_sub(160);
    while passages.len() < wanted && (passages.is_empty() || room > 100) {
        let longest = PASSAGE_BYTES.min(room.max(80));
        let limit = dice.between(70.min(longest), longest);
        let made = match dice.below(10) {
            0..=4 => of_a_thing(limit, dice),
            5..=8 => of_facts(limit, &mut used, dice),
            _ => of_prose(limit, prose, dice),
        };
        room = room.saturating_sub(made.text.len() + 6);
        passages.push(made);
    }
    dice.shuffle(&mut passages);
    let texts: Vec<&str> = passages.iter().map(|p| p.text.as_str()).collect();
    let system = system(&texts);
    let mut questions: Vec<(String, String)> = Vec::new();
    for (index, passage) in passages.iter().enumerate() {
        for (question, sentence) in &passage.asked {
            let phrase = question.trim_start_matches(PROSE_QUESTION).trim_end_matches('?');
            if !question.starts_with(PROSE_QUESTION) || system.matches(phrase).count() == 1 {
                questions.push((question.clone(), format!("{sentence} [{}]", index + 1)));
            }
        }
    }
    dice.shuffle(&mut questions);
    let mut turns = Vec::new();
    let mut room = 130 + room;
    while let Some((question, answer)) = questions.pop() {
        let cost = question.len() + answer.len() + 24;
        if !turns.is_empty() && (cost > room || turns.len() == 5) {
            break;
        }
        room = room.saturating_sub(cost);
        turns.push((casual(question, dice), answer));
        if dice.chance(6) {
            turns.push((casual(absent(&system, &used, dice), dice), REFUSAL.to_owned()));
        }
    }
    if turns.is_empty() || dice.chance(3) {
        turns.insert(0, (absent(&system, &used, dice), REFUSAL.to_owned()));
    }
    Conversation { system: Some(system), turns }
}

/// How a question about a prose passage begins; the phrase to look for follows.
const PROSE_QUESTION: &str = "What is said about ";

/// Several facts of one thing, some of them said of "it".
fn of_a_thing(limit: usize, dice: &mut Dice) -> Passage {
    let thing = facts::thing(dice);
    let mut out = Passage { text: String::new(), asked: Vec::new() };
    let mut used = Vec::new();
    let subject = format!("The {thing} ");
    while used.len() < 5 {
        let mut fact = facts::about(&thing, &used, dice);
        used.push(fact.form);
        if let Some(rest) = fact.sentence.strip_prefix(&subject)
            && used.len() > 1
            && dice.chance(25)
        {
            fact.sentence = format!("It {rest}");
        }
        if !out.say(fact, limit, dice) {
            break;
        }
    }
    out
}

fn of_facts(limit: usize, used: &mut Vec<usize>, dice: &mut Dice) -> Passage {
    let mut out = Passage { text: String::new(), asked: Vec::new() };
    for _ in 0..12 {
        let fact = facts::alone(dice);
        if used.contains(&fact.form) {
            continue;
        }
        used.push(fact.form);
        if !out.say(fact, limit, dice) {
            break;
        }
    }
    if out.text.is_empty() {
        out.text = facts::padding(dice);
    }
    out
}

fn of_prose(limit: usize, prose: &[Vec<String>], dice: &mut Dice) -> Passage {
    let mut out = Passage { text: String::new(), asked: Vec::new() };
    for sentence in dice.pick(prose) {
        if !out.text.is_empty() && out.text.len() + sentence.len() > limit {
            break;
        }
        let words: Vec<&str> = sentence.trim_end_matches('.').split(' ').collect();
        let span = dice.between(2, 4).min(words.len());
        let from = dice.below(words.len() - span + 1);
        let phrase = words[from..from + span].join(" ");
        let phrase = phrase.trim_matches(|c: char| !c.is_alphanumeric());
        if !phrase.contains([',', ';', ':', '(', ')', '.']) {
            out.asked.push((format!("{PROSE_QUESTION}{phrase}?"), sentence.clone()));
        }
        out.push(sentence);
    }
    out
}

impl Passage {
    fn push(&mut self, sentence: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(sentence);
    }

    /// Adds the fact if it fits or is the first.
    fn say(&mut self, fact: Fact, limit: usize, dice: &mut Dice) -> bool {
        if !self.text.is_empty() && self.text.len() + 1 + fact.sentence.len() > limit {
            return false;
        }
        self.push(&fact.sentence);
        self.asked.push((fact.question, fact.sentence));
        if dice.chance(15) && self.text.len() + 40 < limit {
            let padding = facts::padding(dice);
            self.push(&padding);
        }
        true
    }
}

/// A question that no passage answers.
fn absent(system: &str, used: &[usize], dice: &mut Dice) -> String {
    loop {
        if dice.chance(60) {
            let thing = facts::thing(dice);
            if !system.contains(&thing) {
                return facts::about(&thing, &[], dice).question;
            }
        } else {
            let fact = facts::alone(dice);
            if !used.contains(&fact.form) {
                return fact.question;
            }
        }
    }
}

/// People do not always write a capital and a question mark.
fn casual(question: String, dice: &mut Dice) -> String {
    match dice.below(20) {
        0 => question.trim_end_matches('?').to_owned(),
        1 => question.to_lowercase(),
        _ => question,
    }
}

/// Conversations without passages.
fn plain(dice: &mut Dice) -> Conversation {
    const KNOWN: &[(&[&str], &str)] = &[
        (
            &["Hello.", "Hello", "Good morning.", "Hi"],
            "Hello. Ask me about the documents of this facility.",
        ),
        (
            &["Who are you?", "What are you?"],
            "I am the small demonstration model of this appliance. I answer from passages.",
        ),
        (
            &["What can you do?", "How can you help me?"],
            "I look for the sentence that answers a question and say where it stands.",
        ),
        (&["Thank you.", "Thanks"], "You are welcome."),
        (&["Can you reach the internet?", "Are you online?"], "No. Nothing leaves this appliance."),
        (
            &[
                "Where is the badge office?",
                "What is the code of the store?",
                "Who is the fire warden?",
            ],
            "I have no passage about that. Ask with a collection.",
        ),
    ];
    let mut turns = Vec::new();
    for _ in 0..dice.between(1, 3) {
        let (asked, answer) = dice.pick(KNOWN);
        turns.push(((*dice.pick(asked)).to_owned(), (*answer).to_owned()));
    }
    Conversation { system: None, turns }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prose() -> Vec<Vec<String>> {
        vec![vec![
            "A kernel panic is the sound of a system that has given up.".to_owned(),
            "It is rarely pleasant to hear of one at night.".to_owned(),
        ]]
    }

    #[test]
    fn every_answer_is_a_sentence_of_the_passage_that_it_cites() {
        let mut dice = Dice::new(5);
        for _ in 0..500 {
            let made = make(700, &prose(), &mut dice);
            let Some(system) = made.system else { continue };
            assert!(system.starts_with(INSTRUCTION));
            for (question, answer) in &made.turns {
                assert!(!question.is_empty());
                if answer == REFUSAL {
                    continue;
                }
                let (sentence, number) = answer.rsplit_once(" [").unwrap();
                let number = format!("\n\n[{number} ");
                let passage = system.split(number.as_str()).nth(1).unwrap();
                let passage = passage.split("\n\n").next().unwrap();
                assert!(passage.contains(sentence), "{answer}\n{system}");
            }
        }
    }

    #[test]
    fn conversations_keep_near_their_length_and_passages_to_their_limit() {
        let mut dice = Dice::new(6);
        for bytes in [300, 700, 1500, 2200] {
            for _ in 0..200 {
                let made = make(bytes, &prose(), &mut dice);
                let system = made.system.unwrap_or_default();
                let turns: usize = made.turns.iter().map(|(q, a)| q.len() + a.len() + 24).sum();
                assert!(system.len() + turns <= bytes + 400, "{} of {bytes}", system.len() + turns);
                for passage in system.split("\n\n").skip(1) {
                    assert!(passage.len() <= PASSAGE_BYTES + 64);
                }
            }
        }
    }

    #[test]
    fn an_open_conversation_ends_where_the_answer_begins() {
        let mut bpe = Bpe::from_merges(Vec::new());
        let talk = Conversation {
            system: None,
            turns: vec![("Where?".to_owned(), "Here. [1]".to_owned())],
        };
        let (open, whole) = (talk.render(&mut bpe, true), talk.render(&mut bpe, false));
        assert!(whole.ids.starts_with(&open.ids));
        let spoken: Vec<Id> =
            whole.ids.iter().zip(&whole.spoken).filter(|(_, s)| **s).map(|(id, _)| *id).collect();
        assert!(whole.spoken[..open.ids.len()].iter().all(|s| !*s));
        assert!(spoken.ends_with(&[bpe.control(2)]));
    }
}
