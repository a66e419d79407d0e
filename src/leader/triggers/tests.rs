//! No trigger is lost and at most one pod has triggers, wherever the proxy or a pod ends.

use proptest::prelude::*;

use super::*;

const TASKS: [&str; 2] = ["clean", "scan"];

fn trigger(number: u64) -> Value {
    json!([{"Type": "IntervalTrigger", "IntervalTicks": number}])
}

/// Pods with triggers of their own, and a proxy that may be killed after any step.
struct House {
    pods: BTreeMap<String, Triggers>,
    up: BTreeSet<String>,
    leader: String,
    /// What survives the proxy.
    kept: Kept,
    known: BTreeSet<String>,
    /// Pods, and tasks that were set there.
    edited: BTreeSet<(String, String)>,
    numbers: u64,
}

impl House {
    fn new() -> House {
        let own = |pod: u64| TASKS.map(|task| (task.to_owned(), trigger(pod))).into();
        let pods: BTreeMap<_, _> =
            ["a", "b", "c"].iter().zip(1..).map(|(pod, number)| ((*pod).to_owned(), own(number))).collect();
        House {
            up: pods.keys().cloned().collect(),
            pods,
            leader: "a".to_owned(),
            kept: Kept::default(),
            known: BTreeSet::new(),
            edited: BTreeSet::new(),
            numbers: 100,
        }
    }

    fn answering(&self) -> BTreeMap<String, Triggers> {
        self.pods
            .iter()
            .filter(|(pod, _)| self.up.contains(*pod))
            .map(|(pod, has)| (pod.clone(), has.clone()))
            .collect()
    }

    fn do_step(&mut self, step: Step) {
        match step {
            Step::Keep(kept) => {
                let kept = kept.after(&self.kept, 0);
                assert!(kept.generation > self.kept.generation);
                self.kept = Kept::read(&kept.to_bytes()).expect("a document");
            }
            Step::Forget => self.kept = Kept::default(),
            Step::Set { pod, task, triggers } => drop(self.pods.get_mut(&pod).expect("a pod").insert(task, triggers)),
        }
    }

    /// At most so many steps; `true` if nothing is left to do.
    fn run(&mut self, most: usize) -> bool {
        for _ in 0..most {
            let answering = self.answering();
            self.edited.retain(|(pod, _)| *pod == self.leader);
            let edited = self.edited.iter().map(|(_, task)| task.clone()).collect();
            let view = View { leader: Some(&self.leader), pods: &answering, known: &self.known, edited: &edited };
            let Some(step) = next(&self.kept, view) else {
                let is_done = self.kept.holder.as_ref() == Some(&self.leader);
                if is_done {
                    self.known = self.up.clone();
                    self.edited.clear();
                }
                return is_done;
            };
            self.do_step(step);
        }
        false
    }

    fn give_back(&mut self, most: usize) -> bool {
        for _ in 0..most {
            match next_to_give_back(&self.kept, &self.answering()) {
                Some(Step::Forget) => {
                    self.do_step(Step::Forget);
                    return true;
                }
                Some(step) => self.do_step(step),
                None => return false,
            }
        }
        false
    }

    /// The pods that have a trigger for a task, among those that answer.
    fn with_trigger(&self, task: &str) -> Vec<String> {
        let has = |pod: &&String| !is_none(&self.pods[*pod][task]);
        self.up.iter().filter(has).cloned().collect()
    }
}

const ENOUGH: usize = 100;

#[derive(Clone, Debug)]
enum Event {
    Lead(usize),
    Down(usize),
    Up(usize),
    /// An administrator sets a trigger at the leader.
    Edit(usize),
    /// The proxy goes so many steps, and is killed.
    KilledAfter(usize),
    /// Its look fails after so many steps.
    FailsAfter(usize),
    Run,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..3_usize).prop_map(Event::Lead),
        (0..3_usize).prop_map(Event::Down),
        (0..3_usize).prop_map(Event::Up),
        (0..TASKS.len()).prop_map(Event::Edit),
        (0..12_usize).prop_map(Event::KilledAfter),
        (0..12_usize).prop_map(Event::FailsAfter),
        Just(Event::Run),
    ]
}

