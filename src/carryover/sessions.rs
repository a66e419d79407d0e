//! All sessions that this process knows, found by any of their tokens.
//!
//! A session leaves memory when it was not used for long; what is kept beyond the process brings it back. An end is for ever: it
//! leaves a tombstone under every token, and the moment at which everything of its user or its device ended.

use std::{
    fmt::Write,
    hash::Hasher,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dashmap::DashMap;
use serde_json::{Value, json};
use siphasher::sip128::{Hasher128, SipHasher24};
use tokio::time::Instant;

use super::{
    Session, Token, UnixMillis, now,
    session::{Device, Minted, Note, Notes, Place},
    vault::{Kept, Vault, Whole},
};
use crate::{
    pod::{Pod, Pool},
    store::shared::notices::Heard,
};

/// Tombstones in memory. When they are more, the kept ones have to do.
const MOST_TOMBSTONES: usize = 200_000;

/// Strangers remembered at once. When they are more, all are forgotten: that costs questions, and nobody an answer.
const MOST_STRANGERS: usize = 50_000;

/// Clients without a known session whose capabilities are kept. When they are more, all are forgotten.
const MOST_NOTES: usize = 10_000;
/// How long a session is believed without a look at what other replicas keep of it. They tell what changes; this bounds what comes
/// of a word that was lost.
const COMPARE_AGAIN: Duration = Duration::from_secs(60);

/// How old an entry becomes before it is written anew, in milliseconds: in Redis it lasts for some days only.
const WRITE_AGAIN: u64 = 86_400_000;

/// How long nobody is asked for a token again.
const ASK_AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Sessions {
    living: DashMap<u128, Arc<Session>, ahash::RandomState>,
    dead: DashMap<u128, (), ahash::RandomState>,
    /// Tokens of which nothing is known, until when nobody is asked for them.
    strangers: DashMap<u128, Instant, ahash::RandomState>,
    /// The session of each user on each device: a log-in takes the place of the one before.
    devices: DashMap<u128, Arc<Session>, ahash::RandomState>,
    /// The capabilities of clients whose session is not known, by token, and where they were told last.
    capabilities: DashMap<u128, (Place, Note), ahash::RandomState>,
    /// Leaders that may have SyncPlay groups.
    groups: DashMap<Place, (), ahash::RandomState>,
    secret: (u64, u64),
    most: usize,
    count: AtomicUsize,
    began: Instant,
    pools: Vec<Arc<Pool>>,
    vault: Vault,
    /// This replica's name in what it tells the others.
    name: String,
}

/// What is known of a token.
#[derive(Clone, Debug)]
pub enum Found {
    Living(Arc<Session>),
    /// It was ended, and is never revived.
    Dead,
    Unknown,
}

/// A session as it was kept, and its home in that pod's present life.
struct Record {
    session: Session,
    home: Option<Place>,
    moved: UnixMillis,
}

impl Sessions {
    /// None yet, at most so many tokens in memory; `secret` keys the hashes by which they are found.
    pub fn new(most: usize, secret: (u64, u64), pools: Vec<Arc<Pool>>, vault: Vault) -> Sessions {
        Sessions {
            living: DashMap::default(),
            dead: DashMap::default(),
            strangers: DashMap::default(),
            devices: DashMap::default(),
            capabilities: DashMap::default(),
            groups: DashMap::default(),
            secret,
            most: most.max(16),
            count: AtomicUsize::new(0),
            began: Instant::now(),
            pools,
            vault,
            name: name(),
        }
    }

    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Sessions in memory.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// What this process knows of a token; nothing is waited for.
    pub fn find(&self, token: &str) -> Found {
        let hash = self.hash(&[token]);
        if let Some(session) = self.living.get(&hash) {
            session.touch(self.seconds());
            return Found::Living(session.clone());
        }
        if self.dead.contains_key(&hash) {
            return Found::Dead;
        }
        Found::Unknown
    }

    /// Asks what is kept beyond this process, within the store's deadline.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn recall(&self, token: &str) -> Found {
        if self.vault.is_shared() && !self.is_stranger(token) {
            return Found::Unknown;
        }
        let Ok(Some(kept)) = self.vault.find(token).await else { return Found::Unknown };
        self.found(token, kept).await
    }

    async fn found(&self, token: &str, kept: Kept) -> Found {
        match kept {
            Kept::Ended => {
                self.remember_dead(token);
                Found::Dead
            }
            Kept::Session(plain) => match self.read(&plain) {
                Some(kept) => self.take_in(token, kept).await,
                None => Found::Unknown,
            },
        }
    }

    /// Whether somebody is to be asked for this token, of which nothing is known: once in a while.
    pub fn is_stranger(&self, token: &str) -> bool {
        self.strangers.get(&self.hash(&[token])).is_none_or(|until| *until <= Instant::now())
    }

    /// Somebody is being asked for this token.
    pub fn is_asked_for(&self, token: &str) {
        if self.strangers.len() >= MOST_STRANGERS {
            self.strangers.clear();
        }
        self.strangers.insert(self.hash(&[token]), Instant::now() + ASK_AGAIN);
    }

    /// What was kept under this token becomes known, unless all of its user or device has ended since.
    async fn take_in(&self, token: &str, kept: Record) -> Found {
        let Ok(ended) = self.vault.ended(&kept.session.user, &kept.session.device.id).await else {
            return Found::Unknown;
        };
        if ended >= kept.session.born() {
            self.remember_dead(token);
            self.vault.bury(token, now());
            return Found::Dead;
        }
        if let Found::Living(known) = self.find(token) {
            // Another request was quicker.
            self.adopt(&known, &kept);
            return Found::Living(known);
        }
        let session = Arc::new(kept.session);
        if let Some(home) = kept.home {
            session.presume(home, kept.moved);
        }
        self.list(&session);
        Found::Living(session)
    }

    /// Says whether there is something new in what was kept.
    fn adopt(&self, known: &Arc<Session>, kept: &Record) -> bool {
        let adopted = known.adopt(&kept.session);
        if let Some(home) = kept.home.filter(|home| kept.moved > known.moved() && known.home() != Some(*home)) {
            known.presume(home, kept.moved);
        }
        if adopted.is_news {
            self.list(known);
        }
        if adopted.lacks || now().saturating_sub(known.revision()) > WRITE_AGAIN {
            self.keep(known);
        }
        adopted.is_news
    }

    /// Looks again at what other replicas have kept. Says whether there was something new; a session that another one has ended
    /// is dead afterwards.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn refresh(&self, session: &Arc<Session>) -> bool {
        let Some(own) = session.own().filter(|_| self.vault.is_shared() && !session.is_dead()) else { return false };
        let reviewed = self.vault.review(own.as_str(), &session.user, &session.device.id).await;
        let Ok((kept, ended)) = reviewed else {
            session.set_compared(0);
            return false;
        };
        session.set_compared(self.seconds().saturating_add(1));
        let is_news = match kept {
            Some(Kept::Ended) => {
                self.end(session);
                return false;
            }
            Some(Kept::Session(plain)) => self.read(&plain).is_some_and(|kept| self.adopt(session, &kept)),
            // Redis has lost it.
            // Redis has lost it, and perhaps what another replica has kept since.
            None => {
                self.keep(session);
                session.set_compared(0);
                false
            }
        };
        if ended >= session.born() {
            self.end(session);
            return false;
        }
        is_news
    }

    /// Whether Redis has not said what other replicas keep of a session, or something may have been missed since: nobody can tell
    /// then whether one of them has ended it.
    pub fn is_uncertain(&self, session: &Session) -> bool {
        self.vault.is_shared() && !session.is_dead() && session.compared() == 0
    }

    /// Whether a known session is to be compared with what other replicas keep, before it is believed.
    pub fn is_due(&self, session: &Session) -> bool {
        let compared = session.compared();
        self.vault.is_shared()
            && (compared == 0 || u64::from(self.seconds().saturating_sub(compared)) >= COMPARE_AGAIN.as_secs())
    }

    /// Takes in what other replicas tell, for ever.
    pub async fn hear(&self) {
        let Some(mut words) = self.vault.hear() else { return std::future::pending().await };
        loop {
            match words.next().await {
                Heard::Said(said) => self.heed(&said).await,
                Heard::Lost => self.doubt_all().await,
            }
        }
    }

    /// What a word is about is looked at again; nothing else of it is believed.
    async fn heed(&self, said: &str) {
        let mut words = said.split(' ');
        if words.next() == Some(&*self.name) {
            return;
        }
        let kind = words.next();
        let names: Vec<u128> = words.filter_map(|word| u128::from_str_radix(word, 16).ok()).collect();
        let is_of = |whole, id: &str| {
            self.vault.names_of(whole, id).iter().any(|name| names.contains(&u128::from_be_bytes(*name)))
        };
        let listed = |is_meant: &dyn Fn(&Session) -> bool| -> Vec<Arc<Session>> {
            self.devices.iter().filter(|entry| is_meant(entry)).map(|entry| entry.clone()).collect()
        };
        let meant = match kind {
            Some("token") => names.iter().filter_map(|name| Some(self.living.get(name)?.clone())).collect(),
            Some("user") => listed(&|session| is_of(Whole::User, &session.user)),
            Some("device") => listed(&|session| is_of(Whole::Device, &session.device.id)),
            _ => Vec::new(),
        };
        for session in meant {
            session.set_compared(0);
            self.refresh(&session).await;
        }
    }

    /// Something may have been missed: every session is compared before it is believed again, and those whose sockets wait at once.
    async fn doubt_all(&self) {
        self.devices.iter().for_each(|session| session.set_compared(0));
        let waiting = self.devices.iter().filter(|session| session.has_sockets());
        let waiting: Vec<_> = waiting.map(|session| session.clone()).collect();
        for session in waiting {
            self.refresh(&session).await;
        }
    }

    /// Keeps other replicas from carrying the session of this token meanwhile. `false` while another one does.
    pub async fn lock(&self, token: &Token) -> bool {
        self.vault.lock(token.as_str()).await
    }

    /// Keeps them from it for longer.
    pub async fn relock(&self, token: &Token) {
        self.vault.relock(token.as_str()).await;
    }

    pub fn unlock(&self, token: &Token) {
        self.vault.unlock(token.as_str());
    }

    /// A log-in made this token. Whatever session the user had on the device before is ended, as the pod has ended it.
    pub fn begin(&self, pod: &Pod, user: &str, device: Device, token: &str) {
        match self.find(token) {
            Found::Living(known) => drop(known.settle(Place::of(pod), token)),
            Found::Dead => {}
            Found::Unknown => {
                let session = self.fresh(pod, user, device, token);
                let before = self.devices.get(&self.device_hash(&session)).map(|before| before.clone());
                if let Some(before) = before {
                    self.end(&before);
                }
                self.list(&session);
                self.keep(&session);
            }
        }
    }

    /// A pod has accepted a token of which nothing was known. What may be kept of it stands.
    pub async fn begin_seen(&self, pod: &Pod, user: &str, device: Device, token: &str) {
        let kept = self.vault.find(token).await;
        if !matches!(self.find(token), Found::Unknown) {
            return;
        }
        if let Ok(Some(kept)) = kept {
            drop(self.found(token, kept).await);
            return;
        }
        let session = self.fresh(pod, user, device, token);
        self.list(&session);
        match kept {
            Ok(_) => self.keep(&session),
            // It is compared with what is kept before it is believed again, and kept then.
            Err(_) => session.set_compared(0),
        }
    }

    fn fresh(&self, pod: &Pod, user: &str, device: Device, token: &str) -> Arc<Session> {
        let session = Session::new(pod.pool.clone(), plain_id(user), device, Token::new(token));
        session.settle(Place::of(pod), token);
        Arc::new(session)
    }

    /// Keeps a session beyond this process, some time soon, and tells the other replicas.
    pub fn keep(&self, session: &Session) {
        if session.is_dead() {
            return;
        }
        session.revise();
        let plain = self.write(session);
        let tokens = session.tokens();
        for minted in &tokens {
            self.vault.put(minted.token.as_str(), &plain);
        }
        // Ended in this very moment: what was written comes out again.
        if session.is_dead() {
            tokens.iter().for_each(|minted| self.vault.bury(minted.token.as_str(), now()));
        }
        if let Some(own) = session.own() {
            self.tell_of_token(own.as_str());
        }
    }

    /// Keeps a session whose tokens have changed, and waits until that is safe, for a bounded time. Says whether it is.
    pub async fn keep_safe(&self, session: &Arc<Session>) -> bool {
        self.list(session);
        self.keep(session);
        self.vault.is_safe().await
    }

    /// Ends a session for ever.
    pub fn end(&self, session: &Session) {
        session.die();
        for minted in session.tokens() {
            self.end_token(minted.token.as_str());
        }
        self.devices.remove_if(&self.device_hash(session), |_, listed| std::ptr::eq(&**listed, session));
    }

    /// Ends a token for ever, of which no session is known.
    pub fn end_token(&self, token: &str) {
        self.vault.bury(token, now());
        self.tell_of_token(token);
        // Dead first: nobody shall find that it is neither.
        self.remember_dead(token);
        if self.living.remove(&self.hash(&[token])).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ends every session of a user but one, here and wherever they are kept. Gives those that were known here.
    pub fn end_user(&self, user: &str, but: Option<&Arc<Session>>) -> Vec<Arc<Session>> {
        let user = plain_id(user);
        let at = now();
        // Kept before the end is: whoever reads in between shall not find the one without the other.
        if let Some(spared) = but.filter(|spared| spared.user == user) {
            spared.confirm(at + 1);
            self.keep(spared);
        }
        let ended = self.end_all(|session| session.user == user && !but.is_some_and(|but| Arc::ptr_eq(but, session)));
        self.end_whole(Whole::User, &user, at);
        ended
    }

    /// Ends every session on a device, here and wherever they are kept. Gives those that were known here.
    pub fn end_device(&self, device: &str) -> Vec<Arc<Session>> {
        let ended = self.end_all(|session| session.device.id == device);
        self.end_whole(Whole::Device, device, now());
        ended
    }

    fn end_whole(&self, whole: Whole, id: &str, at: UnixMillis) {
        self.vault.end(whole, id, at);
        let mut words = format!("{} {}", self.name, if whole == Whole::User { "user" } else { "device" });
        for name in self.vault.names_of(whole, id) {
            // Writing into memory cannot fail.
            let _ = write!(words, " {:032x}", u128::from_be_bytes(name));
        }
        self.vault.tell(words);
    }

    /// The token's keyed hash is all that the others hear; they look for themselves what it is about.
    fn tell_of_token(&self, token: &str) {
        if self.vault.is_shared() {
            self.vault.tell(format!("{} token {:032x}", self.name, self.hash(&[token])));
        }
    }

    fn end_all(&self, is_meant: impl Fn(&Arc<Session>) -> bool) -> Vec<Arc<Session>> {
        let meant: Vec<_> = self.devices.iter().filter(|entry| is_meant(entry)).map(|entry| entry.clone()).collect();
        meant.iter().for_each(|session| self.end(session));
        meant
    }

    /// A client whose session is not known has told this pod what it can do.
    pub fn note_capabilities(&self, token: &str, pod: &Pod, note: Note) {
        if self.capabilities.len() >= MOST_NOTES {
            self.capabilities.clear();
        }
        self.capabilities.insert(self.hash(&[token]), (Place::of(pod), note));
    }

    /// What such a client has told another pod, or an earlier life of this one; from now on this one counts as told.
    pub fn capabilities_for(&self, token: &str, pod: &Pod) -> Option<Note> {
        let mut noted = self.capabilities.get_mut(&self.hash(&[token]))?;
        let place = Place::of(pod);
        (std::mem::replace(&mut noted.0, place) != place).then(|| noted.1.clone())
    }

    /// This leader has made a SyncPlay group.
    pub fn note_groups(&self, leader: &Pod) {
        self.groups.insert(Place::of(leader), ());
        self.vault.mark("groups", &named(leader));
    }

    /// It has none at the moment.
    pub fn note_no_groups(&self, leader: &Pod) {
        self.groups.remove(&Place::of(leader));
        self.vault.unmark("groups", &named(leader));
    }

    /// Whether the leader may have groups, by what this proxy or another has seen.
    pub async fn may_have_groups(&self, leader: &Pod) -> bool {
        self.groups.contains_key(&Place::of(leader)) || self.vault.is_marked("groups", &named(leader)).await
    }

    /// Every session that lives on this pod.
    pub fn of_pod(&self, pod: &Pod) -> Vec<Arc<Session>> {
        let lives_there = |session: &Session| session.home().is_some_and(|home| home.pod == pod.id);
        self.devices.iter().filter(|entry| lives_there(entry)).map(|entry| entry.clone()).collect()
    }

    /// Makes a session findable by all of its tokens.
    fn list(&self, session: &Arc<Session>) {
        if session.is_dead() {
            return;
        }
        session.touch(self.seconds());
        session.set_compared(self.seconds().saturating_add(1));
        self.devices.insert(self.device_hash(session), session.clone());
        for minted in session.tokens() {
            let is_new = self.living.insert(self.hash(&[minted.token.as_str()]), session.clone()).is_none();
            if is_new && self.count.fetch_add(1, Ordering::Relaxed) >= self.most {
                self.make_room();
            }
        }
    }

    fn remember_dead(&self, token: &str) {
        if self.dead.len() >= MOST_TOMBSTONES {
            self.dead.clear();
        }
        self.dead.insert(self.hash(&[token]), ());
    }

    /// Lets the longest unused sixteenth go.
    fn make_room(&self) {
        let age = |session: &Session| session.used.load(Ordering::Relaxed);
        let mut ages: Vec<u32> = self.living.iter().map(|entry| age(&entry)).collect();
        let share = (ages.len() / 16).max(1);
        if ages.len() <= self.most || share >= ages.len() {
            return;
        }
        let (_, &mut oldest_kept, _) = ages.select_nth_unstable(share);
        let mut room = share;
        let mut goes = |session: &Session| {
            let goes = room > 0 && age(session) <= oldest_kept;
            room -= usize::from(goes);
            goes
        };
        self.living.retain(|_, session| !goes(session));
        self.devices.retain(|_, session| age(session) > oldest_kept);
        self.count.store(self.living.len(), Ordering::Relaxed);
    }

    fn device_hash(&self, session: &Session) -> u128 {
        self.hash(&[&session.pool, &session.user, &session.device.id])
    }

    fn hash(&self, parts: &[&str]) -> u128 {
        let mut hasher = SipHasher24::new_with_keys(self.secret.0, self.secret.1);
        for part in parts {
            hasher.write(part.as_bytes());
            hasher.write_u8(0);
        }
        hasher.finish128().as_u128()
    }

    fn seconds(&self) -> u32 {
        self.began.elapsed().as_secs().try_into().unwrap_or(u32::MAX)
    }

    /// A session as it is kept. Pods stand there by name: their numbers mean something to one process only.
    fn write(&self, session: &Session) -> Vec<u8> {
        let home = session.home().and_then(|home| {
            let pods = self.pool(&session.pool)?.pods();
            pods.iter().find(|pod| pod.id == home.pod).map(|pod| pod.name.to_string())
        });
        let tokens: Vec<Value> =
            session.tokens().iter().rev().map(|minted| json!([minted.token.as_str(), minted.at])).collect();
        let notes = session.notes();
        let note = |note: &Option<Note>| {
            note.as_ref().map(|note| json!([note.target, String::from_utf8_lossy(&note.body)])).unwrap_or_default()
        };
        let device = &session.device;
        let record = json!({
            "pool": &*session.pool,
            "user": session.user,
            "client": device.client,
            "name": device.name,
            "device": device.id,
            "version": device.version,
            "born": session.born(),
            "revision": session.revision(),
            "moved": session.moved(),
            "tokens": tokens,
            "home": home,
            "capabilities": note(&notes.capabilities),
        });
        record.to_string().into_bytes()
    }

    fn read(&self, plain: &[u8]) -> Option<Record> {
        let record: Value = serde_json::from_slice(plain).ok()?;
        let text = |key: &str| record[key].as_str().map(str::to_owned);
        let pool = self.pool(record["pool"].as_str()?)?;
        let device =
            Device { client: text("client")?, name: text("name")?, id: text("device")?, version: text("version")? };
        let minted =
            |entry: &Value| Some(Minted { token: Token::new(entry[0].as_str()?), at: entry[1].as_u64().unwrap_or(0) });
        let tokens: Vec<Minted> = record["tokens"].as_array()?.iter().filter_map(minted).collect();
        let note = |entry: &Value| {
            let body = Bytes::from(entry[1].as_str()?.to_owned());
            Some(Note { target: entry[0].as_str()?.to_owned(), body })
        };
        let notes = Notes { capabilities: note(&record["capabilities"]), playing: None };
        let home = record["home"].as_str().and_then(|name| {
            let pods = pool.pods();
            pods.iter().find(|pod| *pod.name == *name).map(|pod| Place::of(pod))
        });
        let (born, revision) = (record["born"].as_u64()?, record["revision"].as_u64()?);
        let session = Session::of_parts(pool.name.clone(), text("user")?, device, born, revision, tokens, notes);
        Some(Record { session, home, moved: record["moved"].as_u64().unwrap_or(0) })
    }

    fn pool(&self, name: &str) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| *pool.name == *name)
    }
}

/// A pod by the names that replicas have in common.
fn named(pod: &Pod) -> String {
    format!("{}:{}", pod.pool, pod.name)
}

/// A name that no other replica has.
fn name() -> String {
    let mut bytes = [0; 8];
    // Without randomness a replica may take another's words for its own, and finds out by looking.
    let _ = getrandom::fill(&mut bytes);
    format!("{:016x}", u64::from_be_bytes(bytes))
}

/// A GUID as Jellyfin's JSON has it: without dashes, in lower case.
pub(super) fn plain_id(id: &str) -> String {
    id.chars().filter(|char| *char != '-').map(|char| char.to_ascii_lowercase()).collect()
}
