//! What came of each fault, as a table.

use std::fmt::Write;

use crate::fault::Fault;
use crate::fleet::Saw;

/// One row.
pub struct Figures {
    pub fault: Fault,
    pub saw: Saw,
    /// Seconds from the fault's beginning until nothing was late or failed any more.
    pub normal_after: f64,
    pub revived: usize,
    pub tokens: usize,
    pub note: String,
    pub problems: Vec<String>,
}

impl Figures {
    /// What may not be, and is.
    pub fn wrongs(&self) -> Vec<String> {
        let (saw, allowed) = (&self.saw, self.fault.allowed());
        let counts = [
            ("log-outs", saw.log_outs, false),
            ("revived sessions", self.revived, false),
            ("tokens in files", self.tokens, false),
            ("failed GETs", saw.failed, allowed.failed),
            ("failed POSTs", saw.failed_posts, allowed.failed_posts),
            ("closed sockets", saw.closed_sockets + saw.refused_sockets, allowed.closed_sockets),
            ("broken films", saw.broken_films, allowed.broken_films),
            ("stalls", saw.stalls, allowed.stalls),
        ];
        let bad = counts.iter().filter(|(_, count, is_allowed)| *count > 0 && !is_allowed);
        let mut wrongs: Vec<String> = bad.map(|(what, count, _)| format!("{what}: {count}")).collect();
        wrongs.extend(self.problems.iter().cloned());
        if self.note.contains("lost ") && !self.note.contains("lost 0") {
            wrongs.push(self.note.clone());
        }
        if !wrongs.is_empty() {
            wrongs.push(saw.to_string());
        }
        wrongs
    }
}

/// The table for eyes.
pub fn text(rows: &[Figures]) -> String {
    let mut text = format!(
        "{:<52}{:>6}{:>6}{:>6}{:>8}{:>8}{:>7}{:>8}{:>8}{:>8}{:>8}{:>7}  note\n",
        "fault",
        "good",
        "GETs",
        "POSTs",
        "log-outs",
        "sockets",
        "films",
        "stalls",
        "wait s",
        "normal",
        "revived",
        "tokens"
    );
    for row in rows {
        let saw = &row.saw;
        let mut note = row.note.clone();
        let why = row.fault.allowed().why;
        if saw.failed + saw.failed_posts + saw.broken_films + saw.stalls > 0 && !why.is_empty() {
            note = if note.is_empty() { why.to_owned() } else { format!("{note}; {why}") };
        }
        if saw.met_dead_proxy > 0 {
            let _ = write!(note, " ({} met a dead proxy, and were repeated)", saw.met_dead_proxy);
        }
        let _ = writeln!(
            text,
            "{:<52}{:>6}{:>6}{:>6}{:>8}{:>8}{:>7}{:>8}{:>8.1}{:>8.1}{:>8}{:>7}  {note}",
            row.fault.name(),
            saw.good,
            saw.failed,
            saw.failed_posts,
            saw.log_outs,
            saw.closed_sockets + saw.refused_sockets,
            saw.broken_films,
            saw.stalls,
            saw.longest_wait.max(saw.longest_stall).as_secs_f64(),
            row.normal_after,
            row.revived,
            row.tokens,
        );
    }
    text
}
