//! Who leads when nothing but the pods' own state is known: pure, and the same on every replica.

use std::sync::Arc;

use super::Why;

/// How a pod stands at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// Serves everybody, and may be made the leader.
    Ready,
    /// Keeps its clients and gets no new ones: it goes on leading, and is not made the leader while another can be.
    Draining,
    /// Drains, and gives the lead up: it leads only while none is ready.
    Yielding,
    /// Down, or not ready yet.
    Away,
}

/// A pod of the pool that a leader is sought for.
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

    /// Whether it may lead, or go on leading, among these.
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
/// The last leader stays while it is fit, and while nobody is: it may be no more than the database that is gone, and then it
/// still has what it led. Else it is the first that is ready.
pub fn choose<'a>(last: Option<&str>, field: &'a [Candidate]) -> Option<&'a Arc<str>> {
    let last = field.iter().find(|pod| Some(&*pod.name) == last);
    let first = |fitness| field.iter().find(|pod| pod.fitness == fitness);
    let leads = last.filter(|pod| pod.is_fit(field)).or_else(|| first(Fitness::Ready));
    let leads = leads.or_else(|| first(Fitness::Draining)).or_else(|| first(Fitness::Yielding)).or(last);
    leads.map(|pod| &pod.name)
}

/// The leader by this replica's own count of terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incumbency {
    pub term: u64,
    pub pod: Option<Arc<str>>,
}

impl Incumbency {
    /// Gives the seat to a pod; each change begins a term.
    pub fn set(&mut self, pod: Option<&Arc<str>>) {
        if self.pod.as_ref() != pod {
            self.term += 1;
            self.pod = pod.cloned();
        }
    }

    /// Gives it by [`choose`]. Says why, should that have been a change.
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
                // Whoever knew the same before decides the same.
                let mut other = before;
                other.choose(&field);
                prop_assert_eq!(other, incumbency.clone());
            }
        }
    }
}
