//! What the clients of a fleet saw.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::stories::world::{Answer, Failed};

/// What a player has in store: a piece that comes later is a stall. Real players hold more.
const IN_STORE: Duration = Duration::from_secs(5);

/// What all clients saw together.
#[derive(Clone, Default, Debug)]
pub(in crate::stories::rolling) struct Saw {
    pub(super) calls: usize,
    pub(super) messages: usize,
    pub(super) film_bytes: usize,
    pub(super) segments: usize,
    /// Calls that were answered with 401.
    pub(in crate::stories::rolling) logged_out: usize,
    /// Calls that were answered with any other refusal.
    pub(in crate::stories::rolling) refused: usize,
    /// Calls that were not answered at all.
    pub(in crate::stories::rolling) unanswered: usize,
    pub(super) closed_sockets: usize,
    /// Handshakes that were refused, or not answered.
    pub(super) refused_sockets: usize,
    pub(super) broken_films: usize,
    /// Pieces of a film that came too late for a player with little in store.
    pub(super) stalls: usize,
    /// What no proxy can help: calls, sockets and films whose proxy was killed, or was dead. They are repeated.
    pub(super) met_dead_proxy: [usize; 3],
    /// From a call to the end of its answer.
    pub(in crate::stories::rolling) longest_wait: Duration,
    /// From the wish for a piece of a film to the piece.
    pub(super) longest_stall: Duration,
    /// What failed, and how often.
    pub(super) failures: BTreeMap<String, usize>,
}

fn name_of(failed: &Failed) -> &'static str {
    match failed {
        Failed::Connect(_) => "no connection",
        Failed::NoAnswer => "no answer",
        Failed::Cut { .. } => "broken off",
    }
}

impl Saw {
    /// Takes in what came of a call. Whether it is good.
    pub(super) fn takes(&mut self, what: &str, answer: &Result<Answer, Failed>) -> bool {
        let failure = match answer {
            Ok(answer) if answer.status < 400 => return true,
            Ok(answer) => {
                *if answer.status == 401 { &mut self.logged_out } else { &mut self.refused } += 1;
                answer.status.to_string()
            }
            Err(failed) => {
                self.unanswered += 1;
                name_of(failed).to_owned()
            }
        };
        *self.failures.entry(format!("{what}: {failure}")).or_default() += 1;
        false
    }

    /// A piece of a film came after this time.
    pub(super) fn came(&mut self, what: &str, after: Duration) -> &mut Saw {
        if after > IN_STORE {
            self.stalls += 1;
            *self.failures.entry(format!("{what}: late by {} s", after.as_secs())).or_default() += 1;
        }
        self.longest_stall = self.longest_stall.max(after);
        self
    }

    #[track_caller]
    pub(in crate::stories::rolling) fn must_be_nothing(&self) {
        let calls = [self.logged_out, self.refused, self.unanswered];
        let rest = [self.closed_sockets, self.refused_sockets, self.broken_films, self.stalls];
        assert_eq!((calls, rest), ([0; 3], [0; 4]), "{self}");
    }
}

impl fmt::Display for Saw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [calls, sockets, films] = self.met_dead_proxy;
        write!(
            formatter,
            "{} calls and {} messages answered, {} MiB of files, {} segments; logged out {}, refused {}, unanswered {}, \
             closed sockets {}, refused sockets {}, broken films {}, stalls {}; met a dead proxy and repeated: {calls} \
             calls, {sockets} sockets, {films} films; longest wait {:?}, longest wait for a piece of a film {:?}, {:?}",
            self.calls,
            self.messages,
            self.film_bytes >> 20,
            self.segments,
            self.logged_out,
            self.refused,
            self.unanswered,
            self.closed_sockets,
            self.refused_sockets,
            self.broken_films,
            self.stalls,
            self.longest_wait,
            self.longest_stall,
            self.failures,
        )
    }
}
