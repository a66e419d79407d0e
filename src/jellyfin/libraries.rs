//! Libraries: what a change on one pod means for another.
//!
//! A library is a folder of small files, which each pod keeps for itself. It is compared before it
//! is changed: a name that exists already would make a second library with a number behind it
//! (`LibraryManager.AddVirtualFolder`). Pods that share the folder are in step already.

use serde_json::Value;

/// A library as `/Library/VirtualFolders` lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct Library {
    pub name: String,
    /// Missing until the pod has looked at its folders.
    pub id: Option<String>,
    /// `movies`, `tvshows` and so on; a mixed library has none.
    pub kind: Option<String>,
    pub paths: Vec<String>,
    pub options: Value,
}

/// What one pod is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<'a> {
    Add(&'a Library),
    Remove(&'a str),
    Rename {
        from: &'a str,
        to: &'a str,
    },
    AddPath {
        library: &'a str,
        path: &'a str,
    },
    RemovePath {
        library: &'a str,
        path: &'a str,
    },
    SetOptions {
        id: &'a str,
        options: &'a Value,
    },
    /// Saves the options that are there. A pod that shares the folder may not have looked into it
    /// since another made the library.
    Touch {
        id: &'a str,
        options: &'a Value,
    },
}

/// The names of libraries that a change concerns, for a pod that is away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub gone: Vec<String>,
    pub changed: Vec<String>,
}

/// Reads a pod's list; `None` if it is none.
pub fn read(list: &Value) -> Option<Vec<Library>> {
    let text = |of: &Value, key: &str| of[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let library = |of: &Value| {
        let paths = of["Locations"].as_array().map_or(&[][..], Vec::as_slice);
        Some(Library {
            name: text(of, "Name")?,
            id: text(of, "ItemId"),
            kind: text(of, "CollectionType"),
            paths: paths.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            options: of["LibraryOptions"].clone(),
        })
    };
    list.as_array()?.iter().map(library).collect()
}

/// What a pod that has `there` must do, when a change made `after` of `before` on another pod.
pub fn steps<'a>(before: &'a [Library], after: &'a [Library], there: &'a [Library]) -> Vec<Step<'a>> {
    let gone = || before.iter().filter(|library| named(after, &library.name).is_none());
    let new = || after.iter().filter(|library| named(before, &library.name).is_none());
    let mut steps = Vec::new();
    if let (Some(from), Some(to)) = (only(gone()), only(new()))
        && from.is_same_but_its_name(to)
        && named(there, &from.name).is_some()
        && named(there, &to.name).is_none()
    {
        return vec![Step::Rename { from: &from.name, to: &to.name }];
    }
    steps.extend(gone().filter(|old| named(there, &old.name).is_some()).map(|old| Step::Remove(&old.name)));
    for now in after {
        let was = named(before, &now.name);
        if was.is_some_and(|was| was.is_like(now)) {
            continue;
        }
        match named(there, &now.name) {
            None => steps.push(Step::Add(now)),
            Some(other) => {
                let so_far = steps.len();
                other.follow(was, now, &mut steps);
                if was.is_none()
                    && steps.len() == so_far
                    && let Some(id) = &other.id
                {
                    steps.push(Step::Touch { id, options: &now.options });
                }
            }
        }
    }
    steps
}

/// What brings the named libraries of a pod in step with those of another pod.
pub fn catch_up<'a>(touched: &'a Touched, leaders: &'a [Library], there: &'a [Library]) -> Vec<Step<'a>> {
    let is_gone = |name: &&String| named(leaders, name).is_none() && named(there, name).is_some();
    let mut steps: Vec<Step<'a>> = touched.gone.iter().filter(is_gone).map(|name| Step::Remove(name)).collect();
    for now in touched.changed.iter().filter_map(|name| named(leaders, name)) {
        match named(there, &now.name) {
            None => steps.push(Step::Add(now)),
            Some(other) => other.follow(None, now, &mut steps),
        }
    }
    steps
}

impl Touched {
    pub fn between(before: &[Library], after: &[Library]) -> Touched {
        let is_gone = |library: &&Library| named(after, &library.name).is_none();
        let has_changed = |library: &&Library| named(before, &library.name).is_none_or(|was| !was.is_like(library));
        let name = |library: &Library| library.name.clone();
        Touched {
            gone: before.iter().filter(is_gone).map(name).collect(),
            changed: after.iter().filter(has_changed).map(name).collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.changed.is_empty()
    }

    /// Adds what a later change concerns.
    pub fn add(&mut self, later: &Touched) {
        self.gone.retain(|name| !later.changed.contains(name));
        self.changed.retain(|name| !later.gone.contains(name));
        let add = |to: &mut Vec<String>, more: &[String]| {
            for name in more {
                if !to.contains(name) {
                    to.push(name.clone());
                }
            }
        };
        add(&mut self.gone, &later.gone);
        add(&mut self.changed, &later.changed);
    }

    pub fn len(&self) -> usize {
        self.gone.len() + self.changed.len()
    }
}

impl Library {
    /// Whether nothing that an administrator sets differs.
    fn is_like(&self, other: &Library) -> bool {
        self.name == other.name && self.is_same_but_its_name(other)
    }

    fn is_same_but_its_name(&self, other: &Library) -> bool {
        self.kind == other.kind && self.paths == other.paths && self.options == other.options
    }

