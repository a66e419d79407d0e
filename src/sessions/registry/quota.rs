//! A user's share of the sessions. A user with ten thousand log-ins displaces only their own.

use std::sync::Arc;

use dashmap::DashMap;

use crate::sessions::Session;

/// The session of each user on each device, by keyed hash.
pub(super) type Devices = DashMap<u128, Arc<Session>, ahash::RandomState>;

/// Counts the sessions of each user.
#[derive(Debug)]
pub(super) struct UserQuota {
    /// The sessions of each user, as keys of the devices, the oldest first.
    users: DashMap<u128, Vec<u128>, ahash::RandomState>,
    most: usize,
}

impl UserQuota {
    /// At most so many sessions of one user.
    pub(super) fn of(most: usize) -> UserQuota {
        UserQuota { users: DashMap::default(), most: most.max(1) }
    }

    /// Counts one more session of a user, by its device. Beyond the bound, takes others of this
    /// user out of the devices, and gives them.
    pub(super) fn count(&self, user: u128, device: u128, devices: &Devices) -> Vec<Arc<Session>> {
        let mut of_user = self.users.entry(user).or_default();
        // A device that comes again counts as the latest.
        of_user.retain(|other| *other != device);
        of_user.push(device);
        if of_user.len() <= self.most {
            return Vec::new();
        }
        of_user.retain(|device| devices.contains_key(device));
        let mut gone = Vec::new();
        while of_user.len() > self.most
            && let Some(at) = least_worth(&of_user, devices)
        {
            let device = of_user.remove(at);
            gone.extend(devices.remove(&device).map(|(_, session)| session));
        }
        gone
    }

    /// Forgets users whose sessions are all gone.
    pub(super) fn tidy(&self, devices: &Devices) {
        self.users.retain(|_, of_user| {
            of_user.retain(|device| devices.contains_key(device));
            !of_user.is_empty()
        });
    }
}

/// Which of these goes first; never the one that has just come.
fn least_worth(of_user: &[u128], devices: &Devices) -> Option<usize> {
    let (_, before) = of_user.split_last()?;
    let worth = |device: &u128| devices.get(device).map(|session| (session.sockets.is_any(), session.usage.worth()));
    let (at, _) = before.iter().enumerate().min_by_key(|(_, device)| worth(device))?;
    Some(at)
}
