//! Which pod of a pool runs tasks by itself: the leader alone. Pure: what is kept and what the pods
//! have tells the next step.
//!
//! The house has one set of triggers, which the leader holds. What another pod had is taken from it,
//! and given back once jellypin no longer does this. Whatever is about to be emptied is kept
//! first, and the leader is not known as the holder before it has everything. So a crash after
//! any step leaves a state from which the same rule goes on.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// The triggers of tasks, as a pod writes them, by the tasks' ids.
pub type Triggers = BTreeMap<String, Value>;

/// So many pods that are gone are remembered. One of them may be away for a while only.
const MOST_GONE: usize = 64;

/// What is kept beyond this process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// The pod that has the house's triggers. `None` while they are on their way.
    pub holder: Option<String>,
    /// The house's triggers, as the holder had them at the last look.
    pub house: Triggers,
    /// What was taken from other pods.
    pub taken: BTreeMap<String, Triggers>,
    /// Grows with each document, also over one that is forgotten. Of two documents the later holds.
    pub generation: u64,
}

/// The document that holds, and whether only this replica's file had it.
#[derive(Clone, Debug, PartialEq)]
pub struct Latest {
    pub kept: Kept,
    pub is_from_file: bool,
}

/// What is known of the pods now.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The pod that leads.
    pub leader: Option<&'a str>,
    /// What each pod has that answers.
    pub pods: &'a BTreeMap<String, Triggers>,
    /// The pods that were looked at before in their present life. Pods may share the folder of their
    /// triggers; then one that has just started has read what another was emptied to.
    pub known: &'a BTreeSet<String>,
    /// Tasks whose triggers a client has set at the leader.
    pub edited: &'a BTreeSet<String>,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// This is kept from now on. Nothing else may be done before it is safe.
    Keep(Kept),
    /// Nothing is left to be kept.
    Forget,
    /// A pod gets these triggers for a task.
    Set { pod: String, task: String, triggers: Value },
}

/// The next step to where the leader alone has triggers. `None`: it is so, as far as pods answer.
pub fn next(kept: &Kept, view: View<'_>) -> Option<Step> {
    let leader = view.leader?;
    let own = view.pods.get(leader)?;
    match kept.holder.as_deref() {
        Some(holder) if holder == leader => {
            lost_or_edited(kept, view, leader, own).or_else(|| empty(kept, view, leader))
        }
        Some(holder) => Some(Step::Keep(released(kept, view, holder))),
        None => empty(kept, view, leader).or_else(|| Some(give(kept, view, leader, own))),
    }
}

/// The next step to where each pod has its own triggers again. `None`: nothing can be done now.
pub fn next_to_give_back(kept: &Kept, pods: &BTreeMap<String, Triggers>) -> Option<Step> {
    if kept.taken.is_empty() {
        return Some(Step::Forget);
    }
    let (pod, taken, has) = kept.taken.iter().find_map(|(pod, taken)| Some((pod, taken, pods.get(pod)?)))?;
    // What somebody has set meanwhile stays.
    let lacks = |(task, triggers): &(&String, &Value)| has.get(*task).is_some_and(is_none) && !is_none(triggers);
    Some(match taken.iter().find(lacks) {
        Some((task, triggers)) => Step::Set { pod: pod.clone(), task: task.clone(), triggers: triggers.clone() },
        None => {
            let mut kept = kept.clone();
            kept.taken.remove(pod);
            Step::Keep(kept)
        }
    })
}

/// The lead has left the holder. Its latest triggers are kept before it is emptied.
fn released(kept: &Kept, view: View<'_>, holder: &str) -> Kept {
    let mut kept = Kept { holder: None, ..kept.clone() };
    for (task, triggers) in view.pods.get(holder).into_iter().flatten() {
        // A document may be older than it seems, and its holder be emptied by now.
        if !is_none(triggers) || !kept.house.contains_key(task) {
            kept.house.insert(task.clone(), triggers.clone());
        }
    }
    kept
}

/// Empties the pods that do not lead, one task after the other.
fn empty(kept: &Kept, view: View<'_>, leader: &str) -> Option<Step> {
    let others = view.pods.iter().filter(|(pod, _)| *pod != leader);
    let (pod, task) =
        others.flat_map(|(pod, has)| has.iter().map(move |task| (pod, task))).find_map(|(pod, task)| {
            let (task, triggers) = task;
            (!is_none(triggers)).then_some((pod, task))
        })?;
    let mut taken = kept.taken.get(pod).cloned().unwrap_or_default();
    let has = view.pods.get(pod)?.iter().filter(|(_, triggers)| !is_none(triggers));
    taken.extend(has.map(|(task, triggers)| (task.clone(), triggers.clone())));
    if kept.taken.get(pod) == Some(&taken) {
        return Some(Step::Set { pod: pod.clone(), task: task.clone(), triggers: json!([]) });
    }
    let mut kept = kept.clone();
    kept.taken.insert(pod.clone(), taken);
    Some(Step::Keep(kept))
}

