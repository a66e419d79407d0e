//! The time of a line. Lines come thousands in a second, and only their milliseconds differ.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Writes times, and keeps the text of the last second.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: u64,
    /// `2026-11-30T20:16:04.`; empty before the first time.
    text: String,
}

/// The letters before the milliseconds.
const BEFORE: usize = "2026-11-30T20:16:04.".len();

impl Clock {
    /// Appends the present time, as `2026-11-30T20:16:04.123Z`.
    pub(super) fn write_now(&mut self, out: &mut Vec<u8>) {
        self.write(out, SystemTime::now());
    }

    fn write(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second || self.text.is_empty() {
            self.second = since.as_secs();
            let second = UNIX_EPOCH + Duration::from_secs(self.second);
            self.text = humantime::format_rfc3339_millis(second).to_string();
            self.text.truncate(BEFORE);
        }
        out.extend_from_slice(self.text.as_bytes());
        let millis = since.subsec_millis();
        let digit = |of: u32| b'0' + (millis / of % 10) as u8;
        out.extend_from_slice(&[digit(100), digit(10), digit(1), b'Z']);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_that_of_the_standard_whatever_came_before() {
        let mut clock = Clock::default();
        for millis in [0, 7, 999, 1000, 1_796_069_764_123, 1_796_069_764_124, 1_796_069_765_023, 1_796_069_764_000] {
            let time = UNIX_EPOCH + Duration::from_millis(millis);
            let mut out = Vec::new();
            clock.write(&mut out, time);
            assert_eq!(String::from_utf8(out).expect("text"), humantime::format_rfc3339_millis(time).to_string());
        }
    }
}
