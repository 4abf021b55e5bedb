//! Patterns of an allow-list: the regular expressions that people write there, matched in time that grows with the
//! text alone, whatever the pattern.
//!
//! Literals, `.`, `[…]`, `\d`, `\w`, `\s`, groups, `|`, `*`, `+`, `?`, `{n,m}`, `^`, `$`: with the meaning that they have
//! for Go's `regexp`, which the reference uses. Anything else is refused, and so nothing is allowed that the reference would
//! not allow. No regular expression library: what a runtime executes for each pod stays small.

use std::collections::BTreeSet;
use std::str::Chars;

/// A pattern, ready to be looked for.
#[derive(Debug)]
pub(super) struct Pattern {
    program: Vec<Step>,
}

/// One step of a search (Thompson's construction): where a search may be, with one character read after another.
#[derive(Debug, Clone)]
enum Step {
    /// Takes one character.
    Take(Set),
    /// Goes on at the text's beginning only.
    Beginning,
    /// Goes on at the text's end only.
    End,
    /// Goes on in two places.
    Fork(usize, usize),
    /// The pattern has been found.
    Found,
}

/// A set of characters.
#[derive(Debug, Clone, Default)]
struct Set {
    ranges: Vec<(char, char)>,
    inverted: bool,
}

/// What a pattern is made of.
#[derive(Debug, Clone)]
enum Node {
    Take(Set),
    Beginning,
    End,
    All(Vec<Self>),
    Any(Vec<Self>),
    Repeated { node: Box<Self>, least: u32, most: Option<u32> },
}

/// Deepest nesting of groups, and the longest program: enough for any list that a person writes.
const DEPTH: u32 = 50;
const STEPS: usize = 5000;
/// As in Go.
const REPETITIONS: u32 = 1000;

impl Pattern {
    /// Reads a pattern; else the text says why it is none.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text.chars(), depth: 0 };
        let node = parser.alternatives()?;
        if parser.rest.as_str().starts_with(')') {
            return Err("a ')' without its '('".to_owned());
        }
        let mut program = Vec::new();
        compile(&node, &mut program)?;
        program.push(Step::Found);
        Ok(Self { program })
    }

    /// Whether it is found anywhere in a text.
    pub(super) fn is_found_in(&self, text: &str) -> bool {
        let mut places = BTreeSet::new();
        let mut rest = text.chars();
        let mut beginning = true;
        loop {
            let next = rest.next();
            // It may begin here.
            self.enter(0, beginning, next.is_none(), &mut places);
            if places.contains(&(self.program.len() - 1)) {
                return true;
            }
            let Some(next) = next else { return false };
            let before = std::mem::take(&mut places);
            let at_end = rest.as_str().is_empty();
            for place in before {
                if let Some(Step::Take(set)) = self.program.get(place)
                    && set.contains(next)
                {
                    self.enter(place + 1, false, at_end, &mut places);
                }
            }
            beginning = false;
        }
    }

    /// Notes a place, and those that it leads to without a character.
    fn enter(&self, place: usize, beginning: bool, end: bool, places: &mut BTreeSet<usize>) {
        let mut todo = vec![place];
        while let Some(place) = todo.pop() {
            if !places.insert(place) {
                continue;
            }
            match self.program.get(place) {
                Some(Step::Fork(one, other)) => todo.extend([*other, *one]),
                Some(Step::Beginning) if beginning => todo.push(place + 1),
                Some(Step::End) if end => todo.push(place + 1),
                _ => {}
            }
        }
    }
}

