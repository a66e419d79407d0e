//! Measures how much of Redis the proxy uses, and keeps it within its bounds.
//!
//! Redis may be small and shared with others. So each replica counts the keys below its prefix from
//! time to time, by kind, and estimates their bytes. If a kind exceeds its share, the replica
//! deletes the keys that were written the longest ago. No kind can displace another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{RedisResult, aio::MultiplexedConnection};
use tokio::{
    sync::Notify,
    time::{self, Instant},
};

use super::link::Link;
use crate::{
    jitter,
    observe::metrics::{Metrics, OfKind},
    shutdown::Shutdown,
};

/// Time between two counts while no kind is near its bound.
const COUNT_AGAIN: Duration = Duration::from_secs(300);

/// The shortest time between two counts.
const REST: Duration = Duration::from_secs(1);

/// Keys that one round trip looks at.
const AT_ONCE: usize = 500;

/// What Redis itself needs for an expiring key, in bytes: two table entries, an object, and the
/// heads of two strings. `MEMORY USAGE` agrees within a tenth.
const OVERHEAD: usize = 120;

/// How much the proxy may store in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Keys of all kinds together. Default 200,000.
    pub keys: usize,
    /// Estimated bytes. Default 48 MiB.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { keys: 200_000, bytes: 48 << 20 }
    }
}

/// The kind of an entry. Others (locks, marks, leases) are few, and expire by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Session,
    Ended,
    Pin,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Session, Kind::Ended, Kind::Pin];

    /// The kind of a key below this prefix.
    pub(super) fn of(key: &str, prefix: &str) -> Option<Kind> {
        let rest = key.strip_prefix(prefix)?.strip_prefix(':')?;
        let (kind, _) = rest.split_once(':')?;
        Kind::ALL.into_iter().find(|of| of.name() == kind)
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Session => "session",
            Kind::Ended => "ended",
            Kind::Pin => "pin",
        }
    }

    /// Its percentage of the bytes and of the keys. Tombstones are small and many; pins are hints.
    fn share(self) -> (usize, usize) {
        match self {
            Kind::Session => (60, 30),
            Kind::Ended => (20, 35),
            Kind::Pin => (15, 30),
        }
    }

    fn bounds(self, all: Bounds) -> Bounds {
        let (bytes, keys) = self.share();
        Bounds { keys: all.keys / 100 * keys, bytes: all.bytes / 100 * bytes }
    }
}

/// The last count, and what was written since.
#[derive(Debug)]
pub(super) struct Census {
    bounds: Bounds,
    prefix: String,
    counted: [Counter; Kind::ALL.len()],
    /// Wakes the counting task when a kind exceeds its bound.
    is_due: Notify,
}

#[derive(Debug, Default)]
struct Counter {
    keys: AtomicUsize,
    bytes: AtomicUsize,
}

/// A key as it was counted.
struct Counted {
    key: String,
    bytes: usize,
    /// Its remaining time to live. The key with the least was written the longest ago.
    left: i64,
}

impl Census {
    pub(super) fn new(bounds: Bounds, prefix: &str) -> Census {
        Census { bounds, prefix: prefix.to_owned(), counted: Default::default(), is_due: Notify::new() }
    }

    /// Counts an entry before it is written. Returns whether there is room. Beyond the bound only
    /// pins are left out, since they are hints.
    pub(super) fn admits(&self, key: &str, value: usize) -> bool {
        let Some(kind) = Kind::of(key, &self.prefix) else { return true };
        let (counted, bounds) = (&self.counted[kind as usize], kind.bounds(self.bounds));
        let keys = counted.keys.fetch_add(1, Ordering::Relaxed) + 1;
        let size = key.len() + value + OVERHEAD;
        let bytes = counted.bytes.fetch_add(size, Ordering::Relaxed) + size;
        let is_within = keys <= bounds.keys && bytes <= bounds.bytes;
        if !is_within {
            self.is_due.notify_one();
        }
        is_within || kind != Kind::Pin
    }
}

/// Counts from time to time until the shutdown.
pub(super) async fn keep(census: Arc<Census>, link: Arc<Link>, shutdown: Shutdown) {
    let mut pause = REST;
    loop {
        tokio::select! {
            () = time::sleep(pause) => {}
            () = shutdown.stopping() => return,
        }
        let Some(mut connection) = link.connected(&shutdown).await else { return };
        let began = Instant::now();
        // A failure here also hits the requests, which report it.
        let _ = census.count(&mut connection, &link.metrics).await;
        // A slow count runs less often.
        let rest = REST.max(began.elapsed() * 20);
        tokio::select! {
            () = time::sleep(rest) => {}
            () = shutdown.stopping() => return,
        }
        tokio::select! {
            () = census.is_due.notified() => {}
            () = time::sleep(COUNT_AGAIN.mul_f64(0.9 + 0.2 * jitter::fraction())) => {}
            () = shutdown.stopping() => return,
        }
        pause = Duration::ZERO;
    }
}

