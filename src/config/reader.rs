//! Takes settings out of the tree, key by key, and remembers what was asked for and what was wrong.
//!
//! Comes in: a [`Node`] tree, the environment, secret files. Goes out: values of the asked kind, or a problem with line,
//! column and hint; all problems of a file are gathered, so that one run names them all. What nobody asked for is an
//! unknown key. Never: a secret's text in a problem.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::substitute::{Unfilled, substitute};
use super::tree::{Entry, Node, Place, Value};
use super::{Authorities, Secret, duration};
use crate::Error;
use crate::error::Kind;

/// What one reading of a file shares.
pub(super) struct Context<'a> {
    /// The file's name as the user gave it.
    pub file: String,
    /// Secret files are looked up from here.
    pub directory: PathBuf,
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    problems: RefCell<Vec<Problem>>,
    /// Dotted paths of all keys that are taken, and of those that a later version will take.
    asked: RefCell<BTreeSet<String>>,
    refused: RefCell<BTreeSet<String>>,
}

struct Problem {
    kind: Kind,
    place: Place,
    message: String,
    hint: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Text {
    pub place: Place,
    pub text: String,
    /// What a message may show: the reference rather than the value of a variable, which may be a secret.
    pub shown: String,
}

impl<'a> Context<'a> {
    pub fn new(file: String, directory: PathBuf, environment: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            file,
            directory,
            environment,
            problems: RefCell::default(),
            asked: RefCell::default(),
            refused: RefCell::default(),
        }
    }

    pub fn problem(&self, place: Place, message: impl Into<String>, hint: Option<&str>) {
        self.problem_of(Kind::ConfigInvalid, place, message.into(), hint);
    }

    fn problem_of(&self, kind: Kind, place: Place, message: String, hint: Option<&str>) {
        let hint = hint.map(str::to_owned);
        self.problems.borrow_mut().push(Problem { kind, place, message, hint });
    }

    /// To see later whether a problem came since.
    pub fn problem_count(&self) -> usize {
        self.problems.borrow().len()
    }

    /// All problems as one error, in the order of the file; none if there are none.
    pub fn error(&self) -> Option<Error> {
        let mut problems = self.problems.take();
        problems.sort_by_key(|problem| problem.place);
        let first = problems.first()?;
        let line = |problem: &Problem| format!("{}:{}: {}", self.file, problem.place, problem.message);
        let error = match problems.as_slice() {
            [only] => Error::new(only.kind, line(only)),
            several => {
                let mut text = format!("{} problems in the configuration", several.len());
                for problem in several {
                    text.push_str("\n  ");
                    text.push_str(&line(problem));
                    if let Some(hint) = &problem.hint {
                        text.push_str(&format!(" ({hint})"));
                    }
                }
                Error::new(first.kind, text)
            }
        };
        Some(match &first.hint {
            Some(hint) if problems.len() == 1 => error.hint(hint.clone()),
            _ => error,
        })
    }

    #[cfg(test)]
    pub fn asked_and_refused(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        (self.asked.borrow().clone(), self.refused.borrow().clone())
    }

    /// The scalar with variables filled in; none (and a problem) if it is no scalar or a variable is missing; none
    /// without a problem if it is null.
    pub fn text(&self, node: &Node) -> Option<Text> {
        let Value::Scalar { text, plain } = &node.value else {
            self.problem(node.place, format!("a single value belongs here, not {}", node.kind()), None);
            return None;
        };
        let place = node.place;
        match substitute(text, self.environment) {
            Ok(text) if *plain && matches!(text.as_str(), "" | "~" | "null") => None,
            Ok(filled) => Some(Text { place, text: filled, shown: text.clone() }),
            Err(Unfilled::Missing(name)) => {
                let hint = format!("set {name}, or write a default: ${{{name}:-…}}");
                let message = format!("environment variable {name} is not set");
                self.problem_of(Kind::SecretMissing, place, message, Some(&hint));
                None
            }
            Err(Unfilled::Malformed) => {
                let hint = "write `${NAME}` or `${NAME:-default}`; `$${` stands for a literal `${`";
                self.problem(place, "this is no variable reference", Some(hint));
                None
            }
        }
    }

    /// A file of certificate authorities.
    pub fn authorities(&self, path: &Text) -> Option<Authorities> {
        let expanded = self.path(&path.text);
        let read = std::fs::read_to_string(&expanded).map_err(|error| error.to_string());
        let refuse = |why: String| {
            let message = format!("certificate file {}: {why}", expanded.display());
            let hint = "give a file of certificates in PEM: `-----BEGIN CERTIFICATE-----` and so on";
            self.problem(path.place, message, Some(hint));
        };
        read.and_then(|pem| Authorities::parse(&pem)).map_err(refuse).ok()
    }

