//! Asks a pool for its news while somebody listens.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{self, Instant};

use crate::{
    jellyfin::client::system,
    proxy::{
        pod_client::{Caller, PodClient},
        pool_state::PoolState,
        shared_state::SharedState,
    },
    sessions::board::{Board, BoardReader, LEAST},
    shutdown::Shutdown,
};

/// The longest wait for an answer.
const LONGEST: Duration = Duration::from_secs(2);

/// What a series of messages is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The newest entry of the activity log, which is in the database.
    Activity,
    /// The leader's tasks.
    Tasks,
}

/// One worker's polls. A pool is polled by the worker of the first who listens.
pub(in crate::proxy) struct DashboardPolls {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    shutdown: Shutdown,
}

impl DashboardPolls {
    pub(in crate::proxy) fn new(
        shared: Arc<SharedState>,
        pods: Arc<PodClient>,
        shutdown: Shutdown,
    ) -> Arc<DashboardPolls> {
        Arc::new(DashboardPolls { shared, pods, shutdown })
    }

    pub(super) fn board(&self, pool: usize, news: News) -> &Arc<Board<Bytes>> {
        let pool = &self.shared.pools[pool];
        match news {
            News::Activity => &pool.activity_board,
            News::Tasks => &pool.task_board,
        }
    }

    /// Listens to a pool's news. The first who listens begins the poll.
    pub(super) fn listen(self: &Arc<Self>, pool: usize, news: News, interval: Duration) -> BoardReader<Bytes> {
        let poll = || drop(tokio::spawn(self.shutdown.track(self.clone().poll(pool, news))));
        self.board(pool, news).listen(interval, poll)
    }

    async fn poll(self: Arc<Self>, pool: usize, news: News) {
        let board = self.board(pool, news);
        while let Some(interval) = board.interval() {
            let began = Instant::now();
            match self.poll_leader(&self.shared.pools[pool], news).await {
                Some(content) => board.show(content),
                None => board.clear(),
            }
            tokio::select! {
                () = time::sleep_until(began + interval) => {}
                // A pod says that there is news of its own.
                () = board.hurried() => time::sleep_until(began + LEAST.min(interval)).await,
                () = self.shutdown.stopping() => return,
            }
        }
    }

    async fn poll_leader(&self, pool: &PoolState, news: News) -> Option<Bytes> {
        let key = self.shared.api_key()?.as_str();
        let pod = pool.leader.current().filter(|pod| pod.status().is_alive())?;
        let call = match news {
            News::Activity => system::newest_activity(key),
            News::Tasks => system::tasks(key),
        };
        self.pods.call(&pod, &Caller::proxy(&pool.pool), call.within(LONGEST)).await.ok()
    }
}
