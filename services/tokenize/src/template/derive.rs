//! Finds opening, turns and generation prompt in what a template writes, and proves that they
//! explain every short conversation.

use super::{
    Names, Opening, Part, Schema, Speaker, Template, TemplateError,
    evaluate::{Fragment, Scene, run},
    parse::{Statement, program},
};

/// Longer than any known chat template (the longest of llama.cpp's collection has 25 KiB).
const TEMPLATE_BYTES_MAX: usize = 64 << 10;

/// See [`Template::from_jinja`].
pub(super) fn template(text: &str, names: Names<'_>) -> Result<Template, TemplateError> {
    if text.len() > TEMPLATE_BYTES_MAX {
        return Err(TemplateError::TooLong { bytes: text.len(), max: TEMPLATE_BYTES_MAX });
    }
    let probe = Probe { program: &program(text)?, names, dated: true };
    let shape = probe.shape()?;
    probe.prove(&shape)?;
    let undated = Probe { dated: false, ..probe };
    let date = if shape.has_date() { undated.default_date(&shape)? } else { String::new() };
    let parts = |fragments: &[Fragment]| parts(fragments, names, &date);
    Ok(Template {
        schema: Schema,
        opening: Opening {
            without_system: parts(&shape.without_system),
            with_system: parts(&shape.with_system),
        },
        system: parts(&shape.turns[0]),
        user: parts(&shape.turns[1]),
        assistant: parts(&shape.turns[2]),
        generation: parts(&shape.generation),
    })
}

struct Probe<'a> {
    program: &'a [Statement],
    names: Names<'a>,
    dated: bool,
}

/// What a template writes, in fragments; a turn's content is that of message 0.
struct Shape {
    without_system: Vec<Fragment>,
    with_system: Vec<Fragment>,
    /// System, user, assistant.
    turns: [Vec<Fragment>; 3],
    generation: Vec<Fragment>,
}

/// What `whole` has after `start`; a text may be cut in two.
fn after(whole: &[Fragment], start: &[Fragment]) -> Option<Vec<Fragment>> {
    let Some((last, before)) = start.split_last() else { return Some(whole.to_vec()) };
    let rest = whole.strip_prefix(before)?;
    match (last, rest.split_first()?) {
        (last, (first, rest)) if last == first => Some(rest.to_vec()),
        (Fragment::Text(last), (Fragment::Text(first), rest)) => {
            let tail = Fragment::Text(first.strip_prefix(last.as_str())?.to_owned());
            Some([&[tail], rest].concat())
        }
        _ => None,
    }
}

/// What `whole` has before `end`; a text may be cut in two.
fn before(whole: &[Fragment], end: &[Fragment]) -> Option<Vec<Fragment>> {
    let Some((first, behind)) = end.split_first() else { return Some(whole.to_vec()) };
    let rest = whole.strip_suffix(behind)?;
    match (first, rest.split_last()?) {
        (first, (last, rest)) if first == last => Some(rest.to_vec()),
        (Fragment::Text(first), (Fragment::Text(last), rest)) => {
            let head = Fragment::Text(last.strip_suffix(first.as_str())?.to_owned());
            Some([rest, &[head]].concat())
        }
        _ => None,
    }
}

/// `fragments` with the content of message `from` taken for that of message `to`.
fn moved(fragments: &[Fragment], to: usize) -> Vec<Fragment> {
    let moved = |fragment: &Fragment| match fragment {
        Fragment::Content { trim, .. } => Fragment::Content { message: to, trim: *trim },
        other => other.clone(),
    };
    fragments.iter().map(moved).collect()
}

fn contents(fragments: &[Fragment]) -> usize {
    fragments.iter().filter(|fragment| matches!(fragment, Fragment::Content { .. })).count()
}

/// Texts that touch become one.
fn join(fragments: impl IntoIterator<Item = Fragment>) -> Vec<Fragment> {
    let mut all: Vec<Fragment> = Vec::new();
    for fragment in fragments {
        match (all.last_mut(), fragment) {
            (_, Fragment::Text(text)) if text.is_empty() => {}
            (Some(Fragment::Text(last)), Fragment::Text(text)) => last.push_str(&text),
            (_, fragment) => all.push(fragment),
        }
    }
    all
}