    /// A path as people write it: from the configuration file on, or from the home directory.
    pub fn path(&self, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), (self.environment)("HOME")) {
            (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
            _ => self.directory.join(text),
        }
    }

    /// A secret's file, without the newline that editors put at its end.
    pub fn secret_file(&self, path: &Text) -> Option<Secret> {
        let expanded = self.path(&path.text);
        let refuse = |why: String| {
            let message = format!("secret file {}: {why}", expanded.display());
            let hint = "the file must be readable by this user and hold nothing but the secret";
            self.problem_of(Kind::SecretMissing, path.place, message, Some(hint));
        };
        match std::fs::read_to_string(&expanded) {
            Ok(text) => {
                let secret = text.strip_suffix('\n').unwrap_or(&text);
                let secret = secret.strip_suffix('\r').unwrap_or(secret);
                if secret.is_empty() {
                    refuse("it is empty".to_owned());
                    return None;
                }
                Some(Secret::new(secret))
            }
            Err(error) => {
                refuse(error.to_string());
                None
            }
        }
    }
}

/// One map of the file, or the absence of it: absent sections are read too, so that all defaults come from one place.
pub(super) struct Section<'a> {
    context: &'a Context<'a>,
    /// Dotted path of the section: `kafka.topics`; empty for the whole file.
    path: String,
    /// Where its key or list item stands.
    place: Place,
    entries: &'a [Entry],
    known: RefCell<Vec<String>>,
    /// Of a section that is no map: one problem is enough.
    broken: bool,
}

impl<'a> Section<'a> {
    pub fn new(context: &'a Context<'a>, path: &str, place: Place, node: Option<&'a Node>) -> Self {
        let (entries, broken): (&[Entry], _) = match node {
            None => (&[], false),
            Some(Node { value: Value::Map(entries), .. }) => (entries, false),
            Some(Node { value: Value::Scalar { text, plain: true }, .. }) if text.is_empty() => (&[], false),
            Some(node) => {
                let name = if path.is_empty() { "a configuration" } else { path };
                context.problem(
                    node.place,
                    format!("`{name}` holds keys with values, not {}", node.kind()),
                    None,
                );
                (&[], true)
            }
        };
        Self { context, path: path.to_owned(), place, entries, known: RefCell::default(), broken }
    }

    pub fn context(&self) -> &'a Context<'a> {
        self.context
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Where a key stands, or else the section.
    pub fn place_of(&self, key: &str) -> Place {
        self.entry(key).map_or(self.place, |entry| entry.place)
    }

    pub fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    pub fn node(&self, key: &str) -> Option<&'a Node> {
        self.context.asked.borrow_mut().insert(self.full(key));
        self.known.borrow_mut().push(key.to_owned());
        self.entry(key).map(|entry| &entry.value)
    }

    pub fn text(&self, key: &str) -> Option<Text> {
        self.node(key).and_then(|node| self.context.text(node))
    }

    /// What `read` takes under this key; that it is missing or empty is a problem, unless `read` found one already.
    pub fn demand<T>(&self, key: &str, hint: &str, read: impl FnOnce(&Self) -> Option<T>) -> Option<T> {
        let before = self.context.problems.borrow().len();
        let value = read(self);
        if value.is_none() && self.context.problems.borrow().len() == before && !self.broken {
            let message = match self.entry(key) {
                Some(_) => format!("`{}` is empty", self.full(key)),
                None if self.path.is_empty() => format!("`{key}` is missing"),
                None => format!("`{key}` is missing in `{}`", self.path),
            };
            self.context.problem(self.place_of(key), message, Some(hint));
        }
        value
    }

    pub fn required(&self, key: &str, hint: &str) -> Option<Text> {
        self.demand(key, hint, |section| section.text(key).filter(|text| !text.text.is_empty()))
    }

