//! Follows a parsed template over a conversation whose roles are known and whose contents are not.
//!
//! A content is an unknown text: it can be written, trimmed and joined, but a decision that would
//! need to know it is refused. So what is found holds for every content.

use std::{cell::Cell, collections::BTreeMap};

use super::{
    Names, Speaker, TemplateError,
    parse::{Expression, Statement},
};

/// A piece of written text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    Text(String),
    /// `bos_token` or `eos_token`.
    Control(String),
    /// The content of a message, by its index.
    Content {
        message: usize,
        trim: bool,
    },
    Date,
}

impl Fragment {
    /// What it takes in memory.
    fn bytes(&self) -> usize {
        let text = match self {
            Self::Text(text) | Self::Control(text) => text.len(),
            Self::Content { .. } | Self::Date => 0,
        };
        size_of::<Self>() + text
    }
}

/// A value while the template runs.
#[derive(Clone, Debug)]
enum Value {
    Undefined,
    None,
    Bool(bool),
    Number(i64),
    Text(Vec<Fragment>),
    /// Messages from the first index up to the second.
    Messages(usize, usize),
    Message(usize),
    /// Where a loop is: index and count.
    Loop(usize, usize),
    /// A function of the surroundings.
    Function(&'static str),
}

/// What following one conversation of at most three messages may cost: time, and the texts that are held.
/// The templates of Qwen 2.5 and Llama 3.2 cost 11 000 at most.
const COST_MAX: usize = 1 << 19;
/// What a statement or a value costs beside its texts, for each scope that may be looked through.
const VALUE_COST: usize = 32;

/// What a run is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    pub(super) speakers: &'a [Speaker],
    pub(super) generate: bool,
    pub(super) names: Names<'a>,
    /// Whether a date is given; else the template says its own.
    pub(super) dated: bool,
}

/// What the template writes for `scene`; adjacent texts are joined.
pub(super) fn run(
    program: &[Statement],
    scene: &Scene<'_>,
) -> Result<Vec<Fragment>, TemplateError> {
    let name = |name: Option<&str>| {
        name.map_or(Value::Undefined, |n| Value::Text(vec![Fragment::Control(n.to_owned())]))
    };
    let mut globals = BTreeMap::from([
        ("messages".to_owned(), Value::Messages(0, scene.speakers.len())),
        ("add_generation_prompt".to_owned(), Value::Bool(scene.generate)),
        ("bos_token".to_owned(), name(scene.names.bos)),
        ("eos_token".to_owned(), name(scene.names.eos)),
        ("raise_exception".to_owned(), Value::Function("raise_exception")),
        ("tools".to_owned(), Value::None),
    ]);
    if scene.dated {
        globals.insert("date_string".to_owned(), Value::Text(vec![Fragment::Date]));
    }
    let mut run = Run { scene, scopes: vec![globals], written: Vec::new(), cost: Cell::new(0) };
    run.body(program)?;
    Ok(joined(run.written))
}

fn joined(fragments: Vec<Fragment>) -> Vec<Fragment> {
    let mut joined: Vec<Fragment> = Vec::new();
    for fragment in fragments {
        match (joined.last_mut(), fragment) {
            (_, Fragment::Text(text)) if text.is_empty() => {}
            (Some(Fragment::Text(before)), Fragment::Text(text)) => before.push_str(&text),
            (_, fragment) => joined.push(fragment),
        }
    }
    joined
}

struct Run<'a> {
    scene: &'a Scene<'a>,
    scopes: Vec<BTreeMap<String, Value>>,
    written: Vec<Fragment>,
    cost: Cell<usize>,
}

