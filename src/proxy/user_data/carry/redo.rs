//! Repeats a write on another pod if the pod that took it is gone.

use std::time::{Duration, SystemTime};

use super::{Carrier, versions};
use crate::{
    jellyfin::user_data::{Act, Fields, Id, Row},
    pod::PodInstance,
    proxy::{
        user_data::pod_calls::{Answer, Event, PodCalls},
        user_data_state::{
            ledger::{TellOutcome, TellPermit, UserKey},
            round::{OwnedAct, Round},
        },
    },
};

/// How far the clocks of the proxy and of a pod may differ.
const CLOCKS: Duration = Duration::from_secs(60);

impl<P: PodCalls> Carrier<P> {
    /// The pods that have the newest values are gone. Their rows are in the database, but another
    /// pod may have older ones in memory, and would write those over them. So what the user did
    /// is done again on one pod, which then has the newest row. Returns whether it was tried.
    pub(super) async fn redo(&self, user: UserKey, round: &Round) -> bool {
        let Some(pod) = round.targets.first().copied() else { return false };
        let _permit = self.calls.permit(pod).await;
        let permit = self.with(user, |ledger| ledger.begin_telling(user, round.item, pod, Some(round.generation)));
        let TellPermit::Without(own) = permit else { return false };
        // What the pod wrote last itself is to outlive what is done again.
        let row = match self.calls.read(pod, user, round.item).await {
            Answer::Got(row) => Some(row.without(own.complement())),
            Answer::Missing => {
                self.calls.observe(Event::Gone(pod));
                self.with(user, |ledger| ledger.forget(user, round.item));
                None
            }
            Answer::Failed => None,
        };
        let mut told = if row.is_some() { TellOutcome::Done } else { TellOutcome::Failed };
        for lost in &round.lost {
            if told == TellOutcome::Done {
                told = self.redo_act(pod, user, round.item, lost).await;
            }
        }
        if let Some(row) = row.filter(|_| told == TellOutcome::Done && own != Fields::NONE)
            && self.calls.write_row(pod, user, round.item, &row).await == Answer::Failed
        {
            told = TellOutcome::Failed;
        }
        if told == TellOutcome::Done {
            self.calls.observe(Event::Redone(pod));
            self.with(user, |ledger| ledger.redone(user, round, pod));
        }
        let late = (told == TellOutcome::Failed).then_some((round.generation, told));
        self.end_telling(user, round.item, pod, late);
        true
    }

    async fn redo_act(&self, pod: PodInstance, user: UserKey, item: Id, lost: &OwnedAct) -> TellOutcome {
        let part = match &lost.act {
            Act::Favorite(_) | Act::Likes(_) | Act::Played(_) | Act::Unplayed => {
                let done = self.calls.act(pod, user, item, &lost.act).await;
                return if done == Answer::Failed { TellOutcome::Failed } else { TellOutcome::Done };
            }
            Act::Update(part) => part.clone(),
            Act::Started => match self.calls.read(pod, user, item).await {
                Answer::Got(row) => match self.calls.played_item(pod, user, item).await {
                    Answer::Got(item) => row.after_start(&written(lost.at), &written(lost.at - CLOCKS), item),
                    Answer::Missing => return TellOutcome::Done,
                    Answer::Failed => return TellOutcome::Failed,
                },
                Answer::Missing => return TellOutcome::Done,
                Answer::Failed => return TellOutcome::Failed,
            },
            Act::Reached(ticks) => match self.calls.played_item(pod, user, item).await {
                Answer::Got(played) => played.at(*ticks),
                Answer::Missing => return TellOutcome::Done,
                Answer::Failed => return TellOutcome::Failed,
            },
            Act::Ended => Row::at_end(),
        };
        if part == Row::default() {
            return TellOutcome::Done;
        }
        if self.calls.write_row(pod, user, item, &part).await == Answer::Failed {
            return TellOutcome::Failed;
        }
        match lost.act.may_finish() && part.has_ended() {
            true => versions::mark(self, pod, (user, item), lost.at).await,
            false => TellOutcome::Done,
        }
    }
}

/// A moment as Jellyfin writes it: in ticks of 100 ns.
fn written(at: SystemTime) -> String {
    let nanos = humantime::format_rfc3339_nanos(at).to_string();
    nanos.strip_suffix("00Z").map_or(nanos.clone(), |ticks| format!("{ticks}Z"))
}
