//! What pods tell their clients of SyncPlay groups, and how that is changed on its way. Pure.
//!
//! A group is made again on another pod under another id. Clients keep the id that they know, so
//! that both ids are replaced by one another in what passes.

use std::{
    fmt::Write,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde_json::Value;

use super::syntax::is_id;

/// A pod's message about a client's group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupMessage {
    /// The group's id; the empty one where the client is in none.
    pub group: String,
    pub event: GroupEvent,
}

/// What a pod says about a group.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupEvent {
    /// The client is a member of this group.
    Joined {
        name: String,
        state: GroupState,
        participants: Vec<String>,
    },
    /// The client is a member of no group.
    Left,
    UserJoined(String),
    UserLeft(String),
    Queue(Queue),
    /// What the group does now, and the request that made it do so.
    State(GroupState, String),
    Command(Command),
    Other,
}

/// What a group does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupState {
    #[default]
    Idle,
    Waiting,
    Paused,
    Playing,
}

/// What a group plays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    pub reason: String,
    /// The items' ids, in order.
    pub items: Vec<String>,
    pub index: i64,
    /// The present item's id within this queue.
    pub entry: Option<String>,
    pub position: i64,
    pub plays: bool,
    pub repeat: String,
    /// When the queue changed, by the pod's clock and as it writes it.
    pub updated: String,
}

/// What all members are to do at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    pub kind: CommandKind,
    pub position: i64,
    /// How long after its sending the command holds.
    pub ahead: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    Unpause,
    Pause,
    Seek,
    Stop,
}

/// The last bytes of a message about a group. A pod writes the type of a message last.
const UPDATE: &str = r#""MessageType":"SyncPlayGroupUpdate"}"#;
const COMMAND: &str = r#""MessageType":"SyncPlayCommand"}"#;

/// Whether a pod's message is about a group.
pub fn is_about_group(text: &str) -> bool {
    let text = text.trim_end();
    text.ends_with(UPDATE) || text.ends_with(COMMAND)
}

/// Reads a pod's message about a group.
pub fn read(text: &str) -> Option<GroupMessage> {
    if !is_about_group(text) {
        return None;
    }
    let message: Value = serde_json::from_str(text).ok()?;
    let data = &message["Data"];
    let group = group_id(data["GroupId"].as_str()?)?;
    let event = match message["MessageType"].as_str()? {
        "SyncPlayCommand" => GroupEvent::Command(command(data)?),
        _ => update(data["Type"].as_str()?, &data["Data"]),
    };
    Some(GroupMessage { group, event })
}

fn update(kind: &str, data: &Value) -> GroupEvent {
    let name = || data.as_str().unwrap_or_default().to_owned();
    match kind {
        "GroupJoined" => GroupEvent::Joined {
            name: data["GroupName"].as_str().unwrap_or_default().to_owned(),
            state: state(&data["State"]),
            participants: strings(&data["Participants"]),
        },
        "GroupLeft" | "NotInGroup" => GroupEvent::Left,
        "UserJoined" => GroupEvent::UserJoined(name()),
        "UserLeft" => GroupEvent::UserLeft(name()),
        "PlayQueue" => GroupEvent::Queue(queue(data)),
        "StateUpdate" => {
            GroupEvent::State(state(&data["State"]), data["Reason"].as_str().unwrap_or_default().to_owned())
        }
        _ => GroupEvent::Other,
    }
}

fn queue(data: &Value) -> Queue {
    let playlist = data["Playlist"].as_array().map(Vec::as_slice).unwrap_or_default();
    let index = data["PlayingItemIndex"].as_i64().unwrap_or(-1);
    let playing = usize::try_from(index).ok().and_then(|index| playlist.get(index));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Queue {
        reason: text(&data["Reason"]),
        items: playlist.iter().map(|item| text(&item["ItemId"])).collect(),
        index,
        entry: playing.map(|item| text(&item["PlaylistItemId"])),
        position: data["StartPositionTicks"].as_i64().unwrap_or_default(),
        plays: data["IsPlaying"].as_bool().unwrap_or_default(),
        repeat: text(&data["RepeatMode"]),
        updated: text(&data["LastUpdate"]),
    }
}

fn command(data: &Value) -> Option<Command> {
    let kind = match data["Command"].as_str()? {
        "Unpause" => CommandKind::Unpause,
        "Pause" => CommandKind::Pause,
        "Seek" => CommandKind::Seek,
        _ => CommandKind::Stop,
    };
    let at = |name: &str| moment(data[name].as_str()?);
    let ahead = at("When").zip(at("EmittedAt")).and_then(|(when, sent)| when.duration_since(sent).ok());
    let position = data["PositionTicks"].as_i64().unwrap_or_default();
    Some(Command { kind, position, ahead: ahead.unwrap_or_default() })
}

