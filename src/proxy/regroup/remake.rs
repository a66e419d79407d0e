//! One group made again: its members are brought to the new pod, then they get their queue.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{self, Instant};

use super::Regrouper;
use crate::{
    jellyfin::{
        client::sync_play,
        sync_play::{self as messages, GroupState, Queue},
    },
    pod::{Pod, PodInstance},
    proxy::{
        groups::{group::Group, playback::Playback, roster::Member},
        migrate::{MigrationKind, MigrationRequest},
        pod_client::Caller,
        pool_state::PoolState,
    },
    sessions::{Token, mint_limiter::Priority, session::MigrationOutcome},
};

/// Longest time for a member to come to the new pod with its sockets. The others wait for it.
const BRING: Duration = Duration::from_secs(5);

/// Longest wait for the new group's id from another replica, and for that replica's members.
const OTHER_REPLICA: Duration = Duration::from_secs(3);

/// Pause between two questions about either.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Longest wait until a member has heard what the new pod said.
const HEARD: Duration = Duration::from_secs(10);

/// How far ahead a pod lets a group begin whose members have not measured their way to it yet: twice
/// `DefaultPing` of `SyncPlay/Group.cs`.
const AHEAD: Duration = Duration::from_secs(1);

/// A member that is at the new pod.
struct Arrived {
    member: Member,
    caller: Caller,
    token: Token,
}

impl Arrived {
    fn as_member(&self) -> sync_play::Member<'_> {
        sync_play::Member { device: &self.member.device, token: self.token.as_str() }
    }
}

impl Regrouper {
    /// Makes the group again on this pod. Gives the number of members that this process brought, or
    /// `None` if there is no group there.
    pub(super) async fn remake(&self, of: &PoolState, group: &Arc<Group>, leader: &Arc<Pod>) -> Option<usize> {
        if !group.playback.now().is_known() {
            return None;
        }
        let members = group.roster.members();
        let arrived = join_all(members.iter().map(|member| self.bring(of, member, leader))).await;
        let arrived: Vec<Arrived> = arrived.into_iter().flatten().collect();
        let old = group.location.id();
        let groups = &self.shared.sessions.groups;
        let remade = groups.remade_as(&old).await;
        let is_maker = remade.is_none() && groups.claim_remake(&old).await;
        let (id, maker) = match remade {
            Some(id) => (id, arrived.len()),
            None if is_maker => self.make(group, leader, &arrived).await?,
            None => (self.await_remade(&old).await?, arrived.len()),
        };
        // As late as possible: an earlier pod may still have said something.
        let playback = group.playback.now();
        group.move_to(PodInstance::of(leader), id.clone());
        self.shared.groups.record_moved();
        if is_maker {
            self.shared.sessions.groups.record_remade(&old, &id);
        }
        let others = arrived.iter().enumerate().filter(|(at, _)| *at != maker).map(|(_, other)| other);
        let joined = others.map(|other| self.pods.call(leader, &other.caller, sync_play::join(other.as_member(), &id)));
        join_all(joined).await;
        for member in &members {
            if !arrived.iter().any(|other| Arc::ptr_eq(&other.member.session, &member.session)) {
                group.dismiss(member);
            }
        }
        arrived.iter().for_each(|other| other.member.session.group.record_joined(PodInstance::of(leader)));
        self.shared.sessions.groups.record(leader);
        self.resume(group, leader, (&arrived, &id), (&playback, is_maker)).await.then_some(arrived.len())
    }

    /// Moves a member to the pod, with its sockets.
    async fn bring(&self, of: &PoolState, member: &Member, leader: &Arc<Pod>) -> Option<Arrived> {
        let (session, place) = (&member.session, PodInstance::of(leader));
        let caller = Caller::new(&of.pool, session.calls.client_headers());
        session.group.record_move(place);
        let request =
            MigrationRequest { caller: caller.clone(), priority: Priority::Waiting, kind: MigrationKind::MoveHome };
        let brings = async {
            let migrated = self.migrator.migrate(session, leader, request).await;
            // Sockets of other replicas are those replicas' members.
            let mut places = session.sockets.places();
            let _ = places.wait_for(|sockets| sockets.iter().any(|(_, at)| *at == Some(leader.id))).await;
            (migrated == MigrationOutcome::Done).then_some(())
        };
        time::timeout(BRING, brings).await.ok()??;
        Some(Arrived { member: member.clone(), caller, token: session.token_at(place)? })
    }