fn compile(node: &Node, program: &mut Vec<Step>) -> Result<(), String> {
    if program.len() > STEPS {
        return Err("it is too long".to_owned());
    }
    match node {
        Node::Take(set) => program.push(Step::Take(set.clone())),
        Node::Beginning => program.push(Step::Beginning),
        Node::End => program.push(Step::End),
        Node::All(nodes) => nodes.iter().try_for_each(|node| compile(node, program))?,
        Node::Any(nodes) => {
            let mut exits = Vec::new();
            for (n, node) in nodes.iter().enumerate() {
                let fork = program.len();
                let last = n + 1 == nodes.len();
                if !last {
                    program.push(Step::Fork(fork + 1, 0));
                }
                compile(node, program)?;
                if !last {
                    exits.push(program.len());
                    program.push(Step::Fork(0, 0));
                    let next = program.len();
                    set(program, fork, Step::Fork(fork + 1, next));
                }
            }
            let after = program.len();
            exits.into_iter().for_each(|exit| set(program, exit, Step::Fork(after, after)));
        }
        Node::Repeated { node, least, most } => {
            for _ in 0..*least {
                compile(node, program)?;
            }
            match most {
                None => {
                    let fork = program.len();
                    program.push(Step::Fork(0, 0));
                    compile(node, program)?;
                    program.push(Step::Fork(fork, fork));
                    let after = program.len();
                    set(program, fork, Step::Fork(fork + 1, after));
                }
                Some(most) => {
                    let mut forks = Vec::new();
                    for _ in *least..*most {
                        forks.push(program.len());
                        program.push(Step::Fork(0, 0));
                        compile(node, program)?;
                    }
                    let after = program.len();
                    forks.into_iter().for_each(|fork| set(program, fork, Step::Fork(fork + 1, after)));
                }
            }
        }
    }
    Ok(())
}

fn set(program: &mut [Step], place: usize, step: Step) {
    if let Some(old) = program.get_mut(place) {
        *old = step;
    }
}

impl Set {
    fn of(ranges: &[(char, char)]) -> Self {
        Self { ranges: ranges.to_vec(), inverted: false }
    }

    /// `\d` and its likes; `None` for another letter.
    fn named(letter: char) -> Option<Self> {
        let set = match letter.to_ascii_lowercase() {
            'd' => Self::of(&[('0', '9')]),
            'w' => Self::of(&[('0', '9'), ('A', 'Z'), ('a', 'z'), ('_', '_')]),
            's' => Self::of(&[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')]),
            _ => return None,
        };
        Some(Self { inverted: letter.is_ascii_uppercase(), ..set })
    }

    fn contains(&self, character: char) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&character)) != self.inverted
    }
}

