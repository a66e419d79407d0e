//! Sessions that begin: by a log-in, or when a pod accepts an unknown token.

use std::sync::Arc;

use super::{SessionLookup, Sessions};
use crate::{
    pod::{Pod, PodInstance},
    sessions::{
        Session, Token, plain_id,
        session::{Device, MoveReason},
    },
};

impl Sessions {
    /// Records that a log-in made this token. Ends the user's earlier session on the device, as the
    /// pod has done. Gives the tokens that jellypin dropped because the user has too many.
    pub fn record_log_in(&self, pod: &Pod, user: &str, device: Device, token: &str) -> Vec<Token> {
        match self.find(token) {
            SessionLookup::Active(known) => drop(known.record_home(PodInstance::of(pod), token, || MoveReason::First)),
            SessionLookup::Ended => {}
            SessionLookup::Unknown | SessionLookup::Unresolved => {
                let session = self.new_session(pod, user, device, token);
                let before = self.devices.get(&self.device_hash(&session)).map(|before| before.clone());
                if let Some(before) = before {
                    let known_there = before.token_at(PodInstance::of(pod));
                    self.end_session(&before);
                    known_there.iter().for_each(|token| self.confirm_logout(token.as_str()));
                }
                self.is_heard(&session);
                let gone = self.index(&session);
                self.persist(&session);
                return gone;
            }
        }
        Vec::new()
    }

    /// Records that a pod accepted an unknown token. An entry in the store takes precedence.
    pub async fn record_seen(&self, pod: &Pod, user: &str, device: Device, token: &str) {
        let kept = self.store.find(token).await;
        if !matches!(self.find(token), SessionLookup::Unknown) {
            return;
        }
        if let Ok(Some(kept)) = kept {
            drop(self.resolve_entry(token, kept).await);
            return;
        }
        let session = self.new_session(pod, user, device, token);
        self.is_heard(&session);
        self.index(&session);
        self.adopt_capabilities(&session, token);
        match kept {
            Ok(_) => self.persist(&session),
            // Compared with the store before it is trusted again, and kept only then.
            Err(_) => session.set_compared_at(0),
        }
    }

    /// A session that begins on this pod.
    fn new_session(&self, pod: &Pod, user: &str, device: Device, token: &str) -> Arc<Session> {
        let common = self.common.clone();
        let session = Session::begun(common, pod.pool.clone(), plain_id(user), device, Token::new(token));
        session.record_home(PodInstance::of(pod), token, || MoveReason::First);
        Arc::new(session)
    }
}