proptest! {
    #[test]
    fn no_end_of_a_pod_or_of_the_proxy_loses_a_trigger(events in prop::collection::vec(event(), 1..40)) {
        let mut house = House::new();
        let names: Vec<String> = house.pods.keys().cloned().collect();
        // The last edits that the proxy has had time to see.
        let mut edits = Triggers::new();
        for event in events {
            match event {
                Event::Lead(pod) if house.up.contains(&names[pod]) => {
                    house.leader.clone_from(&names[pod]);
                }
                Event::Down(pod) if house.up.len() > 1 => {
                    house.up.remove(&names[pod]);
                    house.known.remove(&names[pod]);
                    if house.leader == names[pod] {
                        house.leader = house.up.first().expect("another pod").clone();
                    }
                }
                Event::Up(pod) => drop(house.up.insert(names[pod].clone())),
                Event::Edit(task) => {
                    house.numbers += 1;
                    let (task, edit) = (TASKS[task].to_owned(), trigger(house.numbers));
                    house.pods.get_mut(&house.leader).expect("a pod").insert(task.clone(), edit.clone());
                    house.edited.insert((house.leader.clone(), task.clone()));
                    if house.run(ENOUGH) {
                        edits.insert(task, edit);
                    }
                }
                Event::KilledAfter(steps) => {
                    house.run(steps);
                    (house.known, house.edited) = Default::default();
                }
                Event::FailsAfter(steps) => drop(house.run(steps)),
                Event::Run => {
                    prop_assert!(house.run(ENOUGH));
                    for task in TASKS {
                        prop_assert_eq!(house.with_trigger(task), vec![house.leader.clone()]);
                        let has = &house.pods[&house.leader][task];
                        prop_assert!(edits.get(task).is_none_or(|edit| edit == has), "{} is {:?}", task, has);
                    }
                }
                _ => {}
            }
        }
        house.up = names.iter().cloned().collect();
        prop_assert!(house.run(ENOUGH));
        let at_leader = house.pods[&house.leader].clone();
        prop_assert!(house.give_back(ENOUGH), "{:?}", house.kept);
        for task in TASKS {
            prop_assert_eq!(house.with_trigger(task), names.clone(), "each pod has its own again");
        }
        prop_assert_eq!(&house.pods[&house.leader], &at_leader);
    }

    #[test]
    fn while_the_lead_moves_no_two_pods_have_a_trigger(leads in prop::collection::vec((0..3_usize, 0..10_usize), 1..12)) {
        let mut house = House::new();
        prop_assert!(house.run(ENOUGH));
        let names: Vec<String> = house.pods.keys().cloned().collect();
        for (pod, killed_after) in leads {
            house.leader.clone_from(&names[pod]);
            for _ in 0..killed_after {
                house.run(1);
                prop_assert!(TASKS.iter().all(|task| house.with_trigger(task).len() <= 1), "{:?}", house.pods);
            }
            (house.known, house.edited) = Default::default();
        }
        prop_assert!(house.run(ENOUGH));
        prop_assert!(TASKS.iter().all(|task| house.pods[&house.leader][*task] == trigger(1)), "{:?}", house.pods);
    }
}

proptest! {
    #[test]
    fn an_older_document_makes_no_task_lose_its_triggers(
        leads in prop::collection::vec((0..3_usize, 0..10_usize, any::<prop::sample::Index>(), any::<bool>()), 1..12),
    ) {
        let mut house = House::new();
        prop_assert!(house.run(ENOUGH));
        let names: Vec<String> = house.pods.keys().cloned().collect();
        let mut kept = vec![house.kept.clone()];
        for (pod, steps, older, is_lost) in leads {
            house.leader.clone_from(&names[pod]);
            for _ in 0..steps {
                house.run(1);
                kept.push(house.kept.clone());
            }
            if is_lost {
                house.kept = older.get(&kept).clone();
                house.known.clear();
            }
        }
        prop_assert!(house.run(ENOUGH));
        for task in TASKS {
            prop_assert_eq!(house.with_trigger(task), vec![house.leader.clone()]);
        }
    }
}

