//! Whose ids are whose, where each pod has a database of its own: a user has another id on each.
//!
//! Users are one by their names. Clients see one id of each user, on all pods: that of the first pod
//! that has the user, in the order of names. It stays, as long as no other user has it.
//!
//! Users may rename themselves, and a name that is another user's elsewhere would make them that
//! user. Who takes such a name stays apart.

mod apart;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::{IdRewriter, ServerId};
use crate::pod::{Pod, PodId};
use apart::{Bound, folded};

/// The users' ids of a pool's pods.
#[derive(Debug, Default)]
pub struct UserDirectory {
    known: ArcSwap<Known>,
    /// Lets only one caller at a time change it.
    changing: Mutex<()>,
}

/// A user, as one pod has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnUser {
    pub name: String,
    pub id: ServerId,
    pub is_disabled: bool,
}

/// Whether a user can live on a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Here,
    /// The pod has no user of this name.
    Missing,
    Disabled,
    /// The pod has not yet said which users it has.
    Unknown,
}

/// The shown ids of users, by their folded names.
type Shown = BTreeMap<String, ServerId>;

/// The key of the first names in the document of shown ids: no folded name has capitals.
const FIRST: &str = "FIRST";

#[derive(Debug, Default)]
struct Known {
    shown: Shown,
    /// The folded name that each of the pods' ids had when it was first seen.
    first: HashMap<ServerId, String>,
    /// All of these.
    ids: HashSet<ServerId>,
    /// By the pods' names, since that is the order in which they give ids.
    pods: BTreeMap<Arc<str>, (PodId, Vec<OwnUser>)>,
    names: HashMap<PodId, Arc<Names>>,
}

/// The users of one pod, as clients see them.
#[derive(Debug)]
pub struct Names {
    /// By the shown id: whether the user is disabled.
    standing: HashMap<ServerId, bool>,
    /// By the folded name.
    by_name: HashMap<String, ServerId>,
    /// Those who are one with nobody elsewhere, though others have their names.
    apart: Vec<ServerId>,
    /// What each of the pod's ids becomes for clients.
    pub(super) to_client: Vec<(ServerId, ServerId)>,
    /// What each id by which any client may know a user becomes for the pod.
    pub(super) to_pod: Vec<(ServerId, ServerId)>,
    /// For jellypin's own calls, which name the shown ids.
    rewriter: IdRewriter,
}

impl UserDirectory {
    /// The users of a pod; `None` while they are not known.
    pub(super) fn of_pod(&self, pod: &Pod) -> Option<Arc<Names>> {
        self.known.load().names.get(&pod.id).cloned()
    }

    pub fn is_known(&self, pod: &Pod) -> bool {
        self.known.load().names.contains_key(&pod.id)
    }

    /// Whether any pod has said which users it has.
    pub fn is_any_known(&self) -> bool {
        !self.known.load().names.is_empty()
    }

    /// Rewrites jellypin's own calls to a pod, and their answers; `None` while its users are unknown.
    pub fn rewriter(&self, pod: &Pod) -> Option<IdRewriter> {
        self.of_pod(pod).map(|names| names.rewriter.clone())
    }

    /// Whether a call's path or query names a user by a shown id.
    pub fn is_named_in(&self, target: &str) -> bool {
        let known = self.known.load();
        let ids = target.split(|char: char| !char.is_ascii_hexdigit()).filter_map(ServerId::parse);
        ids.into_iter().any(|id| known.ids.contains(&id))
    }

    /// Whether the user of a shown id can live on a pod.
    pub fn standing(&self, pod: &Pod, user: &str) -> Standing {
        let Some(names) = self.of_pod(pod) else { return Standing::Unknown };
        match ServerId::parse(user).and_then(|id| names.standing.get(&id)) {
            Some(true) => Standing::Disabled,
            Some(false) => Standing::Here,
            None => Standing::Missing,
        }
    }

    /// The same by name.
    pub fn standing_of_name(&self, pod: &Pod, name: &str) -> Standing {
        let Some(names) = self.of_pod(pod) else { return Standing::Unknown };
        let id = names.by_name.get(&folded(name));
        id.map_or(Standing::Missing, |id| self.standing(pod, id.as_str()))
    }

