//! A user's share of the sessions. A user with ten thousand log-ins displaces only their own.

use std::sync::{Arc, atomic::Ordering};

use super::Sessions;
use crate::sessions::{Session, Token};

impl Sessions {
    /// Counts one more session of a user, by its device. Beyond the bound one session goes, with
    /// its entries. The pods still know it, but it migrates no more. Gives its tokens.
    pub(super) fn count_for_user(&self, session: &Arc<Session>, device: u128) -> Vec<Token> {
        let user = self.hash(&[&session.pool, &session.user]);
        let mut of_user = self.users.entry(user).or_default();
        // A device that comes again counts as the latest.
        of_user.retain(|other| *other != device);
        of_user.push(device);
        if of_user.len() <= self.of_one_user {
            return Vec::new();
        }
        of_user.retain(|device| self.devices.contains_key(device));
        let mut gone = Vec::new();
        while of_user.len() > self.of_one_user
            && let Some(at) = self.least_worth(&of_user)
        {
            let device = of_user.remove(at);
            if let Some((_, session)) = self.devices.remove(&device) {
                gone.extend(self.let_go(&session));
            }
        }
        gone
    }

    /// Which of these goes first; never the one that has just come.
    fn least_worth(&self, devices: &[u128]) -> Option<usize> {
        let (_, before) = devices.split_last()?;
        let worth = |device: &u128| self.devices.get(device).map(|session| (session.has_sockets(), session.worth()));
        let (at, _) = before.iter().enumerate().min_by_key(|(_, device)| worth(device))?;
        Some(at)
    }

    fn let_go(&self, session: &Session) -> Vec<Token> {
        let tokens = session.tokens();
        for minted in &tokens {
            let token = minted.token.as_str();
            if self.active.remove_if(&self.hash(&[token]), |_, listed| std::ptr::eq(&**listed, session)).is_some() {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            self.store.forget(token);
        }
        tokens.into_iter().map(|minted| minted.token).collect()
    }

    /// Forgets users whose sessions are all gone.
    pub(super) fn forget_users(&self) {
        self.users.retain(|_, devices| {
            devices.retain(|device| self.devices.contains_key(device));
            !devices.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pod::{Pod, PodConfig, Pool},
        sessions::{Device, SessionLookup, session_store::SessionStore},
    };

    fn device(id: &str) -> Device {
        Device { client: "c".into(), name: "n".into(), id: id.into(), version: "1".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn one_user_displaces_only_his_own_sessions_and_first_those_that_nobody_uses() {
        let pool = Pool::new("main", "");
        let pod = Pod::new(&pool.name, &PodConfig { name: "a".into(), authority: "h:1".into() });
        pool.set_pods(vec![pod.clone()]);
        let sessions = Sessions::new(100_000, (1, 2), vec![pool], SessionStore::in_memory()).bounded(100, 1 << 20, &[]);
        for user in 0..20 {
            sessions.record_log_in(&pod, &format!("user{user}"), device("sofa"), &format!("real {user}"));
        }
        sessions.record_log_in(&pod, "mallory", device("television"), "his own");
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        assert!(matches!(sessions.find("his own"), SessionLookup::Active(_)));
        let mut gone = 0;
        for number in 0..10_000 {
            gone +=
                sessions.record_log_in(&pod, "mallory", device(&number.to_string()), &format!("token {number}")).len();
        }
        assert_eq!((sessions.len(), gone), (120, 9_901));
        assert!((0..20).all(|user| matches!(sessions.find(&format!("real {user}")), SessionLookup::Active(_))));
        assert!(matches!(sessions.find("his own"), SessionLookup::Active(_)), "what is used outlives what is not");
        assert!(
            matches!(sessions.find("token 0"), SessionLookup::Unknown)
                && matches!(sessions.find("token 9999"), SessionLookup::Active(_))
        );
        assert_eq!(sessions.active.len(), 120);
    }
}