#[test]
fn the_later_document_holds_and_one_that_cannot_be_read_is_not_taken_for_none() {
    let of = |generation| Kept { generation, ..Kept::default() }.to_bytes();
    let latest = |common: Option<&[u8]>, own: Option<&[u8]>| {
        Kept::latest(common, own).map(|latest| (latest.kept.generation, latest.is_from_file))
    };
    assert_eq!(latest(None, None), Some((0, false)));
    assert_eq!(latest(None, Some(&of(4))), Some((4, true)), "Redis has lost it");
    assert_eq!(latest(Some(&of(5)), Some(&of(4))), Some((5, false)));
    assert_eq!(latest(Some(&of(4)), Some(&of(5))), Some((5, true)), "a replica with an older file was first");
    assert_eq!(latest(Some(&of(4)), Some(b"?")), Some((4, false)));
    assert_eq!(latest(Some(b"?"), Some(&of(4))), None);
    assert_eq!(latest(None, Some(b"?")), None);
    assert_eq!(Kept::default().after(&Kept::default(), 9).generation, 9, "later than one that was forgotten");
}

#[test]
fn a_leader_that_has_read_an_emptied_folder_gets_its_triggers_again_and_an_administrators_wish_holds() {
    let mut house = House::new();
    assert!(house.run(ENOUGH));
    let emptied =
        |house: &mut House| drop(house.pods.get_mut("a").expect("a pod").insert("scan".to_owned(), json!([])));
    emptied(&mut house);
    house.known.remove("a");
    assert!(house.run(ENOUGH));
    assert_eq!(house.pods["a"]["scan"], trigger(1), "it has restarted");
    emptied(&mut house);
    assert!(house.run(ENOUGH));
    assert_eq!(house.pods["a"]["scan"], json!([]), "it ran all the time: somebody wants it so");
    house.leader = "b".to_owned();
    assert!(house.run(ENOUGH));
    assert_eq!(house.pods["b"]["scan"], json!([]), "and the next leader keeps to it");
}

#[test]
fn what_a_client_sets_at_a_new_leader_is_not_replaced_by_an_older_trigger() {
    let mut house = House::new();
    assert!(house.run(ENOUGH));
    house.leader = "b".to_owned();
    house.pods.get_mut("b").expect("a pod").insert("scan".to_owned(), trigger(7));
    house.edited.insert(("b".to_owned(), "scan".to_owned()));
    assert!(house.run(ENOUGH));
    assert_eq!(house.pods["b"]["scan"], trigger(7));
    assert_eq!(house.pods["b"]["clean"], trigger(1));
}

#[test]
fn an_edit_that_the_pods_lists_do_not_show_yet_empties_nothing_in_the_house() {
    let mut house = House::new();
    assert!(house.run(ENOUGH));
    house.leader = "b".to_owned();
    house.run(4);
    let (pods, edited) = (house.answering(), BTreeSet::from(["scan".to_owned()]));
    let view = View { leader: Some("b"), pods: &pods, known: &house.known, edited: &edited };
    let mut kept = Kept { holder: None, ..house.kept.clone() };
    let mut has = pods["b"].clone();
    while kept.holder.is_none() {
        let pods = BTreeMap::from([("b".to_owned(), has.clone())]);
        match next(&kept, View { pods: &pods, ..view }).expect("a step") {
            Step::Keep(next) => kept = next,
            Step::Set { task, triggers, .. } => drop(has.insert(task, triggers)),
            Step::Forget => panic!("nothing is given back"),
        }
    }
    assert_eq!(kept.house, house.kept.house);
}

#[test]
fn of_many_pods_that_are_gone_some_are_forgotten_and_none_that_the_pool_has() {
    let names: BTreeSet<String> = (0..200).map(|number| format!("10.0.0.{number}")).collect();
    let taken = names.iter().map(|pod| (pod.clone(), Triggers::new())).collect();
    let kept = Kept { taken, ..Kept::default() };
    let has: BTreeSet<String> = names.iter().skip(50).cloned().collect();
    assert_eq!(kept.clone().without_many_gone(&has), kept);
    let has: BTreeSet<String> = names.iter().skip(190).cloned().collect();
    let kept = kept.without_many_gone(&has);
    assert_eq!(kept.taken.len(), MOST_GONE + has.len());
    assert!(has.iter().all(|pod| kept.taken.contains_key(pod)));
}

#[test]
fn a_document_that_is_none_is_not_read() {
    assert_eq!(Kept::read(b"{}"), None);
    assert_eq!(Kept::read(b"no JSON"), None);
    assert_eq!(Kept::read(&Kept::default().to_bytes()), Some(Kept::default()));
}
