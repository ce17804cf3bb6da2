//! Made-up facts of made-up facilities, each with questions that its sentence answers.
//!
//! A form is a sentence and questions with places for words in braces. Equal places in a form take equal
//! words, so that question and sentence speak of the same thing. Words are drawn from lists and from
//! syllables: what is asked for cannot be known beforehand, it can only be copied.

use std::collections::BTreeMap;

use crate::{
    dice::Dice,
    words::{
        ACTS, ADJECTIVES, ALARMS, CODAS, COLOURS, DAYS, EVENTS, FIRST, GEAR, GOODS, ITEMS, MONTHS,
        NOUNS, ONSETS, PAPERS, PARTS, PEOPLE, PLACES, ROLES, RULES, SPANS, SWITCHES, TASKS, TEAMS,
        UNITS, VOWELS, WORK,
    },
};

/// A sentence and one question that it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The sentence as it stands in a passage and in the answer.
    pub sentence: String,
    /// Asked in one of the ways that the form knows.
    pub question: String,
    /// Which form was filled, so that two facts of one passage differ in it.
    pub form: usize,
}

/// Forms about a thing `{s}`; several of them describe one thing in a passage.
const OF_A_THING: &[(&str, &[&str])] = &[
    (
        "The {s} is in {place}.",
        &[
            "Where is the {s}?",
            "Where can I find the {s}?",
            "In which place is the {s}?",
            "Where do I find the {s}?",
        ],
    ),
    (
        "The {s} is next to {place}.",
        &["What is the {s} next to?", "Where is the {s}?", "Where can I find the {s}?"],
    ),
    ("The {s} opens at {time}.", &["When does the {s} open?", "At what time does the {s} open?"]),
    (
        "The {s} closes at {time} on {day}.",
        &["When does the {s} close on {day}?", "When does the {s} close?"],
    ),
    (
        "The {s} is open from {time} to {time2}.",
        &["When is the {s} open?", "What are the hours of the {s}?"],
    ),
    ("The keeper of the {s} is {name}.", &["Who is the keeper of the {s}?", "Who keeps the {s}?"]),
    (
        "{name} is in charge of the {s}.",
        &["Who is in charge of the {s}?", "Whose charge is the {s}?"],
    ),
    (
        "{name} holds the key of the {s}.",
        &["Who holds the key of the {s}?", "Who has the key of the {s}?"],
    ),
    (
        "The {s} answers on extension {ext}.",
        &[
            "What is the extension of the {s}?",
            "On which extension does the {s} answer?",
            "How do I reach the {s}?",
        ],
    ),
    (
        "The code of the {s} is {code}.",
        &["What is the code of the {s}?", "Which code does the {s} have?"],
    ),
    (
        "The serial number of the {s} is {code}.",
        &["What is the serial number of the {s}?", "Which serial number has the {s}?"],
    ),
    (
        "The {s} was built in {year}.",
        &["When was the {s} built?", "In which year was the {s} built?"],
    ),
    ("The {s} is painted {colour}.", &["What colour is the {s}?", "How is the {s} painted?"]),
    (
        "The {s} holds {n} {unit}.",
        &[
            "How much does the {s} hold?",
            "What does the {s} hold?",
            "How many {unit} does the {s} hold?",
        ],
    ),
    (
        "The {s} is kept at {n} degrees.",
        &[
            "At what temperature is the {s} kept?",
            "How warm is the {s}?",
            "What is the temperature of the {s}?",
        ],
    ),
    (
        "The {s} is inspected every {n} {span}.",
        &["How often is the {s} inspected?", "When is the {s} inspected?"],
    ),
    (
        "The {s} is cleaned on {day}.",
        &["When is the {s} cleaned?", "On which day is the {s} cleaned?"],
    ),
    (
        "The {part} of the {s} is replaced after {n} {span}.",
        &[
            "When is the {part} of the {s} replaced?",
            "After how long is the {part} of the {s} replaced?",
        ],
    ),
    (
        "The {part} of the {s} is tightened to {n} newton metres.",
        &[
            "To what torque is the {part} of the {s} tightened?",
            "How tight is the {part} of the {s}?",
            "What is the torque of the {part} of the {s}?",
        ],
    ),
    (
        "The pressure of the {s} must not exceed {n} bar.",
        &[
            "What pressure must the {s} not exceed?",
            "What is the highest pressure of the {s}?",
            "How high may the pressure of the {s} be?",
        ],
    ),
    (
        "The {s} weighs {n} kilograms.",
        &["How much does the {s} weigh?", "What does the {s} weigh?"],
    ),
    (
        "The {s} runs at {n} volts.",
        &["At how many volts does the {s} run?", "What voltage does the {s} need?"],
    ),
    (
        "The {s} is switched off by the {colour} {switch}.",
        &[
            "How is the {s} switched off?",
            "What switches off the {s}?",
            "How do I switch off the {s}?",
        ],
    ),
    ("The {s} belongs to {group}.", &["Whom does the {s} belong to?", "Who owns the {s}?"]),
    ("Only {people} may enter the {s}.", &["Who may enter the {s}?", "Who is allowed in the {s}?"]),
    ("The {s} may be used by {people}.", &["Who may use the {s}?", "By whom may the {s} be used?"]),
    (
        "Faults of the {s} are reported to {name}.",
        &["To whom are faults of the {s} reported?", "Who is told about faults of the {s}?"],
    ),
    (
        "The spare {part} of the {s} lies in {place}.",
        &["Where is the spare {part} of the {s}?", "Where does the spare {part} of the {s} lie?"],
    ),
    (
        "Before the {s} is started, {do}.",
        &["What is done before the {s} is started?", "What must I do before the {s} is started?"],
    ),
    (
        "The {s} is named after {name}.",
        &["Who is the {s} named after?", "After whom is the {s} named?"],
    ),
    (
        "The {s} has {n} {items}.",
        &["How many {items} does the {s} have?", "What does the {s} have?"],
    ),
    (
        "At most {n} people may be in the {s}.",
        &["How many people may be in the {s}?", "How many people are allowed in the {s}?"],
    ),
];

