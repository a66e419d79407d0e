//! Sealing: a keyed hash of a token finds an entry, and only the token itself opens it.
//!
//! The key of a seal is made of a key of the ring and the token. So neither a stolen store nor a
//! stolen ring opens a session by itself. The cipher is XChaCha20-Poly1305, whose nonces are long
//! enough to be drawn at random.

use std::sync::atomic::{AtomicUsize, Ordering};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;

const NONCE: usize = 24;

/// The secrets of the replicas, newest first. Any of them opens an entry. The first that all
/// replicas have seals new ones.
pub struct Ring {
    keys: Vec<Hmac<Sha256>>,
    /// The index of the key that seals.
    current: AtomicUsize,
}

impl Ring {
    pub fn new<'a>(keys: impl Iterator<Item = &'a [u8]>) -> Ring {
        // HMAC takes keys of any length.
        let keys = keys.filter_map(|key| <Hmac<Sha256> as Mac>::new_from_slice(key).ok()).collect();
        Ring { keys, current: AtomicUsize::new(0) }
    }

    /// Seals under the nth key from now on.
    pub fn write_under(&self, nth: usize) {
        self.current.store(nth, Ordering::Relaxed);
    }

    /// The index of the key that seals.
    pub fn writes_under(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// The name under which something is written.
    pub fn name(&self, purpose: &str, text: &str) -> Option<[u8; 16]> {
        self.names(purpose, text).nth(self.current.load(Ordering::Relaxed))
    }

    /// The names under which something may be found, newest first. `purpose` keeps different things
    /// apart.
    pub fn names(&self, purpose: &str, text: &str) -> impl Iterator<Item = [u8; 16]> {
        self.keys.iter().map(move |key| {
            let mut name = [0; 16];
            name.copy_from_slice(&mac(key, purpose, text)[..16]);
            name
        })
    }

    /// Seals `plain` for holders of the token only. `None` without a key or randomness.
    pub fn seal(&self, token: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let cipher = cipher(self.keys.get(self.current.load(Ordering::Relaxed))?, token)?;
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).ok()?;
        let sealed = cipher.encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: &[] }).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// Opens what was sealed for this token under any key of the ring.
    pub fn open(&self, token: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
        let open = |key| cipher(key, token)?.decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: &[] }).ok();
        self.keys.iter().find_map(open)
    }
}

fn cipher(key: &Hmac<Sha256>, token: &str) -> Option<XChaCha20Poly1305> {
    XChaCha20Poly1305::new_from_slice(&mac(key, "seal", token)).ok()
}

fn mac(key: &Hmac<Sha256>, purpose: &str, text: &str) -> [u8; 32] {
    let mut mac = key.clone();
    mac.update(b"jellypin ");
    mac.update(purpose.as_bytes());
    mac.update(&[0]);
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_and_a_key_of_the_ring_open_an_entry() {
        let ring = |keys: &[&str]| Ring::new(keys.iter().map(|key| key.as_bytes()));
        let sealed = ring(&["new"]).seal("token", b"session").expect("sealed");
        assert!(!sealed.windows(7).any(|window| window == b"session"));
        assert_eq!(ring(&["newer", "new"]).open("token", &sealed).as_deref(), Some(&b"session"[..]));
        assert_eq!(ring(&["new"]).open("other token", &sealed), None, "the store and the ring alone open nothing");
        assert_eq!(ring(&["other"]).open("token", &sealed), None);
        let mut forged = sealed.clone();
        *forged.last_mut().expect("a byte") ^= 1;
        assert_eq!(ring(&["new"]).open("token", &forged), None);
        assert_eq!(ring(&["new"]).open("token", b"short"), None);
        assert_ne!(sealed, ring(&["new"]).seal("token", b"session").expect("sealed"), "never twice the same");
    }

    #[test]
    fn names_of_different_purposes_never_meet() {
        let ring = Ring::new([b"key".as_slice(), b"old"].into_iter());
        let names: Vec<_> = ring.names("session", "x").chain(ring.names("ended user", "x")).collect();
        assert_eq!(names.len(), 4);
        assert!((0..4).all(|one| (0..one).all(|other| names[one] != names[other])));
    }
}
