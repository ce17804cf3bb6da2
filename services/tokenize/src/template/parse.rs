//! Jinja's statements and expressions, as far as chat templates write them.

use super::{
    TemplateError,
    lex::{Segment, Word, segments},
};

/// Deeper nesting is refused, so that hostile programs cannot use up the stack.
const DEPTH_MAX: usize = 48;
/// More operators, members, filters and tests than any known tag has: a chain of them is a tree as deep
/// as it is long.
const CHAIN_MAX: usize = 512;

/// A statement.
#[derive(Debug)]
pub(super) enum Statement {
    Text(String),
    Output(Expression),
    /// Branches with their conditions, and what is done otherwise.
    If(Vec<(Expression, Vec<Self>)>, Vec<Self>),
    For {
        name: String,
        over: Expression,
        body: Vec<Self>,
    },
    Set(String, Expression),
    /// Parsed so that an untaken branch may hold it; never followed.
    Foreign(String),
}

/// An expression.
#[derive(Debug)]
pub(super) enum Expression {
    Text(String),
    Number(i64),
    Name(String),
    /// `base.name`
    Attribute(Box<Self>, String),
    /// `base[index]`
    Item(Box<Self>, Box<Self>),
    /// `base[from:to]`
    Slice(Box<Self>, Option<Box<Self>>, Option<Box<Self>>),
    Call(Box<Self>, Vec<Self>),
    /// `base | name`
    Filter(Box<Self>, String),
    /// `base is name`
    Test(Box<Self>, String),
    Not(Box<Self>),
    /// An operator, left and right.
    Binary(&'static str, Box<Self>, Box<Self>),
    /// `yes if condition else no`
    Choice(Box<Self>, Box<Self>, Option<Box<Self>>),
    /// A list, a dictionary, a power: never followed.
    Foreign(&'static str),
}

/// Parses a program.
pub(super) fn program(text: &str) -> Result<Vec<Statement>, TemplateError> {
    let mut parser = Blocks { segments: segments(text)?.into_iter(), depth: 0 };
    let (body, end) = parser.until(&[])?;
    match end {
        None => Ok(body),
        Some((_word, line)) => Err(TemplateError::Syntax { line }),
    }
}

struct Blocks {
    segments: std::vec::IntoIter<Segment>,
    depth: usize,
}

/// The tag that ended a body: its words and line.
type End = Option<(Words, usize)>;

impl Blocks {
    /// Statements up to a tag that starts with one of `ends`, or to the end of the program.
    fn until(&mut self, ends: &[&str]) -> Result<(Vec<Statement>, End), TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(TemplateError::unsupported("nesting", "deeper than 48"));
        }
        let mut body = Vec::new();
        while let Some(segment) = self.segments.next() {
            match segment {
                Segment::Text(text) if text.is_empty() => {}
                Segment::Text(text) => body.push(Statement::Text(text)),
                Segment::Output(words, line) => {
                    let mut words = Words::new(words, line);
                    body.push(Statement::Output(words.whole()?));
                }
                Segment::Statement(words, line) => {
                    let mut words = Words::new(words, line);
                    let keyword = words.name()?;
                    if ends.contains(&keyword.as_str()) {
                        words.keyword = keyword;
                        self.depth -= 1;
                        return Ok((body, Some((words, line))));
                    }
                    body.push(self.statement(&keyword, words)?);
                }
            }
        }
        self.depth -= 1;
        Ok((body, None))
    }

