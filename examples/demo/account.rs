//! What a client saw, in words and figures; every figure is read off the records of the client.

use tokio::time::{Duration, Instant};

use crate::{client::Record, socket::Event, viewer::Viewer};

/// What one client saw since a moment.
pub(crate) struct Account<'a> {
    viewer: &'a Viewer,
    since: Instant,
    requests: Vec<&'a Record>,
}

/// What is known of the pods after a kill.
pub(crate) struct After<'a> {
    pub(crate) killed: &'a str,
    /// The pods that served the client before it and since.
    pub(crate) before: &'a [String],
    pub(crate) now: &'a [String],
    /// The pods that by themselves know the token which the client has.
    pub(crate) knows: &'a [String],
}

impl<'a> Account<'a> {
    pub(crate) fn of(viewer: &'a Viewer, since: Instant) -> Account<'a> {
        Account { viewer, since, requests: viewer.requests_since(since).collect() }
    }

    /// A time in which nothing was killed.
    pub(crate) fn of_quiet_time(&self, homes: &[String]) -> String {
        format!("  The {}, at home on {}:\n{}", self.viewer.name(), names(homes), self.figures())
    }

    /// The time since a kill.
    pub(crate) fn of_kill(&self, after: &After<'_>) -> String {
        let (name, before, now) = (self.viewer.name(), names(after.before), names(after.now));
        if !after.before.iter().any(|pod| pod == after.killed) {
            let stayed =
                if before == now { "stayed there".to_owned() } else { format!("is on {now} now all the same") };
            return format!("  The {name}, at home on {before}, {stayed}:\n{}", self.figures());
        }
        let went = if before == now { "is there again".to_owned() } else { format!("is on {now} now") };
        let lines = [
            format!("  The {name}, at home on {before}, {went}:"),
            self.next_answer(),
            self.film(),
            self.socket(),
            self.figures(),
            self.explanation(after),
        ];
        lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    }

    fn figures(&self) -> String {
        let count = |wanted: fn(u16) -> bool| self.requests.iter().filter(|request| wanted(request.status)).count();
        let slowest = self.requests.iter().map(|request| request.ended - request.began).max().unwrap_or_default();
        format!(
            "    requests: {}; failed (no answer, or 5xx): {}; refused (401, 403): {}; other 4xx: {}; slowest: {} ms",
            self.requests.len(),
            count(|status| status == 0 || status >= 500),
            count(|status| matches!(status, 401 | 403)),
            count(|status| (400..500).contains(&status) && !matches!(status, 401 | 403)),
            millis(slowest),
        )
    }

    fn next_answer(&self) -> String {
        let Some(next) = self.requests.iter().find(|request| request.status != 0) else {
            return "    next answer: none".to_owned();
        };
        let asked = match next.began.checked_duration_since(self.since) {
            Some(later) => format!("asked for {} ms after it", millis(later)),
            None => "asked for before it".to_owned(),
        };
        let (after, status) = (millis(next.ended - self.since), next.status);
        format!("    next answer: {after} ms after the kill, {asked} (status {status})")
    }

    fn film(&self) -> String {
        let with = match self.viewer.log_ins_since(self.since) {
            0 => "with the token it had".to_owned(),
            1 => "after 1 new log-in".to_owned(),
            count => format!("after {count} new log-ins"),
        };
        let went_on = self.requests.iter().find(|request| request.is_segment && (200..400).contains(&request.status));
        match went_on {
            Some(segment) => {
                format!(
                    "    next segment of the film: {} ms after the kill, {with}",
                    millis(segment.ended - self.since)
                )
            }
            None => "    next segment of the film: none".to_owned(),
        }
    }

    fn socket(&self) -> String {
        let events = self.viewer.socket_since(self.since);
        let at = |wanted| events.iter().find(|(_, event)| *event == wanted).map(|(at, _)| millis(*at - self.since));
        let refused = events.iter().filter(|(_, event)| *event == Event::Refused).count();
        match (at(Event::Lost), at(Event::Opened)) {
            (None, None) => "    WebSocket: never ended".to_owned(),
            (None, Some(_)) => "    WebSocket: never ended; its client opened a new one".to_owned(),
            (Some(_), Some(opened)) => {
                format!(
                    "    WebSocket: ended with its pod, open again {opened} ms after the kill (refused dials: {refused})"
                )
            }
            (Some(_), None) => format!("    WebSocket: ended with its pod, not open again (refused dials: {refused})"),
        }
    }

    fn explanation(&self, after: &After<'_>) -> String {
        let now = names(after.now);
        if self.viewer.log_ins_since(self.since) > 0 {
            "    The log-in should not have been needed.".to_owned()
        } else if after.now.iter().all(|pod| after.knows.contains(pod)) {
            format!("    Why no log-in: {now} read the token from the shared database as it started.")
        } else {
            format!("    Why no log-in: jellypin carried the session over to {now}, which knows it by another token.")
        }
    }
}

fn names(pods: &[String]) -> String {
    if pods.is_empty() { "none".to_owned() } else { pods.join(" and ") }
}

fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}