/// Forms that stand for themselves.
const OF_THEIR_OWN: &[(&str, &[&str])] = &[
    ("The {role} is {name}.", &["Who is the {role}?", "What is the name of the {role}?"]),
    (
        "The {role} sits in {place}.",
        &["Where does the {role} sit?", "Where is the {role}?", "Where can I find the {role}?"],
    ),
    ("The {role} signs the {paper}.", &["Who signs the {paper}?", "What does the {role} sign?"]),
    ("{group} is led by {name}.", &["Who leads {group}?", "Who is {group} led by?"]),
    (
        "{group} meets on {day} at {time}.",
        &["When does {group} meet?", "On which day does {group} meet?"],
    ),
    ("{group} works in {place}.", &["Where does {group} work?", "Where is {group}?"]),
    (
        "Parcels for {group} are left in {place}.",
        &["Where are parcels for {group} left?", "Where do I leave parcels for {group}?"],
    ),
    (
        "The {event} takes place on {day} at {time}.",
        &["When does the {event} take place?", "When is the {event}?"],
    ),
    (
        "The {event} lasts {n} minutes.",
        &["How long does the {event} last?", "How long is the {event}?"],
    ),
    (
        "The next {event} is on {n} {month}.",
        &["When is the next {event}?", "On which date is the next {event}?"],
    ),
    (
        "To {task}, {do}.",
        &["How do I {task}?", "What do I do to {task}?", "What must I do to {task}?"],
    ),
    (
        "In case of {alarm}, {do}.",
        &[
            "What do I do in case of {alarm}?",
            "What must I do in case of {alarm}?",
            "What should be done in case of {alarm}?",
        ],
    ),
    (
        "After {alarm}, the {role} is told within {n} minutes.",
        &[
            "Who is told after {alarm}?",
            "Within how many minutes is the {role} told after {alarm}?",
        ],
    ),
    ("Visitors must {rule}.", &["What must visitors do?", "What is the rule for visitors?"]),
    (
        "A {paper} is needed for {work}.",
        &["What is needed for {work}?", "Which paper is needed for {work}?"],
    ),
    (
        "A {paper} is kept for {n} {span}.",
        &["How long is a {paper} kept?", "For how long is a {paper} kept?"],
    ),
    (
        "The {paper} is handed in at {place}.",
        &["Where is the {paper} handed in?", "Where do I hand in the {paper}?"],
    ),
    (
        "For {work}, {gear} must be worn.",
        &["What must be worn for {work}?", "What do I wear for {work}?"],
    ),
    (
        "{work2} is allowed only between {time} and {time2}.",
        &["When is {work3} allowed?", "Between which hours is {work3} allowed?"],
    ),
    (
        "The password of {word} is {code}.",
        &["What is the password of {word}?", "Which password does {word} have?"],
    ),
    (
        "Project {word} ends in {month} {year}.",
        &["When does project {word} end?", "In which month does project {word} end?"],
    ),
    (
        "Project {word} is paid for by {group}.",
        &["Who pays for project {word}?", "By whom is project {word} paid for?"],
    ),
    (
        "The assembly point of {place} is {place2}.",
        &["Where is the assembly point of {place}?", "What is the assembly point of {place}?"],
    ),
    (
        "The number for {alarm} is {ext}.",
        &["What is the number for {alarm}?", "Which number do I call for {alarm}?"],
    ),
    (
        "{items2} are ordered from {name}.",
        &["From whom are {items3} ordered?", "Who is asked for {items3}?"],
    ),
    (
        "{items2} are stored in {place}.",
        &["Where are {items3} stored?", "Where do I find {items3}?"],
    ),
    (
        "The shift of {name} begins at {time}.",
        &["When does the shift of {name} begin?", "At what time does the shift of {name} begin?"],
    ),
    (
        "{name} has worked here since {year}.",
        &["Since when has {name} worked here?", "How long has {name} worked here?"],
    ),
];

