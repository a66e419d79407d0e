//! Chooses the leader from the pods' own state alone: pure, and the same on every replica.

use std::sync::Arc;

use super::Why;

/// Whether a pod can lead at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// Serves all clients, and may become the leader.
    Ready,
    /// Keeps its clients and gets no new ones. It may stay leader, but becomes leader only while no
    /// other pod can.
    Draining,
    /// Drains, and gives up the lead: it leads only while no pod is ready.
    Yielding,
    /// Down, or not ready yet.
    Away,
}

/// A pod that may become its pool's leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub name: Arc<str>,
    pub fitness: Fitness,
}

impl Candidate {
    /// Whether it serves its clients.
    pub fn is_alive(&self) -> bool {
        self.fitness != Fitness::Away
    }

    /// Whether it may lead, or stay leader, among these.
    pub fn is_fit(&self, field: &[Candidate]) -> bool {
        match self.fitness {
            Fitness::Ready | Fitness::Draining => true,
            Fitness::Yielding => !field.iter().any(|pod| pod.fitness == Fitness::Ready),
            Fitness::Away => false,
        }
    }
}

/// The pod that leads, out of these in name order.
///
/// The last leader stays while it is fit, and while no pod is. Perhaps only the database is gone,
/// and then the leader still has its state in memory. Otherwise the first ready pod leads.
pub fn choose<'a>(last: Option<&str>, field: &'a [Candidate]) -> Option<&'a Arc<str>> {
    let last = field.iter().find(|pod| Some(&*pod.name) == last);
    let first = |fitness| field.iter().find(|pod| pod.fitness == fitness);
    let leads = last.filter(|pod| pod.is_fit(field)).or_else(|| first(Fitness::Ready));
    let leads = leads.or_else(|| first(Fitness::Draining)).or_else(|| first(Fitness::Yielding)).or(last);
    leads.map(|pod| &pod.name)
}

/// The leader, with the term as this replica counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incumbency {
    pub term: u64,
    pub pod: Option<Arc<str>>,
}

impl Incumbency {
    /// Makes a pod the leader; each change begins a term.
    pub fn set(&mut self, pod: Option<&Arc<str>>) {
        if self.pod.as_ref() != pod {
            self.term += 1;
            self.pod = pod.cloned();
        }
    }

    /// Makes the pod of [`choose`] the leader. Returns the reason that applies if that was a
    /// change.
    pub fn choose(&mut self, field: &[Candidate]) -> Why {
        let before = self.pod.clone();
        self.set(choose(before.as_deref(), field));
        match before {
            None => Why::First,
            Some(last) if field.iter().any(|pod| pod.name == last && pod.is_alive()) => Why::PodDraining,
            Some(_) => Why::PodDown,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pods named `a`, `b` and so on: `R`eady, `D`raining, `Y`ielding or away.
    pub(in crate::leader) fn field(standings: &str) -> Vec<Candidate> {
        let candidate = |(name, fitness): (char, char)| Candidate {
            name: name.to_string().into(),
            fitness: match fitness {
                'R' => Fitness::Ready,
                'D' => Fitness::Draining,
                'Y' => Fitness::Yielding,
                _ => Fitness::Away,
            },
        };
        ('a'..='z').zip(standings.chars()).map(candidate).collect()
    }

    #[test]
    fn the_last_stays_while_it_is_fit_and_then_it_is_the_first_that_is_ready() {
        for (last, standings, leads) in [
            (None, "RRR", Some("a")),
            (None, "-RR", Some("b")),
            (None, "DRR", Some("b")),
            (None, "-D-", Some("b")),
            (None, "---", None),
            (None, "", None),
            (Some("c"), "RRR", Some("c")),
            (Some("c"), "RRD", Some("c")),
            (Some("c"), "DR-", Some("b")),
            (Some("c"), "---", Some("c")),
            (Some("c"), "RRY", Some("a")),
            (Some("c"), "D-Y", Some("c")),
            (Some("c"), "Y--", Some("a")),
            (None, "YDR", Some("c")),
            (None, "YD-", Some("b")),
            (Some("z"), "RRR", Some("a")),
            (Some("z"), "---", None),
        ] {
            assert_eq!(choose(last, &field(standings)).map(|name| &**name), leads, "{last:?} in {standings}");
        }
    }

    proptest! {
        #[test]
        fn a_seat_changes_hands_only_for_a_pod_that_is_gone_or_yields(
            fields in prop::collection::vec("[RDY-]{0,5}", 1..20),
        ) {
            let mut incumbency = Incumbency::default();
            for standings in fields {
                let (before, field) = (incumbency.clone(), field(&standings));
                let why = incumbency.choose(&field);
                let stayed = before.pod == incumbency.pod;
                prop_assert_eq!(incumbency.term, before.term + u64::from(!stayed));
                let alive = |name: &Arc<str>| field.iter().any(|pod| pod.name == *name && pod.is_alive());
                let fit = |name: &Arc<str>| field.iter().any(|pod| pod.name == *name && pod.is_fit(&field));
                prop_assert!(stayed || !before.pod.as_ref().is_some_and(fit));
                prop_assert!(incumbency.pod.as_ref().is_none_or(|pod| fit(pod) || !field.iter().any(Candidate::is_alive)));
                prop_assert!(stayed || before.pod.as_ref().is_some_and(alive) == (why == Why::PodDraining));
                // Another replica that knew the same before decides the same.
                let mut other = before;
                other.choose(&field);
                prop_assert_eq!(other, incumbency.clone());
            }
        }
    }
}
