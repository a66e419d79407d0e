//! The devices of several pods as one server would list them. Pure.
//!
//! A pod lists the devices that signed in on it, and those that it read in the database at its start
//! (`DeviceManager.GetDevicesForUser`). Only administrators get the list, and they get all of it.

use std::{cmp::Reverse, collections::HashSet};

use actson::{JsonEvent, JsonParser, feeder::SliceJsonFeeder};
use bytes::{BufMut, Bytes, BytesMut};

use super::syntax::{plain_id, sortable};

/// A pod's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceList {
    rows: Vec<Row>,
    /// The names of the fields are in camelCase.
    is_camel: bool,
}

/// One user on one device, as its pod wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    json: Bytes,
    device: String,
    /// Without dashes.
    user: String,
    /// `DateLastActivity`, in a form whose order is that of time.
    active: String,
}

impl DeviceList {
    /// Reads a list, in PascalCase or camelCase. `None` if it is none.
    pub fn read(list: &Bytes) -> Option<DeviceList> {
        let mut parser = JsonParser::new(SliceJsonFeeder::new(list));
        let mut reader = Reader { list, ..Reader::default() };
        loop {
            let event = match parser.next_event() {
                Ok(Some(event)) => event,
                Ok(None) if reader.has_items => {
                    return Some(DeviceList { rows: reader.rows, is_camel: reader.is_camel });
                }
                Ok(None) | Err(_) => return None,
            };
            let text = match event {
                JsonEvent::FieldName | JsonEvent::ValueString => parser.current_str().ok()?.to_owned(),
                JsonEvent::NeedMoreInput => return None,
                _ => String::new(),
            };
            reader.meet(event, text, parser.parsed_bytes())?;
        }
    }

    /// Adds the lists of other pods: the last active first, as every pod orders its own. Of a user on
    /// a device the row of the latest activity stays.
    #[must_use]
    pub fn merged_with(mut self, others: impl IntoIterator<Item = DeviceList>) -> DeviceList {
        self.rows.extend(others.into_iter().flat_map(|list| list.rows));
        // It keeps the order of equal ones, so this pod's own row is the one that stays.
        self.rows.sort_by(|one, other| {
            let key = |row: &Row| Reverse(row.active.clone());
            key(one).cmp(&key(other)).then_with(|| one.device.cmp(&other.device))
        });
        let mut seen = HashSet::new();
        self.rows.retain(|row| seen.insert((row.device.clone(), row.user.clone())));
        self
    }

    /// The list as a pod writes it.
    pub fn write(&self) -> Bytes {
        let [items, total, start] = if self.is_camel {
            ["items", "totalRecordCount", "startIndex"]
        } else {
            ["Items", "TotalRecordCount", "StartIndex"]
        };
        let mut json = BytesMut::new();
        json.put_slice(format!("{{\"{items}\":[").as_bytes());
        for (number, row) in self.rows.iter().enumerate() {
            if number > 0 {
                json.put_u8(b',');
            }
            json.put_slice(&row.json);
        }
        json.put_slice(format!("],\"{total}\":{},\"{start}\":0}}", self.rows.len()).as_bytes());
        json.freeze()
    }
}

#[derive(Default)]
struct Reader<'a> {
    list: &'a [u8],
    rows: Vec<Row>,
    /// The row in progress, and where it begins.
    row: Option<(Row, usize)>,
    depth: usize,
    /// The last name on the list's own level, and within a row.
    outer: String,
    inner: String,
    has_items: bool,
    is_camel: bool,
}

/// Depths of what is open: the list itself, its items, one of them.
const LIST: usize = 1;
const ITEMS: usize = 2;
const ROW: usize = 3;

impl Reader<'_> {
    /// Takes one event, which ends at `end`. `None` if the text is no list of devices.
    fn meet(&mut self, event: JsonEvent, text: String, end: usize) -> Option<()> {
        match event {
            JsonEvent::FieldName if self.depth == LIST => self.outer = text,
            JsonEvent::FieldName if self.depth == ROW => self.inner = text,
            JsonEvent::StartObject | JsonEvent::StartArray => {
                let is_array = event == JsonEvent::StartArray;
                self.depth += 1;
                match self.depth {
                    LIST if is_array => return None,
                    ITEMS if is_array && self.is_in_items() => {
                        self.has_items = true;
                        self.is_camel = self.outer == "items";
                    }
                    ROW if self.is_in_items() => self.row = Some((Row::empty(), end.checked_sub(1)?)),
                    _ => {}
                }
            }
            JsonEvent::EndObject | JsonEvent::EndArray => {
                if self.depth == ROW
                    && let Some((mut row, begin)) = self.row.take()
                {
                    row.json = Bytes::copy_from_slice(self.list.get(begin..end)?);
                    self.rows.push(row);
                }
                self.depth = self.depth.checked_sub(1)?;
            }
            _ if self.depth == 0 => return None,
            JsonEvent::ValueString if self.depth == ROW => self.learn(text),
            _ => {}
        }
        Some(())
    }

    fn is_in_items(&self) -> bool {
        self.outer.eq_ignore_ascii_case("Items")
    }

    fn learn(&mut self, text: String) {
        let Some((row, _)) = &mut self.row else { return };
        let is = |name: &str| self.inner.eq_ignore_ascii_case(name);
        if is("Id") {
            row.device = text;
        } else if is("LastUserId") {
            row.user = plain_id(&text);
        } else if is("DateLastActivity") {
            row.active = sortable(&text);
        }
    }
}

impl Row {
    fn empty() -> Row {
        Row { json: Bytes::new(), device: String::new(), user: String::new(), active: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(device: &str, user: &str, active: &str) -> String {
        format!(
            r#"{{"Name":"Sofa","Id":"{device}","LastUserId":"{user}","DateLastActivity":"2026-11-30T10:00:{active}Z","Capabilities":{{"Id":"x","PlayableMediaTypes":[]}}}}"#
        )
    }

    fn list(rows: &[String]) -> String {
        format!(r#"{{"Items":[{}],"TotalRecordCount":{},"StartIndex":0}}"#, rows.join(","), rows.len())
    }

    fn read(text: &str) -> Option<DeviceList> {
        DeviceList::read(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn each_user_on_a_device_is_listed_once_and_the_last_active_first() {
        let own = [row("tv", "a-1", "05"), row("phone", "b", "01.5")];
        let other = [row("phone", "b", "04"), row("TV", "a1", "03"), row("tv", "A1", "02"), row("desk", "b", "05")];
        let merged = read(&list(&own)).expect("a list").merged_with(read(&list(&other)));
        let expected = [row("desk", "b", "05"), row("tv", "a-1", "05"), row("phone", "b", "04"), row("TV", "a1", "03")];
        assert_eq!(merged.write(), list(&expected));
    }

    #[test]
    fn a_list_alone_stays_as_its_pod_wrote_it_in_either_case() {
        let pascal = list(&[row("tv", "a", "05"), row("phone \\\"x\\\"", "b", "01")]);
        let camel = r#"{"items":[{"id":"d","lastUserId":"u","dateLastActivity":"2026-11-30T10:00:00Z"}],"totalRecordCount":1,"startIndex":0}"#;
        for text in [&*pascal, camel, &list(&[])] {
            assert_eq!(read(text).expect("a list").merged_with([]).write(), text);
        }
        for none in ["", "[]", "{}", r#"{"Items":{}}"#, r#"{"Items":["#, "null", "1"] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