impl Run<'_> {
    /// Takes another step, with so many bytes of text.
    fn step(&self, bytes: usize) -> Result<(), TemplateError> {
        let cost = self.cost.get() + self.scopes.len() * VALUE_COST + bytes;
        if cost > COST_MAX {
            return Err(TemplateError::unsupported("a computation", "too long"));
        }
        self.cost.set(cost);
        Ok(())
    }

    fn body(&mut self, body: &[Statement]) -> Result<(), TemplateError> {
        for statement in body {
            self.step(0)?;
            self.statement(statement)?;
        }
        Ok(())
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), TemplateError> {
        match statement {
            Statement::Text(text) => {
                self.step(text.len())?;
                self.written.push(Fragment::Text(text.clone()));
            }
            Statement::Output(expression) => {
                let value = self.value(expression)?;
                let fragments = text(value)?;
                self.written.extend(fragments);
            }
            Statement::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if truth(&self.value(condition)?)? {
                        return self.body(body);
                    }
                }
                return self.body(otherwise);
            }
            Statement::For { name, over, body } => {
                let Value::Messages(from, to) = self.value(over)? else {
                    return Err(TemplateError::unsupported("a loop", "not over messages"));
                };
                for index in from..to {
                    self.step(name.len())?;
                    let scope = BTreeMap::from([
                        (name.clone(), Value::Message(index)),
                        ("loop".to_owned(), Value::Loop(index - from, to - from)),
                    ]);
                    self.scopes.push(scope);
                    let done = self.body(body);
                    self.scopes.pop();
                    done?;
                }
            }
            Statement::Set(name, expression) => {
                self.step(name.len())?;
                let value = self.value(expression)?;
                let scope = self.scopes.last_mut().expect("the global scope is never popped");
                scope.insert(name.clone(), value);
            }
            Statement::Foreign(name) => {
                return Err(TemplateError::unsupported("a statement", name));
            }
        }
        Ok(())
    }

    fn value(&self, expression: &Expression) -> Result<Value, TemplateError> {
        // What is copied here is all that texts are made of.
        self.step(match expression {
            Expression::Text(text) | Expression::Name(text) => text.len(),
            _ => 0,
        })?;
        match expression {
            Expression::Text(text) => Ok(Value::Text(vec![Fragment::Text(text.clone())])),
            Expression::Number(number) => Ok(Value::Number(*number)),
            Expression::Name(name) => self.named(name),
            Expression::Attribute(base, name) => self.member(&self.value(base)?, name),
            Expression::Item(base, index) => match (self.value(base)?, self.value(index)?) {
                (Value::Messages(from, to), Value::Number(index)) => {
                    let at = usize::try_from(index).ok().and_then(|index| from.checked_add(index));
                    Ok(at.filter(|at| *at < to).map_or(Value::Undefined, Value::Message))
                }
                (base, Value::Text(name)) => match name.as_slice() {
                    [Fragment::Text(name)] => self.member(&base, name),
                    _ => Err(TemplateError::unsupported("an index", "by a content")),
                },
                _ => Err(TemplateError::unsupported("an index", "of this kind")),
            },
            Expression::Slice(base, from, to) => self.slice(base, from.as_deref(), to.as_deref()),
            Expression::Call(function, _values) => match self.value(function)? {
                Value::Function(name) => Err(TemplateError::unsupported("a call", name)),
                _ => Err(TemplateError::unsupported("a call", called(function))),
            },
            Expression::Filter(base, name) => self.filter(base, name),
            Expression::Test(base, name) => self.test(base, name).map(Value::Bool),
            Expression::Not(value) => Ok(Value::Bool(!truth(&self.value(value)?)?)),
            Expression::Binary(operator, left, right) => self.binary(operator, left, right),
            Expression::Choice(value, condition, otherwise) => {
                match (truth(&self.value(condition)?)?, otherwise) {
                    (true, _) => self.value(value),
                    (false, Some(otherwise)) => self.value(otherwise),
                    (false, None) => Ok(Value::Undefined),
                }
            }
            Expression::Foreign(name) => Err(TemplateError::unsupported("an expression", name)),
        }
    }

    fn named(&self, name: &str) -> Result<Value, TemplateError> {
        Ok(match name {
            "true" | "True" => Value::Bool(true),
            "false" | "False" => Value::Bool(false),
            "none" | "None" => Value::None,
            _ => {
                let found = self.scopes.iter().rev().find_map(|scope| scope.get(name));
                if let Some(Value::Text(fragments)) = found {
                    self.step(fragments.iter().map(Fragment::bytes).sum())?;
                }
                found.cloned().unwrap_or(Value::Undefined)
            }
        })
    }

    fn member(&self, base: &Value, name: &str) -> Result<Value, TemplateError> {
        match (base, name) {
            (Value::Message(index), "role") => {
                let role = self.scene.speakers[*index].name().to_owned();
                Ok(Value::Text(vec![Fragment::Text(role)]))
            }
            (Value::Message(index), "content") => {
                Ok(Value::Text(vec![Fragment::Content { message: *index, trim: false }]))
            }
            // A plain message has these two members and no other.
            (Value::Message(_), _) => Ok(Value::Undefined),
            (Value::Loop(index, count), _) => {
                let number = |n: usize| Value::Number(i64::try_from(n).expect("at most three"));
                match name {
                    "first" => Ok(Value::Bool(*index == 0)),
                    "last" => Ok(Value::Bool(index + 1 == *count)),
                    "index0" => Ok(number(*index)),
                    "index" => Ok(number(index + 1)),
                    other => Err(TemplateError::unsupported("a loop variable", other)),
                }
            }
            (_, other) => Err(TemplateError::unsupported("a member", other)),
        }
    }

    fn slice(
        &self,
        base: &Expression,
        from: Option<&Expression>,
        to: Option<&Expression>,
    ) -> Result<Value, TemplateError> {
        let foreign = || TemplateError::unsupported("a slice", "of this kind");
        let Value::Messages(first, last) = self.value(base)? else { return Err(foreign()) };
        let start = match from.map(|from| self.value(from)).transpose()? {
            None => 0,
            Some(Value::Number(number)) => usize::try_from(number).map_err(|_minus| foreign())?,
            Some(_) => return Err(foreign()),
        };
        if to.is_some() {
            return Err(foreign());
        }
        Ok(Value::Messages((first + start).min(last), last))
    }

    fn filter(&self, base: &Expression, name: &str) -> Result<Value, TemplateError> {
        match (self.value(base)?, name) {
            (Value::Text(fragments), "trim") => match fragments.as_slice() {
                [Fragment::Text(text)] => {
                    let text = super::trimmed(text).to_owned();
                    Ok(Value::Text(vec![Fragment::Text(text)]))
                }
                [Fragment::Content { message, .. }] => {
                    Ok(Value::Text(vec![Fragment::Content { message: *message, trim: true }]))
                }
                _ => Err(TemplateError::unsupported("a filter", "trim of a joined text")),
            },
            (_, other) => Err(TemplateError::unsupported("a filter", other)),
        }
    }

    fn test(&self, base: &Expression, name: &str) -> Result<bool, TemplateError> {
        let value = self.value(base)?;
        match name {
            "defined" => Ok(!matches!(value, Value::Undefined)),
            "undefined" => Ok(matches!(value, Value::Undefined)),
            "none" => Ok(matches!(value, Value::None)),
            "string" => Ok(matches!(value, Value::Text(_))),
            "mapping" => Ok(matches!(value, Value::Message(_))),
            other => Err(TemplateError::unsupported("a test", other)),
        }
    }

    fn binary(
        &self,
        operator: &str,
        left: &Expression,
        right: &Expression,
    ) -> Result<Value, TemplateError> {
        let left = self.value(left)?;
        match operator {
            "and" => return if truth(&left)? { self.value(right) } else { Ok(left) },
            "or" => return if truth(&left)? { Ok(left) } else { self.value(right) },
            _ => {}
        }
        match (operator, left, self.value(right)?) {
            ("==", left, right) => equal(&left, &right).map(Value::Bool),
            ("!=", left, right) => equal(&left, &right).map(|equal| Value::Bool(!equal)),
            ("+" | "~", Value::Text(mut left), Value::Text(right)) => {
                left.extend(right);
                self.step(size_of_val(left.as_slice()))?;
                Ok(Value::Text(joined(left)))
            }
            ("+", Value::Number(left), Value::Number(right)) => number(left.checked_add(right)),
            ("-", Value::Number(left), Value::Number(right)) => number(left.checked_sub(right)),
            ("%", Value::Number(left), Value::Number(right)) => {
                number(left.checked_rem_euclid(right))
            }
            ("in", Value::Text(name), Value::Message(_)) => match name.as_slice() {
                [Fragment::Text(name)] => Ok(Value::Bool(name == "role" || name == "content")),
                _ => Err(TemplateError::unsupported("a condition", "on a content")),
            },
            ("in", _, _) => Err(TemplateError::unsupported("a condition", "on a content")),
            (other, _, _) => Err(TemplateError::unsupported("an operator", other)),
        }
    }
}

