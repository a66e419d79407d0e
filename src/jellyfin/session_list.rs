//! The sessions of several pods as one server would list them. Pure.
//!
//! The API key sees all sessions of a pod. What a caller may see of them is the server's own rule,
//! the same in 10.11 and 12.0: `SessionManager.GetSessions` for `GET /Sessions`, and
//! `SessionInfoWebSocketListener.GetDataToSendForConnection` for the message `Sessions`.

mod rows;
#[cfg(test)]
mod tests;

use std::{cmp::Reverse, collections::HashSet};

use bytes::{BufMut, Bytes, BytesMut};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{
    query,
    syntax::{field, plain_id},
};
pub use rows::{Row, read};

/// The device of jellypin's own calls by API key that leave a session behind.
pub const PROXY_DEVICE: &str = "jellypin";

/// Who asks for a list, as the caller's own pod describes the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// An API key sees everything.
    Key,
    User(User),
}

/// A user, and the parts of the policy that decide about sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Without dashes, in lower case.
    pub id: String,
    pub is_administrator: bool,
    controls_others: bool,
    uses_all_devices: bool,
    devices: Vec<String>,
}

/// What a request asks of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The user whose devices are to be controlled, as written. Empty counts as none.
    controllable_by: Option<String>,
    device: Option<String>,
    active_within: Option<String>,
}

/// By which rule a list is cut to its viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `GET /Sessions`.
    All,
    /// `GET /Sessions?controllableByUserId=`.
    Controllable,
    /// The socket's message `Sessions`.
    Message,
}

impl Viewer {
    /// Reads a user (`GET /Users/Me`). `None` if a field is missing, so that nothing is guessed.
    pub fn of_user(me: &Value) -> Option<Viewer> {
        let policy = field(me, "Policy")?;
        let is = |name| field(policy, name).and_then(Value::as_bool);
        let devices = field(policy, "EnabledDevices").and_then(Value::as_array);
        let devices = devices.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        Some(Viewer::User(User {
            id: plain_id(field(me, "Id")?.as_str()?),
            is_administrator: is("IsAdministrator")?,
            controls_others: is("EnableRemoteControlOfOtherUsers")?,
            uses_all_devices: is("EnableAllDevices")?,
            devices,
        }))
    }

    /// Whether the viewer sees everything there is.
    pub fn is_administrator(&self) -> bool {
        match self {
            Viewer::Key => true,
            Viewer::User(user) => user.is_administrator,
        }
    }

    /// Whether the viewer may see this session of another pod. The pod itself has already applied
    /// what the question says, and what depends on the user to be controlled.
    pub fn may_see(&self, row: &Row, rule: Rule) -> bool {
        let Viewer::User(user) = self else { return true };
        match rule {
            // Sessions of API keys belong to nobody, and everybody sees them.
            Rule::All => user.is_administrator || row.belongs_to_nobody() || row.contains(&user.id),
            Rule::Controllable => {
                let may_control = user.controls_others || row.belongs_to_nobody() || row.contains(&user.id);
                may_control && user.may_use(row)
            }
            Rule::Message => user.is_administrator || row.contains(&user.id),
        }
    }
}

impl User {
    /// `DeviceManager.CanAccessDevice`.
    fn may_use(&self, row: &Row) -> bool {
        self.uses_all_devices
            || self.is_administrator
            || row.device.trim().is_empty()
            || self.devices.iter().any(|device| device.eq_ignore_ascii_case(&row.device))
            || !row.has_persistent_id
    }
}

impl Question {
    /// Reads a query. ASP.NET takes the first value of each key.
    pub fn of(query: &str) -> Question {
        let value = |key| query::all(query, key).into_iter().next().filter(|value| !value.is_empty());
        Question {
            controllable_by: value("controllableByUserId"),
            device: value("deviceId"),
            active_within: value("activeWithinSeconds"),
        }
    }

    /// The rule for this viewer. `RequestHelpers.GetUserId` takes an empty id for the caller's own,
    /// and an API key has none.
    pub fn rule(&self, viewer: &Viewer) -> Rule {
        match (&self.controllable_by, viewer) {
            (Some(id), Viewer::Key) if is_empty_id(id) => Rule::All,
            (Some(_), _) => Rule::Controllable,
            (None, _) => Rule::All,
        }
    }

    /// The same question for another pod, asked by the API key: path and query.
    pub fn for_pod(&self, viewer: &Viewer) -> String {
        let controllable_by = self.controllable_by.as_deref().map(|id| match viewer {
            Viewer::User(user) if is_empty_id(id) => &*user.id,
            _ => id,
        });
        let pairs = [
            ("controllableByUserId", controllable_by),
            ("deviceId", self.device.as_deref()),
            ("activeWithinSeconds", self.active_within.as_deref()),
        ];
        let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let pairs = pairs.iter().filter_map(|(key, value)| Some(format!("{key}={}", encoded((*value)?))));
        let query = pairs.collect::<Vec<_>>().join("&");
        if query.is_empty() { "/Sessions".to_owned() } else { format!("/Sessions?{query}") }
    }
}

/// Merges the lists of several pods: the last active first, as every pod orders its own. Of two
/// rows with one id the later one stays. jellypin's own calls are not listed.
pub fn merge(rows: impl IntoIterator<Item = Row>) -> Vec<Row> {
    let mut rows: Vec<Row> = rows.into_iter().filter(|row| !row.is_of_proxy()).collect();
    rows.sort_by(|one, other| Reverse(&one.active).cmp(&Reverse(&other.active)));
    let mut seen = HashSet::new();
    rows.retain(|row| seen.insert(row.id.clone()));
    rows
}

/// The list as JSON. A viewer who is no administrator does not learn which hardware transcodes.
pub fn write<'a>(rows: impl IntoIterator<Item = &'a Row>, viewer: &Viewer) -> Bytes {
    let mut json = BytesMut::from(&b"["[..]);
    for row in rows {
        if json.len() > 1 {
            json.put_u8(b',');
        }
        row.write(&mut json, !viewer.is_administrator());
    }
    json.put_u8(b']');
    json.freeze()
}

/// The GUID of nobody.
fn is_empty_id(id: &str) -> bool {
    id.chars().all(|char| matches!(char, '0' | '-' | '{' | '}' | '(' | ')'))
}
