//! The names that stand in recordings for changing values, and what each is in this run.
//!
//! A name (`<user:alice>`) is bound to what the simulated pod says where the recording has it first, and has to
//! be the same ever after; requests are sent with the bound values in place of the names.

use std::collections::{BTreeMap, BTreeSet};

/// What each name stands for in this run.
#[derive(Default)]
pub(crate) struct Names {
    bound: BTreeMap<String, String>,
    older: BTreeMap<String, String>,
    minting: BTreeSet<&'static str>,
}

impl Names {
    /// Binds `name` (without its angle brackets) from outside a recording.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.bound.insert(name.to_owned(), value.to_owned());
    }

    /// From here on, these kinds of names (`token`, `secret`) are issued again: a bound one is rebound at its
    /// next appearance, and must then differ from the older value.
    pub(crate) fn mint(&mut self, kinds: &[&'static str]) {
        self.minting = kinds.iter().copied().collect();
    }

    /// `text` with every name replaced by its value.
    ///
    /// # Panics
    /// If a name has no value yet: then the replay lacks a preparation.
    pub(crate) fn fill(&self, text: &str) -> String {
        self.fill_from(text, |name| self.bound.get(name))
    }

    /// As [`Names::fill`], with the value that each rebound name had before.
    pub(crate) fn fill_older(&self, text: &str) -> String {
        self.fill_from(text, |name| self.older.get(name).or_else(|| self.bound.get(name)))
    }

    fn fill_from<'a>(&self, text: &str, value: impl Fn(&str) -> Option<&'a String>) -> String {
        pieces(text)
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.to_owned(),
                Piece::Name(name) => {
                    let dashed_of = name.strip_suffix("-dashed");
                    let found = value(dashed_of.unwrap_or(name)).unwrap_or_else(|| panic!("<{name}> has no value yet"));
                    match dashed_of {
                        Some(_) => dashed(found),
                        None => found.clone(),
                    }
                }
            })
            .collect()
    }

    /// Whether `seen` is what `recorded` says, names taken for their values; binds the names met first.
    pub(crate) fn agree(&mut self, recorded: &str, seen: &str) -> Result<(), String> {
        let mut rest = seen;
        for piece in pieces(recorded) {
            match piece {
                Piece::Text(text) => {
                    rest = rest.strip_prefix(text).ok_or_else(|| format!("expected {text:?} at {rest:?}"))?;
                }
                Piece::Name(name) => {
                    let length =
                        length_of(name, rest).ok_or_else(|| format!("{rest:?} does not begin with a <{name}>"))?;
                    let (value, after) = rest.split_at(length);
                    self.bind(name, value)?;
                    rest = after;
                }
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(format!("{rest:?} follows")) }
    }

    fn bind(&mut self, name: &str, value: &str) -> Result<(), String> {
        let kind = kind_of(name);
        if FLEETING.contains(&kind) {
            return Ok(());
        }
        if let Some(whole) = name.strip_suffix("-dashed") {
            return self.bind(whole, &value.replace('-', ""));
        }
        let minted = self.minting.remove(kind);
        match self.bound.get(name) {
            Some(bound) if bound == value && minted => {
                return Err(format!("<{name}> should be a new one"));
            }
            Some(bound) if bound == value => return Ok(()),
            Some(bound) if !minted => {
                return Err(format!("<{name}> was {bound}, is {value}"));
            }
            Some(bound) => {
                self.older.insert(name.to_owned(), bound.clone());
            }
            None => {}
        }
        if let Some((other, _)) = self.bound.iter().find(|(_, bound)| *bound == value) {
            return Err(format!("<{name}> is the same as <{other}>"));
        }
        self.bound.insert(name.to_owned(), value.to_owned());
        Ok(())
    }
}

/// Kinds of which every appearance is another value.
const FLEETING: [&str; 3] = ["time", "uuid", "trace"];

enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((start, end)) = next_name(rest) {
        pieces.push(Piece::Text(&rest[..start]));
        pieces.push(Piece::Name(&rest[start + 1..end]));
        rest = &rest[end + 1..];
    }
    pieces.push(Piece::Text(rest));
    pieces
}

fn next_name(text: &str) -> Option<(usize, usize)> {
    let start = text.find('<')?;
    let end = start + text[start..].find('>')?;
    Some((start, end))
}

fn kind_of(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

/// How many octets at the start of `text` are a value of the name's kind.
fn length_of(name: &str, text: &str) -> Option<usize> {
    let lower_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if name.ends_with("-dashed") {
        let value = text.get(..36)?;
        let whole = value.replace('-', "");
        return (whole.len() == 32 && whole.chars().all(lower_hex) && dashed(&whole) == value).then_some(36);
    }
    match kind_of(name) {
        "time" => time(text),
        "trace" => trace(text),
        "size" => Some(text.chars().take_while(char::is_ascii_digit).count()).filter(|digits| *digits > 0),
        "http" => Some(text.len()),
        "secret" => exactly(text, 64, |c| c.is_ascii_digit() || ('A'..='F').contains(&c)),
        "code" => exactly(text, 6, |c| c.is_ascii_digit()),
        _ => exactly(text, 32, lower_hex),
    }
}

fn exactly(text: &str, length: usize, allowed: impl Fn(char) -> bool) -> Option<usize> {
    text.get(..length)?.chars().all(allowed).then_some(length)
}

/// As .NET writes it: `2026-11-23T15:31:17.1234567Z`, with one to seven digits of a second or none.
fn time(text: &str) -> Option<usize> {
    let end = text.find('Z')?;
    let (date_and_time, fraction) = match text[..end].split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (&text[..end], None),
    };
    let digits = date_and_time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c });
    let fits = digits.eq("0000-00-00T00:00:00".chars())
        && fraction.is_none_or(|digits| (1..=7).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_digit()));
    fits.then_some(end + 1)
}

fn trace(text: &str) -> Option<usize> {
    let value = text.get(..55)?;
    let parts: Vec<&str> = value.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    (lengths == [2, 32, 16, 2] && value.chars().all(|c| c == '-' || c.is_ascii_hexdigit())).then_some(55)
}

fn dashed(value: &str) -> String {
    [&value[..8], &value[8..12], &value[12..16], &value[16..20], &value[20..]].join("-")
}
