//! The certificates that clients are shown: where each is from, and how long it lasts.

use serde::Serialize;

use crate::tls::{Certificates, Facts};

const DAY: i64 = 86_400;

/// Days before its end from which a certificate is to be looked at.
const SOON: i64 = 21;

/// A certificate as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct CertificateRow {
    names: Vec<String>,
    /// Whole days until its end; negative after it.
    days: i64,
    /// The file, or `ACME`.
    from: String,
    #[serde(skip)]
    pub(super) ends_soon: bool,
}

/// `now` is in seconds since 1970.
pub(super) fn rows(certificates: &Certificates, now: u64) -> Vec<CertificateRow> {
    let row = |(facts, file): (Facts, Option<std::path::PathBuf>)| {
        let from = file.map_or("ACME".to_owned(), |file| file.display().to_string());
        let (days, ends_soon) = days_left(&facts, now);
        CertificateRow { names: facts.names, days, from, ends_soon }
    };
    certificates.all_with_files().into_iter().map(row).collect()
}

impl CertificateRow {
    /// The name that operators know it by, and the days until its end.
    pub(super) fn end(&self) -> (String, i64) {
        (self.names.first().cloned().unwrap_or_else(|| "no name".to_owned()), self.days)
    }
}

/// The days until its end, and whether these are few, also for a certificate that lasts a week.
fn days_left(facts: &Facts, now: u64) -> (i64, bool) {
    let seconds = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
    let left = seconds(facts.validity.not_after).saturating_sub(seconds(now));
    let life = seconds(facts.validity.not_after).saturating_sub(seconds(facts.validity.not_before));
    (left.div_euclid(DAY), left < (SOON * DAY).min(life / 4))
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;

    use super::*;
    use crate::tls::Validity;

    #[test]
    fn the_days_are_whole_ones_and_a_short_life_is_no_trouble() {
        let day = |days: i64| u64::try_from(days * DAY).expect("a time");
        for (from, to, now, expected) in [
            (0, 90, 10, (80, false)),
            (0, 90, 70, (20, true)),
            (0, 90, 91, (-1, true)),
            (0, 6, 3, (3, false)),
            (0, 6, 5, (1, true)),
        ] {
            let validity = Validity { not_before: day(from), not_after: day(to) };
            let leaf = CertificateDer::from(Vec::new());
            let facts = Facts { names: Vec::new(), validity, leaf, is_chained: true, is_self_signed: false };
            assert_eq!(days_left(&facts, day(now)), expected, "{from} {to} {now}");
        }
    }
}