impl Probe<'_> {
    fn write(&self, speakers: &[Speaker], generate: bool) -> Result<Vec<Fragment>, TemplateError> {
        let scene = Scene { speakers, generate, names: self.names, dated: self.dated };
        run(self.program, &scene)
    }

    /// Reads the shape off six conversations.
    fn shape(&self) -> Result<Shape, TemplateError> {
        let shape = |what| TemplateError::Shape { what };
        let user = self.write(&[Speaker::User], false)?;
        let asked = self.write(&[Speaker::User], true)?;
        let generation = after(&asked, &user)
            .ok_or(shape("the generation prompt does not come after the messages"))?;
        let turn = |speaker| {
            let two = self.write(&[Speaker::User, speaker], false)?;
            let turn = after(&two, &user)
                .ok_or(shape("a message is written otherwise when another follows"))?;
            if contents(&turn) != 1
                || !turn.contains(&Fragment::Content { message: 1, trim: false })
                    && !turn.contains(&Fragment::Content { message: 1, trim: true })
            {
                return Err(shape("a turn does not write its message exactly once"));
            }
            Ok(moved(&turn, 0))
        };
        let turns = [turn(Speaker::System)?, turn(Speaker::User)?, turn(Speaker::Assistant)?];
        let without_system = before(&user, &turns[1])
            .ok_or(shape("the first message is written otherwise than the next"))?;
        let system = self.write(&[Speaker::System, Speaker::User], false)?;
        let with_system = before(&system, &moved(&turns[1], 1))
            .ok_or(shape("a user's message is written otherwise after the system's"))?;
        if contents(&without_system) != 0 || contents(&with_system) != 1 {
            return Err(shape("the opening does not write the system's message exactly once"));
        }
        if contents(&generation) != 0 {
            return Err(shape("the generation prompt repeats a message"));
        }
        Ok(Shape { without_system, with_system, turns, generation })
    }

    /// Every conversation of one to three messages is what the shape says.
    fn prove(&self, shape: &Shape) -> Result<(), TemplateError> {
        let mut conversations: Vec<Vec<Speaker>> = vec![Vec::new()];
        let mut all = Vec::new();
        for _length in 1..=3 {
            let longer = |c: &Vec<Speaker>| {
                Speaker::ALL.map(|speaker| [c.as_slice(), &[speaker]].concat()).into_iter()
            };
            conversations = conversations.iter().flat_map(longer).collect();
            all.extend(conversations.iter().cloned());
        }
        for speakers in all {
            for generate in [false, true] {
                if self.write(&speakers, generate)? != shape.write(&speakers, generate) {
                    let what = "a message's form depends on its neighbours";
                    return Err(TemplateError::Shape { what });
                }
            }
        }
        Ok(())
    }

    /// The date that the template writes when none is given; it is the same everywhere.
    fn default_date(&self, shape: &Shape) -> Result<String, TemplateError> {
        let wrong = TemplateError::Shape { what: "the date is not one fixed text by default" };
        let written = self.write(&[Speaker::User], false)?;
        let expected = shape.write(&[Speaker::User], false);
        let at = expected.iter().position(|f| *f == Fragment::Date).ok_or(wrong.clone())?;
        let (head, tail) = (expected.get(..at), expected.get(at + 1..));
        let (head, tail) = head.zip(tail).ok_or(wrong.clone())?;
        let middle = after(&written, head).and_then(|rest| before(&rest, tail));
        match middle.as_deref() {
            Some([Fragment::Text(date)]) => Ok(date.clone()),
            _ => Err(wrong),
        }
    }
}

impl Shape {
    /// What a conversation must look like.
    fn write(&self, speakers: &[Speaker], generate: bool) -> Vec<Fragment> {
        let system_first = speakers.first() == Some(&Speaker::System);
        let opening = if system_first { &self.with_system } else { &self.without_system };
        let turns = speakers.iter().enumerate().skip(usize::from(system_first));
        let turns = turns.flat_map(|(message, speaker)| {
            let turn = Speaker::ALL.iter().position(|known| known == speaker);
            moved(&self.turns[turn.expect("all speakers are listed")], message)
        });
        let generation = self.generation.iter().filter(|_fragment| generate);
        join(opening.iter().cloned().chain(turns).chain(generation.cloned()))
    }

    fn has_date(&self) -> bool {
        let opening = self.without_system.iter().chain(&self.with_system);
        let all = opening.chain(self.turns.iter().flatten()).chain(&self.generation);
        all.into_iter().any(|fragment| *fragment == Fragment::Date)
    }
}

/// Fragments as they are stored: texts are cut at names of control tokens.
fn parts(fragments: &[Fragment], names: Names<'_>, date: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for fragment in fragments {
        match fragment {
            Fragment::Text(text) => cut(text, names, &mut parts),
            Fragment::Control(name) => parts.push(Part::Control(name.clone())),
            Fragment::Content { trim, .. } => parts.push(Part::Content { trim: *trim }),
            Fragment::Date => parts.push(Part::Date { default: date.to_owned() }),
        }
    }
    parts
}

/// A control token is `<|name|>`, or the text of `bos_token` or `eos_token`.
fn cut(text: &str, names: Names<'_>, parts: &mut Vec<Part>) {
    let mut rest = text;
    let mut from = 0;
    while let Some(found) = rest.get(from..).and_then(|tail| tail.find('<')) {
        let at = from + found;
        let (plain, tail) = rest.split_at(at);
        let given = [names.bos, names.eos].into_iter().flatten().find(|n| tail.starts_with(*n));
        let length = given.map(str::len).or_else(|| {
            let name = tail.strip_prefix("<|")?;
            // No further than the name goes: a text may be all beginnings.
            let good = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
            let end = name.find(|c| !good(c))?;
            (end > 0 && name.split_at(end).1.starts_with("|>")).then_some(end + 4)
        });
        let Some(length) = length else {
            from = at + 1;
            continue;
        };
        if !plain.is_empty() {
            parts.push(Part::Text(plain.to_owned()));
        }
        let (name, behind) = tail.split_at(length);
        parts.push(Part::Control(name.to_owned()));
        (rest, from) = (behind, 0);
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
}
