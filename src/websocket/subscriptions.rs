//! What a client subscribed to over its socket. A pod forgets it when it ends, so the relay replays
//! it to the next pod.

use tokio_tungstenite::tungstenite::Message;

use crate::jellyfin::message::{self, Subject, Subscription};

/// The active subscriptions, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Vec<(Subject, Message)>);

impl Subscriptions {
    /// Records a subscription or its end in a client's message.
    pub(super) fn record(&mut self, said: &Message) {
        let Message::Text(text) = said else { return };
        let (subject, holds) = match message::subscription(text) {
            Some(Subscription::Start(subject)) => (subject, true),
            Some(Subscription::Stop(subject)) => (subject, false),
            None => return,
        };
        self.0.retain(|(other, _)| *other != subject);
        if holds {
            self.0.push((subject, said.clone()));
        }
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = Message> {
        self.0.iter().map(|(_, message)| message.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_wish_of_a_kind_holds_until_it_is_taken_back() {
        let mut subscriptions = Subscriptions::default();
        let said = |kind: &str, data: &str| Message::text(format!(r#"{{"MessageType":"{kind}","Data":"{data}"}}"#));
        for (kind, data) in [
            ("SessionsStart", "0,1500"),
            ("KeepAlive", ""),
            ("ActivityLogEntryStart", "0,1000"),
            ("SessionsStart", "0,500"),
            ("ScheduledTasksInfoStart", ""),
            ("ScheduledTasksInfoStop", ""),
        ] {
            subscriptions.record(&said(kind, data));
        }
        let held: Vec<_> = subscriptions.messages().collect();
        assert_eq!(held, [said("ActivityLogEntryStart", "0,1000"), said("SessionsStart", "0,500")]);
    }
}