/// Sentences that answer nothing.
const PADDING: &[&str] = &[
    "Please be patient.",
    "This rule has no exceptions.",
    "Questions are welcome at any time.",
    "The list is checked every year.",
    "Ask when you are not sure.",
    "Nothing else has changed.",
    "A copy hangs on the wall.",
    "Thank you for your care.",
    "This page replaces the old one.",
    "Most people learn it in a day.",
    "The same holds for night shifts.",
    "Small changes are made without notice.",
    "It has served well for years.",
    "The work is simple but needs care.",
    "Please keep the doors shut.",
    "Older notes are no longer valid.",
];

/// The words that the places of one form have taken.
type Taken = BTreeMap<String, String>;

/// An invented proper name of two or three syllables.
pub fn word(dice: &mut Dice) -> String {
    let mut out = String::new();
    for _ in 0..dice.between(2, 3) {
        out.push_str(dice.pick::<&str>(ONSETS));
        out.push_str(dice.pick::<&str>(VOWELS));
    }
    out.push_str(dice.pick::<&str>(CODAS));
    capital(&out)
}

/// A thing that facts can be about, without its article.
pub fn thing(dice: &mut Dice) -> String {
    let noun = *dice.pick(NOUNS);
    match dice.below(5) {
        0 => noun.to_owned(),
        1 | 2 => format!("{} {noun}", dice.pick(ADJECTIVES)),
        3 => format!("{} {noun}", word(dice)),
        _ => format!("{noun} {}", dice.between(1, 40)),
    }
}

/// A sentence that answers nothing.
pub fn padding(dice: &mut Dice) -> String {
    (*dice.pick(PADDING)).to_owned()
}

/// A fact about `thing`, by a form that `used` does not hold.
pub fn about(thing: &str, used: &[usize], dice: &mut Dice) -> Fact {
    let form = loop {
        let form = dice.below(OF_A_THING.len());
        if !used.contains(&form) {
            break form;
        }
    };
    let taken = Taken::from([("s".to_owned(), thing.to_owned())]);
    fact(OF_A_THING[form], form, taken, dice)
}

/// A fact that stands for itself.
pub fn alone(dice: &mut Dice) -> Fact {
    let form = dice.below(OF_THEIR_OWN.len());
    fact(OF_THEIR_OWN[form], OF_A_THING.len() + form, Taken::new(), dice)
}

