//! One round for a pair of user and item: which pods have which field's newest value, and the row
//! that all of them should have. Pure.

use std::time::SystemTime;

use crate::{
    jellyfin::user_data::{Act, Field, Fields, Id, Row, done, position::PlayedItem},
    pod::PodInstance,
};

/// The number of a write, of all writes of its user.
pub(in crate::proxy) type Generation = u64;

/// Who wrote a field last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Owner {
    pub(in crate::proxy) pod: PodInstance,
    pub(in crate::proxy) generation: Generation,
}

/// Who wrote each field last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Owners {
    fields: [Option<Owner>; Field::ALL.len()],
    /// Who may have set `Played` besides, by a position near the end.
    end: Option<Owner>,
}

/// A write, and the pod through which it went.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::proxy) struct OwnedAct {
    pub(in crate::proxy) pod: PodInstance,
    pub(in crate::proxy) act: Act,
    pub(in crate::proxy) at: SystemTime,
}

/// What is to be read and told, as the ledger stood at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::proxy) struct Round {
    pub(in crate::proxy) item: Id,
    pub(in crate::proxy) generation: Generation,
    owners: Owners,
    /// Pods that have the newest value of some field.
    pub(in crate::proxy) sources: Vec<PodInstance>,
    /// Owners that cannot be asked, or may have lost it.
    gone: Vec<PodInstance>,
    /// What was written through them.
    pub(in crate::proxy) lost: Vec<OwnedAct>,
    /// Pods that are behind.
    pub(in crate::proxy) targets: Vec<PodInstance>,
    /// The source writes its row into the database once more, and nobody is told. With the count of
    /// doubts that this ends.
    pub(in crate::proxy) rewrites: Option<u64>,
    /// Whether children of a folder are to be told too.
    pub(in crate::proxy) has_children: bool,
    /// The pod on which the item may have become played, and its other versions with it; and when.
    pub(in crate::proxy) finished: Option<(PodInstance, SystemTime)>,
    /// All pods were told, and their rows are compared once more.
    pub(in crate::proxy) settling: Option<Settling>,
}

/// What the rows of all pods are compared with.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::proxy) struct Settling {
    /// What the user has done, the latest last.
    pub(in crate::proxy) acts: Vec<Act>,
    pub(in crate::proxy) pods: Vec<PodInstance>,
    /// The count of doubts that this ends if all rows are equal.
    pub(in crate::proxy) doubts: u64,
}

/// The row that all pods should have.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::proxy) struct Newest {
    pub(in crate::proxy) row: Row,
    /// The fields that some pod has written.
    written: Fields,
    /// The pod on which a position near the end set `Played`.
    ended_on: Option<PodInstance>,
}

impl Newest {
    /// The fields that a pod is not told, out of those that it wrote last itself.
    pub(in crate::proxy) fn but_own(&self, pod: PodInstance, own: Fields) -> Fields {
        let is_played_elsewhere = self.ended_on.is_some_and(|ended_on| ended_on != pod);
        let own = if is_played_elsewhere { own.without(Fields::of(&[Field::Played])) } else { own };
        own.with(untold(pod, self.written))
    }
}

/// What a pod is not told. One with a database of its own has values there that no pod was told of.
fn untold(pod: PodInstance, written: Fields) -> Fields {
    if pod.is_database() { written.complement() } else { Fields::NONE }
}

impl OwnedAct {
    /// The act, if some of these fields still have the values that it gave them.
    fn only(&self, fields: Fields) -> Option<OwnedAct> {
        let act = match &self.act {
            Act::Update(part) => Act::Update(part.clone().without(fields.complement())),
            other => other.clone(),
        };
        act.sets().meets(fields).then(|| OwnedAct { act, ..self.clone() })
    }
}

impl Owners {
    pub(in crate::proxy) fn record(&mut self, act: &Act, owner: Owner) {
        self.set(act.sets(), owner);
        if act.may_end() {
            self.end = Some(owner);
        } else if act.sets().contains(Field::Played) {
            self.end = None;
        }
    }

    pub(in crate::proxy) fn set(&mut self, fields: Fields, owner: Owner) {
        fields.iter().for_each(|field| self.fields[field as usize] = Some(owner));
    }

    /// The fields that this pod wrote last.
    pub(in crate::proxy) fn of(&self, pod: PodInstance) -> Fields {
        Field::ALL
            .into_iter()
            .filter(|field| self.fields[*field as usize].is_some_and(|owner| owner.pod == pod))
            .collect()
    }

    /// The newest generation that another pod wrote; 0: none.
    pub(in crate::proxy) fn newest_but(&self, pod: PodInstance) -> Generation {
        self.all().filter(|owner| owner.pod != pod).map(|owner| owner.generation).max().unwrap_or(0)
    }

    /// Gives what some pods own to another one.
    pub(in crate::proxy) fn replace(&mut self, is_gone: impl Fn(PodInstance) -> bool, by: Owner) {
        let all = self.fields.iter_mut().chain([&mut self.end]);
        all.flatten().filter(|owner| is_gone(owner.pod)).for_each(|owner| *owner = by);
    }

