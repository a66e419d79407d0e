//! Where account and certificate are kept: in files that only their owner may read, and in Redis,
//! sealed, for all replicas.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{sessions::seal::Ring, store::redis_store::RedisStore};

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Account,
    Certificate,
}

/// Where it is kept.
pub struct Storage {
    folder: Option<PathBuf>,
    shared: Option<Shared>,
}

/// The part that replicas share.
struct Shared {
    redis: Arc<RedisStore>,
    prefix: String,
    ring: Ring,
}

/// What Redis said of the right to order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Ours,
    AnotherReplicas,
    /// Redis does not answer.
    Unknown,
}

/// How long a document stays in Redis after it was last written.
const KEPT: Duration = Duration::from_secs(400 * 86_400);

impl Storage {
    /// `redis` comes with what its keys begin with, and the keys that seal.
    pub fn new<'a>(
        folder: Option<PathBuf>,
        redis: Option<(Arc<RedisStore>, String)>,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Storage {
        let shared = redis.map(|(redis, prefix)| Shared { redis, prefix, ring: Ring::new(keys) });
        Storage { folder, shared }
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// What was kept: the replicas' common document, else that of the file.
    pub(super) async fn read(&self, document: Document) -> Option<Vec<u8>> {
        if let Some(shared) = &self.shared
            && let Some(Some(sealed)) = shared.redis.documents.get(&shared.key(document)).await
        {
            let opened = shared.ring.open(document.purpose(), &sealed);
            if opened.is_none() {
                tracing::error!(document = document.name(), "what Redis keeps for ACME is sealed under another key");
            }
            return opened;
        }
        self.read_file(document)
    }

    /// What the file holds, for the start, which does not wait for Redis.
    pub(super) fn read_file(&self, document: Document) -> Option<Vec<u8>> {
        let file = self.folder.as_ref()?.join(document.name());
        match fs::read(&file) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::error!(path = %file.display(), %error, "what was kept for ACME cannot be read");
                None
            }
        }
    }

    pub(super) async fn write(&self, document: Document, bytes: &[u8]) {
        self.write_file(document, bytes);
        if let Some(shared) = &self.shared
            && let Some(sealed) = shared.ring.seal(document.purpose(), bytes)
            && !shared.redis.documents.set(&shared.key(document), &sealed, KEPT).await
        {
            tracing::warn!(
                document = document.name(),
                "other replicas do not have what ACME gave: Redis does not answer"
            );
        }
    }

    /// Keeps in the file what another replica has written.
    pub(super) fn write_file(&self, document: Document, bytes: &[u8]) {
        let Some(folder) = &self.folder else { return };
        if let Err(error) = write_private(folder, document.name(), bytes) {
            tracing::error!(path = %folder.display(), %error, "what ACME gave cannot be kept; a restart orders again");
        }
    }

    /// Whether this replica may order. The right lasts for `lasts`.
    pub(super) async fn take_turn(&self, lasts: Duration) -> Turn {
        let Some(shared) = &self.shared else { return Turn::Ours };
        match shared.redis.acquire_lock(&shared.named("ordering"), lasts).await {
            Some(true) => Turn::Ours,
            Some(false) => Turn::AnotherReplicas,
            None => Turn::Unknown,
        }
    }

    /// Keeps the other replicas from ordering for so long.
    pub(super) async fn keep_turn(&self, lasts: Duration) {
        if let Some(shared) = &self.shared {
            shared.redis.extend_lock(&shared.named("ordering"), lasts).await;
        }
    }

    /// Tells replicas what to answer by TLS-ALPN-01: a name and a digest each.
    pub(super) async fn share_proofs(&self, proofs: &[(String, Vec<u8>)], lasts: Duration) {
        let Some(shared) = &self.shared else { return };
        let line = |(name, digest): &(String, Vec<u8>)| {
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{name} {hex}\n")
        };
        let text: String = proofs.iter().map(line).collect();
        shared.redis.documents.set(&shared.named("tls"), text.as_bytes(), lasts).await;
    }

    /// What another replica has to answer.
    pub(super) async fn shared_proofs(&self) -> Vec<(String, Vec<u8>)> {
        let Some(shared) = &self.shared else { return Vec::new() };
        let text = shared.redis.documents.get(&shared.named("tls")).await.flatten().unwrap_or_default();
        let line = |line: &str| {
            let (name, hex) = line.split_once(' ')?;
            let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
            Some((name.to_owned(), (0..hex.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?))
        };
        String::from_utf8_lossy(&text).lines().filter_map(line).collect()
    }
}

impl Shared {
    fn key(&self, document: Document) -> String {
        self.named(document.name())
    }

    fn named(&self, name: &str) -> String {
        format!("{}:acme:{name}", self.prefix)
    }
}

impl Document {
    fn name(self) -> &'static str {
        match self {
            Document::Account => "account.json",
            Document::Certificate => "certificate.pem",
        }
    }

    /// What the seal is for, in place of a token.
    fn purpose(self) -> &'static str {
        match self {
            Document::Account => "acme account",
            Document::Certificate => "acme certificate",
        }
    }
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_private(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let (file, new) = (folder.join(name), folder.join(format!("{name}.new")));
    // A file that an earlier crash left has its own rights.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    written.write_all(bytes)?;
    written.sync_all()?;
    fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("acme");
        let storage = Storage::new(Some(place.clone()), None, std::iter::empty());
        assert_eq!(storage.read(Document::Certificate).await, None);
        for text in [b"one".as_slice(), b"two"] {
            fs::write(folder.path().join("x"), b"").expect("written");
            storage.write(Document::Certificate, text).await;
            assert_eq!(storage.read(Document::Certificate).await.as_deref(), Some(text));
        }
        let rights = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        assert_eq!((rights(&place), rights(&place.join("certificate.pem"))), (0o700, 0o600));
        assert_eq!(storage.take_turn(KEPT).await, Turn::Ours);
    }
}
