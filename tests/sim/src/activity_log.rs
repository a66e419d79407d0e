//! The activity log, a table of the shared database.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock;

/// How many entries are kept.
const KEPT: usize = 1000;

/// All entries, the oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ActivityLog {
    entries: Vec<Entry>,
    written: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    id: u64,
    name: String,
    kind: String,
    user_id: String,
    item_id: Option<String>,
    date: String,
}

impl ActivityLog {
    pub(crate) fn add(&mut self, kind: &str, name: String, user_id: &str, item_id: Option<&str>) {
        self.written += 1;
        self.entries.push(Entry {
            id: self.written,
            name,
            kind: kind.to_owned(),
            user_id: user_id.to_owned(),
            item_id: item_id.map(str::to_owned),
            date: clock::now(),
        });
        if self.entries.len() > KEPT {
            self.entries.remove(0);
        }
    }

    /// A page, the newest first.
    pub(crate) fn page(&self, start: usize, limit: Option<usize>) -> Value {
        let shown = self.entries.iter().rev().skip(start).take(limit.unwrap_or(usize::MAX));
        let items: Vec<Value> = shown.map(Entry::dto).collect();
        json!({"Items": items, "TotalRecordCount": self.entries.len(), "StartIndex": start})
    }
}

impl Entry {
    /// `ActivityLogEntry`.
    fn dto(&self) -> Value {
        let mut dto = json!({
            "Id": self.id,
            "Name": self.name,
            "Type": self.kind,
            "Date": self.date,
            "UserId": self.user_id,
            "Severity": "Information",
        });
        if let Some(item) = &self.item_id {
            dto["ItemId"] = json!(item);
        }
        dto
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_with_the_newest_and_old_entries_go() {
        let mut log = ActivityLog::default();
        for number in 0..1010 {
            log.add("Test", format!("entry {number}"), "u", None);
        }
        let page = log.page(1, Some(2));
        assert_eq!((&page["Items"][0]["Name"], &page["TotalRecordCount"]), (&json!("entry 1008"), &json!(1000)));
        assert_eq!(page["Items"].as_array().map(Vec::len), Some(2));
    }
}
