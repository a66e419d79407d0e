//! Writes to Redis behind the requests: in order, and in batches of what has gathered.

use std::{sync::Arc, time::Duration};

use redis::{Pipeline, RedisError};
use tokio::sync::{mpsc, oneshot};

use super::{census::Census, is_refusal, link::Link};
use crate::{observe::metrics::StoreOutcome, shutdown::Shutdown, store::outcome::WriteOutcome};

pub(super) enum Change {
    Put {
        key: String,
        value: Vec<u8>,
        lasts: Duration,
    },
    Remove {
        key: String,
    },
    /// A message to a channel's subscribers. Redis stores nothing of it.
    Publish {
        channel: String,
        message: String,
    },
    /// Asks the writer to reply when everything before this is written.
    Mark(oneshot::Sender<()>),
}

/// The most changes in one round trip.
const MOST: usize = 512;

/// Writes until the queue ends. While Redis does not answer, the changes wait in the queue. The
/// queue loses none of them until it is full.
pub(super) async fn write(link: Arc<Link>, mut queue: mpsc::Receiver<Change>, census: Arc<Census>, shutdown: Shutdown) {
    let mut changes = Vec::with_capacity(MOST);
    let mut is_refused = false;
    while queue.recv_many(&mut changes, MOST).await > 0 {
        let (pipeline, count) = pipeline(&changes, &census, &link);
        if !pipeline.is_empty() {
            let refusal = send(&link, &pipeline, &shutdown).await.err();
            let outcome = if refusal.is_none() { WriteOutcome::Written } else { WriteOutcome::Dropped };
            // Log this once, and again only after Redis has accepted something in between.
            if let Some(Unsent::Refused(error)) = &refusal
                && !is_refused
            {
                tracing::warn!(%error, "Redis refuses a write");
            }
            is_refused = refusal.is_some();
            link.metrics.store_writes.get_or_create(&StoreOutcome { outcome: outcome.as_str() }).inc_by(count);
        }
        for change in changes.drain(..) {
            if let Change::Mark(done) = change {
                // The waiting caller may have given up.
                let _ = done.send(());
            }
        }
    }
}

/// Turns the changes into commands, and counts them.
fn pipeline(changes: &[Change], census: &Census, link: &Link) -> (Pipeline, u64) {
    let (mut pipeline, mut count) = (redis::pipe(), 0);
    for change in changes {
        match change {
            Change::Put { key, value, lasts } => {
                if !census.admits(key, value.len()) {
                    link.metrics
                        .store_writes
                        .get_or_create(&StoreOutcome { outcome: WriteOutcome::Full.as_str() })
                        .inc();
                    continue;
                }
                pipeline.cmd("SET").arg(key).arg(value).arg("PX").arg(lasts.as_millis() as u64).ignore();
            }
            Change::Remove { key } => drop(pipeline.cmd("DEL").arg(key).ignore()),
            Change::Publish { channel, message } => {
                pipeline.cmd("PUBLISH").arg(channel).arg(message).ignore();
                continue;
            }
            Change::Mark(_) => continue,
        }
        count += 1;
    }
    (pipeline, count)
}

enum Unsent {
    Refused(RedisError),
    /// The proxy stops, and Redis does not answer.
    Stopping,
}

/// Sends until Redis has executed or refused the commands.
///
/// After a broken connection it sends unanswered commands again over the next. If Redis executes
/// the first copy late, an older entry can come back. So readers must treat entries as hints.
async fn send(link: &Link, pipeline: &Pipeline, shutdown: &Shutdown) -> Result<(), Unsent> {
    loop {
        let mut connection = link.connected(shutdown).await.ok_or(Unsent::Stopping)?;
        match pipeline.query_async::<()>(&mut connection).await {
            Ok(()) => {
                link.answered();
                return Ok(());
            }
            Err(error) if is_refusal(&error) => return Err(Unsent::Refused(error)),
            Err(error) => link.failed(&error),
        }
    }
}
