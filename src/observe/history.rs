//! The last hour in samples of ten seconds, for the curves of the dashboard.
//!
//! A sample is read from the page of metrics, so the curves and Prometheus never disagree.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;

/// Time from one sample to the next.
pub const EVERY: Duration = Duration::from_secs(10);

/// Samples that are kept: an hour.
const MOST: usize = 360;

/// The samples, the oldest first.
#[derive(Debug, Default)]
pub struct History {
    /// Locked for a push, or to copy the samples.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    before: Option<(SystemTime, Totals)>,
    samples: VecDeque<Sample>,
}

/// What happened between two looks at the metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Seconds of Unix time at its end.
    pub at: u64,
    /// Requests each second.
    pub requests: f64,
    /// Answers of class 5xx each second.
    pub errors: f64,
    /// Time to the head of a pod's answer, in milliseconds: the median, and the 99th percentile.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// WebSockets that are open at its end.
    pub sockets: u64,
    /// Requests that left a pod for another.
    pub moves: u64,
}

/// The sums that a page of metrics has.
#[derive(Clone, Debug, Default, PartialEq)]
struct Totals {
    requests: f64,
    errors: f64,
    moves: f64,
    sockets: f64,
    /// Answers that began within so many seconds: bound and number, by bound.
    within: Vec<(f64, f64)>,
}

impl History {
    /// Takes a sample from a page of metrics in OpenMetrics text.
    pub fn record(&self, page: &str, now: SystemTime) {
        let totals = Totals::read(page);
        let mut state = self.state.lock();
        if let Some((at, before)) = &state.before {
            let sample = sample(before, &totals, now.duration_since(*at).unwrap_or(EVERY), now);
            if state.samples.len() >= MOST {
                state.samples.pop_front();
            }
            state.samples.push_back(sample);
        }
        state.before = Some((now, totals));
    }

    pub fn samples(&self) -> Vec<Sample> {
        self.state.lock().samples.iter().copied().collect()
    }
}

impl Totals {
    fn read(page: &str) -> Totals {
        let mut totals = Totals::default();
        for line in page.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            match name {
                "jellypin_requests_total" => {
                    totals.requests += value;
                    if labels.contains("code=\"5xx\"") {
                        totals.errors += value;
                    }
                }
                "jellypin_moves_total" => totals.moves += value,
                "jellypin_pod_sockets" => totals.sockets += value,
                "jellypin_first_byte_seconds_bucket" => {
                    let bound = labels.split_once("le=\"").and_then(|(_, rest)| rest.split('"').next());
                    let Some(bound) = bound.and_then(|bound| bound.parse().ok()) else { continue };
                    match totals.within.iter_mut().find(|(other, _)| *other == bound) {
                        Some((_, number)) => *number += value,
                        None => totals.within.push((bound, value)),
                    }
                }
                _ => {}
            }
        }
        totals.within.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        totals
    }
}

fn sample(before: &Totals, after: &Totals, time: Duration, now: SystemTime) -> Sample {
    let seconds = time.as_secs_f64().max(0.001);
    let number_before = |bound: f64| before.within.iter().find(|(other, _)| *other == bound).map_or(0.0, |(_, n)| *n);
    let within: Vec<_> = after.within.iter().map(|(bound, number)| (*bound, number - number_before(*bound))).collect();
    Sample {
        at: now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        requests: (after.requests - before.requests).max(0.0) / seconds,
        errors: (after.errors - before.errors).max(0.0) / seconds,
        p50_ms: quantile(&within, 0.5).map(|seconds| seconds * 1e3),
        p99_ms: quantile(&within, 0.99).map(|seconds| seconds * 1e3),
        sockets: after.sockets as u64,
        moves: (after.moves - before.moves).max(0.0) as u64,
    }
}

/// The value below which this share lies, as Prometheus estimates it: linear within a bucket. What
/// lies beyond the last bound counts as that bound.
fn quantile(within: &[(f64, f64)], share: f64) -> Option<f64> {
    let all = within.last().map_or(0.0, |(_, number)| *number);
    if all <= 0.0 {
        return None;
    }
    let rank = share * all;
    let (mut low, mut below) = (0.0, 0.0);
    for (bound, number) in within {
        if *number >= rank {
            let is_open = bound.is_infinite() || *number <= below;
            return Some(if is_open { low } else { low + (bound - low) * (rank - below) / (number - below) });
        }
        (low, below) = (*bound, *number);
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# TYPE jellypin_requests counter
jellypin_requests_total{route=\"/\",pod=\"a\",code=\"2xx\",reason=\"token\"} 90
jellypin_requests_total{route=\"/\",pod=\"b\",code=\"5xx\",reason=\"token\"} 10
jellypin_moves_total{pool=\"main\",from=\"a\",why=\"refused\"} 3
jellypin_pod_sockets{pool=\"main\",pod=\"a\"} 2
jellypin_pod_sockets{pool=\"main\",pod=\"b\"} 5
jellypin_first_byte_seconds_bucket{le=\"0.01\",pool=\"main\",pod=\"a\"} 40
jellypin_first_byte_seconds_bucket{le=\"0.1\",pool=\"main\",pod=\"a\"} 80
jellypin_first_byte_seconds_bucket{le=\"+Inf\",pool=\"main\",pod=\"a\"} 80
jellypin_first_byte_seconds_bucket{le=\"0.01\",pool=\"main\",pod=\"b\"} 10
jellypin_first_byte_seconds_bucket{le=\"0.1\",pool=\"main\",pod=\"b\"} 20
jellypin_first_byte_seconds_bucket{le=\"+Inf\",pool=\"main\",pod=\"b\"} 20
# EOF
";

    #[test]
    fn a_sample_is_the_difference_of_two_pages() {
        let (history, began) = (History::default(), UNIX_EPOCH + Duration::from_secs(1000));
        history.record("", began);
        history.record(PAGE, began + EVERY);
        history.record(PAGE, began + 2 * EVERY);
        let samples = history.samples();
        let first = samples[0];
        assert_eq!((first.at, first.requests, first.errors), (1010, 10.0, 1.0));
        assert_eq!((first.sockets, first.moves), (7, 3));
        assert_eq!(first.p50_ms, Some(10.0), "half began within 10 ms");
        assert!(first.p99_ms.is_some_and(|p99| (p99 - 98.2).abs() < 0.01), "{first:?}");
        let second = samples[1];
        assert_eq!(
            (second.requests, second.p50_ms, second.sockets),
            (0.0, None, 7),
            "nothing happened, two sockets stay"
        );
    }

    #[test]
    fn an_hour_is_kept() {
        let history = History::default();
        (0..MOST as u32 + 5).for_each(|nth| history.record(PAGE, UNIX_EPOCH + EVERY * nth));
        let samples = history.samples();
        assert_eq!((samples.len(), samples[0].at), (MOST, 50));
    }

    #[test]
    fn what_lies_beyond_the_last_bound_counts_as_that_bound() {
        assert_eq!(quantile(&[(1.0, 1.0), (f64::INFINITY, 10.0)], 0.99), Some(1.0));
        assert_eq!(quantile(&[(1.0, 0.0), (f64::INFINITY, 0.0)], 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
    }
}