    fn statement(&mut self, keyword: &str, mut words: Words) -> Result<Statement, TemplateError> {
        let unclosed = TemplateError::Syntax { line: words.line };
        match keyword {
            "if" => {
                let mut branches = Vec::new();
                let mut condition = words.whole()?;
                loop {
                    let (body, end) = self.until(&["elif", "else", "endif"])?;
                    branches.push((condition, body));
                    let (mut end, _line) = end.ok_or_else(|| unclosed.clone())?;
                    match end.keyword.as_str() {
                        "elif" => condition = end.whole()?,
                        "else" => {
                            let (otherwise, end) = self.until(&["endif"])?;
                            end.ok_or(unclosed)?;
                            return Ok(Statement::If(branches, otherwise));
                        }
                        _endif => return Ok(Statement::If(branches, Vec::new())),
                    }
                }
            }
            "for" => {
                let name = words.name()?;
                words.expect_name("in")?;
                let over = words.expression()?;
                let plain = words.rest.is_empty();
                let (body, end) = self.until(&["endfor", "else"])?;
                let (end, _line) = end.ok_or(unclosed)?;
                if !plain || end.keyword == "else" {
                    return Ok(Statement::Foreign("a loop with a condition".to_owned()));
                }
                Ok(Statement::For { name, over, body })
            }
            "set" => {
                let name = words.name()?;
                if words.take(&Word::Sign("=")) {
                    return Ok(Statement::Set(name, words.whole()?));
                }
                if words.rest.is_empty() {
                    return Err(TemplateError::unsupported("a statement", "set block"));
                }
                Ok(Statement::Foreign("set of an attribute".to_owned()))
            }
            other => Err(TemplateError::unsupported("a statement", other)),
        }
    }
}

/// The words of one tag that are still to be read.
struct Words {
    rest: std::collections::VecDeque<Word>,
    line: usize,
    depth: usize,
    /// Operators, members, filters and tests so far.
    chained: usize,
    keyword: String,
}

/// Binary operators from weakest to strongest binding.
const LEVELS: [&[&str]; 5] = [
    &["or"],
    &["and"],
    &["==", "!=", "<", ">", "<=", ">=", "in"],
    &["+", "-", "~"],
    &["*", "/", "//", "%"],
];

impl Words {
    fn new(words: Vec<Word>, line: usize) -> Self {
        Self { rest: words.into(), line, depth: 0, chained: 0, keyword: String::new() }
    }

    /// One more link of a chain.
    fn chain(&mut self) -> Result<(), TemplateError> {
        self.chained += 1;
        if self.chained > CHAIN_MAX {
            return Err(TemplateError::unsupported("a chain", "of more than 512 operators"));
        }
        Ok(())
    }

    fn wrong(&self) -> TemplateError {
        TemplateError::Syntax { line: self.line }
    }

    fn take(&mut self, word: &Word) -> bool {
        let found = self.rest.front() == Some(word);
        if found {
            self.rest.pop_front();
        }
        found
    }

    fn take_name(&mut self, name: &str) -> bool {
        let found = matches!(self.rest.front(), Some(Word::Name(front)) if front == name);
        if found {
            self.rest.pop_front();
        }
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), TemplateError> {
        if self.take(&Word::Sign(sign)) { Ok(()) } else { Err(self.wrong()) }
    }

    fn expect_name(&mut self, name: &str) -> Result<(), TemplateError> {
        if self.take_name(name) { Ok(()) } else { Err(self.wrong()) }
    }

    fn name(&mut self) -> Result<String, TemplateError> {
        match self.rest.pop_front() {
            Some(Word::Name(name)) => Ok(name),
            _ => Err(self.wrong()),
        }
    }

    /// An expression and nothing after it.
    fn whole(&mut self) -> Result<Expression, TemplateError> {
        let expression = self.expression()?;
        if self.rest.is_empty() { Ok(expression) } else { Err(self.wrong()) }
    }