    /// A value by a rule of its own; `wanted` says what it should be.
    pub fn parsed<T>(&self, key: &str, wanted: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(key)?;
        let value = parse(&text.text);
        if value.is_none() {
            let message = format!("`{}`: `{}` is not {wanted}", self.full(key), text.shown);
            self.context.problem(text.place, message, None);
        }
        value
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        self.parsed(key, "`true` or `false`", |text| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    pub fn number<T: TryFrom<i64>>(&self, key: &str, range: RangeInclusive<i64>) -> Option<T> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        self.parsed(key, &wanted, |text| {
            let number: i64 = text.parse().ok().filter(|number| range.contains(number))?;
            T::try_from(number).ok()
        })
    }

    pub fn duration(&self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let (from, to) = (duration::spell(*range.start()), duration::spell(*range.end()));
        let wanted = format!("a duration from {from} to {to}, such as `30s`, `15m`, `1h`");
        self.parsed(key, &wanted, |text| duration::parse(text).filter(|value| range.contains(value)))
    }

    /// One of a closed set. `None` stands for what a later version brings.
    pub fn choice<T: Clone>(&self, key: &str, choices: &[(&str, Option<T>)]) -> Option<T> {
        let text = self.text(key)?;
        match choices.iter().find(|(word, _)| *word == text.text) {
            Some((_, Some(value))) => Some(value.clone()),
            Some((word, None)) => {
                let available = choices.iter().filter(|(_, value)| value.is_some()).map(|(word, _)| *word);
                let hint = format!("this version knows {}", one_of(available));
                let message = format!("`{}: {word}` is not available in this version", self.full(key));
                self.context.problem(text.place, message, Some(&hint));
                None
            }
            None => {
                let words = || choices.iter().map(|(word, _)| *word);
                let hint = near(&text.text, words()).map_or_else(
                    || format!("use {}", one_of(words())),
                    |word| format!("did you mean `{word}`?"),
                );
                let message = format!("`{}` knows no value `{}`", self.full(key), text.shown);
                self.context.problem(text.place, message, Some(&hint));
                None
            }
        }
    }

    /// The value of the key itself, or of the file that `<key>_file` names.
    pub fn secret(&self, key: &str) -> Option<Secret> {
        let file_key = format!("{key}_file");
        let own = self.text(key);
        let file = self.text(&file_key);
        match (own, file) {
            (Some(own), Some(file)) => {
                let message = format!("`{}` and `{}` are both given", self.full(key), self.full(&file_key));
                self.context.problem(own.place.max(file.place), message, Some("keep one of them"));
                None
            }
            (Some(own), None) => Some(Secret::new(own.text)),
            (None, Some(file)) => self.context.secret_file(&file),
            (None, None) => None,
        }
    }

    pub fn required_secret(&self, key: &str, hint: &str) -> Option<Secret> {
        self.demand(key, hint, |section| section.secret(key).filter(|secret| !secret.expose().is_empty()))
    }

    pub fn section(&self, key: &str) -> Section<'a> {
        let place = self.place_of(key);
        Section::new(self.context, &self.full(key), place, self.node(key))
    }

    /// The items of a list.
    pub fn list(&self, key: &str) -> Option<Vec<&'a Node>> {
        let node = self.node(key)?;
        match &node.value {
            Value::List(items) => Some(items.iter().collect()),
            Value::Scalar { text, plain: true } if text.is_empty() => Some(Vec::new()),
            _ => {
                let message = format!("`{}` is a list, not {}", self.full(key), node.kind());
                self.context.problem(node.place, message, Some("write `[a, b]`, or one `- item` a line"));
                None
            }
        }
    }

    pub fn texts(&self, key: &str) -> Option<Vec<Text>> {
        Some(self.list(key)?.into_iter().filter_map(|node| self.context.text(node)).collect())
    }

    /// A map whose keys are not ours: name, place and value.
    pub fn pairs(&self, key: &str) -> Vec<(&'a str, Place, &'a Node)> {
        match self.node(key) {
            None => Vec::new(),
            Some(Node { value: Value::Map(entries), .. }) => {
                entries.iter().map(|Entry { key, place, value }| (key.as_str(), *place, value)).collect()
            }
            Some(Node { value: Value::Scalar { text, plain: true }, .. }) if text.is_empty() => Vec::new(),
            Some(node) => {
                let message = format!("`{}` holds keys with values, not {}", self.full(key), node.kind());
                self.context.problem(node.place, message, None);
                Vec::new()
            }
        }
    }

    /// Keys that the contract knows and this version does not: refused, never ignored.
    pub fn not_yet(&self, keys: &[(&str, &str)]) {
        for (key, instead) in keys {
            self.context.refused.borrow_mut().insert(self.full(key));
            self.known.borrow_mut().push((*key).to_owned());
            if let Some(entry) = self.entry(key) {
                let message = format!("`{}` is not available in this version", self.full(key));
                self.context.problem(entry.place, message, Some(instead));
            }
        }
    }

    /// What nobody asked for.
    pub fn finish(self) {
        let known = self.known.borrow();
        for entry in self.entries.iter().filter(|entry| !known.contains(&entry.key)) {
            let hint = near(&entry.key, known.iter().map(String::as_str)).map_or_else(
                || format!("known here: {}", known.join(", ")),
                |name| format!("did you mean `{name}`?"),
            );
            self.context.problem(
                entry.place,
                format!("unknown key `{}`", self.full(&entry.key)),
                Some(&hint),
            );
        }
    }
}

/// The known word that was probably meant.
pub(super) fn near<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let most = word.chars().count().max(3) / 3;
    known
        .map(|candidate| (strsim::damerau_levenshtein(&word.to_lowercase(), candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, candidate)| candidate)
}

fn one_of<'w>(words: impl Iterator<Item = &'w str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
