//! Three pods that behave as Jellyfin does: each has rows in memory, writes them whole, and does not
//! see what others write.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::{task, time};

use crate::{
    jellyfin::user_data::{Act, Id, Row, position::PlayedItem},
    pod::{Epoch, Pod, PodConfig, PodId, PodInstance},
    proxy::{
        user_data::pod_calls::{Answer, Event, PodCalls, WaitOutcome},
        user_data_state::ledger::{PodView, TellOutcome, UserKey},
    },
};

pub(super) const RUNTIME: i64 = 36_000_000_000;

/// What is played in the model.
fn film() -> PlayedItem {
    PlayedItem { runtime: Some(RUNTIME), ..PlayedItem::default() }
}

/// A row of the model.
pub(super) type Columns = Map<String, Value>;

#[derive(Default)]
pub(super) struct Model {
    pub(super) pods: Vec<ModelPod>,
    pub(super) database: HashMap<Id, Columns>,
    pub(super) folders: HashMap<Id, Vec<Id>>,
    /// Items that are versions of each other.
    pub(super) versions: Vec<Id>,
    pub(super) writes: Vec<Recorded>,
    pub(super) tick: u64,
    pub(super) told: usize,
    pub(super) redone: usize,
    pub(super) timed_out: usize,
    pub(super) seed: u64,
    /// A pod that writes something of its own into every row.
    pub(super) stubborn: Option<usize>,
    /// A pod that dies when it is asked for versions.
    pub(super) dies_at_versions: Option<usize>,
    /// A pod that takes its next row late.
    pub(super) delay: Option<(usize, Duration)>,
}

pub(super) struct ModelPod {
    pub(super) id: PodId,
    pub(super) epoch: u32,
    pub(super) is_alive: bool,
    /// It has died, and nobody has noticed yet.
    pub(super) is_missed: bool,
    /// Its machine is suspended while it is not alive, and it keeps its memory.
    pub(super) sleeps: bool,
    pub(super) hangs: bool,
    pub(super) memory: HashMap<Id, Columns>,
}

/// A write that was answered: when it began and ended, and what it set.
pub(super) struct Recorded {
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) item: Id,
    pub(super) sets: Vec<(&'static str, Value)>,
}

#[derive(Clone)]
pub(super) struct Pods(pub(super) Arc<Mutex<Model>>);

impl Model {
    pub(super) fn new(seed: u64, pods: usize) -> Arc<Mutex<Model>> {
        let pod = |number: usize| {
            let config = PodConfig { name: format!("{number}"), authority: "h:1".into(), ..Default::default() };
            let id = Pod::new(&"pool".into(), &config).id;
            ModelPod {
                id,
                epoch: 1,
                is_alive: true,
                is_missed: false,
                sleeps: false,
                hangs: false,
                memory: HashMap::new(),
            }
        };
        let pods = (0..pods).map(pod).collect();
        Arc::new(Mutex::new(Model { pods, seed: seed | 1, ..Model::default() }))
    }

    /// A number below `below` (xorshift64).
    pub(super) fn draw(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below
    }

    pub(super) fn instance(&self, pod: usize) -> PodInstance {
        PodInstance { pod: self.pods[pod].id, epoch: Epoch(self.pods[pod].epoch) }
    }

    pub(super) fn at(&mut self, instance: PodInstance) -> Option<usize> {
        let pod = self.pods.iter().position(|pod| pod.id == instance.pod)?;
        (self.pods[pod].is_alive && self.pods[pod].epoch == instance.epoch.0).then_some(pod)
    }

    /// Ends the pod's process, which nobody has noticed yet.
    pub(super) fn kill(&mut self, pod: usize) {
        let pod = &mut self.pods[pod];
        (pod.is_alive, pod.is_missed) = (false, true);
        pod.memory.clear();
    }

    /// Another process of the pod comes up.
    pub(super) fn start_again(&mut self, pod: usize) {
        let pod = &mut self.pods[pod];
        (pod.is_alive, pod.epoch) = (true, pod.epoch + 1);
    }

    /// Whether the proxy takes it to be alive.
    pub(super) fn seems_alive(&self, pod: usize) -> bool {
        self.pods[pod].is_alive || self.pods[pod].is_missed
    }

    /// The row in the pod's memory, read from the database at first.
    pub(super) fn row(&mut self, pod: usize, item: Id) -> &mut Columns {
        let stored = self.database.get(&item).cloned().unwrap_or_else(empty);
        self.pods[pod].memory.entry(item).or_insert(stored)
    }

    pub(super) fn write(&mut self, pod: usize, item: Id, change: impl FnOnce(&mut Columns)) -> Columns {
        let stubborn = self.stubborn == Some(pod);
        let row = self.row(pod, item);
        change(row);
        if stubborn {
            row.insert("Rating".to_owned(), json!(7.0));
        }
        let row = row.clone();
        self.database.insert(item, row.clone());
        row
    }