    /// The fields that some pod has written.
    pub(in crate::proxy) fn written(&self) -> Fields {
        let written: Fields = Field::ALL.into_iter().filter(|field| self.fields[*field as usize].is_some()).collect();
        if self.end.is_some() { written.with(Fields::of(&[Field::Played])) } else { written }
    }

    fn all(&self) -> impl Iterator<Item = Owner> {
        self.fields.iter().chain([&self.end]).flatten().copied()
    }
}

impl Round {
    pub(in crate::proxy) fn new(
        item: Id,
        generation: Generation,
        owners: &Owners,
        (acts, versions): (&[OwnedAct], Generation),
        targets: Vec<PodInstance>,
        children: Generation,
        is_known: impl Fn(PodInstance) -> bool,
    ) -> Round {
        let mut pods: Vec<PodInstance> = Vec::new();
        for owner in owners.all() {
            if !pods.contains(&owner.pod) {
                pods.push(owner.pod);
            }
        }
        let (sources, gone) = pods.into_iter().partition::<Vec<_>, _>(|pod| is_known(*pod));
        let owners = owners.clone();
        let lost_fields = gone.iter().fold(Fields::NONE, |fields, pod| fields.with(owners.of(*pod)));
        let lost = acts.iter().filter(|act| gone.contains(&act.pod)).filter_map(|act| act.only(lost_fields)).collect();
        let is_finish = |act: &&OwnedAct| act.act.may_finish() && sources.contains(&act.pod) && versions < generation;
        let finished = acts.iter().rfind(is_finish);
        Round {
            item,
            generation,
            owners,
            finished: finished.map(|act| (act.pod, act.at)),
            sources,
            gone,
            lost,
            targets,
            rewrites: None,
            has_children: children != 0,
            settling: None,
        }
    }

    /// All pods have the newest row, but the database may not.
    pub(in crate::proxy) fn rewriting(item: Id, generation: Generation, by: PodInstance, doubts: u64) -> Round {
        Round {
            item,
            generation,
            owners: Owners::default(),
            sources: vec![by],
            gone: Vec::new(),
            lost: Vec::new(),
            targets: Vec::new(),
            rewrites: Some(doubts),
            has_children: false,
            finished: None,
            settling: None,
        }
    }

    /// All pods were told, but what one wrote meanwhile may have reached another by the database.
    pub(in crate::proxy) fn settling(item: Id, generation: Generation, owners: &Owners, settling: Settling) -> Round {
        Round {
            item,
            generation,
            owners: owners.clone(),
            sources: Vec::new(),
            gone: Vec::new(),
            lost: Vec::new(),
            targets: Vec::new(),
            rewrites: None,
            has_children: false,
            finished: None,
            settling: Some(settling),
        }
    }

    /// The fields that a pod is not told when the rows are compared.
    pub(in crate::proxy) fn untold(&self, pod: PodInstance) -> Fields {
        untold(pod, self.owners.written())
    }

    /// Whether this owner cannot be asked.
    pub(in crate::proxy) fn is_gone(&self, pod: PodInstance) -> bool {
        self.gone.contains(&pod)
    }

    /// Whether what was written through some pod has to be done again.
    pub(in crate::proxy) fn has_lost(&self) -> bool {
        !self.gone.is_empty()
    }

    /// The row that all pods should have, out of those that they have: each field as its owner has
    /// it, if that one is there, and what the acts have set in any case.
    pub(in crate::proxy) fn settled(&self, rows: &[(PodInstance, Row)], item: Option<PlayedItem>) -> Option<Row> {
        let row_of = |pod: PodInstance| rows.iter().find(|(at, _)| *at == pod).map(|(_, row)| row);
        let last = self.owners.all().max_by_key(|owner| owner.generation).map(|owner| owner.pod);
        let mut row = last.and_then(row_of).or_else(|| rows.first().map(|(_, row)| row))?.clone();
        for field in Field::ALL {
            let owner = self.owners.fields[field as usize].filter(|owner| Some(owner.pod) != last);
            if let Some(of_owner) = owner.and_then(|owner| row_of(owner.pod)) {
                row.take(field, of_owner);
            }
        }
        if self.owners.end.is_some_and(|owner| row_of(owner.pod).is_some_and(Row::has_ended)) {
            row.set_played();
        }
        Some(done::after(row, self.settling.iter().flat_map(|settling| &settling.acts), item))
    }

    /// The row that all pods should have: each field as its owner has it, the rest as the last
    /// writer has it. `None` without that one's row.
    pub(in crate::proxy) fn newest(&self, rows: &[(PodInstance, Row)]) -> Option<Newest> {
        let row_of = |pod: PodInstance| rows.iter().find(|(at, _)| *at == pod).map(|(_, row)| row);
        let last = self.owners.all().max_by_key(|owner| owner.generation)?;
        let mut newest = row_of(last.pod)?.clone();
        for field in Field::ALL {
            if let Some(owner) = self.owners.fields[field as usize].filter(|owner| owner.pod != last.pod) {
                newest.take(field, row_of(owner.pod)?);
            }
        }
        let has_ended = |owner: &Owner| row_of(owner.pod).is_some_and(Row::has_ended);
        let ended_on = self.owners.end.filter(has_ended).map(|owner| owner.pod);
        if ended_on.is_some() {
            newest.set_played();
        }
        Some(Newest { row: newest, written: self.owners.written(), ended_on })
    }
}
