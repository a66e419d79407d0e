//! A recording: what a real pod was asked and what it answered, one JSON object a line.
//!
//! The format is described in `tests/recordings/README.md`. A line that cannot be read is a mistake in the
//! repository, so reading panics and names the file and the line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// The lines of one file after the first, which only says what the file is about.
pub(crate) struct Recording {
    pub(crate) steps: Vec<Step>,
}

/// One line, with its number so that a difference can be looked up.
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) what: What,
}

pub(crate) enum What {
    Exchange(Exchange),
    Frame(Frame),
    Probe(Probe),
    Note(String),
}

#[derive(Deserialize)]
pub(crate) struct Exchange {
    pub(crate) pod: String,
    pub(crate) request: Request,
    pub(crate) response: Response,
    pub(crate) note: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Headers,
    pub(crate) json: Option<Value>,
    pub(crate) upgrade: Option<String>,
}

/// The headers of a request. As pairs they are all that was sent, in their order, and a name may stand twice; to a map the recorder's
/// own come.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Headers {
    Map(BTreeMap<String, String>),
    Pairs(Vec<(String, String)>),
}

/// `length` is that of the decoded body; `body` is missing where it is binary or was not read.
#[derive(Deserialize)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) length: Option<usize>,
    pub(crate) body: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Frame {
    pub(crate) pod: String,
    pub(crate) socket: String,
    pub(crate) from: Sender,
    pub(crate) message: Option<Value>,
    pub(crate) closed: Option<(u16, String)>,
}

#[derive(Deserialize, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sender {
    Pod,
    Client,
}

/// A change of what a starting pod answers on `path`; no response means that the connection was refused.
pub(crate) struct Probe {
    pub(crate) path: String,
    pub(crate) response: Option<Response>,
}

impl Recording {
    /// Reads `name` (as `10.11/01-log-in-and-tokens`), with every literal of `literals` replaced by its name.
    ///
    /// The recorder named most changing values itself. Those that it saw before it knew their name are
    /// still literals, and are named here.
    pub(crate) fn read(name: &str, literals: &[(&str, &str)]) -> Recording {
        let path = folder().join(format!("{name}.jsonl"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let text = literals.iter().fold(text, |text, (literal, name)| text.replace(literal, name));
        let steps = text
            .lines()
            .enumerate()
            .skip(1)
            .map(|(index, line)| Step {
                line: index + 1,
                what: what(line).unwrap_or_else(|error| panic!("{name}.jsonl:{}: {error}", index + 1)),
            })
            .collect();
        Recording { steps }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../recordings")
}

fn what(line: &str) -> serde_json::Result<What> {
    let value: Value = serde_json::from_str(line)?;
    if value.get("request").is_some() {
        serde_json::from_value(value).map(What::Exchange)
    } else if value.get("socket").is_some() {
        serde_json::from_value(value).map(What::Frame)
    } else if value.get("t").is_some() {
        probe(value).map(What::Probe)
    } else {
        let note: Note = serde_json::from_value(value)?;
        Ok(What::Note(note.note))
    }
}

fn probe(value: Value) -> serde_json::Result<Probe> {
    let raw: RawProbe = serde_json::from_value(value)?;
    let refused = raw.response.get("refused").is_some();
    let response = if refused { None } else { Some(serde_json::from_value(raw.response)?) };
    Ok(Probe { path: raw.path, response })
}

#[derive(Deserialize)]
struct Note {
    note: String,
}

#[derive(Deserialize)]
struct RawProbe {
    path: String,
    response: Value,
}
