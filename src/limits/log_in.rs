//! The log-in brake. It counts failures by address, by user name at an address, and by user name.
//!
//! An attempt takes a place before the request goes to the pod, and returns it unless it fails.
//! So simultaneous attempts cannot pass the limit together.
//! Places come back one by one: the brake slows guessing, but locks no user out for ever.
//! A user name's own limit does not apply to addresses from which the user signed in lately.
//! Otherwise a stranger could lock a user out by failing under that name.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use ahash::RandomState;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Scope, network};

/// How many log-ins may fail, and in which time.
#[derive(Clone, Debug)]
pub struct Config {
    /// Default true.
    pub is_on: bool,
    /// The time in which all places come back. Default 5 min.
    pub window: Duration,
    /// Failures of one user name at one address within the window. Default 5.
    pub per_user_at_address: u32,
    /// Failures of one address. Default 20.
    pub per_address: u32,
    /// Failures of one user name, from any address. Default 50.
    pub per_user: u32,
    /// Whether the brake applies to private addresses too. Default false.
    pub private_addresses: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            is_on: true,
            window: Duration::from_secs(5 * 60),
            per_user_at_address: 5,
            per_address: 20,
            per_user: 50,
            private_addresses: false,
        }
    }
}

/// Most buckets, and most welcomes, kept at once. A full table drops what has expired.
const MOST: usize = 50_000;

/// Time between two sweeps for refilled buckets while the table is full.
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// Keys without room in the table share a bucket. Its limit is this multiple of one key's.
const CROWD: f32 = 10.0;

/// How long an address is welcome after the user's last log-in from it.
const WELCOME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Time until the same bucket may be logged again.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// The buckets of all addresses and user names. It keeps keyed hashes instead of names.
/// Log-ins are rare, so one lock is enough.
pub struct Brake {
    config: Config,
    hash: RandomState,
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    buckets: HashMap<u64, Bucket, RandomState>,
    /// The time until which a user's address is welcome.
    welcomes: HashMap<u64, Instant, RandomState>,
    swept: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Bucket {
    left: f32,
    most: f32,
    at: Instant,
    logged_at: Option<Instant>,
}

/// A log-in under way. It counts as a failure unless [`Brake::did_not_fail`] is called.
#[derive(Debug)]
pub struct Attempt {
    taken: [Option<u64>; 3],
    welcome: u64,
}

/// A log-in that has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Braked {
    pub scope: Scope,
    /// Whole seconds until a place is free again.
    pub retry_after_s: u32,
    /// Whether the caller logs it: true at most once a minute for each bucket.
    pub is_to_be_logged: bool,
}

impl Brake {
    pub fn new(config: Config) -> Brake {
        Brake { config, hash: RandomState::new(), table: Arc::default() }
    }

    /// The same buckets under other limits. Places that are taken stay taken.
    #[must_use]
    pub(super) fn renewed(&self, config: Config) -> Brake {
        Brake { config, hash: self.hash.clone(), table: self.table.clone() }
    }

    /// Whether the brake applies to log-ins from this address.
    pub fn holds_for(&self, address: IpAddr) -> bool {
        self.config.is_on && (self.config.private_addresses || !is_private(address))
    }

    /// Takes a place for a log-in. `user` is in lower case, so that each user has one bucket.
    ///
    /// # Errors
    /// No place is left at this moment.
    pub fn start_attempt(&self, address: IpAddr, user: &str, now: Instant) -> Result<Attempt, Braked> {
        let network = network(address);
        let welcome = self.hash.hash_one(("welcome", network, user));
        let limits = [
            (Scope::UserAtAddress, self.hash.hash_one(("both", network, user)), self.config.per_user_at_address),
            (Scope::Address, self.hash.hash_one(("address", network)), self.config.per_address),
            (Scope::User, self.hash.hash_one(("user", user)), self.config.per_user),
        ];
        let mut table = self.table.lock();
        let is_welcome = table.welcomes.get(&welcome).is_some_and(|until| now < *until);
        let mut taken = [None; 3];
        for ((scope, key, most), place) in limits.into_iter().zip(&mut taken) {
            if scope == Scope::User && is_welcome {
                continue;
            }
            let own = key;
            let crowd = self.hash.hash_one(("crowd", scope as u8));
            let key = table.room_for(own, crowd, self.config.window, now);
            let most = if key == own { most as f32 } else { most as f32 * CROWD };
            let bucket = table.buckets.entry(key).or_insert(Bucket { left: most, most, at: now, logged_at: None });
            bucket.refill(self.config.window, now);
            if bucket.left < 1.0 {
                let is_to_be_logged = bucket.logged_at.is_none_or(|at| now.duration_since(at) >= LOG_AGAIN);
                if is_to_be_logged {
                    bucket.logged_at = Some(now);
                }
                let wait = self.config.window.mul_f32((1.0 - bucket.left) / bucket.most);
                table.give_back(&taken);
                let retry_after_s = wait.as_secs_f64().ceil().max(1.0) as u32;
                return Err(Braked { scope, retry_after_s, is_to_be_logged });
            }
            bucket.left -= 1.0;
            *place = Some(key);
        }
        Ok(Attempt { taken, welcome })
    }

