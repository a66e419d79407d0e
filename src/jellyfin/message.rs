//! What Jellyfin's WebSocket messages mean, as far as the proxy needs to know.

use std::time::Duration;

use serde_json::Value;

/// In bytes. No message that jellypin looks for is longer.
const LONGEST: usize = 4096;

/// What a client's message requests of its pod for as long as the socket lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// Begins a series of messages. A later one of the same name replaces it.
    Start(Subject),
    /// Ends the series.
    Stop(Subject),
}

/// What a series of messages can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Sessions,
    ActivityLogEntry,
    ScheduledTasksInfo,
}

/// The subscription in a client's message, if there is one.
pub fn subscription(text: &str) -> Option<Subscription> {
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

/// Whether a pod announces its shutdown or restart, which does not concern a client that moves on.
pub fn is_shutdown_notice(text: &str) -> bool {
    let kind = kind(text, &["ServerShuttingDown", "ServerRestarting"]);
    kind.is_some_and(|kind| kind == "ServerShuttingDown" || kind == "ServerRestarting")
}

/// Whether a pod's message is a list of sessions. A pod writes the type of a message last.
pub fn is_session_list(text: &str) -> bool {
    text.trim_end().ends_with(r#""MessageType":"Sessions"}"#)
}

/// Whether a pod's message begins as a list of sessions does.
pub fn begins_session_list(text: &[u8]) -> bool {
    const LONGEST_HEAD: usize = 256;
    let head = &text[..text.len().min(LONGEST_HEAD)];
    memchr::memmem::find(head, br#""Data":[{"PlayState":{"#).is_some()
}

/// The message with a list of sessions, as a pod writes it.
pub fn session_list(id: u128, list: &str) -> String {
    format!(r#"{{"MessageId":"{id:032x}","Data":{list},"MessageType":"Sessions"}}"#)
}

/// Whether a pod's message says that the activity log has a new entry.
pub fn is_activity(text: &str) -> bool {
    text.trim_end().ends_with(r#""MessageType":"ActivityLogEntry"}"#)
}

/// The message that the activity log has a new entry, as a pod writes it: without the entry.
pub fn activity(id: u128) -> String {
    format!(r#"{{"MessageId":"{id:032x}","Data":[],"MessageType":"ActivityLogEntry"}}"#)
}

/// Whether a pod's message is a list of tasks.
pub fn is_task_list(text: &str) -> bool {
    text.trim_end().ends_with(r#""MessageType":"ScheduledTasksInfo"}"#)
}

/// Whether a pod's message begins as a list of tasks does.
pub fn begins_task_list(text: &[u8]) -> bool {
    const LONGEST_HEAD: usize = 512;
    let head = &text[..text.len().min(LONGEST_HEAD)];
    let has = |part: &[u8]| memchr::memmem::find(head, part).is_some();
    has(br#""Data":[{"Name":""#) && has(br#"","State":""#)
}

/// The message with a list of tasks, as a pod writes it.
pub fn task_list(id: u128, list: &str) -> String {
    format!(r#"{{"MessageId":"{id:032x}","Data":{list},"MessageType":"ScheduledTasksInfo"}}"#)
}

/// How often a client wants the series that its message begins: `Data` is the first delay and then
/// the interval, in milliseconds (`BasePeriodicWebSocketListener.Start`).
pub fn interval(text: &str) -> Option<Duration> {
    let message: Value = serde_json::from_str(text).ok()?;
    let (_, interval) = message.get("Data")?.as_str()?.split_once(',')?;
    interval.trim().parse().ok().map(Duration::from_millis)
}

/// Whether a pod's message is another client's remote control.
pub fn is_remote_control(text: &str) -> bool {
    let kind = text.rsplit_once(r#""MessageType":""#).and_then(|(_, kind)| kind.trim_end().strip_suffix("\"}"));
    matches!(kind, Some("GeneralCommand" | "Play" | "Playstate"))
}

/// The type of a short message with one of these texts. That search spares parsing most messages.
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
    fn lists_of_sessions_are_told_by_their_end_or_their_beginning() {
        let list = session_list(0xab, r#"[{"PlayState":{}}]"#);
        assert_eq!(
            list,
            r#"{"MessageId":"000000000000000000000000000000ab","Data":[{"PlayState":{}}],"MessageType":"Sessions"}"#
        );
        assert!(is_session_list(&list) && begins_session_list(list.as_bytes()));
        assert!(is_session_list(&session_list(1, "[]")));
        let other = r#"{"MessageId":"1","Data":"Sessions","MessageType":"Chat"}"#;
        assert!(!is_session_list(other) && !begins_session_list(other.as_bytes()));
        let start = |data: &str| interval(&format!(r#"{{"MessageType":"SessionsStart","Data":{data}}}"#));
        assert_eq!(start("\"0,1500\""), Some(Duration::from_millis(1500)));
        assert_eq!((start("\"0\""), start("3"), start("\"0,x\"")), (None, None, None));
    }

    #[test]
    fn news_of_the_log_and_of_tasks_are_told_from_what_only_speaks_of_them() {
        assert!(is_activity(&activity(1)) && !is_activity(&task_list(1, "[]")));
        let list = task_list(2, r#"[{"Name":"Scan","State":"Idle","Id":"7"}]"#);
        assert!(is_task_list(&list) && begins_task_list(list.as_bytes()) && !begins_session_list(list.as_bytes()));
        let other = r#"{"MessageId":"1","Data":"ScheduledTasksInfo","MessageType":"Chat"}"#;
        assert!(!is_task_list(other) && !is_activity(other) && !begins_task_list(other.as_bytes()));
        let sessions = session_list(3, r#"[{"PlayState":{},"Name":"State"}]"#);
        assert!(!begins_task_list(sessions.as_bytes()));
    }

    #[test]
    fn remote_control_is_told_from_what_only_speaks_of_it() {
        for kind in ["GeneralCommand", "Play", "Playstate"] {
            assert!(is_remote_control(&format!(r#"{{"MessageId":"1","Data":{{}},"MessageType":"{kind}"}}"#)));
        }
        assert!(!is_remote_control(r#"{"MessageType":"UserDataChanged","Data":{"Name":"Play"}}"#));
        assert!(!is_remote_control(r#"{"MessageType":"PlayOn"}"#) && !is_remote_control(""));
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
            assert_eq!(subscription(text), expected, "{text}");
        }
        assert!(is_shutdown_notice(r#"{"MessageId":"1","MessageType":"ServerShuttingDown"}"#));
        assert!(is_shutdown_notice(r#"{"MessageType":"ServerRestarting"}"#));
        assert!(!is_shutdown_notice(r#"{"MessageType":"Chat","Data":"ServerShuttingDown"}"#));
    }
}
