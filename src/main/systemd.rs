//! What systemd is told, where it has started the process (`Type=notify`). Elsewhere nothing happens.

use sd_notify::{NotifyState, notify};

/// The process serves, or has loaded its configuration.
pub(super) fn ready() {
    notify_systemd(&[NotifyState::Ready]);
}

/// The process loads its configuration.
pub(super) fn reloads() {
    // Without the time, systemd ignores the message.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify_systemd(&[NotifyState::Reloading, now]);
    }
}

/// Another process is the service's main one from now on.
pub(super) fn is_now(pid: u32) {
    notify_systemd(&[NotifyState::MainPid(pid)]);
}

pub(super) fn stops() {
    notify_systemd(&[NotifyState::Stopping]);
}

fn notify_systemd(what: &[NotifyState<'_>]) {
    // The service goes on, whether systemd listens or not.
    let _ = notify(what);
}
