//! Announces this replica to the others, and hears which others are present and whether they agree.

use std::{sync::Arc, time::Duration};

use tokio::time::{self, Instant};

use super::{
    replicas::{PARTS, Replica, Replicas, sentence},
    upkeep::Upkeep,
};
use crate::{
    jitter,
    observe::metrics::{Disagreement, Metrics},
    sessions::{
        fingerprint::{Fingerprint, RING},
        session_store::{ReplicaBus, StoredEnds},
    },
    store::seal::Ring,
};

/// Time from one announcement to the next.
const EVERY: Duration = Duration::from_secs(2);

/// Time from one check of all that was written to the next.
const SWEEP: Duration = Duration::from_secs(600);

/// The longest time that the start waits for the first announcement.
const FIRST: Duration = Duration::from_secs(1);

/// Announces this replica.
pub struct Announcer {
    pub(super) replicas: Arc<Replicas>,
    /// This replica's name.
    pub(super) name: String,
    pub(super) bus: ReplicaBus,
    pub(super) ring: Arc<Ring>,
    pub(super) ends: Arc<StoredEnds>,
    pub(super) upkeep: Arc<Upkeep>,
}

/// The state of the announcements so far.
#[derive(Debug)]
pub struct Presence {
    /// Redis has taken the last announcement.
    is_announced: bool,
    /// Redis has taken at least one.
    was_announced: bool,
    knows_ends: bool,
    sweeps: Instant,
    said: Vec<String>,
}

impl Default for Presence {
    fn default() -> Presence {
        let sweeps = Instant::now() + SWEEP.mul_f64(0.5 + 0.5 * jitter::fraction());
        Presence { is_announced: false, was_announced: false, knows_ends: false, sweeps, said: Vec::new() }
    }
}

impl Announcer {
    /// Announces this replica before it writes anything, since the others may have fewer keys.
    /// Waits for a bounded time.
    pub async fn appear(&self, parts: &[(&str, String)], metrics: &Metrics) -> Presence {
        let mut presence = Presence::default();
        // If Redis takes longer, `stay` announces it later.
        let _ = time::timeout(FIRST, self.announce(&mut presence, parts, metrics)).await;
        presence
    }

    /// Announces this replica again and again, and restores what Redis loses. `heard` receives the
    /// index of the ring's key that all replicas have. Goes on for ever.
    pub async fn stay(
        &self,
        mut presence: Presence,
        parts: impl Fn() -> Vec<(&'static str, String)>,
        heard: impl Fn(usize),
        metrics: &Metrics,
    ) {
        loop {
            let (was_announced, had_been) = (presence.is_announced, presence.was_announced);
            let was_known = self.announce(&mut presence, &parts(), metrics).await;
            heard(self.ring.writes_under());
            if presence.is_announced && !presence.knows_ends {
                presence.knows_ends = self.ends.learn_all().await;
            }
            // Redis has lost what it held, or may have while it was away.
            let hurries = had_been && (was_known == Some(false) || (was_known.is_some() && !was_announced));
            if was_known == Some(false) && had_been && was_announced {
                tracing::warn!("Redis has lost what it held; this replica writes again what it knows");
            }
            if hurries || presence.sweeps <= Instant::now() {
                if hurries {
                    presence.knows_ends = false;
                }
                presence.sweeps = Instant::now() + SWEEP;
                let written = self.upkeep.mend(hurries).await;
                metrics.redis_rewritten.inc_by(written as u64);
                if written > 0 {
                    tracing::info!(count = written, "entries that were missing in Redis were written again");
                }
            }
            time::sleep(EVERY).await;
        }
    }

    /// Announces once. Says whether Redis still knew the one before; `None` if it does not answer.
    async fn announce(&self, presence: &mut Presence, parts: &[(&str, String)], metrics: &Metrics) -> Option<bool> {
        let ours = Fingerprint::new(&self.ring, parts);
        let present = self.bus.announce(&self.name, &ours.write()).await;
        presence.is_announced = present.is_some();
        let present = present?;
        presence.was_announced = true;
        let others: Vec<_> = present.others.iter().map(|(name, words)| (name, Fingerprint::read(words))).collect();
        let nth = ours.writes_under(others.iter().map(|(_, print)| print));
        self.ring.write_under(nth);
        let replicas = others.iter().map(|(name, print)| Replica {
            name: (*name).clone(),
            disagrees: ours.disagreements(print),
            is_read: ours.reads(print),
        });
        let replicas: Vec<Replica> = replicas.collect();
        metrics.replicas.set(replicas.len() as i64 + 1);
        presence.say(parts, &replicas, metrics);
        self.replicas.set(replicas);
        Some(present.was_known)
    }
}

impl Presence {
    /// Reports each disagreement when it begins, and when it ends.
    fn say(&mut self, parts: &[(&str, String)], others: &[Replica], metrics: &Metrics) {
        let names = parts.iter().map(|(name, _)| *name).chain([RING]);
        for what in names.filter_map(closed) {
            let with: Vec<_> = others.iter().filter(|other| other.disagrees.iter().any(|it| it == what)).collect();
            metrics.replicas_disagree.get_or_create(&Disagreement { what }).set(i64::from(!with.is_empty()));
            let was_said = self.said.iter().any(|said| said == what);
            if !with.is_empty() && !was_said {
                self.said.push(what.to_owned());
                let is_read = with.iter().all(|other| other.is_read);
                let name = with.first().map_or("", |other| &*other.name);
                tracing::error!(replica = name, what, "{}", sentence(what, is_read));
            } else if with.is_empty() && was_said {
                self.said.retain(|said| said != what);
                tracing::info!(what, "all replicas agree again");
            }
        }
    }
}

fn closed(name: &str) -> Option<&'static str> {
    PARTS.into_iter().find(|part| *part == name)
}