impl Census {
    /// Counts all keys and deletes the surplus.
    async fn count(&self, connection: &mut MultiplexedConnection, metrics: &Metrics) -> RedisResult<()> {
        let mut found: [Vec<Counted>; Kind::ALL.len()] = Default::default();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{}:*", self.prefix)).arg("COUNT").arg(AT_ONCE);
            let (next, keys): (u64, Vec<String>) = scan.query_async(connection).await?;
            self.look_at(keys, connection, &mut found).await?;
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        for kind in Kind::ALL {
            let mut found = std::mem::take(&mut found[kind as usize]);
            // `SCAN` may return a key twice.
            found.sort_unstable_by(|one, other| one.key.cmp(&other.key));
            found.dedup_by(|one, other| one.key == other.key);
            let surplus = surplus(&mut found, kind.bounds(self.bounds));
            for keys in surplus.chunks(AT_ONCE) {
                let mut command = redis::cmd("DEL");
                for gone in keys {
                    command.arg(&gone.key);
                }
                command.query_async::<()>(connection).await?;
            }
            let of = OfKind { kind: kind.name() };
            if !surplus.is_empty() {
                metrics.redis_let_go.get_or_create(&of).inc_by(surplus.len() as u64);
                tracing::warn!(
                    kind = kind.name(),
                    count = surplus.len(),
                    "entries in Redis were more than their share ([redis] max_keys, max_memory); the oldest were let go"
                );
            }
            let (keys, bytes) = (found.len(), found.iter().map(|entry| entry.bytes).sum());
            metrics.redis_keys.get_or_create(&of).set(keys as i64);
            metrics.redis_bytes.get_or_create(&of).set(bytes as i64);
            let counted = &self.counted[kind as usize];
            counted.keys.store(keys, Ordering::Relaxed);
            counted.bytes.store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn look_at(
        &self,
        keys: Vec<String>,
        connection: &mut MultiplexedConnection,
        found: &mut [Vec<Counted>; Kind::ALL.len()],
    ) -> RedisResult<()> {
        let known: Vec<_> = keys.into_iter().filter_map(|key| Some((Kind::of(&key, &self.prefix)?, key))).collect();
        if known.is_empty() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        for (_, key) in &known {
            pipeline.cmd("STRLEN").arg(key).cmd("PTTL").arg(key);
        }
        let sizes: Vec<i64> = pipeline.query_async(connection).await?;
        for ((kind, key), size) in known.into_iter().zip(sizes.chunks_exact(2)) {
            let bytes = key.len() + size[0].max(0) as usize + OVERHEAD;
            found[kind as usize].push(Counted { key, bytes, left: size[1] });
        }
        Ok(())
    }
}

/// The surplus, oldest first, and a sixteenth of the bound more: one walk serves many writes.
fn surplus(found: &mut Vec<Counted>, bounds: Bounds) -> Vec<Counted> {
    let bytes = |found: &[Counted]| found.iter().map(|entry| entry.bytes).sum::<usize>();
    if found.len() <= bounds.keys && bytes(found) <= bounds.bytes {
        return Vec::new();
    }
    let room = Bounds { keys: bounds.keys - bounds.keys / 16, bytes: bounds.bytes - bounds.bytes / 16 };
    // The youngest stay.
    found.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.left));
    let mut used = 0;
    let stay = found.iter().take(room.keys).take_while(|entry| {
        used += entry.bytes;
        used <= room.bytes
    });
    let stay = stay.count();
    found.split_off(stay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_bounds_of_their_own_and_hints_are_left_out_beyond_theirs() {
        let census = Census::new(Bounds { keys: 1000, bytes: 1 << 20 }, "p");
        let written = |kind: &str, count: usize| {
            (0..count).filter(|number| census.admits(&format!("p:{kind}:{number:032x}"), 8)).count()
        };
        assert_eq!(written("pin", 1000), 300);
        assert_eq!(written("session", 1000), 1000, "who has signed in is written, and the oldest go");
        assert!(written("migration_lock", 10) == 10 && written("pins", 10) == 10);
    }

    #[test]
    fn the_oldest_are_too_many() {
        let entry = |left: i64, bytes: usize| Counted { key: left.to_string(), bytes, left };
        let mut found: Vec<_> = (0..100).map(|left| entry(left, 10)).collect();
        assert!(surplus(&mut found, Bounds { keys: 100, bytes: 1000 }).is_empty());
        let gone = surplus(&mut found, Bounds { keys: 64, bytes: 10_000 });
        assert_eq!((found.len(), gone.len()), (60, 40));
        assert!(found.iter().all(|entry| entry.left >= 40));
        let gone = surplus(&mut found, Bounds { keys: 64, bytes: 160 });
        assert_eq!((found.len(), gone.len()), (15, 45));
    }
}
