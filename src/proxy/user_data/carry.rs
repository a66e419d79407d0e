//! Carries users' writes from the pods through which they went to all others.
//!
//! Each user with pairs on which a pod is behind has one task. It reads the row on the pod where it
//! was written, and writes it to each other pod. Meanwhile the user's own writes of that row wait:
//! otherwise the older row could overwrite them.

mod children;
mod reconcile;
mod redo;
mod rows;
mod versions;

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::pod_calls::{Answer, Event, PodCalls, WaitOutcome};
use crate::{
    jellyfin::{
        endpoint::Write,
        user_data::{Act, Field, Fields, Id, Row},
    },
    pod::PodInstance,
    proxy::request::attempt::WriteUnderWay,
    proxy::user_data_state::{
        Ledgers,
        ledger::{Access, Admission, Ledger, Pair, Plan, TellOutcome, TellPermit, Ticket, UserKey, lose_write},
        round::Round,
    },
    shutdown::Shutdown,
};
use rows::NoRows;

/// How long a request waits for its pod to be told.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a task waits for a write that is under way.
const LOOK: Duration = Duration::from_millis(100);

/// One worker's part in carrying. A user's task runs on the worker that began it.
pub(super) struct Carrier<P> {
    pub(super) ledgers: Arc<Ledgers>,
    pub(super) calls: P,
    shutdown: Shutdown,
}

/// A user's write that is under way to a pod.
pub(super) struct OpenWrite<P: PodCalls> {
    carrier: Arc<Carrier<P>>,
    user: UserKey,
    pod: PodInstance,
    ticket: Option<Ticket>,
}

impl<P: PodCalls> Carrier<P> {
    pub(super) fn new(ledgers: Arc<Ledgers>, calls: P, shutdown: Shutdown) -> Arc<Carrier<P>> {
        Arc::new(Carrier { ledgers, calls, shutdown })
    }

    /// Whether all pods have all writes.
    pub(super) fn is_empty(&self) -> bool {
        self.ledgers.is_empty()
    }

    /// Waits until the pod was told what the request is about, at most two seconds. A write is then
    /// under way until what this returns is ended or dropped.
    pub(super) async fn admit(
        self: &Arc<Self>,
        user: UserKey,
        pod: PodInstance,
        access: Access,
    ) -> Option<OpenWrite<P>> {
        if self.is_empty() && !matches!(access, Access::Write(_)) {
            return None;
        }
        let began = Instant::now();
        let mut insists = false;
        loop {
            let admission = self.with(user, |ledger| ledger.admit(user, pod, access, Instant::now(), insists));
            match admission {
                Admission::Granted(ticket) => {
                    let waited = began.elapsed();
                    if !waited.is_zero() && (insists || waited > Duration::from_micros(100)) {
                        let outcome = if insists { WaitOutcome::TimedOut } else { WaitOutcome::Told };
                        self.calls.observe(Event::Waited(waited, outcome));
                    }
                    return ticket.map(|ticket| OpenWrite { carrier: self.clone(), user, pod, ticket: Some(ticket) });
                }
                Admission::Wait(mut changes) => {
                    self.start_task(user);
                    insists = time::timeout_at(began + PATIENCE, changes.changed()).await.is_err();
                }
            }
        }
    }

    /// Lets something write a row of a pod, and takes that back. The user's own writes of it wait.
    /// Where it could not be taken back, nothing is written.
    ///
    /// # Cancel safety
    /// What has begun is done to its end, or the pod might take the old row after newer writes.
    pub(super) async fn preserve(
        self: &Arc<Self>,
        user: UserKey,
        pod: PodInstance,
        item: Id,
        change: impl Future<Output = ()> + Send + 'static,
    ) {
        let carrier = self.clone();
        let preserving = async move {
            let _permit = carrier.calls.permit(pod).await;
            if carrier.begin_telling_alone(user, item, pod).await.is_none() {
                return;
            }
            match carrier.calls.read(pod, user, item).await {
                Answer::Got(row) => {
                    change.await;
                    reconcile::take_back(&carrier, pod, (user, item), row).await;
                }
                // What is not there cannot be overwritten.
                Answer::Missing => change.await,
                Answer::Failed => {}
            }
            carrier.end_telling(user, item, pod, None);
            carrier.start_task(user);
        };
        // It fails only with the whole process.
        let _ = tokio::spawn(self.shutdown.track(preserving)).await;
    }

