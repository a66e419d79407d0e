//! Documents in Redis that only jellypin can write and read. Others with access to Redis can neither
//! learn what they say nor make one up.

use std::{sync::Arc, time::Duration};

use super::{redis_store::RedisStore, seal::Ring};

/// Sealed documents, by names below one prefix.
pub struct SealedDocuments {
    pub(super) redis: Arc<RedisStore>,
    prefix: String,
    ring: Ring,
}

/// What stands under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    Document(Vec<u8>),
    /// It is sealed under another key or for another purpose, or not sealed at all.
    Foreign,
}

impl SealedDocuments {
    /// `redis` comes with what its keys begin with. `keys` are the ring's, the newest first.
    pub fn new<'a>(
        redis: Option<(Arc<RedisStore>, String)>,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Option<SealedDocuments> {
        redis.map(|(redis, prefix)| SealedDocuments { redis, prefix, ring: Ring::new(keys) })
    }

    /// What stands under a name. `None` if Redis does not answer.
    pub async fn get(&self, name: &str, purpose: &str) -> Option<Found> {
        let kept = self.redis.documents.get(&self.key(name)).await?;
        Some(found(&self.ring, purpose, kept.as_deref()))
    }

    /// Keeps a document for so long. Returns whether Redis has it.
    pub async fn set(&self, name: &str, purpose: &str, document: &[u8], lasts: Duration) -> bool {
        match self.ring.seal(purpose, document) {
            Some(sealed) => self.redis.documents.set(&self.key(name), &sealed, lasts).await,
            None => false,
        }
    }

    /// Removes a document. Returns whether Redis says that it is gone.
    pub async fn remove(&self, name: &str) -> bool {
        self.redis.documents.remove(&self.key(name)).await
    }

    /// Whether this replica alone may do something for so long. `None` if Redis does not answer.
    pub async fn acquire_lock(&self, name: &str, lasts: Duration) -> Option<bool> {
        self.redis.acquire_lock(&self.key(name), lasts).await
    }

    /// Keeps that right for so long from now on.
    pub async fn extend_lock(&self, name: &str, lasts: Duration) {
        self.redis.extend_lock(&self.key(name), lasts).await;
    }

    /// The key of a document.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }
}

impl Found {
    /// The document, unless there is none that can be believed.
    pub fn document(self) -> Option<Vec<u8>> {
        match self {
            Found::Document(document) => Some(document),
            Found::Nothing | Found::Foreign => None,
        }
    }
}

fn found(ring: &Ring, purpose: &str, kept: Option<&[u8]>) -> Found {
    match kept {
        None => Found::Nothing,
        Some(sealed) => ring.open(purpose, sealed).map_or(Found::Foreign, Found::Document),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_never_taken_for_a_document() {
        let ring = |key: &str| Ring::new([key.as_bytes()].into_iter());
        let sealed = |key: &str, purpose: &str| ring(key).seal(purpose, b"own").expect("sealed");
        for (kept, expected) in [
            (None, Found::Nothing),
            (Some(sealed("key", "acme tls")), Found::Document(b"own".to_vec())),
            (Some(sealed("other", "acme tls")), Found::Foreign),
            (Some(sealed("key", "acme account")), Found::Foreign),
            (Some(b"media.example.org 00".repeat(4)), Found::Foreign),
            (Some(Vec::new()), Found::Foreign),
        ] {
            assert_eq!(found(&ring("key"), "acme tls", kept.as_deref()), expected);
        }
    }
}
