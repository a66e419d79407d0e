//! How long it takes a pod to make sessions: more the first time in a process, which compiles what runs, and one after the other.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What the calls that make a session take; zero by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MintTimes {
    /// `POST /QuickConnect/Initiate` that gives a code.
    pub initiate: CallTime,
    /// `POST /QuickConnect/Authorize` until the code is looked up.
    pub authorize: CallTime,
    /// The making of a session, by an Authorize or by a log-in with a password: one session after the other.
    pub session: CallTime,
    /// `POST /Users/AuthenticateWithQuickConnect` until the secret is looked up.
    pub log_in: CallTime,
    /// The same, from there to its answer with a token.
    pub token: CallTime,
}

/// The time of one piece of the pod's code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallTime {
    /// The first time in a process, beside the usual. A call that comes meanwhile waits for the same.
    pub first: Duration,
    pub usual: Duration,
}

const fn time(first_ms: u64, usual_ms: u64) -> CallTime {
    CallTime { first: Duration::from_millis(first_ms), usual: Duration::from_millis(usual_ms) }
}

impl MintTimes {
    /// Of a 12.0.0 pod on two cores: 3, 15 and 4 ms for the three calls, 59 mints a second when 16 come at once, and 0.5 to 1 s
    /// for the first after a start, most of it in Authorize. How that second is divided further was not measured.
    pub const RECORDED: MintTimes = MintTimes {
        initiate: time(100, 3),
        authorize: time(100, 0),
        session: time(450, 15),
        log_in: time(50, 4),
        token: time(50, 0),
    };

    fn of(&self, code: Code) -> CallTime {
        match code {
            Code::Initiate => self.initiate,
            Code::Authorize => self.authorize,
            Code::Session => self.session,
            Code::LogIn => self.log_in,
            Code::Token => self.token,
        }
    }
}

/// A piece of the pod's code that is compiled when it runs first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Code {
    Initiate,
    Authorize,
    Session,
    LogIn,
    Token,
}

/// What one process has compiled, and until when it makes sessions.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    since: HashMap<Code, Instant>,
    sessions_until: Option<Instant>,
}

impl Compiled {
    /// Runs a piece of code from this moment on; gives the moment at which it is done.
    pub(crate) fn run(&mut self, code: Code, times: &MintTimes, now: Instant) -> Instant {
        let time = times.of(code);
        let begins = now.max(*self.since.entry(code).or_insert(now + time.first));
        if code != Code::Session {
            return begins + time.usual;
        }
        let ends = self.sessions_until.map_or(begins, |until| until.max(begins)) + time.usual;
        self.sessions_until = Some(ends);
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_call_is_slow_and_sessions_are_made_one_after_the_other() {
        let (mut compiled, times, now) = (Compiled::default(), MintTimes::RECORDED, Instant::now());
        let mut run = |code, after: u64| {
            let ends = compiled.run(code, &times, now + Duration::from_millis(after));
            (ends - now).as_millis() as u64
        };
        assert_eq!([run(Code::Initiate, 0), run(Code::Initiate, 50), run(Code::Initiate, 200)], [103, 103, 203]);
        assert_eq!([run(Code::Session, 0), run(Code::Session, 0), run(Code::Session, 2000)], [465, 480, 2015]);
        assert_eq!([run(Code::LogIn, 0), run(Code::Token, 100)], [54, 150]);
    }
}