    /// Starts the user's task unless it runs.
    fn start_task(self: &Arc<Self>, user: UserKey) {
        let Some(changes) = self.with(user, |ledger| ledger.take_up(user).then(|| ledger.changes(user)).flatten())
        else {
            return;
        };
        let carrier = self.clone();
        tokio::spawn(self.shutdown.track(async move { carrier.carry_all(user, changes).await }));
    }

    async fn carry_all(self: Arc<Self>, user: UserKey, mut changes: watch::Receiver<()>) {
        loop {
            changes.mark_unchanged();
            let flushes = self.shutdown.is_stopping();
            let pods = self.calls.pods(user);
            match self.with(user, |ledger| ledger.plan(user, &pods, Instant::now(), flushes)) {
                Plan::Done => return,
                Plan::Work(rounds) => {
                    let mut told = 0;
                    for round in rounds {
                        told += self.carry_round(user, round).await;
                    }
                    if flushes {
                        break;
                    }
                    if told == 0 {
                        // Something is being written. Its end is a change.
                        let _ = time::timeout(LOOK, changes.changed()).await;
                    }
                }
                Plan::Wait(_) if flushes => break,
                Plan::Wait(until) => {
                    let until = async {
                        match until {
                            Some(until) => time::sleep_until(until).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        _ = changes.changed() => {}
                        () = until => {}
                        () = self.shutdown.stopping() => {}
                    }
                }
            }
        }
        self.with(user, |ledger| ledger.put_down(user));
    }

    /// Reads the newest row, and tells it to the pods that are behind. Returns how many were.
    async fn carry_round(&self, user: UserKey, round: Round) -> usize {
        if round.has_lost() {
            return usize::from(self.redo(user, &round).await);
        }
        if let Some(doubts) = round.rewrites {
            return usize::from(self.rewrite(user, &round, doubts).await);
        }
        if let Some(settling) = &round.settling {
            return usize::from(reconcile::reconcile(self, user, &round, &settling.pods).await);
        }
        let rows = match rows::read(self, user, round.item, &round.sources).await {
            Ok(rows) => rows,
            Err(why) => return usize::from(why == NoRows::Noted),
        };
        let Some(newest) = round.newest(&rows) else { return 0 };
        if !versions::record(self, user, &round, &newest.row).await {
            return 1;
        }
        let is_folder = newest.row.is_folder();
        let computed = if is_folder { Fields::PLAY_STATE } else { Fields::NONE };
        let folder = round.sources.first().filter(|_| is_folder && round.has_children);
        let tellings = round.targets.iter().map(|target| async {
            // Before the telling begins: the user's own writes wait for that.
            let permit_to_call = self.calls.permit(*target).await;
            let permit =
                self.with(user, |ledger| ledger.begin_telling(user, round.item, *target, Some(round.generation)));
            // The next round tells it the newer row.
            let TellPermit::Without(own) = permit else { return 0 };
            let but = newest.but_own(*target, own).with(computed);
            let (mut told, is_left_over) = self.tell_pod(*target, user, round.item, &newest.row, but).await;
            if is_left_over {
                self.with(user, |ledger| ledger.pair(user, round.item).map(Pair::unsettle));
            }
            drop(permit_to_call);
            if let (TellOutcome::Done, Some(source)) = (told, folder) {
                told = self.tell_children(user, round.item, *source, *target).await;
            }
            self.end_telling(user, round.item, *target, Some((round.generation, told)));
            self.calls.observe(Event::Told(*target, told));
            1
        });
        join_all(tellings).await.into_iter().sum()
    }

    /// A pod writes its row whole, even if it is told nothing. Returns whether it was tried.
    async fn rewrite(&self, user: UserKey, round: &Round, doubts: u64) -> bool {
        let Some(pod) = round.sources.first().copied() else { return false };
        let _permit = self.calls.permit(pod).await;
        // Its row is the newest only if nothing was written since.
        let permit = self.with(user, |ledger| ledger.begin_telling(user, round.item, pod, Some(round.generation)));
        if permit == TellPermit::Stale {
            return false;
        }
        match self.calls.write_row(pod, user, round.item, &Row::default()).await {
            Answer::Failed => pause(self, user, round.item),
            Answer::Got(_) | Answer::Missing => {
                self.with(user, |ledger| ledger.pair(user, round.item).map(|pair| pair.rewritten(doubts)));
            }
        }
        self.end_telling(user, round.item, pod, None);
        true
    }

    /// Makes one pod take a row, but for what it wrote last itself. Also says whether the pod's row
    /// had something that an update leaves.
    async fn tell_pod(
        &self,
        pod: PodInstance,
        user: UserKey,
        item: Id,
        newest: &Row,
        but: Fields,
    ) -> (TellOutcome, bool) {
        let part = newest.clone().without(but);
        let answer = match self.calls.write_row(pod, user, item, &part).await {
            Answer::Got(answer) => answer,
            // It cannot overwrite what it does not have.
            Answer::Missing => return (TellOutcome::Done, false),
            Answer::Failed => return (TellOutcome::Failed, false),
        };
        // An update leaves what the row lacks; other acts remove it.
        let left_over = newest.left_over(&answer, but);
        let is_left_over = left_over != Fields::NONE;
        if left_over.contains(Field::Rating)
            && self.calls.act(pod, user, item, &Act::Likes(None)).await == Answer::Failed
        {
            return (TellOutcome::Failed, is_left_over);
        }
        if left_over.contains(Field::LastPlayed) {
            let mut whole = newest.clone();
            but.iter().for_each(|field| whole.take(field, &answer));
            if self.calls.act(pod, user, item, &Act::Unplayed).await == Answer::Failed
                || self.calls.write_row(pod, user, item, &whole).await == Answer::Failed
            {
                return (TellOutcome::Failed, is_left_over);
            }
        }
        (TellOutcome::Done, is_left_over)
    }

    /// Waits until nothing writes this row of the pod, at most two seconds. Returns the fields that
    /// the pod wrote last itself.
    async fn begin_telling_alone(&self, user: UserKey, item: Id, pod: PodInstance) -> Option<Fields> {
        let end = Instant::now() + PATIENCE;
        loop {
            let (permit, changes) =
                self.with(user, |ledger| (ledger.begin_telling(user, item, pod, None), ledger.changes(user)));
            if let TellPermit::Without(own) = permit {
                return Some(own);
            }
            time::timeout_at(end, changes?.changed()).await.ok()?.ok()?;
        }
    }

    fn end_telling(&self, user: UserKey, item: Id, pod: PodInstance, told: Option<(u64, TellOutcome)>) {
        self.with(user, |ledger| ledger.end_telling(user, item, pod, told, Instant::now()));
    }

    /// Looks at or changes the ledger of a user.
    fn with<T>(&self, user: UserKey, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let (changed, pairs) = self.ledgers.with(user, change);
        if pairs != 0 {
            self.calls.observe(Event::Pairs(pairs));
        }
        changed
    }
}

/// A pod did not answer: it is asked again later.
fn pause<P: PodCalls>(carrier: &Carrier<P>, user: UserKey, item: Id) {
    carrier.with(user, |ledger| ledger.pair(user, item).map(|pair| pair.pause(Instant::now())));
}

impl<P: PodCalls> WriteUnderWay for OpenWrite<P> {
    fn end(mut self: Box<Self>, write: Option<&Write>) {
        self.finish(write);
        if write.is_some() {
            self.carrier.start_task(self.user);
        }
    }
}

impl<P: PodCalls> OpenWrite<P> {
    fn finish(&mut self, write: Option<&Write>) {
        let Some(ticket) = self.ticket.take() else { return };
        let of = (self.user, self.pod, ticket);
        let end = |ledger: &mut Ledger| ledger.end_write(of, write, Instant::now(), SystemTime::now());
        if self.carrier.with(self.user, end) {
            self.carrier.calls.observe(Event::Dropped);
        }
    }
}

impl<P: PodCalls> Drop for OpenWrite<P> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.carrier.with(self.user, |ledger| lose_write(ledger, self.user, ticket));
        }
        self.finish(None);
    }
}
