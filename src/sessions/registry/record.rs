//! A session as it is kept: JSON, before it is sealed.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    pod::{PodInstance, Pool, Pools},
    sessions::{
        Session, Token, UnixMillis,
        session::{Common, Device, ReplayedCall, SessionToken, Tokens},
    },
};

/// A stored session, and its home in that pod's present epoch.
pub(super) struct StoredSession {
    pub(super) session: Session,
    pub(super) home: Option<PodInstance>,
    pub(super) moved: UnixMillis,
}

/// Writes and reads stored sessions. Cheap to clone.
#[derive(Clone)]
pub(super) struct Records {
    pub(super) pools: Pools,
    /// What the sessions that are read have in common with all others.
    pub(super) common: Common,
}

impl Records {
    pub(super) fn new(pools: Pools, common: Common) -> Records {
        Records { pools, common }
    }

    /// A session as it is kept. It names pods, since their numbers hold within one process only.
    pub(super) fn write(&self, session: &Session) -> Vec<u8> {
        let home = session.home().and_then(|home| {
            let pods = self.pool(&session.pool)?.pods();
            pods.iter().find(|pod| pod.id == home.pod).map(|pod| pod.name.to_string())
        });
        let tokens: Vec<Value> =
            session.tokens.all().iter().rev().map(|minted| json!([minted.token.as_str(), minted.at])).collect();
        let note = |note: ReplayedCall| {
            let Device { client, name, id, version } = note.reported_by;
            json!([note.target, String::from_utf8_lossy(&note.body), client, name, id, version])
        };
        let told: Vec<Value> = session.calls.capabilities().into_iter().map(note).collect();
        let device = &session.device;
        let record = json!({
            "pool": &*session.pool,
            "user": session.user,
            "client": device.client,
            "name": device.name,
            "device": device.id,
            "version": device.version,
            "born": session.tokens.born(),
            "revision": session.tokens.revision(),
            "moved": session.residence.moved_at(),
            "tokens": tokens,
            "home": home,
            "told": told,
        });
        record.to_string().into_bytes()
    }

    /// `None` if this is no session of these pools.
    pub(super) fn read(&self, plain: &[u8]) -> Option<StoredSession> {
        let record: Value = serde_json::from_slice(plain).ok()?;
        let text = |key: &str| record[key].as_str().map(str::to_owned);
        let pool = self.pool(record["pool"].as_str()?)?;
        let device =
            Device { client: text("client")?, name: text("name")?, id: text("device")?, version: text("version")? };
        let minted = |entry: &Value| {
            Some(SessionToken { token: Token::new(entry[0].as_str()?), at: entry[1].as_u64().unwrap_or(0) })
        };
        let tokens: Vec<SessionToken> = record["tokens"].as_array()?.iter().filter_map(minted).collect();
        let note = |entry: &Value| {
            let text = |at: usize| entry[at].as_str().map(str::to_owned);
            // An earlier version did not keep which device sent it.
            let reported_by = || Some(Device { client: text(2)?, name: text(3)?, id: text(4)?, version: text(5)? });
            let reported_by = reported_by().unwrap_or_else(|| device.clone());
            Some(ReplayedCall { reported_by, target: text(0)?, body: Bytes::from(text(1)?) })
        };
        let told = record["told"].as_array().map_or(std::slice::from_ref(&record["capabilities"]), Vec::as_slice);
        let capabilities = told.iter().filter_map(note).collect();
        let home = record["home"].as_str().and_then(|name| {
            let pods = pool.pods();
            pods.iter().find(|pod| *pod.name == *name).map(|pod| PodInstance::of(pod))
        });
        let (born, revision) = (record["born"].as_u64()?, record["revision"].as_u64()?);
        let common = self.common.clone();
        let tokens = Tokens::new(common.clock.clone(), born, revision, tokens);
        let session = Session::from_parts(common, pool.name.clone(), text("user")?, device, tokens, capabilities);
        Some(StoredSession { session, home, moved: record["moved"].as_u64().unwrap_or(0) })
    }

    pub(super) fn pool(&self, name: &str) -> Option<Arc<Pool>> {
        self.pools.named(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    /// Pieces that take the place of others in a value that Redis or the disk gives back.
    #[rustfmt::skip]
    const PIECES: [&str; 20] = [
        "", "{", "}", "[", "]", ",", ":", "\"", "\\", "null", "-1", "1.5", "18446744073709551616", "\"main\"", "\"t\"", "[]", "{}", "ä", "\\ud800", "[[\"t\",1]]",
    ];

    proptest! {
        #[test]
        fn no_stored_value_does_harm_and_what_is_read_is_written_as_it_was(
            changes in vec((any::<prop::sample::Index>(), 0_usize..12, select(&PIECES[..])), 0..4),
        ) {
            let records = Records::new(vec![Pool::new("main", "")].into(), Common::default());
            let device = Device { client: "c".into(), name: "n".into(), id: "d".into(), version: "1".into() };
            let session = Session::new("main".into(), "u".into(), device, Token::new("t"));
            let mut plain = records.write(&session);
            for (at, length, piece) in changes {
                let at = at.index(plain.len() + 1);
                let end = (at + length).min(plain.len());
                plain.splice(at..end, piece.bytes());
            }
            if let Some(read) = records.read(&plain) {
                let written = records.write(&read.session);
                let again = records.read(&written).map(|again| records.write(&again.session));
                prop_assert_eq!(again, Some(written));
            }
        }
    }

    #[test]
    fn what_was_told_is_kept_with_who_told_it_and_what_an_earlier_version_kept_is_read() {
        let records = Records::new(vec![Pool::new("main", "")].into(), Common::default());
        let device = |id: &str| Device { client: "c".into(), name: "n".into(), id: id.into(), version: "1".into() };
        let session = Session::new("main".into(), "u".into(), device("phone"), Token::new("t"));
        let note = |id: &str| ReplayedCall {
            reported_by: device(id),
            target: format!("/{id}"),
            body: Bytes::from_static(b"{}"),
        };
        session.calls.record_capabilities(note("phone"));
        session.calls.record_capabilities(note("receiver"));
        let plain = records.write(&session);
        let told = |plain: &[u8]| records.read(plain).map(|record| record.session.calls.capabilities());
        assert_eq!(told(&plain), Some(vec![note("phone"), note("receiver")]));
        let mut earlier: Value = serde_json::from_slice(&plain).expect("JSON");
        earlier.as_object_mut().expect("an object").remove("told");
        for (kept, expected) in [(json!(["/phone", "{}"]), vec![note("phone")]), (Value::Null, Vec::new())] {
            earlier["capabilities"] = kept;
            assert_eq!(told(earlier.to_string().as_bytes()), Some(expected));
        }
    }
}
