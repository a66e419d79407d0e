//! A short document that is safe before something is done that only it can undo.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;

use super::sealed_documents::{Found, SealedDocuments};
use crate::jitter;

/// How long a document stays in Redis after it was last written.
const KEPT: Duration = Duration::from_secs(400 * 86_400);

/// How long one replica keeps the others from changing it, unless it says that it goes on.
const TURN: Duration = Duration::from_secs(15);

/// Where a document is kept: in Redis for all replicas, and in a file.
pub struct KeptDocument {
    file: Option<PathBuf>,
    /// With its name there.
    redis: Option<(SealedDocuments, String)>,
    /// The name of the turn that this replica has, or may have.
    turn: Mutex<Option<String>>,
}

/// A document as it was found. Redis may have lost its data, or another replica may have written since
/// this one wrote its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// The replicas' common one.
    pub common: Option<Vec<u8>>,
    /// That of this replica's file.
    pub own: Option<Vec<u8>>,
}

/// Nobody knows what the document says: Redis does not answer, the file cannot be read, or what Redis
/// has is not sealed by a key of this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl KeptDocument {
    pub fn new(folder: Option<&Path>, redis: Option<SealedDocuments>, name: &str) -> KeptDocument {
        KeptDocument {
            file: folder.map(|folder| folder.join(format!("{name}.json"))),
            redis: redis.map(|redis| (redis, name.to_owned())),
            turn: Mutex::default(),
        }
    }

    /// Whether it outlives this process.
    pub fn is_kept(&self) -> bool {
        self.file.is_some() || self.redis.is_some()
    }

    /// Whether replicas share it.
    pub fn is_shared(&self) -> bool {
        self.redis.is_some()
    }

    /// The document, wherever it is kept.
    pub async fn read(&self) -> Result<Copies, Unreadable> {
        let common = match &self.redis {
            Some((redis, name)) => match redis.get(name, &purpose(name)).await.ok_or(Unreadable)? {
                Found::Document(document) => Some(document),
                Found::Nothing => None,
                Found::Foreign => {
                    tracing::error!(document = name, "what Redis keeps is not sealed by a key of this replica");
                    return Err(Unreadable);
                }
            },
            None => None,
        };
        Ok(Copies { common, own: self.read_file()? })
    }

    /// Whether all places have this document.
    pub fn is_everywhere(&self, document: &[u8], copies: &Copies) -> bool {
        let has = |copy: &Option<Vec<u8>>| copy.as_deref() == Some(document);
        (self.redis.is_none() || has(&copies.common)) && (self.file.is_none() || has(&copies.own))
    }

    fn read_file(&self) -> Result<Option<Vec<u8>>, Unreadable> {
        let Some(file) = &self.file else { return Ok(None) };
        match fs::read(file) {
            Ok(document) => Ok(Some(document)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                tracing::error!(path = %file.display(), %error, "a kept document cannot be read");
                Err(Unreadable)
            }
        }
    }

    /// Keeps it. Returns whether it is safe wherever it is kept. The file never has one that Redis never
    /// had: no other replica would know of it.
    pub async fn write(&self, document: &[u8]) -> bool {
        if let Some((redis, name)) = &self.redis
            && !redis.set(name, &purpose(name), document, KEPT).await
        {
            return false;
        }
        if let Some(file) = &self.file
            && let Err(error) = write_whole(file, document)
        {
            tracing::error!(path = %file.display(), %error, "a document cannot be kept");
            return false;
        }
        true
    }

    /// Keeps it no more. Returns whether it is gone.
    pub async fn remove(&self) -> bool {
        if let Some((redis, name)) = &self.redis
            && !redis.remove(name).await
        {
            return false;
        }
        let removed = self.file.as_ref().map_or(Ok(()), fs::remove_file);
        removed.is_ok() || removed.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Whether this replica alone may change it for a while, and do what it says.
    pub async fn take_turn(&self) -> bool {
        let Some((sealed, name)) = &self.redis else { return true };
        let holder = format!("{:032x}", jitter::number());
        *self.turn.lock() = Some(holder.clone());
        match sealed.redis.documents.take_turn(&turn_key(sealed, name), &holder, TURN).await {
            Some(true) => true,
            Some(false) => {
                *self.turn.lock() = None;
                false
            }
            None => {
                self.end_turn().await;
                false
            }
        }
    }

    /// The turn lasts its full time from now on. Returns whether this replica still has it.
    pub async fn keep_turn(&self) -> bool {
        let Some((sealed, name)) = &self.redis else { return true };
        let Some(holder) = self.turn.lock().clone() else { return false };
        sealed.redis.documents.keep_turn(&turn_key(sealed, name), &holder, TURN).await
    }

    /// Lets another replica have the turn, if this one has it.
    pub async fn end_turn(&self) {
        let holder = self.turn.lock().take();
        if let (Some((sealed, name)), Some(holder)) = (&self.redis, holder) {
            sealed.redis.documents.end_turn(&turn_key(sealed, name), &holder).await;
        }
    }
}

fn turn_key(sealed: &SealedDocuments, name: &str) -> String {
    format!("{}:turn", sealed.key(name))
}

/// What the seal is for, in place of a token.
fn purpose(name: &str) -> String {
    format!("kept {name}")
}

/// Writes a file whole or not at all, and waits until it is on disk.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_keeps_it_over_the_end_of_the_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || KeptDocument::new(Some(folder.path()), None, "tasks-main");
        assert!(open().is_kept() && open().read().await == Ok(Copies::default()) && open().remove().await);
        assert!(open().write(b"one").await && open().write(b"two").await);
        let copies = open().read().await.expect("a document");
        assert_eq!(copies, Copies { common: None, own: Some(b"two".to_vec()) });
        assert!(open().is_everywhere(b"two", &copies) && !open().is_everywhere(b"one", &copies));
        assert!(open().take_turn().await && open().remove().await);
        assert_eq!(open().read().await, Ok(Copies::default()));
        assert!(!KeptDocument::new(None, None, "tasks-main").is_kept());
    }
}