    pub(super) fn act(&mut self, pod: usize, item: Id, act: &Act) {
        self.tick += 1;
        let tick = self.tick;
        match self.folders.get(&item).cloned().filter(|_| act.reaches_children()) {
            Some(children) => children.into_iter().for_each(|child| {
                self.write(pod, child, |row| apply(row, act, tick));
            }),
            None => {
                let row = self.write(pod, item, |row| apply(row, act, tick));
                if act.may_finish() && row["Played"] == json!(true) {
                    self.finish_versions(pod, item);
                }
            }
        }
    }

    fn finish_versions(&mut self, pod: usize, item: Id) {
        for version in self.other_versions(item) {
            self.write(pod, version, |row| apply(row, &Act::Ended, 0));
        }
    }

    fn other_versions(&self, item: Id) -> Vec<Id> {
        let others = self.versions.iter().copied().filter(|version| *version != item);
        others.filter(|_| self.versions.contains(&item)).collect()
    }
}

pub(super) fn empty() -> Columns {
    columns(json!({"IsFavorite": false, "Played": false, "PlayCount": 0, "PlaybackPositionTicks": 0}))
}

pub(super) fn columns(json: Value) -> Columns {
    match json {
        Value::Object(columns) => columns,
        _ => Columns::new(),
    }
}

/// What a pod makes of an act.
pub(super) fn apply(row: &mut Columns, act: &Act, tick: u64) {
    let mut set = |name: &str, value: Value| {
        row.insert(name.to_owned(), value);
    };
    match act {
        Act::Favorite(is) => set("IsFavorite", json!(is)),
        Act::Likes(Some(likes)) => {
            set("Likes", json!(likes));
            set("Rating", json!(if *likes { 10.0 } else { 1.0 }));
        }
        Act::Likes(None) => {
            row.remove("Likes");
            row.remove("Rating");
        }
        Act::Played(_) => {
            set("Played", json!(true));
            set("PlayCount", json!(1));
            set("PlaybackPositionTicks", json!(0));
            set("LastPlayedDate", json!(format!("{tick:08}")));
        }
        Act::Unplayed => {
            set("Played", json!(false));
            set("PlayCount", json!(0));
            set("PlaybackPositionTicks", json!(0));
            row.remove("LastPlayedDate");
        }
        Act::Update(part) => part_of(part).into_iter().for_each(|(name, value)| set(&name, value)),
        Act::Started => {
            let count = row["PlayCount"].as_i64().unwrap_or_default();
            row.insert("PlayCount".to_owned(), json!(count + 1));
            row.insert("Played".to_owned(), json!(false));
            row.insert("LastPlayedDate".to_owned(), json!(format!("{tick:08}")));
        }
        Act::Reached(ticks) => {
            part_of(&film().at(*ticks)).into_iter().for_each(|(name, value)| set(&name, value));
        }
        Act::Ended => {
            set("Played", json!(true));
            set("PlaybackPositionTicks", json!(0));
        }
    }
}

pub(super) fn part_of(row: &Row) -> Columns {
    columns(serde_json::from_slice(&row.to_body()).expect("JSON"))
}

impl Pods {
    /// Lets others run, for as long as it may happen.
    pub(super) async fn pause(&self) {
        let (yields, sleep) = {
            let mut model = self.0.lock();
            (model.draw(4), model.draw(6))
        };
        for _ in 0..yields {
            task::yield_now().await;
        }
        if sleep > 3 {
            time::sleep(Duration::from_millis(sleep)).await;
        }
    }

    pub(super) async fn reach<T>(&self, at: PodInstance, call: impl FnOnce(&mut Model, usize) -> T) -> Answer<T> {
        self.pause().await;
        let answer = {
            let mut model = self.0.lock();
            let Some(pod) = model.at(at) else { return Answer::Failed };
            if model.pods[pod].hangs { None } else { Some(call(&mut model, pod)) }
        };
        let Some(answer) = answer else {
            time::sleep(Duration::from_secs(5)).await;
            return Answer::Failed;
        };
        self.pause().await;
        if self.0.lock().at(at).is_none() {
            return Answer::Failed;
        }
        Answer::Got(answer)
    }
}

impl PodCalls for Pods {
    fn pods(&self, _user: UserKey) -> Vec<PodView> {
        let model = self.0.lock();
        let view = |(number, pod): (usize, &ModelPod)| PodView {
            instance: model.instance(number),
            is_alive: pod.is_alive || pod.is_missed,
            sleeps: pod.sleeps,
        };
        let may_have_rows = |pod: &ModelPod| pod.is_alive || pod.is_missed || pod.sleeps;
        model.pods.iter().enumerate().filter(|(_, pod)| may_have_rows(pod)).map(view).collect()
    }

