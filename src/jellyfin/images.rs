//! Pictures of an item: what makes one pod's list of another's.
//!
//! Each pod keeps the files and, in memory, the list of an item's pictures. The database has one
//! list, so a pod may list a picture whose file is another pod's. An upload always adds at the end
//! (`ImageSaver`), and a deletion also deletes the file. Pods that share their folders have equal
//! files, so nothing that another pod still shows may be deleted there.

/// Pictures that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pictures {
    /// One kind of an item's pictures.
    OfItem {
        item: String,
        kind: String,
    },
    OfUser(String),
    Splashscreen,
}

impl Pictures {
    /// Whether there may be several.
    pub fn is_list(&self) -> bool {
        matches!(self, Pictures::OfItem { kind, .. } if is_list(kind))
    }
}

/// One step on the other pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// By the index that the picture has at that moment.
    Delete(usize),
    /// The picture with this index on the pod that has all.
    Upload(usize),
}

/// Whether an item may have several pictures of this kind (`BaseItem.AllowsMultipleImages`).
fn is_list(kind: &str) -> bool {
    ["Backdrop", "Chapter"].iter().any(|list| list.eq_ignore_ascii_case(kind))
}

/// The steps from what another pod shows to what it should show. `None` is a picture without a
/// file. Pictures are compared by content.
pub fn edits<T: PartialEq>(wanted: &[T], shown: &[Option<T>], is_list: bool) -> Vec<Edit> {
    let kept = kept_in_order(wanted, shown);
    let deletions = (0..shown.len()).rev().filter(|at| !kept.contains(at)).map(Edit::Delete);
    let uploads = (kept.len()..wanted.len()).map(Edit::Upload);
    // Where only one picture is allowed, the new one replaces the old one.
    let deletions = deletions.filter(|_| is_list || wanted.is_empty());
    deletions.chain(uploads).collect()
}

/// The places of the first wanted pictures that the other pod shows in the same order.
fn kept_in_order<T: PartialEq>(wanted: &[T], shown: &[Option<T>]) -> Vec<usize> {
    let mut kept = Vec::new();
    for (at, picture) in shown.iter().enumerate() {
        if picture.is_some() && wanted.get(kept.len()) == picture.as_ref() {
            kept.push(at);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Edit::*, *};

    fn steps(wanted: &str, shown: &str) -> Vec<Edit> {
        let wanted: Vec<char> = wanted.chars().collect();
        edits(&wanted, &list(shown), true)
    }

    /// A `-` is a picture without a file.
    fn list(shown: &str) -> Vec<Option<char>> {
        shown.chars().map(|letter| Some(letter).filter(|letter| *letter != '-')).collect()
    }

    #[test]
    fn the_other_pod_gets_what_it_lacks_and_loses_what_is_gone() {
        for (what, wanted, shown, expected) in [
            ("uploaded, and the pod has the old list in memory", "ab", "a", vec![Upload(1)]),
            ("uploaded, and the pod has read the new list", "ab", "a-", vec![Delete(1), Upload(1)]),
            ("uploaded into a shared folder", "ab", "ab", vec![]),
            ("deleted in the middle", "ac", "abc", vec![Delete(1)]),
            ("deleted, and the folder is shared", "ac", "a-c", vec![Delete(1)]),
            ("two changed places", "ba", "ab", vec![Delete(0), Upload(1)]),
            ("all are gone", "", "ab", vec![Delete(1), Delete(0)]),
            ("nothing is there", "ab", "", vec![Upload(0), Upload(1)]),
        ] {
            assert_eq!(steps(wanted, shown), expected, "{what}");
        }
        assert_eq!(edits(&['b'], &list("a"), false), [Upload(0)], "it replaces the old one");
        assert_eq!(edits(&['b'], &list("-"), false), [Upload(0)]);
        assert_eq!(edits(&[], &list("-"), false), [Delete(0)]);
        assert!(is_list("backdrop") && !is_list("Primary"));
    }

    proptest! {
        #[test]
        fn the_steps_make_the_list_and_keep_every_file_of_it(wanted in "[abc]{0,5}", shown in "[abc-]{0,5}") {
            let files: Vec<char> = wanted.chars().collect();
            let mut there = list(&shown);
            for step in steps(&wanted, &shown) {
                match step {
                    Delete(at) => drop(there.remove(at)),
                    Upload(at) => there.push(Some(files[at])),
                }
            }
            prop_assert_eq!(there, list(&wanted));
        }
    }
}
