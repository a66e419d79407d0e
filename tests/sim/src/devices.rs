//! Jellyfin's `DeviceManager`: the token rows as this process knows them.
//!
//! Filled once at the start; after that only this process's own log-ins and log-outs change it. So it may miss rows that
//! another pod made, and hold rows that another pod deleted.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::authorization::Credentials;
use crate::clock;
use crate::cluster::{Cluster, DeviceRow, Stored};
use crate::generation::Generation;
use crate::identifiers::random_guid;

/// The rows in memory, by token.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    known: HashMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    row: DeviceRow,
    last_activity: Instant,
}

/// The row of a request's token, brought up to date with the request.
pub(crate) enum Lookup {
    Unknown,
    Found(DeviceRow),
    /// The row had to be written and another pod has deleted it: Jellyfin answers this one request with 500.
    Stale,
}

/// Whether everything that was to be deleted was still in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Cleanly,
    /// 10.11 throws on the first row that is gone, after it has forgotten the token.
    WithError,
}

impl Devices {
    pub(crate) fn load(&mut self, rows: Vec<DeviceRow>) {
        let now = Instant::now();
        self.known = rows.into_iter().map(|row| (row.token.clone(), Known { row, last_activity: now })).collect();
    }

    pub(crate) fn knows(&self, token: &str) -> bool {
        self.known.contains_key(token)
    }

    /// Mints a token for a device and writes its row.
    pub(crate) fn create(&mut self, cluster: &Cluster, user_id: &str, client: &Client) -> DeviceRow {
        let row = DeviceRow {
            row: 0,
            token: random_guid(),
            user_id: user_id.to_owned(),
            client: client.client.clone(),
            version: client.version.clone(),
            device: client.device.clone(),
            device_id: client.device_id.clone(),
            last_activity: clock::now(),
        };
        let row = cluster.change(|database| database.insert(row));
        self.known.insert(row.token.clone(), Known { row: row.clone(), last_activity: Instant::now() });
        row
    }

    /// Finds the row of a token and stamps it: a changed device name or version, or a first use after `stamp_after`.
    ///
    /// The memory is changed before the database is asked, which is why a stale row costs one 500 and not more.
    pub(crate) fn look_up(&mut self, cluster: &Cluster, given: &Credentials, stamp_after: Duration) -> Lookup {
        let Some(known) = given.token.as_ref().and_then(|token| self.known.get_mut(token)) else {
            return Lookup::Unknown;
        };
        let may_update = given.client.as_ref().is_none_or(|client| !client.to_lowercase().contains("chromecast"));
        let mut update = false;
        for (new, old) in [(&given.device, &mut known.row.device), (&given.version, &mut known.row.version)] {
            if let Some(new) = new.as_ref().filter(|new| may_update && *new != &*old) {
                old.clone_from(new);
                update = true;
            }
        }
        if known.last_activity.elapsed() > stamp_after {
            known.last_activity = Instant::now();
            known.row.last_activity = clock::now();
            update = true;
        }
        if update && cluster.change(|database| database.update(&known.row)) == Stored::Gone {
            return Lookup::Stale;
        }
        Lookup::Found(known.row.clone())
    }

    /// The rows this process knows that fit.
    pub(crate) fn find(&self, fits: impl Fn(&DeviceRow) -> bool) -> Vec<DeviceRow> {
        let mut rows: Vec<DeviceRow> =
            self.known.values().filter(|known| fits(&known.row)).map(|k| k.row.clone()).collect();
        rows.sort_by_key(|row| row.row);
        rows
    }

    /// Ends the tokens of the given rows, here and in the database.
    pub(crate) fn end(&mut self, cluster: &Cluster, rows: &[DeviceRow], generation: Generation) -> Ended {
        for row in rows {
            self.known.remove(&row.token);
            let stored = cluster.change(|database| database.delete(row.row));
            if stored == Stored::Gone && generation == Generation::V10_11 {
                return Ended::WithError;
            }
        }
        Ended::Cleanly
    }
}

/// The four fields that a log-in has to bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) client: String,
    pub(crate) device: String,
    pub(crate) device_id: String,
    pub(crate) version: String,
}

impl Client {
    /// `None` if one of the four is missing.
    pub(crate) fn of(given: &Credentials) -> Option<Client> {
        Some(Client {
            client: given.client.clone()?,
            device: given.device.clone()?,
            device_id: given.device_id.clone()?,
            version: given.version.clone()?,
        })
    }

    /// The client that a token stands for: what the request says, and what the row says where it says nothing.
    pub(crate) fn of_row(given: &Credentials, row: &DeviceRow) -> Client {
        Client {
            client: given.client.clone().unwrap_or_else(|| row.client.clone()),
            device: given.device.clone().unwrap_or_else(|| row.device.clone()),
            device_id: given.device_id.clone().unwrap_or_else(|| row.device_id.clone()),
            version: given.version.clone().unwrap_or_else(|| row.version.clone()),
        }
    }
}
