//! What Jellyfin's socket messages mean, as far as the proxy has to know.

use serde_json::Value;

/// Longer messages are none of those that are looked for, in bytes.
const LONGEST: usize = 4096;

/// What a client's message asks of its pod for as long as the socket lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// To be told again and again; a later one of the same name takes its place.
    Start(Subject),
    /// To be told no more.
    Stop(Subject),
}

/// What a client can be told again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Sessions,
    ActivityLogEntry,
    ScheduledTasksInfo,
}

/// The wish in a client's message, if there is one.
pub fn wish(text: &str) -> Option<Subscription> {
    let kind = kind(text, &["Start\"", "Stop\""])?;
    let (name, is_start) = match kind.strip_suffix("Start") {
        Some(name) => (name, true),
        None => (kind.strip_suffix("Stop")?, false),
    };
    let subject = match name {
        "Sessions" => Subject::Sessions,
        "ActivityLogEntry" => Subject::ActivityLogEntry,
        "ScheduledTasksInfo" => Subject::ScheduledTasksInfo,
        _ => return None,
    };
    Some(if is_start { Subscription::Start(subject) } else { Subscription::Stop(subject) })
}

/// Whether a pod says that it ends or begins anew: of no interest to a client that goes on with another.
pub fn is_shutdown_notice(text: &str) -> bool {
    let kind = kind(text, &["ServerShuttingDown", "ServerRestarting"]);
    kind.is_some_and(|kind| kind == "ServerShuttingDown" || kind == "ServerRestarting")
}

/// What a pod says of its client's SyncPlay group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// The client is a member of this one.
    Joined(String),
    /// It is a member of none.
    Left,
}

/// What a pod's message says of its client's group, if it says anything.
pub fn group(text: &str) -> Option<Group> {
    let says = |part: &str| memchr::memmem::find(text.as_bytes(), part.as_bytes()).is_some();
    if !says("SyncPlayGroupUpdate") || !(says("GroupJoined") || says("GroupLeft") || says("NotInGroup")) {
        return None;
    }
    let message: Value = serde_json::from_str(text).ok()?;
    if message["MessageType"] != "SyncPlayGroupUpdate" {
        return None;
    }
    let data = &message["Data"];
    match data["Type"].as_str()? {
        "GroupJoined" => Some(Group::Joined(data["GroupId"].as_str()?.to_owned())),
        "GroupLeft" | "NotInGroup" => Some(Group::Left),
        _ => None,
    }
}

/// What a pod tells a member whose membership has ended (recorded: `GroupLeft`, with the group's id, and that with dashes).
pub fn group_left(group: &str) -> String {
    let plain: String = group.chars().filter(char::is_ascii_alphanumeric).collect();
    let dashed = match plain.len() {
        32 => format!("{}-{}-{}-{}-{}", &plain[..8], &plain[8..12], &plain[12..16], &plain[16..20], &plain[20..]),
        _ => plain.clone(),
    };
    let data = serde_json::json!({"GroupId": plain, "Data": dashed, "Type": "GroupLeft"});
    serde_json::json!({"MessageType": "SyncPlayGroupUpdate", "MessageId": plain, "Data": data}).to_string()
}

/// The type of a short message in which one of these texts stands. Most messages are told by that alone.
fn kind(text: &str, one_of: &[&str]) -> Option<String> {
    let may_be = text.len() <= LONGEST
        && one_of.iter().any(|part| memchr::memmem::find(text.as_bytes(), part.as_bytes()).is_some());
    if !may_be {
        return None;
    }
    let message: Value = serde_json::from_str(text).ok()?;
    Some(message.get("MessageType")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_of_a_group_is_read_and_ended_as_a_pod_ends_it() {
        let id = "822fe8d1854041a9bbb54c051f96824d";
        let joined = format!(
            r#"{{"MessageId":"1","Data":{{"GroupId":"{id}","Data":{{"GroupName":"evening"}},"Type":"GroupJoined"}},"MessageType":"SyncPlayGroupUpdate"}}"#
        );
        assert_eq!(group(&joined), Some(Group::Joined(id.to_owned())));
        assert_eq!(group(&group_left(id)), Some(Group::Left));
        assert!(group_left(id).contains("822fe8d1-8540-41a9-bbb5-4c051f96824d"));
        assert_eq!(group(r#"{"MessageType":"Chat","Data":"SyncPlayGroupUpdate GroupJoined"}"#), None);
        let other = joined.replace("GroupJoined", "UserJoined");
        assert_eq!(group(&other), None);
    }

    #[test]
    fn wishes_and_farewells_are_told_from_what_only_speaks_of_them() {
        let rows = [
            (r#"{"MessageType":"SessionsStart","Data":"0,1500"}"#, Some(Subscription::Start(Subject::Sessions))),
            (r#"{"MessageType":"SessionsStop"}"#, Some(Subscription::Stop(Subject::Sessions))),
            (
                r#"{"MessageType":"ActivityLogEntryStart","Data":"0,1500"}"#,
                Some(Subscription::Start(Subject::ActivityLogEntry)),
            ),
            (
                r#"{"Data":"","MessageType":"ScheduledTasksInfoStart"}"#,
                Some(Subscription::Start(Subject::ScheduledTasksInfo)),
            ),
            (r#"{"MessageType":"KeepAlive"}"#, None),
            (r#"{"MessageType":"OtherStart"}"#, None),
            (r#"{"MessageType":"Chat","Data":"SessionsStart\"}"}"#, None),
            ("no JSON, SessionsStart\"", None),
        ];
        for (text, expected) in rows {
            assert_eq!(wish(text), expected, "{text}");
        }
        assert!(is_shutdown_notice(r#"{"MessageId":"1","MessageType":"ServerShuttingDown"}"#));
        assert!(is_shutdown_notice(r#"{"MessageType":"ServerRestarting"}"#));
        assert!(!is_shutdown_notice(r#"{"MessageType":"Chat","Data":"ServerShuttingDown"}"#));
    }
}
