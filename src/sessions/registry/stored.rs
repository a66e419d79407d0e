//! What the store says of a token, for operators who ask. Nothing is taken into memory.

use super::lookup::Lookup;
use crate::sessions::session_store::StoredEntry;

/// The store's answer about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreSays {
    /// It stands for a session.
    Session,
    /// It was ended.
    Ended,
    Nothing,
    /// The store did not answer in time.
    Silent,
}

impl Lookup {
    /// Asks the store, within its deadline.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn ask_store(&self, token: &str) -> StoreSays {
        match self.entries.find(token).await {
            Ok(Some(StoredEntry::Session(_) | StoredEntry::Restored(_))) => StoreSays::Session,
            Ok(Some(StoredEntry::Ended)) => StoreSays::Ended,
            Ok(None) => StoreSays::Nothing,
            Err(_) => StoreSays::Silent,
        }
    }
}
