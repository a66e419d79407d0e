//! Another process takes this one's place: the steps of the old one.
//!
//! It stops accepting, and connections wait in the sockets' queues. It closes its files, which the
//! new one opens. Then the new one accepts, and here only what is under way goes on.

use std::{io, time::Duration};

use tokio::time::{self, Instant};

use super::{App, state};
use crate::{
    hand_over::{Handed, Sockets},
    listen::Bound,
};

/// The longest time for the sessions that a pod is just making.
pub(super) const MINTING: Duration = Duration::from_secs(5);

/// The longest time to close the files.
const CLOSING: Duration = Duration::from_secs(5);

/// Time between two looks whether all has ended.
const LOOK: Duration = Duration::from_millis(100);

impl App {
    /// Copies of all sockets, to hand over.
    ///
    /// # Errors
    /// The machine has no file handle left.
    pub fn sockets(&self) -> io::Result<Sockets> {
        let now = self.current.load_full();
        let mut sockets = Sockets::default();
        for listening in &self.listening {
            let copies = listening.sockets.iter().map(|socket| socket.try_clone());
            sockets.clients.push(Handed {
                configured: listening.configured,
                over_tls: listening.over_tls,
                sockets: copies.collect::<io::Result<_>>()?,
            });
        }
        if let (Some(configured), Some(socket)) = (now.config.admin.listen, &self.admin_socket) {
            sockets.admin = Some((configured, socket.try_clone()?));
        }
        if let (Some(configured), Some(socket)) = (now.config.autodiscovery.listen, &self.autodiscovery_socket) {
            sockets.autodiscovery = Some((configured, socket.try_clone()?));
        }
        if state::makes_own_key(&now.config) {
            sockets.key = self.keys.first().map(|key| key.bytes().to_vec());
        }
        Ok(sockets)
    }

    /// Whether pods are being restarted one after the other. Another process would not know of that,
    /// and this one would not see that process's clients.
    pub fn is_rolling(&self) -> bool {
        self.pages.lifecycle().is_some_and(|it| it.roller.rolls().values().any(|roll| !roll.is_over))
    }

    /// Stops accepting and closes the files. What is under way goes on, except that no session is
    /// made known to a pod by a mint. [`App::resume`] takes all of it back. Returns whether the files
    /// are closed.
    pub async fn pause(&self) -> bool {
        let shared = self.shared();
        // A mint that ends after the files were closed would be lost, and its client logged out.
        if !shared.mint_limiter.close(MINTING).await {
            return false;
        }
        self.workers.mute();
        let pins = shared.pins.persistence.pause(CLOSING).await;
        pins && shared.sessions.backend.pause(CLOSING).await
    }

    /// Accepts again: no other process has taken over.
    pub fn resume(&self) {
        let shared = self.shared();
        shared.mint_limiter.open();
        shared.pins.persistence.resume();
        shared.sessions.backend.resume();
        for listening in &self.listening {
            let copies: Vec<_> = listening.sockets.iter().filter_map(|socket| socket.try_clone().ok()).collect();
            let (address, over_tls) = (listening.address, listening.over_tls);
            self.workers.listen(Bound { address, over_tls, sockets: copies });
        }
    }

    /// Another process serves. Requests, films and sockets that are under way go on here.
    pub fn stop_serving(&mut self) {
        self.listening.clear();
        (self.admin_socket, self.autodiscovery_socket) = (None, None);
        self.admin_ends.cancel();
        self.autodiscovery_ends.stop();
        self.writers_end.stop();
        self.orders_end.stop();
        if let Some(lifecycle) = self.pages.lifecycle() {
            lifecycle.retire();
        }
        self.leaders.stop();
        self.shutdown.announce_leaving();
        self.workers.end_when_idle();
    }

    /// Waits until nothing is under way any more, for `[timeouts] hand_over` at most. Then the proxy
    /// can stop.
    pub async fn await_end(&self) {
        let end = Instant::now() + self.current.load().config.hand_over;
        while !self.workers.have_ended() && Instant::now() < end {
            time::sleep(LOOK).await;
        }
    }
}
