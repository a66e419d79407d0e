//! What a client asked for over its socket and a pod forgets with its end: asked for again at the next one.

use tokio_tungstenite::tungstenite::Message;

use crate::identity::message::{self, Subject, Wish};

/// The wishes that hold, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Wishes(Vec<(Subject, Message)>);

impl Wishes {
    /// Hears what the client says.
    pub(super) fn hear(&mut self, said: &Message) {
        let Message::Text(text) = said else { return };
        let (subject, holds) = match message::wish(text) {
            Some(Wish::Starts(subject)) => (subject, true),
            Some(Wish::Stops(subject)) => (subject, false),
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
        let mut wishes = Wishes::default();
        let said = |kind: &str, data: &str| Message::text(format!(r#"{{"MessageType":"{kind}","Data":"{data}"}}"#));
        for (kind, data) in [
            ("SessionsStart", "0,1500"),
            ("KeepAlive", ""),
            ("ActivityLogEntryStart", "0,1000"),
            ("SessionsStart", "0,500"),
            ("ScheduledTasksInfoStart", ""),
            ("ScheduledTasksInfoStop", ""),
        ] {
            wishes.hear(&said(kind, data));
        }
        let held: Vec<_> = wishes.messages().collect();
        assert_eq!(held, [said("ActivityLogEntryStart", "0,1000"), said("SessionsStart", "0,500")]);
    }
}