    fn expression(&mut self) -> Result<Expression, TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(TemplateError::unsupported("nesting", "deeper than 48"));
        }
        let value = self.binary(0)?;
        let value = if self.take_name("if") {
            let condition = self.binary(0)?;
            let otherwise =
                if self.take_name("else") { Some(Box::new(self.expression()?)) } else { None };
            Expression::Choice(Box::new(value), Box::new(condition), otherwise)
        } else {
            value
        };
        self.depth -= 1;
        Ok(value)
    }

    fn binary(&mut self, level: usize) -> Result<Expression, TemplateError> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        if level == 2 && self.take_name("not") {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(TemplateError::unsupported("nesting", "deeper than 48"));
            }
            let negated = Expression::Not(Box::new(self.binary(level)?));
            self.depth -= 1;
            return Ok(negated);
        }
        let mut left = self.binary(level + 1)?;
        loop {
            let front = match self.rest.front() {
                Some(Word::Sign(sign)) => *sign,
                Some(Word::Name(name)) => name.as_str(),
                _ => return Ok(left),
            };
            let negated = level == 2 && front == "not";
            let Some(operator) = operators.iter().find(|o| **o == front || negated && **o == "in")
            else {
                return Ok(left);
            };
            self.rest.pop_front();
            self.chain()?;
            if negated {
                self.expect_name("in")?;
            }
            let right = self.binary(level + 1)?;
            left = Expression::Binary(operator, Box::new(left), Box::new(right));
            if negated {
                left = Expression::Not(Box::new(left));
            }
        }
    }

    /// A value with what is applied to it: `.x`, `[…]`, `(…)`, `| filter`, `is test`.
    fn unary(&mut self) -> Result<Expression, TemplateError> {
        if self.take(&Word::Sign("-")) {
            if self.rest.front() == Some(&Word::Sign("-")) {
                return Err(TemplateError::unsupported("nesting", "of minus signs"));
            }
            let value = self.unary()?;
            let zero = Box::new(Expression::Number(0));
            return Ok(Expression::Binary("-", zero, Box::new(value)));
        }
        let mut value = self.primary()?;
        loop {
            value = if self.take(&Word::Sign(".")) {
                Expression::Attribute(Box::new(value), self.name()?)
            } else if self.take(&Word::Sign("[")) {
                self.subscript(value)?
            } else if self.take(&Word::Sign("(")) {
                Expression::Call(Box::new(value), self.list(")")?)
            } else if self.take(&Word::Sign("|")) {
                let name = self.name()?;
                if self.take(&Word::Sign("(")) {
                    self.list(")")?;
                    Expression::Filter(Box::new(value), format!("{name}(…)"))
                } else {
                    Expression::Filter(Box::new(value), name)
                }
            } else if self.take_name("is") {
                let negated = self.take_name("not");
                let test = Expression::Test(Box::new(value), self.name()?);
                if negated { Expression::Not(Box::new(test)) } else { test }
            } else {
                return Ok(value);
            };
            self.chain()?;
        }
    }

    fn subscript(&mut self, base: Expression) -> Result<Expression, TemplateError> {
        let colon = Word::Sign(":");
        let from = if self.rest.front() == Some(&colon) { None } else { Some(self.expression()?) };
        if self.take(&colon) {
            let close = Word::Sign("]");
            let to =
                if self.rest.front() == Some(&close) { None } else { Some(self.expression()?) };
            if self.take(&colon) {
                return Err(TemplateError::unsupported("an expression", "slice with a step"));
            }
            self.expect("]")?;
            return Ok(Expression::Slice(Box::new(base), from.map(Box::new), to.map(Box::new)));
        }
        self.expect("]")?;
        let index = from.ok_or_else(|| self.wrong())?;
        Ok(Expression::Item(Box::new(base), Box::new(index)))
    }

    /// Values up to `close`; keywords are parsed and dropped, for no followed call takes any.
    fn list(&mut self, close: &'static str) -> Result<Vec<Expression>, TemplateError> {
        let mut list = Vec::new();
        while !self.take(&Word::Sign(close)) {
            let value = self.expression()?;
            if self.take(&Word::Sign("=")) || self.take(&Word::Sign(":")) {
                self.expression()?;
            }
            list.push(value);
            if !self.take(&Word::Sign(",")) {
                self.expect(close)?;
                break;
            }
        }
        Ok(list)
    }

    fn primary(&mut self) -> Result<Expression, TemplateError> {
        match self.rest.pop_front() {
            Some(Word::Text(text)) => Ok(Expression::Text(text)),
            Some(Word::Number(number)) => Ok(Expression::Number(number)),
            Some(Word::Name(name)) => Ok(Expression::Name(name)),
            Some(Word::Sign("(")) => {
                let value = self.expression()?;
                self.expect(")")?;
                Ok(value)
            }
            Some(Word::Sign("[")) => self.list("]").map(|_items| Expression::Foreign("a list")),
            Some(Word::Sign("{")) => {
                self.list("}").map(|_items| Expression::Foreign("a dictionary"))
            }
            _ => Err(self.wrong()),
        }
    }
}
