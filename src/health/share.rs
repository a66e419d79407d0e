//! A pod's share of new clients: pure. Clients that live somewhere stay there, whatever this says.
//!
//! A share is halved some times, so that replicas that measure a little differently still agree.

use std::time::Duration;

use super::Config;
use crate::pod::Condition;

/// Health checks quicker than this are all alike.
const QUICK: Duration = Duration::from_millis(50);

/// The most halvings: a slow pod still gets one new client out of thirty-two.
const MOST: u32 = 5;

/// A pod that serves, as seen beside the others of its pool.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub condition: Condition,
    /// What its health checks take.
    pub check_time: Duration,
    /// Sessions on it that play something.
    pub playing: usize,
    /// How long it serves in its present life; `None` if that began before the proxy did.
    pub serves_for: Option<Duration>,
}

/// How often the pod's share is halved, beside these others.
pub fn halvings(pod: &Standing, others: &[Standing], config: &Config) -> u8 {
    let quickest = others.iter().map(|other| other.check_time).min().unwrap_or_default().max(QUICK);
    let late = doublings(pod.check_time.as_millis() as usize, quickest.as_millis() as usize);
    let ill = match pod.condition {
        Condition::Well => 0,
        Condition::Late => 2,
        Condition::Silent | Condition::NoDatabase => MOST,
    };
    let cold = match pod.serves_for {
        Some(time) if time < config.slow_start => {
            doublings(config.slow_start.as_millis() as usize, time.as_millis().max(1) as usize).clamp(1, 3)
        }
        _ => 0,
    };
    // A film that is transcoded takes a core. One more than elsewhere is chance.
    let fewest = others.iter().map(|other| other.playing).min().unwrap_or(pod.playing);
    let is_chance = pod.playing.saturating_sub(fewest) < 2;
    let busy = if is_chance { 0 } else { doublings(pod.playing + 1, fewest + 1).min(2) };
    (late.max(ill) + cold.max(busy)).min(MOST) as u8
}

/// How often `one` has to be halved to be below twice the `other`.
fn doublings(one: usize, other: usize) -> u32 {
    (one / other.max(1)).checked_ilog2().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::rules::tests::config;

    const WELL: Standing =
        Standing { condition: Condition::Well, check_time: Duration::from_millis(5), playing: 0, serves_for: None };

    fn share(pod: Standing, others: &[Standing]) -> u8 {
        halvings(&pod, others, &config())
    }

    #[test]
    fn pods_that_are_about_as_well_get_the_same() {
        for milliseconds in [1, 20, 99] {
            let pod = Standing { check_time: Duration::from_millis(milliseconds), playing: 1, ..WELL };
            assert_eq!(share(pod, &[WELL]), 0, "{milliseconds} ms");
        }
        let slow = Standing { check_time: Duration::from_secs(2), ..WELL };
        assert_eq!(share(slow, &[slow]), 0, "all are slow");
        assert_eq!(share(WELL, &[]), 0);
    }

    #[test]
    fn a_slow_pod_gets_less_and_never_nothing() {
        let of = |milliseconds| share(Standing { check_time: Duration::from_millis(milliseconds), ..WELL }, &[WELL]);
        assert_eq!([100, 200, 400, 1000, 60_000].map(of), [1, 2, 3, 4, 5]);
        let late = Standing { condition: Condition::Late, ..WELL };
        let silent = Standing { condition: Condition::Silent, ..WELL };
        assert_eq!([share(late, &[WELL]), share(silent, &[WELL])], [2, 5]);
    }

    #[test]
    fn a_pod_that_has_begun_gets_its_share_step_by_step() {
        let of = |seconds| share(Standing { serves_for: Some(Duration::from_secs(seconds)), ..WELL }, &[WELL]);
        assert_eq!([0, 4, 8, 16, 29, 30, 300].map(of), [3, 2, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn a_pod_that_plays_more_than_others_gets_less() {
        let of = |playing| share(Standing { playing, ..WELL }, &[Standing { playing: 1, ..WELL }]);
        assert_eq!([1, 2, 3, 4, 9].map(of), [0, 0, 1, 1, 2]);
        let of_many = |playing| share(Standing { playing, ..WELL }, &[Standing { playing: 8, ..WELL }]);
        assert_eq!([8, 12, 16, 17, 36].map(of_many), [0, 0, 0, 1, 2], "four more than eight is little");
    }
}
