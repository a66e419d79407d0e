//! A pod's state and its epoch, as one word.

/// The number of a pod's present process. It grows each time the pod comes back as a new process. 1
/// is a process that ran before the proxy began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u32);

/// What a pod does for clients at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Not yet known to be healthy since the proxy or the pod began.
    Starting = 0,
    /// Serves all clients.
    Ready = 1,
    /// Keeps its clients and gets no new ones.
    Draining = 2,
    /// Serves no client while another pod can.
    Down = 3,
}

impl State {
    pub const ALL: [State; 4] = [State::Starting, State::Ready, State::Draining, State::Down];

    /// A label of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Draining => "draining",
            State::Down => "down",
        }
    }
}

/// The part of a pod that a decision reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub state: State,
    /// Whether it takes connections, as far as is known. A pod that is down for its health may
    /// still do so.
    pub accepts: bool,
    pub epoch: Epoch,
}

impl Status {
    pub(super) const UNKNOWN: Status = Status { state: State::Starting, accepts: true, epoch: Epoch(0) };

    /// Whether the pod serves the clients that belong to it.
    pub fn is_alive(self) -> bool {
        matches!(self.state, State::Ready | State::Draining)
    }

    pub(super) fn to_word(self) -> u64 {
        (u64::from(self.epoch.0) << 16) | (u64::from(self.accepts) << 8) | self.state as u64
    }

    pub(super) fn from_word(word: u64) -> Status {
        Status {
            state: State::ALL[(word & 0x3) as usize],
            accepts: word & 0x100 != 0,
            epoch: Epoch((word >> 16) as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_survives_its_word() {
        for state in State::ALL {
            for accepts in [true, false] {
                let status = Status { state, accepts, epoch: Epoch(u32::MAX) };
                assert_eq!(Status::from_word(status.to_word()), status);
            }
        }
    }
}
