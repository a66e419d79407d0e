//! Makes the pod that writes the catalogue the leader. In a pool where every pod writes, the rule
//! chooses.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Leader, Why, pool_view, rule::Incumbency, writer::Writer};
use crate::{pod::Pool, shutdown::Shutdown};

pub(super) async fn run(
    pool: Arc<Pool>,
    leader: Arc<Leader>,
    writer: Arc<Writer>,
    settled: oneshot::Sender<()>,
    shutdown: Shutdown,
) {
    let mut settled = Some(settled);
    let mut incumbency = Incumbency::default();
    let mut changes = writer.changes();
    loop {
        let (field, mut change) = pool_view::look(&pool);
        changes.mark_unchanged();
        let writes = writer.current(&pool);
        match &writes {
            Some(pod) => {
                incumbency.set(Some(&pod.name));
                leader.set(field.pod(incumbency.pod.as_ref()), incumbency.term, Why::Writes);
            }
            // In a moment another pod writes; a leader in between would end what it has begun.
            None if writer.is_one() && incumbency.pod.is_some() => {}
            None => {
                let why = incumbency.choose(&field.candidates());
                leader.set(field.pod(incumbency.pod.as_ref()), incumbency.term, why);
            }
        }
        // The start may have stopped waiting.
        let _ = settled.take().map(|settled| settled.send(()));
        tokio::select! {
            () = change.happens() => {}
            // The writer holds the sender.
            _ = changes.changed() => {}
            () = shutdown.stopping() => return,
        }
    }
}
