//! How often apps are answered: each address now and then, and all of them together.

use std::{collections::HashMap, net::IpAddr};

use tokio::time::Instant;

use crate::limits::network;

/// Answers at once for one address, and per second after that. Apps ask once or twice.
const ONE: Rate = Rate { burst: 8.0, per_second: 0.5 };

/// The same for all together.
const ALL: Rate = Rate { burst: 64.0, per_second: 16.0 };

/// Addresses kept at once. While there are so many, no further one is answered.
const MOST: usize = 1024;

#[derive(Clone, Copy)]
struct Rate {
    burst: f32,
    per_second: f32,
}

#[derive(Clone, Copy)]
struct Bucket {
    left: f32,
    at: Instant,
}

#[derive(Default)]
pub(super) struct Budget {
    addresses: HashMap<IpAddr, Bucket>,
    all: Option<Bucket>,
}

impl Budget {
    /// Takes one answer for this address. Says whether there was one left.
    pub(super) fn try_spend(&mut self, app: IpAddr, now: Instant) -> bool {
        let address = network(app);
        if self.addresses.len() >= MOST && !self.addresses.contains_key(&address) {
            self.addresses.retain(|_, bucket| bucket.refilled(ONE, now).left < ONE.burst);
            if self.addresses.len() >= MOST {
                return false;
            }
        }
        let full = |rate: Rate| Bucket { left: rate.burst, at: now };
        let one = self.addresses.entry(address).or_insert(full(ONE));
        let all = self.all.get_or_insert(full(ALL));
        (*one, *all) = (one.refilled(ONE, now), all.refilled(ALL, now));
        let enough = one.left >= 1.0 && all.left >= 1.0;
        if enough {
            one.left -= 1.0;
            all.left -= 1.0;
        }
        enough
    }
}

impl Bucket {
    fn refilled(self, rate: Rate, now: Instant) -> Bucket {
        let gained = now.duration_since(self.at).as_secs_f32() * rate.per_second;
        Bucket { left: (self.left + gained).min(rate.burst), at: now }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_is_answered_a_few_times_and_many_addresses_are_bounded_together() {
        let mut budget = Budget::default();
        let address = |number: u16| IpAddr::from([10, 0, number.to_be_bytes()[0], number.to_be_bytes()[1]]);
        let spent = |budget: &mut Budget, times: u32| {
            (0..times).filter(|_| budget.try_spend(address(0), Instant::now())).count()
        };
        assert_eq!(spent(&mut budget, 100), 8);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(spent(&mut budget, 100), 2);
        let answered = (1..2000).filter(|number| budget.try_spend(address(*number), Instant::now()));
        assert!(answered.count() <= 64);
        assert!(budget.addresses.len() <= MOST);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(budget.try_spend(address(3000), Instant::now()), "those that ask no more make room");
    }
}
