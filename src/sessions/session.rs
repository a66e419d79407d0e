//! One session: a user on a device, the tokens that stand for it, and the pod that it lives on.

mod group;
mod left_pods;
mod migration;
mod moves;
mod replayed_calls;
mod residence;
mod room;
mod sockets;
mod tokens;
mod uptime;
mod usage;

use std::{sync::Arc, time::Duration};

use super::{PodSessionId, Token};
use crate::{
    pod::{Pod, PodInstance, Pool},
    store::clock::Clock,
};
use usage::Moment;

pub use crate::jellyfin::authorization::Device;
pub use group::Group;
pub use left_pods::LeftPods;
pub use migration::{Lead, MigrationOutcome, MigrationRole, Migrations};
pub use moves::{Move, MoveReason};
pub use replayed_calls::{LONGEST_CALL, ReplayedCall, ReplayedCalls};
pub use residence::Residence;
pub use room::Room;
pub use sockets::{KnownSocket, Socket, Sockets};
pub use tokens::{SessionToken, Tokens};
pub use uptime::Uptime;
pub use usage::Usage;

/// A session, shared by all requests and sockets of its client. Each part has a lock of its own,
/// held for a look or a change, never across an await.
#[derive(Debug)]
pub struct Session {
    /// The pool that it belongs to. Pods of other pools cannot know it.
    pub pool: Arc<str>,
    /// The user's id.
    pub user: String,
    /// What the client says of itself.
    pub device: Device,
    /// The id under which pods list it.
    list_id: PodSessionId,
    /// The tokens that stand for it.
    pub tokens: Tokens,
    /// Where it lives, and where it is valid.
    pub residence: Residence,
    /// What its client sent to one pod, and the next pod must hear.
    pub calls: ReplayedCalls,
    /// Its migrations.
    pub migrations: Migrations,
    /// Its SyncPlay group.
    pub group: Group,
    /// Its open sockets.
    pub sockets: Sockets,
    /// When it was used.
    pub usage: Usage,
    /// When it was last compared with what other replicas keep. Never: not since something may have
    /// been missed.
    pub(super) compared_at: Moment,
    /// When Redis lacked its entry.
    pub(super) entry_lost_at: Moment,
}

/// What all sessions of a proxy have in common.
#[derive(Clone, Debug, Default)]
pub struct Common {
    /// The clock of their moments.
    pub clock: Clock,
    /// Room for their replayed calls.
    pub room: Room,
    /// The clock of what holds within this process only.
    pub uptime: Uptime,
}

impl Session {
    pub fn new(pool: Arc<str>, user: String, device: Device, token: Token) -> Session {
        Session::begun(Common::default(), pool, user, device, token)
    }

    pub(super) fn begun(common: Common, pool: Arc<str>, user: String, device: Device, token: Token) -> Session {
        let at = common.clock.now();
        let tokens = Tokens::new(common.clock.clone(), at, 0, vec![SessionToken { token, at }]);
        Session::from_parts(common, pool, user, device, tokens, Vec::new())
    }

    pub(super) fn from_parts(
        common: Common,
        pool: Arc<str>,
        user: String,
        device: Device,
        tokens: Tokens,
        capabilities: Vec<ReplayedCall>,
    ) -> Session {
        Session {
            pool,
            list_id: PodSessionId::of(&device.client, &device.id),
            tokens,
            residence: Residence::new(common.clock),
            calls: ReplayedCalls::new(common.room.share(&user), capabilities),
            migrations: Migrations::default(),
            group: Group::default(),
            sockets: Sockets::default(),
            usage: Usage::new(common.uptime),
            compared_at: Moment::default(),
            entry_lost_at: Moment::default(),
            user,
            device,
        }
    }

    /// The pod that the session lives on, if known.
    pub fn home(&self) -> Option<PodInstance> {
        self.residence.home()
    }

    /// The token by which the session is valid at this pod instance.
    pub fn token_at(&self, place: PodInstance) -> Option<Token> {
        self.residence.token_at(place)
    }

    /// Whether this pod knows the session by one of its tokens.
    pub fn is_known_at(&self, pod: &Pod) -> bool {
        self.token_at(PodInstance::of(pod)).is_some()
    }

    /// Whether the session's home is alive, and is not this pod.
    pub fn lives_elsewhere(&self, pool: &Pool, pod: &Pod) -> bool {
        let Some(home) = self.home().filter(|home| home.pod != pod.id) else { return false };
        let is_home = |other: &Pod| other.id == home.pod && !other.info.is_other_server_than_in(home.epoch);
        pool.pods().iter().any(|other| is_home(other) && other.status().is_alive())
    }

    pub fn is_ended(&self) -> bool {
        self.residence.is_ended()
    }

    /// Whether pods list the session under this id: that of its device, or of another as which its
    /// client has called.
    pub fn is_listed_as(&self, id: PodSessionId) -> bool {
        if self.list_id == id {
            return true;
        }
        let is = |device: &Device| *device != self.device && PodSessionId::of(&device.client, &device.id) == id;
        self.sockets.is_any_of(is) || self.calls.is_any_of(is)
    }

    /// Whether the session's client is there: it has an open socket at this replica, or was heard
    /// within this time. An app that was closed long ago is not there, even if its session
    /// migrates.
    pub fn is_there(&self, within: Duration) -> bool {
        self.sockets.is_any() || self.usage.is_heard_within(within)
    }

    /// Ends the session, and notifies its sockets.
    pub(super) fn mark_ended(&self) {
        self.residence.end();
        self.calls.clear();
    }

    /// Merges another replica's copy: the later state wins, and the tokens of both stay.
    pub(super) fn merge(&self, theirs: &Session) -> tokens::MergeResult {
        self.tokens.merge(&theirs.tokens, || self.calls.adopt_capabilities(&theirs.calls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::PodConfig;

    pub(super) fn session(token: &str) -> Session {
        let device = Device { client: "Story".into(), name: "Test".into(), id: "sofa".into(), version: "1".into() };
        Session::new("main".into(), "u1".into(), device, Token::new(token))
    }

    pub(super) fn place(name: &str) -> PodInstance {
        PodInstance::of(&Pod::new(&"main".into(), &PodConfig { name: name.into(), authority: "h:1".into() }))
    }
}
