//! The id under which every pod lists a client's session: a hash of program and device.
//!
//! Source: `SessionManager.GetSessionKey`, `BaseExtensions.GetMD5`. The hash is written as a .NET
//! GUID without dashes, whose first three groups have their bytes reversed.

use std::fmt;

use md5::{Digest, Md5};

/// The id of a session on every pod. Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PodSessionId([u8; 16]);

impl PodSessionId {
    /// The id of a client's session.
    pub fn of(client: &str, device: &str) -> PodSessionId {
        let mut hash = Md5::new();
        for unit in client.encode_utf16().chain(device.encode_utf16()) {
            hash.update(unit.to_le_bytes());
        }
        let mut id: [u8; 16] = hash.finalize().into();
        id[..4].reverse();
        id[4..6].reverse();
        id[6..8].reverse();
        PodSessionId(id)
    }

    /// Reads an id, in any case.
    pub fn parse(text: &str) -> Option<PodSessionId> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|id| PodSessionId(id.to_be_bytes()))
    }
}

impl fmt::Display for PodSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for PodSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_one_that_pods_compute() {
        let rows = [
            ("Jellyfin Web", "TW96aWxsYS81LjA", "8a656c3f80bc0bf23ba6859dd2f96a2c"),
            ("Story", "sofa", "3790784ce65f8f0a4b197ba3a1f1b849"),
            ("Küche 😀", "é", "cc17272e113a70c3ca6d17503457ae5c"),
        ];
        for (client, device, id) in rows {
            assert_eq!(PodSessionId::of(client, device).to_string(), id, "{client} {device}");
            assert_eq!(PodSessionId::parse(&id.to_ascii_uppercase()), Some(PodSessionId::of(client, device)));
        }
        for none in ["", "Playing", "0123456789abcdef0123456789abcdeg", "+123456789abcdef0123456789abcdef"] {
            assert_eq!(PodSessionId::parse(none), None);
        }
    }
}
