//! Messages of sockets, and files of configuration.

use std::path::Path;

use jellypin::{
    config::{self, ProcessEnvironment},
    jellyfin::{message, sync_play},
};
use proptest::{collection::vec, prelude::*, sample::select};

use super::budget::fuzz;

/// Pieces of which messages are made.
#[rustfmt::skip]
const MESSAGE: [&str; 34] = [
    "{", "}", "[", "]", ",", ":", "\"", "\\", "\"MessageType\":", "\"MessageType\":\"Sessions\"}", "\"SessionsStart\"", "\"SessionsStop\"",
    "\"ScheduledTasksInfoStart\"", "\"ServerShuttingDown\"", "\"ServerRestarting\"", "\"Data\":[{\"PlayState\":{", "\"Data\":\"0,1500\"", "\"Data\":{",
    "\"SyncPlayCommand\"", "\"SyncPlayGroupUpdate\"", "\"GroupId\":\"0123456789abcdef0123456789abcdef\"", "\"Type\":\"GroupJoined\"", "\"Type\":\"StateUpdate\"",
    "\"State\":\"Playing\"", "\"When\":\"2026-01-01T00:00:00.0000000Z\"", "\"EmittedAt\":\"x\"", "\"PositionTicks\":-1", "\"PlayState\":null", "\"GeneralCommand\"}",
    "ä", " ", "null", "1e400", "\"Play\"",
];

fn whole() -> impl Strategy<Value = String> {
    let kind = select(
        &["SessionsStart", "Sessions", "ServerRestarting", "SyncPlayCommand", "SyncPlayGroupUpdate", "Play", "x"][..],
    );
    (kind, vec(select(&MESSAGE[..]), 0..12))
        .prop_map(|(kind, data)| format!(r#"{{"Data":{},"MessageType":"{kind}"}}"#, data.concat()))
}

#[test]
fn a_message_is_read_without_harm_and_only_as_what_it_is() {
    let message =
        prop_oneof![vec(select(&MESSAGE[..]), 0..20).prop_map(|pieces| pieces.concat()), whole(), "\\PC{0,40}"];
    fuzz("message", message, |text| {
        let is_json = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        prop_assert!(is_json || message::subscription(&text).is_none(), "a subscription: {}", text);
        prop_assert!(is_json || !message::is_shutdown_notice(&text), "a notice: {}", text);
        let _ =
            (message::is_session_list(&text), message::begins_session_list(text.as_bytes()), message::interval(&text));
        let _ = (message::is_activity(&text), message::is_task_list(&text), message::begins_task_list(text.as_bytes()));
        let _ = (
            message::is_remote_control(&text),
            sync_play::is_about_group(&text),
            sync_play::read(&text),
            sync_play::moment(&text),
        );
        let _ = (sync_play::ignores_wait(text.as_bytes()), sync_play::group_to_join(text.as_bytes()));
        let _ =
            (sync_play::with_group(&text, "g", "h"), sync_play::as_queue_that_plays(&text), sync_play::dashed(&text));
        Ok(())
    });
}

#[test]
fn a_configuration_is_read_or_refused() {
    let example = include_str!("../../config/jellypin.toml");
    let lines: Vec<&str> = example.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).collect();
    let edits = vec((any::<prop::sample::Index>(), select(lines), "[a-z0-9\"'=\\[\\]{}.,#ä -]{0,4}"), 0..8);
    fuzz("config", edits, |edits| {
        let text: String = edits
            .iter()
            .map(|(at, line, edit)| {
                let mut line: Vec<char> = line.chars().collect();
                let at = at.index(line.len() + 1);
                line.splice(at..at, edit.chars());
                String::from_iter(line) + "\n"
            })
            .collect();
        if let Err(error) = config::parse(&text, Path::new("fuzz.toml"), &ProcessEnvironment) {
            prop_assert!(!error.to_string().is_empty());
        }
        Ok(())
    });
}
