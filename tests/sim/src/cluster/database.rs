//! The tables of the shared database.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::id_of_name;
use crate::activity_log::ActivityLog;
use crate::catalogue::{ItemRow, Picture};
use crate::identifiers::random_guid;
use crate::user_data::UserData;

/// All tables.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Database {
    pub(crate) users: Vec<User>,
    pub(crate) devices: Vec<DeviceRow>,
    /// The names that administrators gave to devices, by the device's id.
    #[serde(default)]
    pub(crate) device_names: BTreeMap<String, Option<String>>,
    pub(crate) api_keys: Vec<ApiKey>,
    pub(crate) next_row: u64,
    pub(crate) items: Vec<ItemRow>,
    pub(crate) activity: ActivityLog,
    /// By item and user.
    user_data: BTreeMap<String, UserData>,
}

/// A user with a password.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) password: String,
    pub(crate) administrator: bool,
    pub(crate) disabled: bool,
    /// Sees the library; else nothing of it.
    pub(crate) all_folders: bool,
    /// `EnableRemoteControlOfOtherUsers`.
    pub(crate) controls_others: bool,
    /// `EnableSharedDeviceControl`.
    pub(crate) controls_shared: bool,
    /// `EnableContentDeletion`.
    #[serde(default)]
    pub(crate) deletes_content: bool,
    /// `EnabledDevices`; `None` for `EnableAllDevices`.
    pub(crate) only_devices: Option<Vec<String>>,
    /// `MaxActiveSessions`; below 1 for any number.
    #[serde(default)]
    pub(crate) most_sessions: i64,
    pub(crate) picture: Option<Picture>,
    pub(crate) invalid_log_ins: u32,
    pub(crate) last_log_in: Option<String>,
}

/// One row of the `Devices` table: a token and the device it was minted for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRow {
    pub(crate) row: u64,
    pub(crate) token: String,
    pub(crate) user_id: String,
    pub(crate) client: String,
    pub(crate) version: String,
    pub(crate) device: String,
    pub(crate) device_id: String,
    pub(crate) last_activity: String,
}

/// An API key and the name of the application it was made for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ApiKey {
    pub(crate) token: String,
    pub(crate) app: String,
}

/// Whether a row was there to be changed; a pod may remember rows that another pod has deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Yes,
    Gone,
}

impl Database {
    /// The tables of a new cluster.
    pub(super) fn fresh() -> Database {
        let mut database = Database { next_row: 1, items: ItemRow::first(), ..Database::default() };
        for (name, administrator) in [("alice", false), ("bob", false), ("root", true)] {
            database.users.push(User::new(name, &format!("{name}-pw"), administrator));
        }
        for number in 0..1000 {
            database.users.push(User::new(&format!("user{number}"), "pw", false));
        }
        database.api_keys.push(ApiKey { token: random_guid(), app: "jellyfin-sim".to_owned() });
        database
    }

    pub(crate) fn user(&self, id: &str) -> Option<&User> {
        self.users.iter().find(|user| user.id == id)
    }

    pub(crate) fn user_mut(&mut self, id: &str) -> Option<&mut User> {
        self.users.iter_mut().find(|user| user.id == id)
    }

    /// Names are compared without regard to case, as Jellyfin does.
    pub(crate) fn user_by_name(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn item(&self, id: &str) -> Option<&ItemRow> {
        self.items.iter().find(|item| item.id == id)
    }

    /// The ids of all other versions of an item.
    pub(crate) fn other_versions(&self, id: &str) -> Vec<String> {
        let primary_of = |item: &ItemRow| item.version_of.clone().unwrap_or_else(|| item.id.clone());
        let primary = self.item(id).map(primary_of);
        let versions = self.items.iter().filter(|item| item.id != id && primary == Some(primary_of(item)));
        versions.map(|item| item.id.clone()).collect()
    }

    /// False if the row is gone.
    pub(crate) fn update_item(&mut self, row: &ItemRow) -> bool {
        let found = self.items.iter_mut().find(|item| item.id == row.id);
        found.map(|item| row.clone_into(item)).is_some()
    }

    pub(crate) fn delete_item(&mut self, id: &str) {
        self.items.retain(|item| item.id != id);
        self.user_data.retain(|key, _| !key.starts_with(id));
    }

    pub(crate) fn user_data(&self, user_id: &str, item_id: &str) -> Option<&UserData> {
        self.user_data.get(&user_data_key(user_id, item_id))
    }

    pub(crate) fn set_user_data(&mut self, user_id: &str, item_id: &str, data: UserData) {
        self.user_data.insert(user_data_key(user_id, item_id), data);
    }

    /// The rows of an item, by user.
    pub(crate) fn user_data_of_item(&self, item_id: &str) -> HashMap<String, UserData> {
        let from = user_data_key("", item_id);
        let rows = self.user_data.range(from.clone()..).take_while(|(key, _)| key.starts_with(&from));
        rows.map(|(key, data)| (key[from.len()..].to_owned(), data.clone())).collect()
    }

    /// Deletes a user with his rows; false if there is none.
    pub(crate) fn delete_user(&mut self, id: &str) -> bool {
        let before = self.users.len();
        self.users.retain(|user| user.id != id);
        self.user_data.retain(|key, _| !key.ends_with(id));
        self.users.len() < before
    }

    pub(crate) fn api_key(&self, token: &str) -> Option<&ApiKey> {
        self.api_keys.iter().find(|key| key.token == token)
    }

    pub(crate) fn add_api_key(&mut self, token: String, app: String) {
        self.api_keys.push(ApiKey { token, app });
    }

    /// Adds a row and gives it its number.
    pub(crate) fn insert(&mut self, mut row: DeviceRow) -> DeviceRow {
        row.row = self.next_row;
        self.next_row += 1;
        self.devices.push(row.clone());
        row
    }

    pub(crate) fn delete(&mut self, row: u64) -> Stored {
        let before = self.devices.len();
        self.devices.retain(|device| device.row != row);
        if self.devices.len() < before { Stored::Yes } else { Stored::Gone }
    }

    pub(crate) fn update(&mut self, row: &DeviceRow) -> Stored {
        match self.devices.iter_mut().find(|device| device.row == row.row) {
            Some(device) => {
                *device = row.clone();
                Stored::Yes
            }
            None => Stored::Gone,
        }
    }
}

fn user_data_key(user_id: &str, item_id: &str) -> String {
    format!("{item_id} {user_id}")
}

impl User {
    /// `DeviceManager.CanAccessDevice`, but for devices without a lasting id.
    pub(crate) fn may_use_device(&self, id: &str) -> bool {
        let is_enabled = |devices: &Vec<String>| devices.iter().any(|device| device.eq_ignore_ascii_case(id));
        self.administrator || self.only_devices.as_ref().is_none_or(is_enabled)
    }

    pub(crate) fn new(name: &str, password: &str, administrator: bool) -> User {
        User {
            id: id_of_name("user", name),
            name: name.to_owned(),
            password: password.to_owned(),
            administrator,
            disabled: false,
            all_folders: true,
            controls_others: administrator,
            controls_shared: true,
            deletes_content: false,
            only_devices: None,
            most_sessions: 0,
            picture: None,
            invalid_log_ins: 0,
            last_log_in: None,
        }
    }
}
