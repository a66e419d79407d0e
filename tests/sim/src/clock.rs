//! Times as Jellyfin writes them: UTC with seven digits of a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

/// A pod's own clock, which may go wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    ahead_us: Arc<AtomicI64>,
}

impl Clock {
    /// Goes before the true time by so many microseconds, or behind it.
    pub(crate) fn set_ahead(&self, microseconds: i64) {
        self.ahead_us.store(microseconds, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> String {
        self.after(Duration::ZERO)
    }

    /// A moment before or after now.
    pub(crate) fn at(&self, moment: Instant) -> String {
        let now = Instant::now();
        let ahead = self.after(moment.saturating_duration_since(now));
        if moment >= now { ahead } else { written(self.time() - now.duration_since(moment)) }
    }

    /// How long ago, in ticks of 100 ns, a moment is that a client has written; less than nothing if it is to come.
    pub(crate) fn elapsed_since(&self, moment: &str) -> Option<i64> {
        let (then, now) = (ticks_of(&read(moment)?)?, ticks_of(&self.now())?);
        Some(now - then)
    }

    /// The field `Date`.
    pub(crate) fn header(&self) -> HeaderValue {
        // A date in this form is always the value of a field.
        HeaderValue::try_from(httpdate::fmt_http_date(self.time())).unwrap_or(HeaderValue::from_static(""))
    }

    fn time(&self) -> SystemTime {
        let ahead = self.ahead_us.load(Ordering::SeqCst);
        let by = Duration::from_micros(ahead.unsigned_abs());
        if ahead < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    }

    /// A moment from now.
    pub(crate) fn after(&self, delay: Duration) -> String {
        written(self.time() + delay)
    }
}

/// A time as Jellyfin writes it, in ticks since 1970.
fn ticks_of(written: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| written.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let seconds = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    // The inverse of `civil`.
    let of_march = if month <= 2 { year - 1 } else { year };
    let (era, month_from_march) = (of_march.div_euclid(400), (month + 9) % 12);
    let of_era = of_march - era * 400;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month_from_march + 2) / 5 + day - 1;
    Some(((days - 719_468) * 86_400 + seconds) * 10_000_000 + number(20..27)?)
}

/// Now.
pub(crate) fn now() -> String {
    written(SystemTime::now())
}

/// A time that a client has written, in ISO 8601 or as fourteen digits, as Jellyfin would write it.
pub(crate) fn read(text: &str) -> Option<String> {
    let compact = text.len() == 14 && text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = match compact {
        true => {
            let (date, time) = text.split_at(8);
            let (year, day) = date.split_at(4);
            format!("{year}-{}-{}T{}:{}:{}", &day[..2], &day[2..], &time[..2], &time[2..4], &time[4..])
        }
        false => text.trim_end_matches('Z').to_owned(),
    };
    let (seconds, fraction) = whole.split_once('.').unwrap_or((&whole, ""));
    let shape: String = seconds.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let fits = shape == "0000-00-00T00:00:00" && fraction.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| format!("{seconds}.{:0<7.7}Z", fraction))
}

/// One tick of .NET is 100 ns.
fn written(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let days = since.as_secs() / 86_400;
    let (year, month, day) = civil(days);
    let seconds = since.as_secs() % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:07}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_nanos() / 100
    )
}

/// Year, month and day of a day counted from 1970-01-01, by Howard Hinnant's `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_dotnet_writes_it() {
        let time = UNIX_EPOCH + Duration::new(1_709_210_096, 123_456_700);
        assert_eq!(written(time), "2024-02-29T12:34:56.1234567Z");
        assert_eq!(written(UNIX_EPOCH), "1970-01-01T00:00:00.0000000Z");
    }

    #[test]
    fn a_time_is_counted_as_it_is_written() {
        assert_eq!(ticks_of("1970-01-02T00:00:00.0000001Z"), Some(864_000_000_001));
        assert_eq!(ticks_of("2024-02-29T12:34:56.1234567Z"), Some(17_092_100_961_234_567));
    }

    #[test]
    fn a_time_is_read_in_both_forms() {
        for (text, time) in [
            ("20240229123456", Some("2024-02-29T12:34:56.0000000Z")),
            ("2024-02-29T12:34:56Z", Some("2024-02-29T12:34:56.0000000Z")),
            ("2024-02-29T12:34:56.123Z", Some("2024-02-29T12:34:56.1230000Z")),
            ("2024-02-29T12:34:56.123456789Z", Some("2024-02-29T12:34:56.1234567Z")),
            ("yesterday", None),
        ] {
            assert_eq!(read(text).as_deref(), time, "{text}");
        }
    }
}
