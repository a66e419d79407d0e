//! Where account and certificate are kept: in files that only their owner may read, and in Redis,
//! sealed, for all replicas.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::store::sealed_documents::{Found, SealedDocuments};

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Account,
    Certificate,
}

/// Where it is kept.
pub struct Storage {
    folder: Option<PathBuf>,
    /// The part that replicas share.
    shared: Option<SealedDocuments>,
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

/// The right to order.
const ORDERING: &str = "acme:ordering";

/// What to answer by TLS-ALPN-01, and what its seal is for.
const PROOFS: &str = "acme:tls";
const PROOFS_PURPOSE: &str = "acme tls";

impl Storage {
    pub fn new(folder: Option<PathBuf>, shared: Option<SealedDocuments>) -> Storage {
        Storage { folder, shared }
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// What was kept: the replicas' common document, else that of the file.
    pub(super) async fn read(&self, document: Document) -> Option<Vec<u8>> {
        let Some(shared) = &self.shared else { return self.read_file(document) };
        match shared.get(&document.shared_name(), document.purpose()).await {
            Some(Found::Document(bytes)) => Some(bytes),
            Some(Found::Foreign) => {
                tracing::error!(document = document.name(), "what Redis keeps for ACME is sealed under another key");
                None
            }
            Some(Found::Nothing) | None => self.read_file(document),
        }
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
            && !shared.set(&document.shared_name(), document.purpose(), bytes, KEPT).await
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
        match shared.acquire_lock(ORDERING, lasts).await {
            Some(true) => Turn::Ours,
            Some(false) => Turn::AnotherReplicas,
            None => Turn::Unknown,
        }
    }

    /// Keeps the other replicas from ordering for so long.
    pub(super) async fn keep_turn(&self, lasts: Duration) {
        if let Some(shared) = &self.shared {
            shared.extend_lock(ORDERING, lasts).await;
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
        shared.set(PROOFS, PROOFS_PURPOSE, text.as_bytes(), lasts).await;
    }

    /// What another replica has to answer. Anyone else who could write it would get a certificate
    /// for these names.
    pub(super) async fn shared_proofs(&self) -> Vec<(String, Vec<u8>)> {
        let Some(shared) = &self.shared else { return Vec::new() };
        let text = shared.get(PROOFS, PROOFS_PURPOSE).await.and_then(Found::document).unwrap_or_default();
        let line = |line: &str| {
            let (name, hex) = line.split_once(' ')?;
            let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
            Some((name.to_owned(), (0..hex.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?))
        };
        String::from_utf8_lossy(&text).lines().filter_map(line).collect()
    }
}

impl Document {
    fn name(self) -> &'static str {
        match self {
            Document::Account => "account.json",
            Document::Certificate => "certificate.pem",
        }
    }

    /// The name under which replicas share it.
    fn shared_name(self) -> String {
        format!("acme:{}", self.name())
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
        let storage = Storage::new(Some(place.clone()), None);
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