/// Gives the leader the house's triggers, or its own for a task that the house does not know. What
/// a client has set there since it leads stays. That it wants none is not told from a pod that was
/// emptied, so an empty list does not.
fn give(kept: &Kept, view: View<'_>, leader: &str, own: &Triggers) -> Step {
    let taken = kept.taken.get(leader);
    let wanted = |task: &String, triggers: &Value| {
        let before = || taken.and_then(|taken| taken.get(task)).filter(|_| is_none(triggers));
        let given = kept.house.get(task).or_else(before).filter(|_| is_none(triggers) || !view.edited.contains(task));
        given.unwrap_or(triggers).clone()
    };
    for (task, triggers) in own {
        let wanted = wanted(task, triggers);
        if wanted != *triggers {
            return Step::Set { pod: leader.to_owned(), task: task.clone(), triggers: wanted };
        }
    }
    let mut kept = Kept { holder: Some(leader.to_owned()), ..kept.clone() };
    // What a client sets is kept by the next step, from what the pod has then.
    let settled = own.iter().filter(|(task, _)| !view.edited.contains(*task));
    kept.house.extend(settled.map(|(task, triggers)| (task.clone(), triggers.clone())));
    kept.taken.remove(leader);
    Step::Keep(kept)
}

/// The holder leads. What was set there is kept; what it has lost is given again.
fn lost_or_edited(kept: &Kept, view: View<'_>, leader: &str, own: &Triggers) -> Option<Step> {
    let mut house = kept.house.clone();
    for (task, triggers) in own {
        let had = kept.house.get(task).filter(|had| !is_none(had));
        let is_wanted = view.known.contains(leader) || view.edited.contains(task);
        match had {
            Some(had) if is_none(triggers) && !is_wanted => {
                return Some(Step::Set { pod: leader.to_owned(), task: task.clone(), triggers: had.clone() });
            }
            _ => drop(house.insert(task.clone(), triggers.clone())),
        }
    }
    (house != kept.house).then(|| Step::Keep(Kept { house, ..kept.clone() }))
}

fn is_none(triggers: &Value) -> bool {
    triggers.as_array().is_none_or(Vec::is_empty)
}

impl Kept {
    /// The document that is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let document = json!({
            "generation": self.generation,
            "holder": self.holder,
            "house": self.house,
            "taken": self.taken,
        });
        document.to_string().into_bytes()
    }

    /// The next document. The time lets it be later than any that was forgotten.
    #[must_use]
    pub fn after(self, kept: &Kept, unix_ms: u64) -> Kept {
        Kept { generation: kept.generation.saturating_add(1).max(unix_ms), ..self }
    }

    /// Forgets what was taken from pods that are gone, if they are many: a pod of a DNS name is named by
    /// its address, and may come back under another for ever.
    #[must_use]
    pub fn without_many_gone(mut self, pods: &BTreeSet<String>) -> Kept {
        let gone = self.taken.keys().filter(|pod| !pods.contains(*pod));
        let too_many: Vec<String> = gone.skip(MOST_GONE).cloned().collect();
        self.taken.retain(|pod, _| !too_many.contains(pod));
        self
    }

    /// The one that holds, of the replicas' common document and the one in this replica's file. `None`:
    /// what holds cannot be read.
    pub fn latest(common: Option<&[u8]>, own: Option<&[u8]>) -> Option<Latest> {
        let own = own.map(Kept::read);
        let Some(common) = common else {
            let is_from_file = own.is_some();
            return Some(Latest { kept: own.unwrap_or_else(|| Some(Kept::default()))?, is_from_file });
        };
        let common = Kept::read(common)?;
        Some(match own.flatten() {
            Some(own) if own.generation > common.generation => Latest { kept: own, is_from_file: true },
            _ => Latest { kept: common, is_from_file: false },
        })
    }

    /// Reads it again; `None` if it is none.
    pub fn read(bytes: &[u8]) -> Option<Kept> {
        let document: Value = serde_json::from_slice(bytes).ok()?;
        let triggers = |value: &Value| -> Option<Triggers> {
            Some(value.as_object()?.iter().map(|(task, triggers)| (task.clone(), triggers.clone())).collect())
        };
        let holder = document.get("holder")?.as_str().map(str::to_owned);
        let generation = document.get("generation").and_then(Value::as_u64).unwrap_or_default();
        let taken = document.get("taken")?.as_object()?;
        let taken = taken.iter().map(|(pod, has)| Some((pod.clone(), triggers(has)?))).collect::<Option<_>>()?;
        Some(Kept { holder, house: triggers(document.get("house")?)?, taken, generation })
    }
}

#[cfg(test)]
mod tests;