fn number(number: Option<i64>) -> Result<Value, TemplateError> {
    number.map(Value::Number).ok_or_else(|| TemplateError::unsupported("a number", "too large"))
}

/// What a refused call is known by.
fn called(function: &Expression) -> &str {
    match function {
        Expression::Name(name) | Expression::Attribute(_, name) => name,
        _ => "of an expression",
    }
}

/// The text that a value is written as.
fn text(value: Value) -> Result<Vec<Fragment>, TemplateError> {
    match value {
        Value::Text(fragments) => Ok(fragments),
        Value::Undefined => Ok(Vec::new()),
        Value::Number(number) => Ok(vec![Fragment::Text(number.to_string())]),
        Value::None
        | Value::Bool(_)
        | Value::Messages(..)
        | Value::Message(_)
        | Value::Loop(..)
        | Value::Function(_) => Err(TemplateError::unsupported("an output", "not a text")),
    }
}

fn truth(value: &Value) -> Result<bool, TemplateError> {
    match value {
        Value::Undefined | Value::None => Ok(false),
        Value::Bool(truth) => Ok(*truth),
        Value::Number(number) => Ok(*number != 0),
        Value::Messages(from, to) => Ok(from < to),
        Value::Message(_) | Value::Loop(..) | Value::Function(_) => Ok(true),
        Value::Text(fragments) => {
            let fixed = |f: &Fragment| matches!(f, Fragment::Text(_) | Fragment::Control(_));
            if fragments.iter().any(|f| fixed(f) && *f != Fragment::Text(String::new())) {
                return Ok(true);
            }
            if fragments.iter().all(fixed) {
                return Ok(false);
            }
            Err(TemplateError::unsupported("a condition", "on a content"))
        }
    }
}

fn equal(left: &Value, right: &Value) -> Result<bool, TemplateError> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => match (left.as_slice(), right.as_slice()) {
            ([], []) => Ok(true),
            ([Fragment::Text(left)], [Fragment::Text(right)]) => Ok(left == right),
            _ => Err(TemplateError::unsupported("a condition", "on a content")),
        },
        (Value::Number(left), Value::Number(right)) => Ok(left == right),
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        (Value::None, Value::None) => Ok(true),
        (Value::Undefined | Value::None, Value::Text(_) | Value::Number(_) | Value::Bool(_))
        | (Value::Text(_) | Value::Number(_) | Value::Bool(_), Value::Undefined | Value::None) => {
            Ok(false)
        }
        _ => Err(TemplateError::unsupported("a comparison", "of two kinds")),
    }
}
