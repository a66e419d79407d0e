//! The account of a run in which a pod dies: who saw what, and when, told from the kill.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::client::Served;
use crate::connection::Failure;

pub(super) struct Witness {
    victim: char,
    begun: Instant,
    killed: Option<Instant>,
    stopping: bool,
    clients: Vec<Account>,
    served: u64,
    needless_moves: u64,
    slowest: Duration,
    failures: BTreeMap<String, Seen>,
}

/// One client.
#[derive(Clone, Default)]
struct Account {
    /// The pod that answered it last.
    pod: Option<char>,
    /// It was with the pod that died.
    orphan: bool,
    /// From the kill to its first answer by another pod.
    recovered: Option<Duration>,
}

/// How often a kind of failure was seen, and when first and last, in seconds from the kill (from the start before it).
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) count: u64,
    pub(super) first: f64,
    pub(super) last: f64,
}

impl Witness {
    pub(super) fn new(victim: char, clients: usize) -> Witness {
        Witness {
            victim,
            begun: Instant::now(),
            killed: None,
            stopping: false,
            clients: vec![Account::default(); clients],
            served: 0,
            needless_moves: 0,
            slowest: Duration::ZERO,
            failures: BTreeMap::new(),
        }
    }

    /// To be called just before the kill, so that no failure can come before it.
    pub(super) fn pod_dies(&mut self) {
        self.killed = Some(Instant::now());
        for account in &mut self.clients {
            account.orphan = account.pod == Some(self.victim);
        }
    }

    pub(super) fn saw(&mut self, client: usize, took: Duration, outcome: Result<Served, Failure>) {
        self.slowest = self.slowest.max(took);
        match outcome {
            Ok(Served { pod }) => self.saw_answer(client, pod),
            Err(failure) => self.saw_failure(&failure),
        }
    }

    fn saw_answer(&mut self, client: usize, pod: Option<char>) {
        self.served += 1;
        let Some(account) = self.clients.get_mut(client) else {
            return;
        };
        let left = account.pod.filter(|_| account.pod != pod);
        account.pod = pod;
        match self.killed {
            Some(killed) if account.orphan && account.recovered.is_none() => {
                // Its own pod's last answers may still be on their way.
                if pod != Some(self.victim) {
                    account.recovered = Some(killed.elapsed());
                }
            }
            _ => self.needless_moves += u64::from(left.is_some()),
        }
    }

    fn saw_failure(&mut self, failure: &Failure) {
        let now = match self.killed {
            Some(killed) => killed.elapsed().as_secs_f64(),
            None => self.begun.elapsed().as_secs_f64(),
        };
        // Failures before the kill stand apart: they have nothing to do with it.
        let kind = if self.killed.is_some() { failure.to_string() } else { format!("{failure}, before the kill") };
        let seen = self.failures.entry(kind).or_insert(Seen { count: 0, first: now, last: now });
        seen.count += 1;
        seen.last = now;
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping
    }

    pub(super) fn served(&self) -> u64 {
        self.served
    }

    pub(super) fn failed(&self) -> u64 {
        self.failures.values().map(|seen| seen.count).sum()
    }

    pub(super) fn failures(&self) -> impl Iterator<Item = (&str, Seen)> {
        self.failures.iter().map(|(kind, seen)| (kind.as_str(), *seen))
    }

    pub(super) fn slowest(&self) -> Duration {
        self.slowest
    }

    /// Clients that were with the pod when it died.
    pub(super) fn orphans(&self) -> usize {
        self.clients.iter().filter(|account| account.orphan).count()
    }

    /// Of these, how many no other pod ever answered.
    pub(super) fn stranded(&self) -> usize {
        self.clients.iter().filter(|account| account.orphan && account.recovered.is_none()).count()
    }

    /// Changes of pod by clients whose pod was alive.
    pub(super) fn needless_moves(&self) -> u64 {
        self.needless_moves
    }

    /// The time from the kill to the next answer within which this share of the orphans had one.
    pub(super) fn recovery(&self, share: f64) -> Duration {
        let mut times: Vec<Duration> = self.clients.iter().filter_map(|account| account.recovered).collect();
        times.sort();
        let rank = (times.len() as f64 * share).ceil() as usize;
        times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(pod: char) -> Result<Served, Failure> {
        Ok(Served { pod: Some(pod) })
    }

    const QUICK: Duration = Duration::from_millis(1);

    #[test]
    fn only_clients_of_the_dead_pod_are_orphans() {
        let mut witness = Witness::new('a', 2);
        witness.saw(0, QUICK, served('a'));
        witness.saw(1, QUICK, served('b'));
        witness.pod_dies();
        witness.saw(0, QUICK, served('a'));
        assert_eq!((witness.orphans(), witness.stranded()), (1, 1));
        witness.saw(0, QUICK, served('c'));
        witness.saw(1, QUICK, served('b'));
        assert_eq!((witness.orphans(), witness.stranded(), witness.needless_moves()), (1, 0, 0));
    }

    #[test]
    fn a_move_from_a_living_pod_is_counted_before_and_after_the_kill() {
        let mut witness = Witness::new('a', 2);
        witness.saw(0, QUICK, served('a'));
        witness.saw(1, QUICK, served('b'));
        witness.saw(1, QUICK, served('c'));
        witness.pod_dies();
        witness.saw(0, QUICK, served('b'));
        assert_eq!(witness.needless_moves(), 1);
        witness.saw(0, QUICK, served('a'));
        witness.saw(1, QUICK, served('a'));
        assert_eq!(witness.needless_moves(), 3);
    }

    #[test]
    fn failures_are_counted_by_kind() {
        let mut witness = Witness::new('a', 1);
        witness.saw(0, QUICK, Err(Failure::Status(502)));
        witness.pod_dies();
        witness.saw(0, QUICK, Err(Failure::Status(502)));
        witness.saw(0, QUICK, Err(Failure::Status(502)));
        let kinds: Vec<(&str, u64)> = witness.failures().map(|(kind, seen)| (kind, seen.count)).collect();
        assert_eq!(kinds, [("status 502", 2), ("status 502, before the kill", 1)]);
        assert_eq!(witness.failed(), 3);
    }
}