    type Permit = ();

    async fn permit(&self, _at: PodInstance) {}

    async fn read(&self, at: PodInstance, _user: UserKey, item: Id) -> Answer<Row> {
        let read = |model: &mut Model, pod: usize| {
            let mut row = model.row(pod, item).clone();
            if let Some(children) = model.folders.get(&item) {
                row.insert("UnplayedItemCount".to_owned(), json!(children.len()));
            }
            row
        };
        let row = self.reach(at, read).await;
        match row {
            Answer::Got(row) => Answer::Got(Row::read(Value::Object(row)).expect("a row")),
            Answer::Missing => Answer::Missing,
            Answer::Failed => Answer::Failed,
        }
    }

    async fn write_row(&self, at: PodInstance, _user: UserKey, item: Id, row: &Row) -> Answer<Row> {
        let delay = {
            let mut model = self.0.lock();
            let pod = model.at(at);
            model.delay.take_if(|(late, _)| Some(*late) == pod)
        };
        if let Some((_, delay)) = delay {
            time::sleep(delay).await;
        }
        let part = part_of(row);
        let told = |model: &mut Model, pod: usize| {
            model.write(pod, item, |row| {
                part.into_iter().for_each(|(name, value)| {
                    row.insert(name, value);
                })
            })
        };
        match self.reach(at, told).await {
            Answer::Got(row) => Answer::Got(Row::read(Value::Object(row)).expect("a row")),
            Answer::Missing => Answer::Missing,
            Answer::Failed => Answer::Failed,
        }
    }

    async fn act(&self, at: PodInstance, _user: UserKey, item: Id, act: &Act) -> Answer<()> {
        self.reach(at, |model, pod| model.act(pod, item, act)).await
    }

    async fn played_item(&self, at: PodInstance, _user: UserKey, _item: Id) -> Answer<PlayedItem> {
        self.reach(at, |_, _| film()).await
    }

    async fn other_versions(&self, at: PodInstance, _user: UserKey, item: Id) -> Answer<Vec<Id>> {
        {
            let mut model = self.0.lock();
            let pod = model.at(at);
            if let Some(dying) = model.dies_at_versions.take_if(|dying| Some(*dying) == pod) {
                model.pods[dying].is_alive = false;
                model.pods[dying].memory.clear();
            }
        }
        self.reach(at, |model, _| model.other_versions(item)).await
    }

    async fn children(&self, at: PodInstance, _user: UserKey, folder: Id, from: usize) -> Answer<Vec<(Id, Row)>> {
        let page = |model: &mut Model, pod: usize| {
            let page: Vec<Id> = model.folders[&folder].iter().skip(from).take(10).copied().collect();
            let row = |child: Id| (child, Row::read(Value::Object(model.row(pod, child).clone())).expect("a row"));
            page.into_iter().map(row).collect()
        };
        self.reach(at, page).await
    }

    fn observe(&self, event: Event) {
        let mut model = self.0.lock();
        match event {
            Event::Told(_, TellOutcome::Done) => model.told += 1,
            Event::Redone(_) => model.redone += 1,
            Event::Waited(_, WaitOutcome::TimedOut) => model.timed_out += 1,
            _ => {}
        }
    }
}

/// What a write makes of the columns that can be told apart.
pub(super) fn sets(act: &Act) -> Vec<(&'static str, Value)> {
    match act {
        Act::Favorite(is) => vec![("IsFavorite", json!(is))],
        Act::Likes(likes) => vec![("Likes", json!(likes))],
        Act::Reached(ticks) if *ticks > RUNTIME / 2 => {
            vec![("Played", json!(true)), ("PlaybackPositionTicks", json!(0))]
        }
        Act::Reached(ticks) => vec![("PlaybackPositionTicks", json!(ticks))],
        Act::Played(_) => vec![("Played", json!(true)), ("PlaybackPositionTicks", json!(0))],
        Act::Unplayed => vec![("Played", json!(false)), ("PlaybackPositionTicks", json!(0))],
        Act::Started => vec![("Played", json!(false))],
        _ => Vec::new(),
    }
}

pub(super) fn any_act(model: &mut Model) -> Act {
    match model.draw(9) {
        0 | 1 => Act::Favorite(model.draw(2) == 0),
        2 => Act::Likes([None, Some(true), Some(false)][model.draw(3) as usize]),
        3 => Act::Played(None),
        4 => Act::Unplayed,
        5 => Act::Started,
        // Between a tenth and a half, so that it neither begins nor ends.
        _ => Act::Reached(RUNTIME / 10 + model.draw(RUNTIME as u64 / 3) as i64),
    }
}
