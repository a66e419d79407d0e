//! Messages on a Redis channel. A notice is only a reason to look: some may be lost.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use redis::{RedisResult, aio::PubSub};
use tokio::{
    sync::{broadcast, watch},
    time,
};

use super::{
    is_refusal,
    link::{Link, State},
    server::Server,
};
use crate::shutdown::Shutdown;

/// Time between two attempts to subscribe while Redis answers, and while it refuses.
const TRY_AGAIN: Duration = Duration::from_secs(1);
const ASK_LEAVE_AGAIN: Duration = Duration::from_secs(10);

/// The longest time for an attempt.
const PATIENCE: Duration = Duration::from_secs(1);

/// Messages that may wait to be received. With more, some are lost, and the receiver learns that.
const WAITING: usize = 4096;

/// Receives notices that something happened. Several may come as one.
#[derive(Clone, Debug)]
pub struct Notices {
    heard: watch::Receiver<()>,
}

impl Notices {
    /// Waits for a notice since the last one. Cancel safe.
    pub async fn next(&mut self) {
        if self.heard.changed().await.is_err() {
            // The sender is gone, so no notice will come.
            std::future::pending().await
        }
    }
}

/// Receives each message of a channel.
#[derive(Debug)]
pub struct Messages {
    heard: broadcast::Receiver<Option<Arc<str>>>,
}

/// What a channel delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    Message(Arc<str>),
    /// Messages may have been lost: the subscription is new, or more came than could wait.
    Lost,
}

impl Messages {
    /// The next event. Cancel safe.
    pub async fn next(&mut self) -> ChannelEvent {
        match self.heard.recv().await {
            Ok(Some(said)) => ChannelEvent::Message(said),
            Ok(None) | Err(broadcast::error::RecvError::Lagged(_)) => ChannelEvent::Lost,
            // The sender is gone, so no message will come.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Subscribes whenever Redis answers, until the shutdown, and passes on every message.
pub(super) fn messages(server: Arc<Server>, link: Arc<Link>, channel: String, shutdown: Shutdown) -> Messages {
    let (tell, heard) = broadcast::channel(WAITING);
    tokio::spawn(async move {
        // The receiver may be gone.
        let give = |said: Option<&str>| drop(tell.send(said.map(Arc::from)));
        tokio::select! {
            () = keep(&server, &link, &channel, &give) => {}
            () = losses(&link, &give) => {}
            () = shutdown.stopping() => {}
        }
    });
    Messages { heard }
}

/// Subscribes whenever Redis answers, until the shutdown.
pub(super) fn start(server: Arc<Server>, link: Arc<Link>, channel: String, shutdown: Shutdown) -> Notices {
    let (tell, heard) = watch::channel(());
    tokio::spawn(async move {
        let give = |_: Option<&str>| tell.send_replace(());
        tokio::select! {
            () = keep(&server, &link, &channel, &give) => {}
            () = shutdown.stopping() => {}
        }
    });
    Notices { heard }
}

/// Reports every loss of Redis at once: receivers must not trust their data until they resubscribe.
async fn losses(link: &Link, tell: &(impl Fn(Option<&str>) + Sync)) {
    let mut states = link.states();
    while states.wait_for(|state| *state == State::Up).await.is_ok()
        && states.wait_for(|state| *state != State::Up).await.is_ok()
    {
        tell(None);
    }
}

async fn keep(server: &Server, link: &Link, channel: &str, tell: &(impl Fn(Option<&str>) + Sync)) {
    let mut states = link.states();
    let mut is_told = false;
    loop {
        if states.wait_for(|state| *state == State::Up).await.is_err() {
            return;
        }
        // A connection that only listens does not notice a dead server. So it ends with the link.
        let is_down = async { drop(states.wait_for(|state| *state != State::Up).await) };
        let mut changes = server.changes();
        let heard = tokio::select! {
            heard = listen(server, channel, tell) => heard,
            _ = changes.changed() => {
                tell(None);
                continue;
            }
            () = is_down => continue,
        };
        // Messages from now on are missed.
        tell(None);
        let refusal = heard.err().filter(is_refusal);
        if let Some(error) = &refusal
            && !std::mem::replace(&mut is_told, true)
        {
            tracing::warn!(redis.channel = channel, %error, "Redis gives no notices; changes are found by looking");
        }
        time::sleep(if refusal.is_some() { ASK_LEAVE_AGAIN } else { TRY_AGAIN }).await;
    }
}

/// Passes on every message until the connection ends. Also reports the beginning.
async fn listen(server: &Server, channel: &str, tell: &(impl Fn(Option<&str>) + Sync)) -> RedisResult<()> {
    let subscribe = async {
        let mut subscription: PubSub = server.client().await?.get_async_pubsub().await?;
        subscription.subscribe(channel).await?;
        RedisResult::Ok(subscription)
    };
    let Ok(subscription) = time::timeout(PATIENCE, subscribe).await else { return Ok(()) };
    let mut messages = subscription?.into_on_message();
    // This receiver missed everything that was published before the subscription.
    tell(None);
    while let Some(message) = messages.next().await {
        tell(std::str::from_utf8(message.get_payload_bytes()).ok());
    }
    Ok(())
}