    /// Takes a pod's list of users. Returns those who stand apart from now on.
    pub fn set(&self, pod: &Pod, users: Vec<OwnUser>) -> Vec<ServerId> {
        let apart = || self.of_pod(pod).map(|names| names.apart.clone()).unwrap_or_default();
        let before = apart();
        self.change(|known| {
            if known.pods.get(&pod.name).is_some_and(|(id, before)| *id == pod.id && *before == users) {
                return false;
            }
            known.pods.insert(pod.name.clone(), (pod.id, users));
            true
        });
        apart().into_iter().filter(|id| !before.contains(id)).collect()
    }

    /// Takes the ids that an earlier run, or another replica, has shown.
    pub fn remember(&self, document: &[u8]) {
        let Ok(Value::Object(mut ids)) = serde_json::from_slice(document) else { return };
        let first = ids.remove(FIRST);
        let first = first.as_ref().and_then(Value::as_object).into_iter().flatten();
        let first = first.filter_map(|(id, name)| Some((ServerId::parse(id)?, name.as_str()?.to_owned())));
        let first: HashMap<ServerId, String> = first.collect();
        let ids = ids.into_iter().filter_map(|(name, id)| Some((name, ServerId::parse(id.as_str()?)?)));
        let earlier: Shown = ids.collect();
        self.change(|known| {
            let is_new = earlier.iter().any(|(name, id)| known.shown.get(name) != Some(id))
                || first.iter().any(|(id, name)| known.first.get(id) != Some(name));
            known.shown.extend(earlier);
            known.first.extend(first);
            is_new
        });
    }

    /// The shown ids, for the next run and for other replicas.
    pub fn document(&self) -> Vec<u8> {
        let known = self.known.load();
        let ids = known.shown.iter().map(|(name, id)| (name.clone(), Value::from(id.as_str())));
        let mut document: Map<_, _> = ids.collect();
        let first: BTreeMap<&str, &String> = known.first.iter().map(|(id, name)| (id.as_str(), name)).collect();
        document.insert(FIRST.to_owned(), first.into_iter().map(|(id, name)| (id, name.clone())).collect());
        Value::Object(document).to_string().into_bytes()
    }

    fn change(&self, change: impl FnOnce(&mut Known) -> bool) {
        let _one = self.changing.lock();
        let before = self.known.load();
        let (shown_before, pods) = (before.shown.clone(), before.pods.clone());
        let mut known = Known { shown: shown_before, first: before.first.clone(), pods, ..Known::default() };
        if change(&mut known) {
            let all = known.pods.values().flat_map(|(_, users)| users);
            let firsts: Vec<_> = all.map(|user| (user.id, folded(&user.name))).collect();
            for (id, name) in firsts {
                known.first.entry(id).or_insert(name);
            }
            let bound = Bound::new(&known.shown, &known.first, &known.pods);
            known.shown = shown(&known, &bound);
            known.ids = known.shown.values().copied().collect();
            let names = known.pods.values().map(|(pod, own)| (*pod, Arc::new(names(&known, &bound, (*pod, &own[..])))));
            known.names = names.collect();
            self.known.store(Arc::new(known));
        }
    }
}

/// The id of each user that any pod has, or had. An id that another user has now is given up: that one
/// has another name since.
fn shown(known: &Known, bound: &Bound) -> Shown {
    let users = || known.pods.values().flat_map(|(pod, users)| users.iter().map(move |user| (*pod, user)));
    let owners: HashMap<ServerId, Option<&str>> =
        users().map(|(pod, user)| (user.id, bound.name_of(pod, user.id))).collect();
    let mut shown = known.shown.clone();
    shown.retain(|name, id| match owners.get(id) {
        Some(owner) => *owner == Some(name.as_str()),
        None => bound.may_stand_for(name, known.first.get(id)),
    });
    for (pod, user) in users() {
        if let Some(name) = bound.name_of(pod, user.id) {
            shown.entry(name.to_owned()).or_insert(user.id);
        }
    }
    shown
}