    /// Returns the place of a log-in that the pod accepted or could not judge.
    pub fn did_not_fail(&self, attempt: &Attempt, has_signed_in: bool, now: Instant) {
        let mut table = self.table.lock();
        table.give_back(&attempt.taken);
        if has_signed_in {
            if table.welcomes.len() >= MOST {
                table.welcomes.retain(|_, until| now < *until);
            }
            // Without room, the user's next log-in counts as a stranger's.
            if table.welcomes.len() < MOST {
                table.welcomes.insert(attempt.welcome, now + WELCOME);
            }
        }
    }
}

impl Table {
    /// The key itself if it is known or there is room for it; else the shared `crowd` key.
    fn room_for(&mut self, key: u64, crowd: u64, window: Duration, now: Instant) -> u64 {
        if self.buckets.len() < MOST || self.buckets.contains_key(&key) {
            return key;
        }
        if self.swept.is_none_or(|at| now.duration_since(at) >= SWEEP_AGAIN) {
            self.swept = Some(now);
            self.buckets.retain(|_, bucket| {
                bucket.refill(window, now);
                bucket.left < bucket.most
            });
        }
        if self.buckets.len() < MOST { key } else { crowd }
    }

    fn give_back(&mut self, taken: &[Option<u64>; 3]) {
        for key in taken.iter().flatten() {
            // A missing bucket was swept because it was full.
            if let Some(bucket) = self.buckets.get_mut(key) {
                bucket.left = (bucket.left + 1.0).min(bucket.most);
            }
        }
    }
}

impl Bucket {
    fn refill(&mut self, window: Duration, now: Instant) {
        let part = now.duration_since(self.at).as_secs_f32() / window.as_secs_f32();
        self.left = (self.left + part * self.most).min(self.most);
        self.at = now;
    }
}

/// Addresses of the machine itself and of local networks (RFC 1918, 3927, 4193, 4291).
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_private() || address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_loopback() || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: [u8; 4] = [203, 0, 113, 7];
    const THERE: [u8; 4] = [198, 51, 100, 9];

    fn brake() -> Brake {
        Brake::new(Config::default())
    }

    fn fails(brake: &Brake, address: [u8; 4], user: &str, times: usize) -> Option<Braked> {
        (0..times).find_map(|_| brake.start_attempt(address.into(), user, Instant::now()).err())
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_name_at_an_address_is_braked_first_then_the_address() {
        let brake = brake();
        assert_eq!(fails(&brake, HERE, "alice", 5), None);
        let braked = fails(&brake, HERE, "alice", 1).expect("a brake");
        assert_eq!((braked.scope, braked.retry_after_s, braked.is_to_be_logged), (Scope::UserAtAddress, 60, true));
        assert!(!fails(&brake, HERE, "alice", 1).expect("a brake").is_to_be_logged, "once is enough");
        assert_eq!(fails(&brake, THERE, "alice", 5), None, "another address has its own");
        for user in ["bob", "carol", "dave"] {
            assert_eq!(fails(&brake, HERE, user, 5), None, "what was braked took no place of the address");
        }
        assert_eq!(fails(&brake, HERE, "erin", 1).map(|braked| braked.scope), Some(Scope::Address));
    }

    #[tokio::test(start_paused = true)]
    async fn places_come_back_one_after_the_other() {
        let brake = brake();
        fails(&brake, HERE, "alice", 6);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(fails(&brake, HERE, "alice", 1), None);
        assert!(fails(&brake, HERE, "alice", 1).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_cannot_keep_a_user_out_of_where_he_signs_in() {
        let brake = brake();
        let attempt = brake.start_attempt(HERE.into(), "alice", Instant::now()).expect("a place");
        brake.did_not_fail(&attempt, true, Instant::now());
        for last in 0..10 {
            assert_eq!(fails(&brake, [198, 51, 100, last], "alice", 5), None);
        }
        assert_eq!(fails(&brake, [198, 51, 100, 99], "alice", 1).map(|braked| braked.scope), Some(Scope::User));
        let at_home = brake.start_attempt(HERE.into(), "alice", Instant::now());
        assert!(at_home.is_ok(), "the limit of the name alone does not hold where she signs in");
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_at_the_same_moment_do_not_pass_together_and_give_back() {
        let brake = brake();
        let now = Instant::now();
        let under_way: Vec<_> =
            (0..5).map(|_| brake.start_attempt(HERE.into(), "alice", now).expect("a place")).collect();
        assert!(brake.start_attempt(HERE.into(), "alice", now).is_err());
        under_way.iter().for_each(|attempt| brake.did_not_fail(attempt, false, now));
        assert_eq!(fails(&brake, HERE, "alice", 5), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_who_finds_no_room_is_braked_with_the_crowd() {
        let brake = brake();
        let address = |number: u32| IpAddr::from((0x0b00_0000 + number).to_be_bytes());
        for number in 0..30_000 {
            let _ = brake.start_attempt(address(number), &format!("user{number}"), Instant::now());
        }
        assert!(brake.table.lock().buckets.len() <= MOST + 3);
        let known = fails(&brake, [11, 0, 0, 0], "user0", 10).expect("a brake");
        assert_eq!(known.scope, Scope::UserAtAddress, "who was known before is judged as before");
    }

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        for text in [
            "10.1.2.3",
            "192.168.0.9",
            "172.31.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_private(text.parse().expect("an address")), "{text}");
        }
        for text in ["203.0.113.7", "100.64.0.1", "172.32.0.1", "2001:db8::1", "::ffff:203.0.113.7"] {
            assert!(!is_private(text.parse().expect("an address")), "{text}");
        }
        assert!(!brake().holds_for([10, 0, 0, 1].into()) && brake().holds_for(HERE.into()));
    }
}
