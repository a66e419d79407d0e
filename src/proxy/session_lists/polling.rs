//! Fills the board of sessions while somebody listens.

use std::{sync::Arc, time::Duration};

use tokio::time::{self, Instant};

use super::SessionLists;
use crate::sessions::{
    board::{BoardReader, LEAST},
    session_board::Snapshot,
};

impl SessionLists {
    /// Listens to all sessions of a pool. The first who listens begins the poll.
    pub(super) fn listen(self: &Arc<Self>, pool: usize, interval: Duration) -> BoardReader<Snapshot> {
        let poll = || drop(tokio::spawn(self.shutdown.track(self.clone().poll(pool))));
        self.shared.pools[pool].session_board.listen(interval, poll)
    }

    async fn poll(self: Arc<Self>, pool: usize) {
        let pool = &self.shared.pools[pool];
        let board = &pool.session_board;
        while let Some(interval) = board.interval() {
            let began = Instant::now();
            match self.of_all(pool).await {
                Some(rows) => board.show(Snapshot::new(rows)),
                None => board.clear(),
            }
            tokio::select! {
                () = time::sleep_until(began + interval) => {}
                // Many who listen at one pod make it speak often.
                () = board.hurried() => time::sleep_until(began + LEAST.max(interval / 2)).await,
                () = self.shutdown.stopping() => return,
            }
        }
    }
}