fn names(known: &Known, bound: &Bound, (pod, users): (PodId, &[OwnUser])) -> Names {
    let (mut standing, mut by_name, mut own) = (HashMap::new(), HashMap::new(), HashMap::new());
    let (mut to_client, mut to_pod, mut apart) = (Vec::new(), Vec::new(), Vec::new());
    for user in users {
        let Some(name) = bound.name_of(pod, user.id) else {
            standing.insert(user.id, user.is_disabled);
            apart.push(user.id);
            continue;
        };
        let shown = known.shown.get(name).copied().unwrap_or(user.id);
        standing.insert(shown, user.is_disabled);
        by_name.insert(name.to_owned(), shown);
        own.insert(name, user.id);
        if shown != user.id {
            to_client.push((user.id, shown));
            to_pod.push((shown, user.id));
        }
    }
    // A client may know an id that another pod gave it before the pods were twins.
    for (other, users) in known.pods.values() {
        for user in users {
            if let Some(id) = bound.name_of(*other, user.id).and_then(|name| own.get(name))
                && user.id != *id
                && !to_pod.iter().any(|(known, _)| *known == user.id)
            {
                to_pod.push((user.id, *id));
            }
        }
    }
    let rewriter = IdRewriter::with_users(None, &to_client, &to_pod);
    Names { standing, by_name, apart, to_client, to_pod, rewriter }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::PodConfig;

    fn pod(name: &str) -> Arc<Pod> {
        Pod::new(&"main".into(), &PodConfig { name: name.into(), authority: "h:1".into(), ..Default::default() })
    }

    fn id(digit: &str) -> ServerId {
        ServerId::parse(&digit.repeat(32)).expect("an id")
    }

    fn users(all: &[(&str, &str)]) -> Vec<OwnUser> {
        let user = |(name, digit): &(&str, &str)| OwnUser { name: (*name).into(), id: id(digit), is_disabled: false };
        all.iter().map(user).collect()
    }

    fn to_client(directory: &UserDirectory, pod: &Pod, digit: &str) -> String {
        let body =
            directory.rewriter(pod).expect("known").whole_to_client(id(digit).as_str().as_bytes().to_vec().into());
        String::from_utf8_lossy(&body)[..1].to_owned()
    }

    fn to_pod(directory: &UserDirectory, pod: &Pod, digit: &str) -> String {
        let body = directory.rewriter(pod).expect("known").whole_to_pod(id(digit).as_str().as_bytes().to_vec().into());
        String::from_utf8_lossy(&body)[..1].to_owned()
    }

    #[test]
    fn a_user_is_one_by_name_and_shown_by_the_first_pods_id() {
        let (directory, a, b) = (UserDirectory::default(), pod("a"), pod("b"));
        assert_eq!(directory.standing(&b, id("1").as_str()), Standing::Unknown);
        assert!(!directory.is_named_in(&format!("/Users/{}", id("1").as_str())));
        directory.set(&a, users(&[("Alice", "1"), ("bob", "2")]));
        directory.set(&b, users(&[("alice", "3"), ("carol", "4")]));
        assert_eq!((to_client(&directory, &b, "3"), to_pod(&directory, &b, "1")), ("1".into(), "3".into()));
        assert_eq!((to_client(&directory, &a, "1"), to_pod(&directory, &a, "3")), ("1".into(), "1".into()));
        assert_eq!(to_client(&directory, &b, "4"), "4", "whom one pod has alone keeps the id");
        let standing = |pod: &Pod, digit: &str| directory.standing(pod, id(digit).as_str());
        assert_eq!(
            (standing(&b, "1"), standing(&b, "2"), standing(&a, "4")),
            (Standing::Here, Standing::Missing, Standing::Missing)
        );
        assert!(directory.is_named_in(&format!("/x?userId={}&a=b", id("1").as_str())));
        assert!(!directory.is_named_in(&format!("/x/{}?a=1", id("3").as_str())), "not a shown one");
        assert_eq!(directory.standing_of_name(&b, "ALICE"), Standing::Here);
        assert_eq!(directory.standing_of_name(&b, "bob"), Standing::Missing);
        let disabled = OwnUser { is_disabled: true, ..users(&[("alice", "3")]).remove(0) };
        directory.set(&b, vec![disabled]);
        assert_eq!(directory.standing(&b, id("1").as_str()), Standing::Disabled);
    }

    #[test]
    fn an_id_stays_until_another_user_has_it() {
        let (before, a, b) = (UserDirectory::default(), pod("a"), pod("b"));
        before.set(&a, users(&[("alice", "1")]));
        let after = UserDirectory::default();
        after.remember(&before.document());
        after.set(&b, users(&[("alice", "3")]));
        assert_eq!(to_client(&after, &b, "3"), "1", "the first pod is away");
        after.set(&a, users(&[("alice", "5")]));
        assert_eq!((to_client(&after, &a, "5"), to_client(&after, &b, "3")), ("1".into(), "1".into()), "made again");
        after.set(&a, users(&[("alicia", "1")]));
        assert_eq!((to_client(&after, &a, "1"), to_client(&after, &b, "3")), ("1".into(), "3".into()), "renamed there");
        after.remember(b"no document");
        assert_eq!(to_client(&after, &b, "3"), "3");
    }

    #[test]
    fn who_takes_another_users_name_stays_apart() {
        let (directory, a, b) = (UserDirectory::default(), pod("a"), pod("b"));
        assert!(directory.set(&a, users(&[("mallory", "1"), ("alice", "3")])).is_empty());
        assert!(directory.set(&b, users(&[("bob", "2"), ("alice", "4")])).is_empty());
        let renamed = || users(&[("Bob", "1"), ("alice", "3")]);
        let is_apart = |directory: &UserDirectory| {
            assert_eq!(to_client(directory, &a, "1"), "1");
            assert_eq!((to_pod(directory, &a, "2"), to_pod(directory, &b, "1")), ("2".into(), "1".into()));
            assert_eq!(directory.standing(&b, id("1").as_str()), Standing::Missing);
            assert_eq!(directory.standing_of_name(&a, "bob"), Standing::Missing);
            assert_eq!(directory.standing_of_name(&b, "bob"), Standing::Here);
            assert_eq!(to_client(directory, &b, "4"), "3", "others are one as before");
        };
        assert_eq!(directory.set(&a, renamed()), [id("1")]);
        is_apart(&directory);
        assert!(directory.set(&a, renamed()).is_empty(), "it is said once");
        // The next process has never seen the old name, and first asks the pod that lies.
        let next = UserDirectory::default();
        next.remember(&directory.document());
        next.set(&a, renamed());
        assert_eq!(next.standing_of_name(&a, "bob"), Standing::Missing, "b has not even said that it has bob");
        next.set(&b, users(&[("bob", "2"), ("alice", "4")]));
        is_apart(&next);
        // Under a name that nobody else has, the user is one user of that name.
        assert!(next.set(&a, users(&[("mary", "1"), ("alice", "3")])).is_empty());
        assert_eq!(next.standing_of_name(&a, "mary"), Standing::Here);
        assert_eq!(to_client(&next, &a, "1"), "1");
    }

    #[test]
    fn a_name_that_was_free_is_its_new_users() {
        let (directory, a, b) = (UserDirectory::default(), pod("a"), pod("b"));
        directory.set(&a, users(&[("mallory", "1")]));
        directory.set(&a, users(&[("bob", "1")]));
        directory.set(&b, users(&[("bob", "2")]));
        assert_eq!((to_client(&directory, &a, "1"), to_client(&directory, &b, "2")), ("1".into(), "2".into()));
        assert_eq!(directory.standing(&b, id("1").as_str()), Standing::Missing);
        // The same while the pod of the renamed user is away.
        let next = UserDirectory::default();
        next.remember(format!(r#"{{"bob":"{0}","FIRST":{{"{0}":"mallory"}}}}"#, id("1").as_str()).as_bytes());
        next.set(&b, users(&[("bob", "2")]));
        assert_eq!(to_client(&next, &b, "2"), "2");
    }

    #[test]
    fn a_user_who_is_renamed_everywhere_stays_one() {
        let (directory, a, b) = (UserDirectory::default(), pod("a"), pod("b"));
        directory.set(&a, users(&[("alice", "1")]));
        directory.set(&b, users(&[("alice", "2")]));
        assert!(directory.set(&a, users(&[("alicia", "1")])).is_empty());
        assert!(directory.set(&b, users(&[("alicia", "2")])).is_empty());
        assert_eq!((to_client(&directory, &b, "2"), to_pod(&directory, &b, "1")), ("1".into(), "2".into()));
    }
}