    /// Makes the group by the first member that may. Gives its id, and that member.
    async fn make(&self, group: &Group, leader: &Arc<Pod>, arrived: &[Arrived]) -> Option<(String, usize)> {
        for (at, maker) in arrived.iter().enumerate() {
            let call = sync_play::new(maker.as_member(), &group.name);
            if let Ok(Some(id)) = self.pods.call(leader, &maker.caller, call).await {
                return Some((id, at));
            }
        }
        None
    }

    /// The id under which another replica has made the group.
    async fn await_remade(&self, old: &str) -> Option<String> {
        let asks = async {
            loop {
                if let Some(id) = self.shared.sessions.groups.remade_as(old).await {
                    return id;
                }
                time::sleep(ASK_AGAIN).await;
            }
        };
        time::timeout(OTHER_REPLICA, asks).await.ok()
    }

    /// Lets the group go on with what it played. Returns whether its members hear of that.
    async fn resume(
        &self,
        group: &Group,
        leader: &Arc<Pod>,
        (arrived, id): (&[Arrived], &str),
        (playback, is_maker): (&Playback, bool),
    ) -> bool {
        let Some(first) = arrived.first() else { return false };
        let resumes = playback.resumes();
        let Some(queue) = playback.queue().cloned() else {
            // Nobody played anything, so nobody has to hear anything.
            group.moving.resume();
            return true;
        };
        if is_maker {
            self.await_members(group, leader, (first, id)).await;
        }
        let position = playback.position_at(Instant::now() + AHEAD);
        group.moving.resume();
        if is_maker {
            self.set_queue(leader, first, (&queue, position), resumes).await;
        }
        let is_there = |playback: &Playback| {
            playback.queue_recorded_at().is_some()
                && playback.queue().is_some_and(|heard| heard.items.len() == queue.items.len())
        };
        if !group.playback.until(HEARD, is_there).await {
            return false;
        }
        self.report_ready(group, leader, arrived, resumes).await;
        if resumes {
            if !group.playback.until(HEARD, Playback::runs).await && is_maker {
                let _ = self.pods.call(leader, &first.caller, sync_play::unpause(first.as_member())).await;
            }
        } else {
            group.playback.update(|playback, _| playback.record_state(GroupState::Paused, "Pause"));
        }
        let alone = arrived.iter().filter(|one| one.member.ignores_wait);
        let said = alone.map(|one| self.pods.call(leader, &one.caller, sync_play::ignore_wait(one.as_member())));
        join_all(said).await;
        if is_maker && !matches!(&*queue.repeat, "" | "RepeatNone") {
            let call = sync_play::set_repeat_mode(first.as_member(), &queue.repeat);
            let _ = self.pods.call(leader, &first.caller, call).await;
        }
        true
    }

    /// Waits for a moment until the members of other replicas have joined too: a group waits for each
    /// that joins later.
    async fn await_members(&self, group: &Group, leader: &Arc<Pod>, (first, id): (&Arrived, &str)) {
        if !self.shared.sessions.replicas.has_others() {
            return;
        }
        let users = group.roster.users();
        let asks = async {
            loop {
                let call = sync_play::participants(first.as_member(), id);
                if self.pods.call(leader, &first.caller, call).await.is_ok_and(|there| there >= users) {
                    return;
                }
                time::sleep(ASK_AGAIN).await;
            }
        };
        let _ = time::timeout(OTHER_REPLICA, asks).await;
    }

    async fn set_queue(&self, leader: &Arc<Pod>, first: &Arrived, (queue, position): (&Queue, i64), resumes: bool) {
        let call = sync_play::set_queue(first.as_member(), queue, position);
        let _ = self.pods.call(leader, &first.caller, call).await;
        if !resumes {
            let _ = self.pods.call(leader, &first.caller, sync_play::pause(first.as_member())).await;
        }
    }

    /// Says for each member that it is ready: its player has gone on.
    async fn report_ready(&self, group: &Group, leader: &Arc<Pod>, arrived: &[Arrived], resumes: bool) {
        let playback = group.playback.now();
        let Some((queue, heard)) = playback.queue().zip(playback.queue_recorded_at()) else { return };
        let (Some(entry), Some(updated)) = (&queue.entry, messages::moment(&queue.updated)) else { return };
        // The pod compares the moment with its own clock.
        let Some(when) = updated.checked_add(heard.elapsed()).and_then(messages::written) else { return };
        let ready = arrived.iter().map(|one| {
            let call = sync_play::ready(one.as_member(), entry, (&when, queue.position, resumes));
            self.pods.call(leader, &one.caller, call)
        });
        join_all(ready).await;
    }
}
