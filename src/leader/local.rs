//! Chooses the leader for a single proxy: by the rule, in memory.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Leader, pool_view};
use crate::{pod::Pool, shutdown::Shutdown};

pub(super) async fn run(pool: Arc<Pool>, leader: Arc<Leader>, settled: oneshot::Sender<()>, shutdown: Shutdown) {
    let mut settled = Some(settled);
    let mut incumbency = leader.incumbency();
    loop {
        let (field, mut change) = pool_view::look(&pool);
        let why = incumbency.choose(&field.candidates());
        leader.set(field.pod(incumbency.pod.as_ref()), incumbency.term, why);
        // The start may have stopped waiting.
        let _ = settled.take().map(|settled| settled.send(()));
        tokio::select! {
            () = change.happens() => {}
            () = shutdown.stopping() => return,
        }
    }
}