    /// The steps of a pod that has this library, to have it as it is `now`. A path that the change
    /// did not remove stays: it may be this pod's own.
    fn follow<'a>(&'a self, was: Option<&'a Library>, now: &'a Library, steps: &mut Vec<Step<'a>>) {
        let library = now.name.as_str();
        let missing = now.paths.iter().filter(|path| !self.paths.contains(path));
        steps.extend(missing.map(|path| Step::AddPath { library, path }));
        let removed = was.map_or(&[][..], |was| was.paths.as_slice()).iter();
        let removed = removed.filter(|path| !now.paths.contains(path) && self.paths.contains(path));
        steps.extend(removed.map(|path| Step::RemovePath { library, path }));
        if without_paths(&self.options) != without_paths(&now.options)
            && let Some(id) = self.id.as_deref().or(now.id.as_deref())
        {
            steps.push(Step::SetOptions { id, options: &now.options });
        }
    }
}

fn named<'a>(libraries: &'a [Library], name: &str) -> Option<&'a Library> {
    libraries.iter().find(|library| library.name == name)
}

/// The only element, if there is exactly one.
fn only<'a>(mut libraries: impl Iterator<Item = &'a Library>) -> Option<&'a Library> {
    libraries.next().filter(|_| libraries.next().is_none())
}

/// The options without the list of paths, which has steps of its own.
fn without_paths(options: &Value) -> Value {
    let mut options = options.clone();
    if let Value::Object(options) = &mut options {
        options.remove("PathInfos");
    }
    options
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn library(name: &str, paths: &[&str], option: u8) -> Library {
        Library {
            name: name.to_owned(),
            id: Some(format!("id of {name}")),
            kind: Some("movies".to_owned()),
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            options: json!({"PathInfos": paths, "Option": option}),
        }
    }

    #[test]
    fn a_pod_follows_and_does_nothing_twice() {
        let films = library("Films", &["/films"], 0);
        let (none, one) = (Vec::new(), vec![films.clone()]);
        assert_eq!(steps(&none, &one, &none), [Step::Add(&films)]);
        let touch = Step::Touch { id: "id of Films", options: &films.options };
        assert_eq!(steps(&none, &one, &one), [touch], "the folder is shared, or it was there");
        assert_eq!(steps(&one, &none, &one), [Step::Remove("Films")]);
        assert_eq!(steps(&one, &none, &none), []);
        let renamed = vec![library("Movies", &["/films"], 0)];
        let renamed: Vec<Library> =
            renamed.into_iter().map(|new| Library { options: films.options.clone(), ..new }).collect();
        assert_eq!(steps(&one, &renamed, &one), [Step::Rename { from: "Films", to: "Movies" }]);
        let touch = Step::Touch { id: "id of Movies", options: &renamed[0].options };
        assert_eq!(steps(&one, &renamed, &renamed), [touch]);
        assert_eq!(steps(&one, &renamed, &none), [Step::Add(&renamed[0])], "the pod had lost it");
    }

    #[test]
    fn paths_and_options_follow_and_a_pods_own_path_stays() {
        let (before, after) = (vec![library("Films", &["/a", "/b"], 0)], vec![library("Films", &["/b", "/c"], 1)]);
        let there = vec![library("Films", &["/a", "/b", "/own"], 0)];
        let expected = [
            Step::AddPath { library: "Films", path: "/c" },
            Step::RemovePath { library: "Films", path: "/a" },
            Step::SetOptions { id: "id of Films", options: &after[0].options },
        ];
        assert_eq!(steps(&before, &after, &there), expected);
        let other = vec![library("Series", &["/s"], 0)];
        assert_eq!(steps(&other, &other, &[]), [], "no other library is touched");
    }

    #[test]
    fn a_pod_that_was_away_catches_up() {
        let (a, b, c) = (library("A", &["/a"], 0), library("B", &["/b"], 0), library("C", &["/c"], 0));
        let mut touched = Touched::between(std::slice::from_ref(&a), std::slice::from_ref(&b));
        touched.add(&Touched::between(std::slice::from_ref(&b), &[b.clone(), c.clone()]));
        assert_eq!(touched, Touched { gone: vec!["A".into()], changed: vec!["B".into(), "C".into()] });
        let leaders = [b.clone(), c.clone()];
        assert_eq!(
            catch_up(&touched, &leaders, std::slice::from_ref(&a)),
            [Step::Remove("A"), Step::Add(&b), Step::Add(&c)]
        );
        assert_eq!(catch_up(&touched, &leaders, &leaders), []);
        touched.add(&Touched { gone: vec!["B".into()], changed: vec!["A".into()] });
        assert_eq!(touched, Touched { gone: vec!["B".into()], changed: vec!["C".into(), "A".into()] });
    }

    #[test]
    fn a_list_is_read_as_pods_write_it() {
        let list = json!([{"Name": "Films", "Locations": ["/films"], "CollectionType": "movies", "LibraryOptions": {"Enabled": true}, "ItemId": "1"}, {"Name": "Mixed"}]);
        let read = read(&list).expect("a list");
        assert_eq!((read[0].paths.len(), read[0].kind.as_deref(), read[1].kind.as_deref()), (1, Some("movies"), None));
        assert_eq!((super::read(&json!({})), super::read(&json!([{"Locations": []}]))), (None, None));
    }
}
