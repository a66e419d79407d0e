//! Passwords of users whom the operator names: their hashes, and the check of one.
//!
//! A hash is slow by intent. So few are computed at once, off the workers' threads, and a right
//! password is remembered for a while.

use std::{fmt, sync::Arc, time::Duration};

use argon2::{Argon2, PasswordVerifier, password_hash::phc};
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::{
    sync::Semaphore,
    task,
    time::{self, Instant},
};

/// The hash of a password: bcrypt's, or one of argon2's.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    text: Arc<str>,
    is_bcrypt: bool,
}

/// Checks passwords. Shared by all workers.
pub struct Passwords {
    /// Nobody else can tell which passwords are remembered.
    key: [u8; 32],
    right: Cache<[u8; 32], Instant>,
    turns: Arc<Semaphore>,
}

/// Hashes that are computed at once.
const AT_ONCE: usize = 2;

/// Longest time that a check waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// How many right passwords are remembered, and for how long.
const MOST: usize = 1000;
const REMEMBERED: Duration = Duration::from_secs(600);

impl PasswordHash {
    /// Reads a hash as `htpasswd -B` or `argon2` writes it.
    pub fn parse(text: &str) -> Option<PasswordHash> {
        let is_bcrypt = text.starts_with("$2");
        let is_good = match is_bcrypt {
            true => text.parse::<bcrypt::HashParts>().is_ok(),
            false => text.starts_with("$argon2") && phc::PasswordHash::new(text).is_ok_and(|hash| hash.hash.is_some()),
        };
        is_good.then(|| PasswordHash { text: text.into(), is_bcrypt })
    }

    fn is_of(&self, password: &[u8]) -> bool {
        match self.is_bcrypt {
            true => bcrypt::verify(password, &self.text).unwrap_or_default(),
            false => Argon2::default().verify_password(password, &*self.text).is_ok(),
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hash)")
    }
}

impl Default for Passwords {
    fn default() -> Passwords {
        let mut key = [0; 32];
        // Without random numbers a dump of the memory tells more; it tells much in any case.
        let _ = getrandom::fill(&mut key);
        Passwords { key, right: Cache::new(MOST), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Passwords {
    /// Whether this very password was found right a while ago.
    pub fn is_known(&self, hash: &PasswordHash, password: &[u8]) -> bool {
        self.right.get(&self.digest(hash, password)).is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    /// Whether it is the password. `None` if too many checks wait.
    ///
    /// # Cancel safety
    /// A check that has begun goes on and counts until its end, so leaving early gains no turn.
    pub async fn check(&self, hash: &PasswordHash, password: &[u8]) -> Option<bool> {
        let turn = time::timeout(TURN, self.turns.clone().acquire_owned()).await.ok()?.ok()?;
        // A browser asks for many things at once.
        if self.is_known(hash, password) {
            return Some(true);
        }
        let digest = self.digest(hash, password);
        let (hash, password) = (hash.clone(), password.to_vec());
        let check = move || {
            let is_right = hash.is_of(&password);
            drop(turn);
            is_right
        };
        let is_right = task::spawn_blocking(check).await.ok()?;
        if is_right {
            self.right.insert(digest, Instant::now());
        }
        Some(is_right)
    }

    fn digest(&self, hash: &PasswordHash, password: &[u8]) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.key);
        digest.update((hash.text.len() as u64).to_be_bytes());
        digest.update(&*hash.text);
        digest.update(password);
        digest.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `pw`, with the least that it takes.
    const ARGON2: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$";

    #[test]
    fn hashes_are_told_from_other_texts() {
        let bcrypt = bcrypt::hash("pw", 4).expect("a hash");
        assert!(PasswordHash::parse(&bcrypt).is_some());
        assert!(PasswordHash::parse(&bcrypt.replace("$2b$", "$2y$")).is_some());
        for other in ["", "pw", "$2y$", "$2b$04$short", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "$apr1$x$y", ARGON2] {
            assert!(PasswordHash::parse(other).is_none(), "{other}");
        }
    }

    #[tokio::test]
    async fn a_right_password_is_remembered_and_a_wrong_one_is_not() {
        use argon2::PasswordHasher;
        let argon2 = Argon2::from(argon2::Params::new(8, 1, 1, None).expect("parameters"));
        let of_argon2 = argon2.hash_password(b"pw").expect("a hash").to_string();
        for text in [bcrypt::hash("pw", 4).expect("a hash"), of_argon2] {
            let (hash, passwords) = (PasswordHash::parse(&text).expect("a hash"), Passwords::default());
            assert_eq!(passwords.check(&hash, b"other").await, Some(false));
            assert!(!passwords.is_known(&hash, b"pw") && !passwords.is_known(&hash, b"other"));
            assert_eq!(passwords.check(&hash, b"pw").await, Some(true));
            assert!(passwords.is_known(&hash, b"pw") && !passwords.is_known(&hash, b"p"));
            assert_eq!(format!("{hash:?}"), "(hash)");
        }
    }
}
