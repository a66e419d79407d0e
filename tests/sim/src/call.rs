//! One request as an endpoint sees it: routed, its caller known, its body read.

use std::cell::Cell;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::answer::Answer;
use crate::authorization::Credentials;
use crate::cluster::{DeviceRow, User};
use crate::devices::{Client, Lookup};
use crate::identifiers::plain;
use crate::mint_times::Code;
use crate::pod::{Connection, Life, Settings};
use crate::query::Query;

/// A request on its way through the pod.
pub(crate) struct Call {
    pub(crate) connection: Connection,
    /// The path below the base URL, as the client wrote it.
    pub(crate) path: String,
    /// What the route's placeholders stand for.
    pub(crate) captured: Vec<String>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) given: Credentials,
    pub(crate) caller: Caller,
    /// The answer is not ready before this moment.
    pub(crate) busy_until: Cell<Option<Instant>>,
}

/// Whose request it is, by this pod's knowledge.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// No token, or one that this pod does not know.
    Nobody,
    /// A token whose user is disabled.
    Disabled,
    /// A token whose user another pod has deleted.
    Orphan,
    ApiKey {
        app: String,
    },
    User {
        row: Box<DeviceRow>,
        user: Box<User>,
    },
}

impl Caller {
    /// Looks the token up: first in this pod's memory, then among the API keys in the database. An error is the single
    /// failure of a stale row.
    pub(crate) fn look_up(life: &Life, given: &Credentials) -> Result<Caller, StaleRow> {
        let cluster = &life.shared.cluster;
        let Some(token) = &given.token else {
            return Ok(Caller::Nobody);
        };
        let found = life.memory().devices.look_up(cluster, given, life.shared.settings.stamp_after);
        match found {
            Lookup::Stale => Err(StaleRow),
            Lookup::Unknown => Ok(cluster.read(|database| match database.api_key(token) {
                Some(key) => Caller::ApiKey { app: key.app.clone() },
                None => Caller::Nobody,
            })),
            Lookup::Found(row) => Ok(match cluster.read(|database| database.user(&row.user_id).cloned()) {
                None => Caller::Orphan,
                Some(user) if user.disabled => Caller::Disabled,
                Some(user) => Caller::User { row: Box::new(row), user: Box::new(user) },
            }),
        }
    }
}

/// The row of the token had to be written and is gone.
pub(crate) struct StaleRow;

impl Call {
    pub(crate) fn life(&self) -> &Life {
        &self.connection.life
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.life().shared.settings
    }

    /// The pod runs this code for the request.
    pub(crate) fn run(&self, code: Code) {
        let times = self.life().shared.controls.mint_times();
        let begins = self.busy_until.get().unwrap_or_else(Instant::now);
        self.busy_until.set(Some(self.life().memory().compiled.run(code, &times, begins)));
    }

    /// The placeholder at a place, as the client wrote it.
    pub(crate) fn captured(&self, at: usize) -> &str {
        self.captured.get(at).map_or("", String::as_str)
    }

    /// The placeholder at a place, as a plain GUID.
    pub(crate) fn guid(&self, at: usize) -> String {
        plain(self.captured(at)).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON, `Null` if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A property of the JSON body, its name in any case.
    pub(crate) fn property(&self, name: &str) -> Option<Value> {
        property(&self.json(), name).cloned()
    }

    /// The user behind the request, if there is one.
    pub(crate) fn user(&self) -> Option<&User> {
        match &self.caller {
            Caller::User { user, .. } => Some(user),
            _ => None,
        }
    }

    /// The user that the request is about (`RequestHelpers.GetUserId`, then `GetUserById`): the one named, for whom only
    /// an administrator or an API key may act, or the caller.
    pub(crate) fn acts_for(&self, named: Option<&str>) -> Result<User, Box<Answer>> {
        let own = self.user().map(|user| user.id.clone()).unwrap_or_default();
        let wanted = match named.filter(|named| !named.is_empty()) {
            Some(named) => plain(named).ok_or_else(|| Box::new(Answer::invalid("userId", named)))?,
            None => String::new(),
        };
        let is_nobody = wanted.chars().all(|digit| digit == '0');
        let wanted = if is_nobody { own.clone() } else { wanted };
        if wanted.is_empty() {
            // An API key is no user, and an empty id is an argument that is refused.
            return Err(Answer::error(StatusCode::BAD_REQUEST).into());
        }
        if wanted != own && !self.is_administrator() {
            return Err(Answer::error(StatusCode::FORBIDDEN).into());
        }
        let user = self.life().shared.cluster.read(|database| database.user(&wanted).cloned());
        user.ok_or_else(|| Answer::problem(StatusCode::NOT_FOUND).into())
    }

    pub(crate) fn is_administrator(&self) -> bool {
        match &self.caller {
            Caller::ApiKey { .. } => true,
            Caller::User { user, .. } => user.administrator,
            _ => false,
        }
    }

    /// The client that the request belongs to; an API key stands for a client named after it on the server itself.
    pub(crate) fn client(&self) -> Option<Client> {
        let settings = self.settings();
        match &self.caller {
            Caller::User { row, .. } => Some(Client::of_row(&self.given, row)),
            Caller::ApiKey { app } => Some(Client {
                client: app.clone(),
                device: self.given.device.clone().unwrap_or_else(|| settings.name.clone()),
                device_id: self.given.device_id.clone().unwrap_or_else(|| settings.server_id.clone()),
                version: self.given.version.clone().unwrap_or_else(|| settings.generation.version().to_owned()),
            }),
            _ => None,
        }
    }

    /// The address of the client: the peer, or what a known proxy says.
    pub(crate) fn remote(&self) -> String {
        let forwarded = self.header("x-forwarded-for").filter(|_| self.settings().known_proxies);
        let nearest = forwarded.and_then(|list| {
            list.rsplit(',')
                .map(str::trim)
                .find(|hop| hop.parse::<std::net::IpAddr>().is_ok_and(|ip| !ip.is_loopback()))
        });
        nearest.map_or_else(|| self.connection.peer.ip().to_string(), str::to_owned)
    }

    /// Makes or refreshes the session of the request's client and gives its id.
    pub(crate) fn touch_session(&self) -> Option<String> {
        let client = self.client()?;
        let (user_id, user_name) =
            self.user().map_or((String::new(), String::new()), |user| (user.id.clone(), user.name.clone()));
        self.life().expire_sessions();
        let mut memory = self.life().memory();
        let capabilities = memory.capabilities.get(&client.device_id).cloned();
        let session = memory.sessions.touch((&user_id, &user_name), &client, &self.remote(), capabilities);
        Some(session.id.clone())
    }
}

/// A property of a JSON object, its name in any case as .NET reads it.
pub(crate) fn property<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}
