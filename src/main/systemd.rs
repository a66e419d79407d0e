//! What systemd is told, where it has started the process (`Type=notify`). Elsewhere nothing happens.

use sd_notify::{NotifyState, notify};

/// The process serves, or has loaded its configuration.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The process loads its configuration.
pub(super) fn reloads() {
    // Without the time, systemd ignores the word.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// Another process is the service's main one from now on.
pub(super) fn is_now(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

pub(super) fn stops() {
    tell(&[NotifyState::Stopping]);
}

fn tell(what: &[NotifyState<'_>]) {
    // The service goes on, whether systemd listens or not.
    let _ = notify(what);
}
