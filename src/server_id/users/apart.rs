//! Who is one with the users of the same name on other pods, and who stays apart.
//!
//! Users may rename themselves. So a name that an id took later binds it to those alone that had the
//! same name before, unless nobody had the new one first.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{OwnUser, Shown};
use crate::{pod::PodId, server_id::ServerId};

/// By which name each user of each pod is one with others.
pub(super) struct Bound {
    names: HashMap<(PodId, ServerId), String>,
    /// The first name that those of a name have in common.
    first_of: HashMap<String, String>,
}

impl Bound {
    /// `first` has every user's id.
    pub(super) fn new(
        shown: &Shown,
        first: &HashMap<ServerId, String>,
        pods: &BTreeMap<Arc<str>, (PodId, Vec<OwnUser>)>,
    ) -> Bound {
        let mut by_name: BTreeMap<String, Vec<(PodId, ServerId)>> = BTreeMap::new();
        for (pod, users) in pods.values() {
            users.iter().for_each(|user| by_name.entry(folded(&user.name)).or_default().push((*pod, user.id)));
        }
        let (mut names, mut first_of) = (HashMap::new(), HashMap::new());
        for (name, users) in by_name {
            let first_name = |id: &ServerId| first.get(id).unwrap_or(&name);
            // Whoever had the name first, else whom clients know by it.
            let known = shown.get(&name).or(users.first().map(|(_, id)| id));
            let had_it_first = users.iter().any(|(_, id)| *first_name(id) == name);
            let common = known.filter(|_| !had_it_first).map_or(&name, first_name).clone();
            let they: Vec<_> = users.iter().filter(|(_, id)| *first_name(id) == common).collect();
            // Of two users of one pod nobody can tell which is meant.
            let is_alone = |at: PodId| they.iter().filter(|(pod, _)| *pod == at).count() == 1;
            names.extend(they.iter().filter(|(pod, _)| is_alone(*pod)).map(|user| (**user, name.clone())));
            first_of.insert(name, common);
        }
        Bound { names, first_of }
    }

    /// The folded name of a user who is one with those of the same name; `None` for one who is apart.
    pub(super) fn name_of(&self, pod: PodId, user: ServerId) -> Option<&str> {
        self.names.get(&(pod, user)).map(String::as_str)
    }

    /// Whether an id that no pod lists now may be that of a name's users, by its first name.
    pub(super) fn may_stand_for(&self, name: &str, first: Option<&String>) -> bool {
        match (self.first_of.get(name), first) {
            (Some(common), Some(first)) => common == first,
            _ => true,
        }
    }
}

/// A name as it is compared: in lower case, letter by letter. Like .NET, it takes no foreign letter
/// for an ASCII one (the Kelvin sign is no `k`), so users whom a pod tells apart stay two.
pub(super) fn folded(name: &str) -> String {
    let lower = |letter: char| {
        let mut lower = letter.to_lowercase();
        match (lower.next(), lower.next()) {
            (Some(one), None) if letter.is_ascii() || !one.is_ascii() => one,
            _ => letter,
        }
    };
    name.chars().map(lower).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{Pod, PodConfig};

    #[test]
    fn names_are_compared_in_any_case_and_letter_by_letter() {
        for (name, lower) in
            [("Alice", "alice"), ("ÄRGER", "ärger"), ("\u{212a}im", "\u{212a}im"), ("\u{130}x", "\u{130}x")]
        {
            assert_eq!(folded(name), lower);
        }
        assert_eq!(folded("ΑΣ"), folded("ας").replace('ς', "σ"));
    }

    #[test]
    fn two_users_of_one_name_on_one_pod_are_one_with_nobody() {
        let id = |digit: &str| ServerId::parse(&digit.repeat(32)).expect("an id");
        let user = |name: &str, digit: &str| OwnUser { name: name.to_owned(), id: id(digit), is_disabled: false };
        let config = PodConfig { name: "x".into(), authority: "h:1".into(), ..Default::default() };
        let [a, b] = [(); 2].map(|()| Pod::new(&"main".into(), &config).id);
        let pods = BTreeMap::from([
            (Arc::from("a"), (a, vec![user("Kim", "1"), user("kim", "2"), user("bob", "3")])),
            (Arc::from("b"), (b, vec![user("kim", "4")])),
        ]);
        let bound = Bound::new(&Shown::new(), &HashMap::new(), &pods);
        let name = |pod, digit| bound.name_of(pod, id(digit));
        assert_eq!((name(a, "1"), name(a, "2"), name(a, "3"), name(b, "4")), (None, None, Some("bob"), Some("kim")));
    }
}
