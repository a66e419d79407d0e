//! Which replicas run, and what each says of itself.
//!
//! A replica announces itself every few seconds, and receives what the others announced. A replica
//! that is silent for a while counts as gone. The answer also gives Redis's time, and whether Redis
//! still knows the previous announcement. If it does not, it has lost its data.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::time;

use super::{Config, Error, RedisStore, link};

const ANNOUNCE: &str = include_str!("presence/announce.lua");

/// How long an announcement holds.
pub const HOLDS: Duration = Duration::from_secs(20);

/// The longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What Redis says of the replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Redis still knew this replica.
    pub was_known: bool,
    /// The other replicas, and what each says of itself.
    pub others: Vec<(String, String)>,
}

impl RedisStore {
    /// Announces this replica with `words` about itself. `None` if Redis does not answer.
    ///
    /// # Cancel safety
    /// If it is dropped, Redis may have received the announcement.
    pub async fn announce(&self, name: &str, words: &str) -> Option<Present> {
        let mut connection = self.link.connection()?;
        let mut command = redis::cmd("EVAL");
        command.arg(ANNOUNCE).arg(1).arg(key(&self.prefix)).arg(name).arg(words).arg(HOLDS.as_millis() as u64);
        let clock = self.clock();
        let asked = clock.machine();
        let answer = time::timeout(PATIENCE, command.query_async::<Vec<String>>(&mut connection)).await;
        let heard = clock.machine();
        match answer {
            Ok(Ok(answer)) => {
                self.link.answered();
                let mut answer = answer.into_iter();
                let now = answer.next()?.parse().ok()?;
                clock.set(now, asked, heard);
                let was_known = answer.next()? == "1";
                let mut others = Vec::new();
                while let (Some(name), Some(words)) = (answer.next(), answer.next()) {
                    others.push((name, words));
                }
                Some(Present { was_known, others })
            }
            Ok(Err(error)) => {
                // `check` reports a user who may not run scripts; requests work without them.
                if !super::is_refusal(&error) {
                    self.link.failed(&error);
                }
                None
            }
            Err(_) => {
                self.link.late();
                None
            }
        }
    }

    /// Withdraws this replica's announcement.
    pub async fn depart(&self, name: &str) {
        let Some(mut connection) = self.link.connection() else { return };
        let mut command = redis::cmd("HDEL");
        command.arg(key(&self.prefix)).arg(name);
        // An announcement that stays expires.
        let _ = time::timeout(PATIENCE, command.query_async::<()>(&mut connection)).await;
    }
}

/// What the running replicas say of themselves, for a process that is not one of them.
///
/// # Errors
/// When Redis does not answer, or refuses.
pub async fn read(config: &Config) -> Result<Vec<(String, String)>, Error> {
    let mut connection: MultiplexedConnection = link::connect(&super::Server::new(config)?).await?;
    let all: Vec<(String, String)> =
        redis::cmd("HGETALL").arg(key(&config.prefix)).query_async(&mut connection).await?;
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query_async(&mut connection).await?;
    let is_there = |at: &str| at.parse::<u64>().is_ok_and(|at| at + HOLDS.as_millis() as u64 >= seconds * 1000);
    let said = all.into_iter().filter_map(|(name, said)| {
        let (at, words) = said.split_once(' ')?;
        is_there(at).then(|| (name, words.to_owned()))
    });
    Ok(said.collect())
}

fn key(prefix: &str) -> String {
    format!("{prefix}:replicas")
}
