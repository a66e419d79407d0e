//! A JSON answer, read event by event.

use actson::{JsonEvent, JsonParser, feeder::PushJsonFeeder};

use super::{Learned, MOST_STREAMS};
use crate::jellyfin::endpoint::live_file_in;

/// Bytes without an event after which the reader gives up: no value it looks for is that long.
const LONGEST_VALUE: usize = 256 * 1024;

pub(super) struct Reader {
    parser: JsonParser<PushJsonFeeder>,
    pub(super) learned: Learned,
    /// The keys that lead to the current value. Elements of an array have none.
    path: Vec<Key>,
    /// The field that the next value belongs to.
    field: Key,
    silent: usize,
}

/// The names that matter, in PascalCase or camelCase, as the client requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Key {
    AccessToken,
    SessionInfo,
    UserId,
    Client,
    DeviceName,
    DeviceId,
    ApplicationVersion,
    PlaySessionId,
    LiveStreamId,
    Path,
    Code,
    Secret,
    #[default]
    Other,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader {
            parser: JsonParser::new(PushJsonFeeder::new()),
            learned: Learned::default(),
            path: Vec::new(),
            field: Key::Other,
            silent: 0,
        }
    }
}

impl Reader {
    /// Reads the next piece; returns whether there may be more to learn.
    pub(super) fn read(&mut self, mut piece: &[u8]) -> bool {
        loop {
            match self.parser.next_event() {
                Ok(Some(JsonEvent::NeedMoreInput)) if piece.is_empty() => return true,
                Ok(Some(JsonEvent::NeedMoreInput)) => {
                    let taken = self.parser.feeder.push_bytes(piece);
                    piece = &piece[taken..];
                    self.silent += taken;
                    if self.silent > LONGEST_VALUE {
                        return false;
                    }
                }
                Ok(Some(event)) => {
                    self.silent = 0;
                    self.meet(event);
                }
                Ok(None) | Err(_) => return false,
            }
        }
    }

    fn meet(&mut self, event: JsonEvent) {
        match event {
            JsonEvent::FieldName => self.field = self.parser.current_str().map(Key::of).unwrap_or_default(),
            JsonEvent::StartObject | JsonEvent::StartArray => self.path.push(std::mem::take(&mut self.field)),
            JsonEvent::EndObject | JsonEvent::EndArray => drop(self.path.pop()),
            JsonEvent::ValueString => self.learn(),
            _ => {}
        }
    }

    fn learn(&mut self) {
        let Ok(value) = self.parser.current_str() else { return };
        if value.is_empty() {
            return;
        }
        let learned = &mut self.learned;
        match (&self.path[..], self.field) {
            ([_], Key::AccessToken) => learned.token = Some(value.to_owned()),
            ([_], Key::Code | Key::Secret) => learned.quick_connect.push(value.to_owned()),
            ([_], Key::PlaySessionId) => learned.play_session = Some(value.to_owned()),
            ([_, Key::SessionInfo], field) => match field {
                Key::UserId => learned.user = Some(value.to_owned()),
                Key::Client => learned.client = Some(value.to_owned()),
                Key::DeviceName => learned.device_name = Some(value.to_owned()),
                Key::DeviceId => learned.device = Some(value.to_owned()),
                Key::ApplicationVersion => learned.version = Some(value.to_owned()),
                _ => {}
            },
            (_, Key::LiveStreamId) if learned.live_streams.len() < MOST_STREAMS => {
                learned.live_streams.push(value.to_owned());
            }
            (_, Key::Path) if learned.live_files.len() < MOST_STREAMS => {
                learned.live_files.extend(live_file_in(value).map(str::to_owned));
            }
            _ => {}
        }
    }
}

impl Key {
    fn of(text: &str) -> Key {
        let names = [
            ("AccessToken", Key::AccessToken),
            ("SessionInfo", Key::SessionInfo),
            ("UserId", Key::UserId),
            ("Client", Key::Client),
            ("DeviceName", Key::DeviceName),
            ("DeviceId", Key::DeviceId),
            ("ApplicationVersion", Key::ApplicationVersion),
            ("PlaySessionId", Key::PlaySessionId),
            ("LiveStreamId", Key::LiveStreamId),
            ("Path", Key::Path),
            ("Code", Key::Code),
            ("Secret", Key::Secret),
        ];
        let same = |name: &str| name.eq_ignore_ascii_case(text) && name[1..] == text[1..];
        names.into_iter().find(|(name, _)| same(name)).map(|(_, name)| name).unwrap_or_default()
    }
}
