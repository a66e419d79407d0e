//! Which pod an id in Redis names. Pure.

use std::fmt;

/// The result of reading the pods' key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyReading {
    /// What the key holds.
    Value(Vec<u8>),
    /// There is no such key.
    Nothing,
    /// The key holds something other than text.
    Unreadable,
    /// Redis does not answer.
    Away,
}

/// A pod and its ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPod {
    /// The id that the pod itself reports.
    pub reported: Option<String>,
    /// The id that the operator configured for it.
    pub configured: Option<String>,
    pub is_alive: bool,
}

/// Why the key names no pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    RedisAway,
    NoKey,
    Unreadable,
    /// No pod has this id.
    Unknown,
    /// Several pods report this id, and no pod has it configured.
    Ambiguous,
    /// The pod with this id is down.
    PodDown,
}

impl Problem {
    /// A label of a closed set.
    pub fn as_str(self) -> &'static str {
        match self {
            Problem::RedisAway => "redis_away",
            Problem::NoKey => "no_key",
            Problem::Unreadable => "unreadable",
            Problem::Unknown => "unknown_id",
            Problem::Ambiguous => "ambiguous_id",
            Problem::PodDown => "pod_down",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Problem::RedisAway => "Redis does not answer",
            Problem::NoKey => "the key does not exist",
            Problem::Unreadable => "the key does not hold a text",
            Problem::Unknown => "no pod has this id; set `instance_id` of the pod that writes it",
            Problem::Ambiguous => {
                "several pods report this id, so that it names none; let each write an id of its own, and set it as its \
                 `instance_id`"
            }
            Problem::PodDown => "the pod that it names is down",
        })
    }
}

/// The index of the pod that the key names.
///
/// A configured id precedes a reported one: pods on one data folder all report the same
/// (`device.txt`).
pub fn named(reading: &KeyReading, pods: &[NamedPod]) -> Result<usize, Problem> {
    let value = match reading {
        KeyReading::Value(value) => str::from_utf8(value).map_err(|_| Problem::Unreadable)?,
        KeyReading::Nothing => return Err(Problem::NoKey),
        KeyReading::Unreadable => return Err(Problem::Unreadable),
        KeyReading::Away => return Err(Problem::RedisAway),
    };
    let id = canonical(value);
    let bears = |own: &Option<String>| own.as_deref().is_some_and(|own| canonical(own) == id);
    let configured = pods.iter().position(|pod| bears(&pod.configured));
    let mut reported = (0..pods.len()).filter(|pod| bears(&pods[*pod].reported));
    let pod = match (configured, reported.next(), reported.next()) {
        (Some(pod), ..) | (None, Some(pod), None) => pod,
        (None, None, _) => return Err(Problem::Unknown),
        (None, Some(_), Some(_)) => return Err(Problem::Ambiguous),
    };
    if pods[pod].is_alive { Ok(pod) } else { Err(Problem::PodDown) }
}

/// The form for comparing ids: a GUID may be written with hyphens or without, in either case.
pub fn canonical(id: &str) -> String {
    let id = id.trim().to_ascii_lowercase();
    let digits = id.replace('-', "");
    if digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()) { digits } else { id }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const X: &str = "0123456789abcdef0123456789abcdef";

    fn bearer(reported: &str, configured: &str) -> NamedPod {
        let id = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        NamedPod { reported: id(reported), configured: id(configured), is_alive: true }
    }

    fn naming(value: &str, pods: &[NamedPod]) -> Result<usize, Problem> {
        named(&KeyReading::Value(value.into()), pods)
    }

    #[test]
    fn a_reported_id_names_its_pod_in_every_form_of_a_guid() {
        let pods = [bearer("ffff", ""), bearer(X, "")];
        for value in [X, "01234567-89AB-CDEF-0123-456789ABCDEF", " 0123456789ABCDEF0123456789abcdef\n"] {
            assert_eq!(naming(value, &pods), Ok(1), "{value}");
        }
        assert_eq!(naming("FFFF", &pods), Ok(0));
        assert_eq!(naming("ff-ff", &pods), Err(Problem::Unknown));
    }

    #[test]
    fn pods_that_report_one_id_are_told_apart_by_what_is_configured() {
        assert_eq!(naming(X, &[bearer(X, ""), bearer(X, "")]), Err(Problem::Ambiguous));
        let pods = [bearer(X, "one"), bearer(X, "two")];
        assert_eq!((naming("two", &pods), naming("one", &pods)), (Ok(1), Ok(0)));
        assert_eq!(naming(X, &pods), Err(Problem::Ambiguous));
        assert_eq!(naming(X, &[bearer("y", X), bearer(X, "")]), Ok(0), "what is configured counts first");
    }

    #[test]
    fn a_pod_that_is_down_is_not_followed() {
        let pods = [NamedPod { is_alive: false, ..bearer(X, "") }, bearer("y", "")];
        assert_eq!(naming(X, &pods), Err(Problem::PodDown));
    }

    #[test]
    fn what_cannot_be_read_names_nobody() {
        let pods = [bearer(X, "")];
        assert_eq!(named(&KeyReading::Nothing, &pods), Err(Problem::NoKey));
        assert_eq!(named(&KeyReading::Away, &pods), Err(Problem::RedisAway));
        assert_eq!(named(&KeyReading::Unreadable, &pods), Err(Problem::Unreadable));
        assert_eq!(named(&KeyReading::Value(vec![0xff]), &pods), Err(Problem::Unreadable));
        assert_eq!(naming("", &[bearer("", "")]), Err(Problem::Unknown));
    }

    proptest! {
        #[test]
        fn no_value_names_a_pod_that_does_not_bear_it(
            value in prop::collection::vec(any::<u8>(), 0..40),
            ids in prop::collection::vec(("[0-9a-f-]{0,3}", "[0-9a-f-]{0,3}"), 0..5),
        ) {
            let pods: Vec<_> = ids.iter().map(|(reported, configured)| bearer(reported, configured)).collect();
            if let Ok(pod) = named(&KeyReading::Value(value.clone()), &pods) {
                let value = canonical(str::from_utf8(&value).expect("a text"));
                let own = [&pods[pod].reported, &pods[pod].configured];
                prop_assert!(own.iter().any(|id| id.as_deref().is_some_and(|id| canonical(id) == value)));
            }
        }
    }
}