fn state(value: &Value) -> GroupState {
    match value.as_str() {
        Some("Waiting") => GroupState::Waiting,
        Some("Paused") => GroupState::Paused,
        Some("Playing") => GroupState::Playing,
        _ => GroupState::Idle,
    }
}

fn strings(values: &Value) -> Vec<String> {
    values.as_array().into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// A moment as a pod writes it.
pub fn moment(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

/// A moment as a pod reads it. `None` if no pod can write it.
pub fn written(moment: SystemTime) -> Option<String> {
    let mut text = String::new();
    write!(text, "{}", humantime::format_rfc3339_micros(moment)).ok()?;
    Some(text)
}

/// The id of a group as a pod or Redis gives it, in the form that jellypin keeps. `None` if it is
/// none: such a text could lead anywhere in a path, and stand anywhere in a message.
pub fn group_id(id: &str) -> Option<String> {
    is_id(id).then(|| plain(id))
}

/// A group's id in the form that jellypin keeps: 32 small digits.
pub fn plain(id: &str) -> String {
    id.chars().filter(|char| *char != '-').map(|char| char.to_ascii_lowercase()).collect()
}

/// The same with dashes.
pub fn dashed(plain: &str) -> String {
    match plain.len() {
        32 if plain.is_ascii() => {
            format!("{}-{}-{}-{}-{}", &plain[..8], &plain[8..12], &plain[12..16], &plain[16..20], &plain[20..])
        }
        _ => plain.to_owned(),
    }
}

/// The text with one group's id in place of the other's.
pub fn with_group(text: &str, id: &str, by: &str) -> String {
    text.replace(id, by).replace(&dashed(id), &dashed(by))
}

/// A queue that the client plays already, told so that its player goes on: it only learns the new
/// ids. As a new playlist the film would begin again.
pub fn as_queue_that_plays(text: &str) -> String {
    text.replacen(r#""Reason":"NewPlaylist""#, r#""Reason":"Queue""#, 1)
}

/// The message that a pod sends a member whose membership has ended. Recorded: `GroupLeft`, with
/// the group's id, and that id with dashes.
pub fn group_left(group: &str) -> String {
    let group = plain(group);
    let data = serde_json::json!({"GroupId": group, "Data": dashed(&group), "Type": "GroupLeft"});
    serde_json::json!({"MessageType": "SyncPlayGroupUpdate", "MessageId": group, "Data": data}).to_string()
}

/// Whether a member says that the others need not wait for it.
pub fn ignores_wait(body: &[u8]) -> Option<bool> {
    property(body, "IgnoreWait")?.as_bool()
}

/// The group that a client asks to join, as it writes it.
pub fn group_to_join(body: &[u8]) -> Option<String> {
    property(body, "GroupId")?.as_str().map(str::to_owned)
}

fn property(body: &[u8], name: &str) -> Option<Value> {
    let json: Value = serde_json::from_slice(body).ok()?;
    json.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
}

/// The lists of several pods as one. `None` if the first is none; others that are none are left out.
pub fn merged_lists(own: &[u8], others: &[Bytes]) -> Option<Bytes> {
    let mut rows = vec![rows_of(own)?];
    rows.extend(others.iter().filter_map(|list| rows_of(list)));
    rows.retain(|rows| !rows.is_empty());
    Some([b"[".as_slice(), &rows.join(b",".as_slice()), b"]"].concat().into())
}

/// What stands between the brackets of a list.
fn rows_of(list: &[u8]) -> Option<&[u8]> {
    serde_json::from_slice::<Vec<Value>>(list).ok()?;
    list.trim_ascii().strip_prefix(b"[")?.strip_suffix(b"]").map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "822fe8d1854041a9bbb54c051f96824d";

    fn event(kind: &str, data: &str) -> Option<GroupEvent> {
        let text = format!(
            r#"{{"MessageId":"1","Data":{{"GroupId":"{ID}","Data":{data},"Type":"{kind}"}},"MessageType":"SyncPlayGroupUpdate"}}"#
        );
        let message = read(&text)?;
        assert_eq!(message.group, ID);
        Some(message.event)
    }

    #[test]
    fn only_an_id_names_a_group_and_only_a_moment_that_pods_write_is_written() {
        let dashed = "822FE8D1-8540-41A9-BBB5-4C051F96824D";
        assert_eq!((group_id(dashed).as_deref(), group_id(ID).as_deref()), (Some(ID), Some(ID)));
        for wrong in ["", "a", "../../Users", &ID[1..], &format!("{ID}0"), "822fe8d1-8540-41a9bbb5-4c051f96824d/"] {
            assert_eq!(group_id(wrong), None, "{wrong}");
            let text = format!(r#"{{"Data":{{"GroupId":"{wrong}","Data":"","Type":"GroupLeft"}},{}"#, &UPDATE);
            assert_eq!(read(&text), None, "{wrong}");
        }
        let last = moment("9999-12-31T23:59:59.9Z").expect("a moment");
        assert_eq!(written(last).as_deref(), Some("9999-12-31T23:59:59.900000Z"));
        assert_eq!(written(last + Duration::from_secs(1)), None);
    }

    #[test]
    fn lists_of_pods_are_merged_as_they_are_written() {
        let merged = |own: &str, others: &[&'static str]| {
            let others: Vec<Bytes> = others.iter().map(|list| Bytes::from_static(list.as_bytes())).collect();
            merged_lists(own.as_bytes(), &others).map(|list| String::from_utf8_lossy(&list).into_owned())
        };
        let one = r#"[{"GroupId":"1","State":"Idle"}]"#;
        assert_eq!(merged("[]", &[one]).as_deref(), Some(one));
        assert_eq!(merged(one, &["[ ]", "no list", r#"{"GroupId":"2"}"#]).as_deref(), Some(one));
        let two = r#"[{"GroupId":"1","State":"Idle"},{"GroupId":"2"},{"GroupId":"3"}]"#;
        assert_eq!(merged(one, &[" [{\"GroupId\":\"2\"},{\"GroupId\":\"3\"}]\n"]).as_deref(), Some(two));
        assert_eq!(merged("oops", &[one]), None);
    }

    #[test]
    fn updates_are_read_as_pods_write_them() {
        let info = r#"{"GroupId":"x","GroupName":"evening","State":"Paused","Participants":["alice","bob"]}"#;
        let joined = GroupEvent::Joined {
            name: "evening".into(),
            state: GroupState::Paused,
            participants: vec!["alice".into(), "bob".into()],
        };
        assert_eq!(event("GroupJoined", info), Some(joined));
        assert_eq!(event("UserJoined", "\"bob\""), Some(GroupEvent::UserJoined("bob".into())));
        assert_eq!(event("UserLeft", "\"bob\""), Some(GroupEvent::UserLeft("bob".into())));
        assert_eq!(
            (event("GroupLeft", "\"x\""), event("NotInGroup", "\"\"")),
            (Some(GroupEvent::Left), Some(GroupEvent::Left))
        );
        assert_eq!(event("LibraryAccessDenied", "\"\""), Some(GroupEvent::Other));
        let state = GroupEvent::State(GroupState::Waiting, "Seek".into());
        assert_eq!(event("StateUpdate", r#"{"State":"Waiting","Reason":"Seek"}"#), Some(state));
        let queue = r#"{"Reason":"NewPlaylist","LastUpdate":"2026-11-30T10:00:00.5Z","Playlist":[{"ItemId":"i","PlaylistItemId":"p"},{"ItemId":"j","PlaylistItemId":"q"}],"PlayingItemIndex":1,"StartPositionTicks":7,"IsPlaying":true,"ShuffleMode":"Sorted","RepeatMode":"RepeatAll"}"#;
        let expected = Queue {
            reason: "NewPlaylist".into(),
            items: vec!["i".into(), "j".into()],
            index: 1,
            entry: Some("q".into()),
            position: 7,
            plays: true,
            repeat: "RepeatAll".into(),
            updated: "2026-11-30T10:00:00.5Z".into(),
        };
        assert_eq!(event("PlayQueue", queue), Some(GroupEvent::Queue(expected)));
        assert_eq!(read(r#"{"MessageType":"Chat","Data":"GroupJoined SyncPlayGroupUpdate"}"#), None);
    }

    #[test]
    fn a_command_says_how_far_it_lies_ahead() {
        let text = format!(
            r#"{{"MessageId":"1","Data":{{"GroupId":"{ID}","PlaylistItemId":"p","When":"2026-11-30T10:00:01.5000000Z","PositionTicks":9,"Command":"Unpause","EmittedAt":"2026-11-30T10:00:01.0000000Z"}},"MessageType":"SyncPlayCommand"}}"#
        );
        let command = Command { kind: CommandKind::Unpause, position: 9, ahead: Duration::from_millis(500) };
        assert_eq!(read(&text), Some(GroupMessage { group: ID.into(), event: GroupEvent::Command(command) }));
    }

    #[test]
    fn a_groups_ids_are_replaced_in_either_form() {
        let other = "00000000000000000000000000000abc";
        let left = group_left(ID);
        assert!(left.contains("822fe8d1-8540-41a9-bbb5-4c051f96824d") && left.contains(ID), "{left}");
        let left = with_group(&left, ID, other);
        assert!(left.contains("00000000-0000-0000-0000-000000000abc") && left.contains(other), "{left}");
        assert!(!left.contains(ID) && !left.contains("822fe8d1-"), "{left}");
        assert_eq!(plain("822FE8D1-8540-41A9-BBB5-4C051F96824D"), ID);
        assert_eq!(as_queue_that_plays(r#"{"Reason":"NewPlaylist","A":1}"#), r#"{"Reason":"Queue","A":1}"#);
        assert_eq!((ignores_wait(br#"{"ignoreWait":true}"#), ignores_wait(b"{}")), (Some(true), None));
    }
}
