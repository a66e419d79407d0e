//! One proxy by itself: the rule, in memory.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Leader, field, rule::Seat};
use crate::{pod::Pool, shutdown::Shutdown};

pub(super) async fn run(pool: Arc<Pool>, leader: Arc<Leader>, settled: oneshot::Sender<()>, shutdown: Shutdown) {
    let mut settled = Some(settled);
    let mut seat = Seat::default();
    loop {
        let (field, mut change) = field::look(&pool);
        let why = seat.settle(&field.candidates());
        leader.set(field.pod(seat.pod.as_ref()), seat.term, why);
        // The start may have lost its patience.
        let _ = settled.take().map(|settled| settled.send(()));
        tokio::select! {
            () = change.happens() => {}
            () = shutdown.stopping() => return,
        }
    }
}
