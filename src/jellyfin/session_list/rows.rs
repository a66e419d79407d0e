//! The rows of a list of sessions: each stays as the pod wrote it, and a few fields are read.

use std::ops::Range;

use actson::{JsonEvent, JsonParser, feeder::SliceJsonFeeder};
use bytes::{BufMut, Bytes, BytesMut};

use super::{PROXY_DEVICE, is_empty_id};
use crate::jellyfin::syntax::{plain_id, sortable};

/// What hides the hardware that transcodes (`HardwareAccelerationType.none`).
const NO_HARDWARE: &[u8] = b"\"none\"";

/// One session, as its pod wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    json: Bytes,
    /// The session's id, in lower case.
    pub id: String,
    /// The user's id, without dashes; empty for an API key.
    pub user: String,
    /// Users who watch too, added by `POST /Sessions/{id}/User/{userId}`.
    others: Vec<String>,
    /// The device's id.
    pub device: String,
    /// `LastActivityDate`, in a form whose order is that of time.
    pub(super) active: String,
    /// `Capabilities.SupportsPersistentIdentifier`.
    pub(super) has_persistent_id: bool,
    /// Where the row names the hardware that transcodes, quotes included.
    hardware: Option<Range<usize>>,
}

impl Row {
    /// When it was last active; the order is that of time.
    pub fn last_active(&self) -> &str {
        &self.active
    }

    pub(super) fn belongs_to_nobody(&self) -> bool {
        self.user.is_empty()
    }

    /// `SessionInfo.ContainsUser`.
    pub(super) fn contains(&self, user: &str) -> bool {
        self.user == user || self.others.iter().any(|other| other == user)
    }

    pub(super) fn is_of_proxy(&self) -> bool {
        self.belongs_to_nobody() && self.device == PROXY_DEVICE
    }

    pub(super) fn write(&self, to: &mut BytesMut, hides_hardware: bool) {
        match self.hardware.clone().filter(|_| hides_hardware) {
            Some(hardware) => {
                to.put_slice(&self.json[..hardware.start]);
                to.put_slice(NO_HARDWARE);
                to.put_slice(&self.json[hardware.end..]);
            }
            None => to.put_slice(&self.json),
        }
    }
}

/// Reads a list of sessions, in PascalCase or camelCase. `None` if it is none.
pub fn read(list: &Bytes) -> Option<Vec<Row>> {
    let mut parser = JsonParser::new(SliceJsonFeeder::new(list));
    let mut reader = Reader { list, ..Reader::default() };
    loop {
        let event = match parser.next_event() {
            Ok(Some(event)) => event,
            Ok(None) => return reader.has_ended.then_some(reader.rows),
            Err(_) => return None,
        };
        let text = match event {
            JsonEvent::FieldName | JsonEvent::ValueString => parser.current_str().ok()?.to_owned(),
            JsonEvent::NeedMoreInput => return None,
            _ => String::new(),
        };
        reader.meet(event, text, parser.parsed_bytes())?;
    }
}

/// The names that matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Key {
    Id,
    UserId,
    DeviceId,
    LastActivityDate,
    AdditionalUsers,
    Capabilities,
    SupportsPersistentIdentifier,
    TranscodingInfo,
    HardwareAccelerationType,
    #[default]
    Other,
}

impl Key {
    fn of(text: &str) -> Key {
        const NAMES: [(&str, Key); 9] = [
            ("Id", Key::Id),
            ("UserId", Key::UserId),
            ("DeviceId", Key::DeviceId),
            ("LastActivityDate", Key::LastActivityDate),
            ("AdditionalUsers", Key::AdditionalUsers),
            ("Capabilities", Key::Capabilities),
            ("SupportsPersistentIdentifier", Key::SupportsPersistentIdentifier),
            ("TranscodingInfo", Key::TranscodingInfo),
            ("HardwareAccelerationType", Key::HardwareAccelerationType),
        ];
        let is = |name: &str| name.eq_ignore_ascii_case(text) && name[1..] == text[1..];
        NAMES.into_iter().find(|(name, _)| is(name)).map(|(_, key)| key).unwrap_or_default()
    }
}

#[derive(Default)]
struct Reader<'a> {
    list: &'a [u8],
    rows: Vec<Row>,
    /// The row in progress, and where it begins.
    row: Option<(Row, usize)>,
    /// The names that lead to the current value. Elements of an array have none.
    path: Vec<Key>,
    field: Key,
    has_ended: bool,
}

impl Reader<'_> {
    /// Takes one event, which ends at `end`. `None` if the text is no list of sessions.
    fn meet(&mut self, event: JsonEvent, text: String, end: usize) -> Option<()> {
        match event {
            JsonEvent::FieldName => self.field = Key::of(&text),
            JsonEvent::StartArray => self.path.push(std::mem::take(&mut self.field)),
            JsonEvent::StartObject => {
                match self.path.len() {
                    0 => return None,
                    1 => self.row = Some((empty(), end.checked_sub(1)?)),
                    _ => {}
                }
                self.path.push(std::mem::take(&mut self.field));
            }
            JsonEvent::EndArray | JsonEvent::EndObject => {
                self.path.pop();
                match self.path.len() {
                    0 => self.has_ended = true,
                    1 => self.end_row(end)?,
                    _ => {}
                }
            }
            // The list, or an element of it, is no object.
            _ if self.path.len() < 2 => return None,
            JsonEvent::ValueString => self.learn(text, end),
            JsonEvent::ValueTrue | JsonEvent::ValueFalse => self.learn_flag(event == JsonEvent::ValueTrue),
            _ => {}
        }
        Some(())
    }

    fn end_row(&mut self, end: usize) -> Option<()> {
        let (mut row, begin) = self.row.take()?;
        row.json = Bytes::copy_from_slice(self.list.get(begin..end)?);
        row.hardware = row.hardware.map(|hardware| hardware.start - begin..hardware.end - begin);
        if row.id.is_empty() {
            return None;
        }
        self.rows.push(row);
        Some(())
    }

    fn learn(&mut self, text: String, end: usize) {
        let Some((row, _)) = &mut self.row else { return };
        match (&self.path[..], self.field) {
            ([_, _], Key::Id) => row.id = text.to_ascii_lowercase(),
            ([_, _], Key::UserId) if !is_empty_id(&text) => row.user = plain_id(&text),
            ([_, _], Key::DeviceId) => row.device = text,
            ([_, _], Key::LastActivityDate) => row.active = sortable(&text),
            ([_, _, Key::AdditionalUsers, _], Key::UserId) => row.others.push(plain_id(&text)),
            // The names of the enumeration need no escapes.
            ([_, _, Key::TranscodingInfo], Key::HardwareAccelerationType) => {
                row.hardware = end.checked_sub(text.len() + 2).map(|start| start..end);
            }
            _ => {}
        }
    }

    fn learn_flag(&mut self, is: bool) {
        let Some((row, _)) = &mut self.row else { return };
        if let ([_, _, Key::Capabilities], Key::SupportsPersistentIdentifier) = (&self.path[..], self.field) {
            row.has_persistent_id = is;
        }
    }
}

fn empty() -> Row {
    Row {
        json: Bytes::new(),
        id: String::new(),
        user: String::new(),
        others: Vec::new(),
        device: String::new(),
        active: String::new(),
        has_persistent_id: true,
        hardware: None,
    }
}
