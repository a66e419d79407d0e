//! How long a pod may take for its first byte, by the path of the request.

use std::time::Duration;

/// How long a living pod may work on a request before the first byte of its answer.
#[derive(Clone, Debug)]
pub struct FirstByte {
    /// Default 10 min.
    any: Duration,
    /// Path prefixes without a slash at their end, the longest first. Default none.
    by_path: Vec<(String, Duration)>,
}

impl FirstByte {
    pub fn new(any: Duration, by_path: Vec<(String, Duration)>) -> FirstByte {
        let mut by_path = by_path;
        for (prefix, _) in &mut by_path {
            prefix.truncate(prefix.trim_end_matches('/').len());
        }
        by_path.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        FirstByte { any, by_path }
    }

    /// The time for a path below the BaseUrl. Prefixes end at a slash, and case does not matter.
    pub fn of(&self, path: &str) -> Duration {
        let is_below = |prefix: &str| {
            path.split_at_checked(prefix.len()).is_some_and(|(start, rest)| {
                start.eq_ignore_ascii_case(prefix) && (rest.is_empty() || rest.starts_with('/'))
            })
        };
        self.by_path.iter().find(|(prefix, _)| is_below(prefix)).map_or(self.any, |(_, time)| *time)
    }
}