fn fact(
    (sentence, questions): (&str, &[&str]),
    form: usize,
    mut taken: Taken,
    dice: &mut Dice,
) -> Fact {
    let sentence = capital(&fill(sentence, &mut taken, dice));
    let question = fill(dice.pick::<&str>(questions), &mut taken, dice);
    Fact { sentence, question: capital(&question), form }
}

fn fill(form: &str, taken: &mut Taken, dice: &mut Dice) -> String {
    let mut out = String::new();
    let mut rest = form;
    while let Some((before, after)) = rest.split_once('{') {
        let (place, after) = after.split_once('}').expect("forms close their braces");
        out.push_str(before);
        if let Some(known) = taken.get(place) {
            out.push_str(known);
        } else {
            let words = draw(place, taken, dice);
            out.push_str(&words);
            taken.insert(place.to_owned(), words);
        }
        rest = after;
    }
    out + rest
}

fn draw(place: &str, taken: &mut Taken, dice: &mut Dice) -> String {
    let list = |all: &[&str], dice: &mut Dice| (*dice.pick(all)).to_owned();
    match place {
        "s" => thing(dice),
        "name" => format!("{} {}", dice.pick(FIRST), word(dice)),
        "word" => word(dice),
        "place" | "place2" => {
            let form = *dice.pick(PLACES);
            fill(form, &mut Taken::new(), dice)
        }
        "do" => {
            let form = *dice.pick(ACTS);
            fill(form, &mut Taken::new(), dice)
        }
        "time" | "time2" => format!("{:02}:{:02}", dice.below(24), dice.below(12) * 5),
        "ext" => format!("{}", dice.between(100, 9999)),
        "year" => format!("{}", dice.between(1950, 2049)),
        "n" => number(dice),
        "letter" => char::from(b'A' + u8::try_from(dice.below(26)).expect("a letter")).to_string(),
        "code" => code(dice),
        "adjective" => list(ADJECTIVES, dice),
        "noun" => list(NOUNS, dice),
        "colour" => list(COLOURS, dice),
        "day" => list(DAYS, dice),
        "month" => list(MONTHS, dice),
        "unit" => list(UNITS, dice),
        "span" => list(SPANS, dice),
        "part" => list(PARTS, dice),
        "switch" => list(SWITCHES, dice),
        "people" => list(PEOPLE, dice),
        "items" => list(ITEMS, dice),
        "items2" => capital(&fill("{items3}", taken, dice)),
        "items3" => list(GOODS, dice),
        "role" => list(ROLES, dice),
        "group" => match dice.below(2) {
            0 => format!("the {} team", dice.pick(TEAMS)),
            _ => format!("the {} group", word(dice)),
        },
        "event" => list(EVENTS, dice),
        "task" => list(TASKS, dice),
        "alarm" => list(ALARMS, dice),
        "rule" => list(RULES, dice),
        "paper" => list(PAPERS, dice),
        "work" | "work3" => list(WORK, dice),
        "work2" => capital(&fill("{work3}", taken, dice)),
        "gear" => list(GEAR, dice),
        unknown => unreachable!("a form has a place {unknown}"),
    }
}

fn number(dice: &mut Dice) -> String {
    let high = *dice.pick(&[9, 30, 99, 400, 999, 5000]);
    format!("{}", dice.between(2, high))
}

fn code(dice: &mut Dice) -> String {
    let letter =
        |dice: &mut Dice| char::from(b'A' + u8::try_from(dice.below(26)).expect("a letter"));
    let (a, b) = (letter(dice), letter(dice));
    match dice.below(3) {
        0 => format!("{a}{b}-{}", dice.between(100, 9999)),
        1 => format!("{a}{}", dice.between(10, 999)),
        _ => format!("{}-{a}{b}-{}", dice.between(10, 99), dice.between(10, 99)),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_fills_and_leaves_no_brace() {
        let mut dice = Dice::new(1);
        for _ in 0..4000 {
            let s = thing(&mut dice);
            for fact in [about(&s, &[], &mut dice), alone(&mut dice)] {
                let both = format!("{} {}", fact.sentence, fact.question);
                assert!(!both.contains(['{', '}']), "{both}");
                assert!(fact.sentence.ends_with('.') && fact.question.ends_with('?'), "{both}");
            }
        }
    }
}
