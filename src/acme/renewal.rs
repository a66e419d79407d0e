//! When a certificate is renewed, and when a failed order is tried again. Pure.

use std::time::Duration;

use crate::tls::Validity;

/// A certificate is renewed when this part of its life is left.
const LEFT: u32 = 3;

/// The longest time for one order.
pub(super) const ORDER: Duration = Duration::from_secs(5 * 60);

/// The longest time between two looks at a certificate, and between two questions to the authority.
pub(super) const LOOK: Duration = Duration::from_secs(6 * 60 * 60);

/// The moment of renewal, in seconds since 1970. `window` is what the authority suggests (RFC 9773).
/// `chance`, from 0 to 1, spreads replicas and houses over it.
pub(super) fn moment(validity: Validity, before: Option<Duration>, window: Option<(u64, u64)>, chance: f64) -> u64 {
    let life = validity.not_after.saturating_sub(validity.not_before);
    let left = before.map_or(life / u64::from(LEFT), |before| before.as_secs());
    let latest = validity.not_after.saturating_sub(left);
    if let Some((start, end)) = window.filter(|(start, end)| start < end) {
        return start + ((end - start) as f64 * chance) as u64;
    }
    // Up to a twentieth of its life earlier.
    latest.saturating_sub((life as f64 / 20.0 * chance) as u64)
}

/// How long to wait after so many failures in a row, the first included.
pub(super) fn pause(failures: u32, is_refusal: bool, chance: f64) -> Duration {
    // Authorities count refused orders: Let's Encrypt takes five an hour for each name.
    let (first, longest) = if is_refusal { (15 * 60, 24 * 60 * 60) } else { (2, 60 * 60) };
    let doubled = (first as u64).saturating_mul(1 << failures.saturating_sub(1).min(20)).min(longest);
    Duration::from_secs(doubled).mul_f64(1.0 + chance / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        let validity = Validity { not_before: 0, not_after: 90 * DAY };
        assert_eq!(moment(validity, None, None, 0.0), 60 * DAY);
        assert_eq!(moment(validity, None, None, 1.0), 60 * DAY - 90 * DAY / 20);
        assert_eq!(moment(validity, Some(Duration::from_secs(20 * DAY)), None, 0.0), 70 * DAY);
        assert_eq!(moment(validity, Some(Duration::from_secs(200 * DAY)), None, 1.0), 0, "always");
        assert_eq!(moment(validity, None, Some((10 * DAY, 12 * DAY)), 0.5), 11 * DAY, "the authority's window");
        assert_eq!(moment(validity, None, Some((12 * DAY, 10 * DAY)), 0.0), 60 * DAY, "a window that makes no sense");
    }

    #[test]
    fn failures_are_tried_again_later_and_later() {
        let away: Vec<u64> = [1, 2, 3, 12, 100].map(|failures| pause(failures, false, 0.0).as_secs()).into();
        assert_eq!(away, [2, 4, 8, 3600, 3600]);
        let refused: Vec<u64> = [1, 2, 8, 100].map(|failures| pause(failures, true, 0.0).as_secs()).into();
        assert_eq!(refused, [900, 1800, 86_400, 86_400]);
        assert!(pause(1, true, 1.0) > pause(1, true, 0.0));
    }
}
