//! A session as it is kept: JSON, before it is sealed.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Sessions;
use crate::{
    carryover::{
        Session, Token, UnixMillis,
        session::{Device, Minted, Note},
    },
    pod::Place,
};

/// A session as it was kept, and its home in that pod's present life.
pub(super) struct Record {
    pub(super) session: Session,
    pub(super) home: Option<Place>,
    pub(super) moved: UnixMillis,
}

impl Sessions {
    /// A session as it is kept. Pods stand there by name: their numbers mean something to one process only.
    pub(super) fn write(&self, session: &Session) -> Vec<u8> {
        let home = session.home().and_then(|home| {
            let pods = self.pool(&session.pool)?.pods();
            pods.iter().find(|pod| pod.id == home.pod).map(|pod| pod.name.to_string())
        });
        let tokens: Vec<Value> =
            session.tokens().iter().rev().map(|minted| json!([minted.token.as_str(), minted.at])).collect();
        let note = |note: &Option<Note>| {
            note.as_ref().map(|note| json!([note.target, String::from_utf8_lossy(&note.body)])).unwrap_or_default()
        };
        let device = &session.device;
        let record = json!({
            "pool": &*session.pool,
            "user": session.user,
            "client": device.client,
            "name": device.name,
            "device": device.id,
            "version": device.version,
            "born": session.born(),
            "revision": session.revision(),
            "moved": session.moved(),
            "tokens": tokens,
            "home": home,
            "capabilities": note(&session.capabilities()),
        });
        record.to_string().into_bytes()
    }

    pub(super) fn read(&self, plain: &[u8]) -> Option<Record> {
        let record: Value = serde_json::from_slice(plain).ok()?;
        let text = |key: &str| record[key].as_str().map(str::to_owned);
        let pool = self.pool(record["pool"].as_str()?)?;
        let device =
            Device { client: text("client")?, name: text("name")?, id: text("device")?, version: text("version")? };
        let minted =
            |entry: &Value| Some(Minted { token: Token::new(entry[0].as_str()?), at: entry[1].as_u64().unwrap_or(0) });
        let tokens: Vec<Minted> = record["tokens"].as_array()?.iter().filter_map(minted).collect();
        let note = |entry: &Value| {
            let body = Bytes::from(entry[1].as_str()?.to_owned());
            Some(Note { target: entry[0].as_str()?.to_owned(), body })
        };
        let capabilities = note(&record["capabilities"]);
        let home = record["home"].as_str().and_then(|name| {
            let pods = pool.pods();
            pods.iter().find(|pod| *pod.name == *name).map(|pod| Place::of(pod))
        });
        let (born, revision) = (record["born"].as_u64()?, record["revision"].as_u64()?);
        let session = Session::of_parts(pool.name.clone(), text("user")?, device, born, revision, tokens, capabilities);
        Some(Record { session, home, moved: record["moved"].as_u64().unwrap_or(0) })
    }
}