struct Parser<'a> {
    rest: Chars<'a>,
    depth: u32,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    /// Takes what follows, if it is just this.
    fn skip(&mut self, text: &str) -> bool {
        let Some(rest) = self.rest.as_str().strip_prefix(text) else { return false };
        self.rest = rest.chars();
        true
    }

    fn alternatives(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("its groups are nested too deep".to_owned());
        }
        let mut all = vec![self.sequence()?];
        while self.skip("|") {
            all.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(Node::Any(all))
    }

    fn sequence(&mut self) -> Result<Node, String> {
        let mut nodes = Vec::new();
        while self.peek().is_some_and(|next| !matches!(next, '|' | ')')) {
            let node = self.atom()?;
            nodes.push(self.repetition(node)?);
        }
        Ok(Node::All(nodes))
    }

    fn atom(&mut self) -> Result<Node, String> {
        Ok(match self.rest.next() {
            Some('^') => Node::Beginning,
            Some('$') => Node::End,
            Some('.') => Node::Take(Set { ranges: vec![('\n', '\n')], inverted: true }),
            Some('[') => Node::Take(self.set()?),
            Some('\\') => self.escape()?,
            Some('(') => {
                if !self.skip("?:") && self.peek() == Some('?') {
                    return Err("a group that begins with '(?' is not understood, except '(?:'".to_owned());
                }
                let node = self.alternatives()?;
                if !self.skip(")") {
                    return Err("a '(' without its ')'".to_owned());
                }
                node
            }
            Some(sign @ ('*' | '+' | '?')) => return Err(format!("a '{sign}' with nothing to repeat")),
            Some(literal) => Node::Take(Set::of(&[(literal, literal)])),
            None => Node::All(Vec::new()),
        })
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<Node, String> {
        let Some(letter) = self.rest.next() else { return Err("a '\\' at its end".to_owned()) };
        match letter {
            'A' => Ok(Node::Beginning),
            'z' => Ok(Node::End),
            letter => Set::named(letter).map_or_else(|| escaped(letter), Ok).map(Node::Take),
        }
    }

    /// How often what was just read may come.
    fn repetition(&mut self, node: Node) -> Result<Node, String> {
        let (least, most) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => match self.counts()? {
                Some(counts) => return self.repeated(node, counts),
                // As it stands there.
                None => return Ok(node),
            },
            _ => return Ok(node),
        };
        self.rest.next();
        self.repeated(node, (least, most))
    }

    fn repeated(&mut self, node: Node, (least, most): (u32, Option<u32>)) -> Result<Node, String> {
        // To match as little as possible is still to match.
        self.skip("?");
        let again = matches!(self.peek(), Some('*' | '+' | '?')) || self.clone_counts().is_some();
        if again {
            return Err("something is to be repeated twice".to_owned());
        }
        Ok(Node::Repeated { node: Box::new(node), least, most })
    }

    fn clone_counts(&self) -> Option<(&str, &str)> {
        let (counts, rest) = self.rest.as_str().strip_prefix('{')?.split_once('}')?;
        let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        (number(least) && (most.is_empty() || number(most))).then_some((counts, rest))
    }

    /// `{n}`, `{n,}` or `{n,m}`, which it takes; anything else after a `{` is not about repetition.
    fn counts(&mut self) -> Result<Option<(u32, Option<u32>)>, String> {
        let Some((counts, rest)) = self.clone_counts() else { return Ok(None) };
        let number = |text: &str| match text.parse() {
            Ok(number) if number <= REPETITIONS => Ok(number),
            _ => Err(format!("{{{counts}}} is too often")),
        };
        let (least, most) = match counts.split_once(',') {
            None => (number(counts)?, Some(number(counts)?)),
            Some((least, "")) => (number(least)?, None),
            Some((least, most)) => (number(least)?, Some(number(most)?)),
        };
        if most.is_some_and(|most| most < least) {
            return Err(format!("{{{counts}}} is never"));
        }
        let length = self.rest.as_str().len() - rest.len();
        self.rest = self.rest.as_str().get(length..).unwrap_or_default().chars();
        Ok(Some((least, most)))
    }

    /// What is between brackets.
    fn set(&mut self) -> Result<Set, String> {
        let mut set = Set { ranges: Vec::new(), inverted: self.skip("^") };
        let mut first = true;
        loop {
            let character = match self.rest.next() {
                None => return Err("a '[' without its ']'".to_owned()),
                Some(']') if !first => return Ok(set),
                Some('[') if self.peek() == Some(':') => {
                    return Err("a class by name, as [:alpha:], is not understood".to_owned());
                }
                Some('\\') => match self.rest.next() {
                    None => return Err("a '\\' at its end".to_owned()),
                    Some(letter) => match Set::named(letter) {
                        Some(named) if named.inverted => {
                            return Err(format!("\\{letter} between brackets is not understood"));
                        }
                        Some(named) => {
                            set.ranges.extend(named.ranges);
                            first = false;
                            continue;
                        }
                        None => single(&escaped(letter)?)?,
                    },
                },
                Some(character) => character,
            };
            first = false;
            let rest = self.rest.as_str();
            let last = if rest.starts_with('-') && !rest.starts_with("-]") && rest.len() > 1 {
                self.rest.next();
                match self.rest.next() {
                    Some('\\') => match self.rest.next() {
                        Some(letter) => single(&escaped(letter)?)?,
                        None => return Err("a '\\' at its end".to_owned()),
                    },
                    Some(last) => last,
                    None => return Err("a '[' without its ']'".to_owned()),
                }
            } else {
                character
            };
            if last < character {
                return Err(format!("the range {character}-{last} is the wrong way round"));
            }
            set.ranges.push((character, last));
        }
    }
}

/// A character behind a backslash that means itself.
fn escaped(letter: char) -> Result<Set, String> {
    if letter.is_ascii_punctuation() {
        Ok(Set::of(&[(letter, letter)]))
    } else {
        Err(format!("\\{letter} is not understood"))
    }
}

/// The one character of a set.
fn single(set: &Set) -> Result<char, String> {
    set.ranges.first().map(|(character, _)| *character).ok_or_else(|| "an empty set".to_owned())
}

#[cfg(test)]
mod tests;
