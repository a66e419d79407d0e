//! What one process keeps of the database: items, with the data of all users, and users' data; nothing invalidates it.
//!
//! Two caches, as in Jellyfin. `LibraryManager` keeps each item that was read by its id, and the item holds its rows of
//! the `UserData` table as they were then (`BaseItemRepository.RetrieveItem`); a save on this pod reads them again.
//! `UserDataManager` keeps a row for each user and item that it saved, or in 12.0 also listed (`GetUserDataBatch`). So
//! another pod's write is not seen, and the next save here writes the old row over it.

use std::collections::HashMap;

use crate::catalogue::ItemRow;
use crate::cluster::{Cluster, Database};
use crate::generation::Generation;
use crate::user_data::{Length, UserData};

/// Both caches.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    items: HashMap<String, CachedItem>,
    user_data: HashMap<(String, String), UserData>,
}

/// An item as it was when it was read or saved here.
#[derive(Clone, Debug)]
pub(crate) struct CachedItem {
    pub(crate) row: ItemRow,
    user_data: HashMap<String, UserData>,
}

/// The item is gone from the database, which the foreign key of a row does not allow.
#[derive(Debug)]
pub(crate) struct ItemIsGone;

impl CachedItem {
    fn of(row: ItemRow, database: &Database) -> CachedItem {
        CachedItem { user_data: database.user_data_of_item(&row.id), row }
    }

    /// The user's row as this object has it.
    pub(crate) fn user_data(&self, user_id: &str) -> UserData {
        self.user_data.get(user_id).cloned().unwrap_or_default()
    }
}

impl Caches {
    /// `LibraryManager.GetItemById`: what was read once stays as it was.
    pub(crate) fn by_id(&mut self, cluster: &Cluster, id: &str) -> Option<&mut CachedItem> {
        if !self.items.contains_key(id) {
            let read = |database: &Database| Some(CachedItem::of(database.item(id)?.clone(), database));
            self.items.insert(id.to_owned(), cluster.read(read)?);
        }
        self.items.get_mut(id)
    }

    /// The item if it was read before.
    pub(crate) fn cached(&self, id: &str) -> Option<&CachedItem> {
        self.items.get(id)
    }

    /// `UserDataManager.SaveUserData`: changes this pod's row, and writes the whole of it. `None` without such an item.
    pub(crate) fn change_user_data(
        &mut self,
        cluster: &Cluster,
        user_id: &str,
        id: &str,
        how: impl FnOnce(&mut UserData, Length),
    ) -> Option<Result<UserData, ItemIsGone>> {
        let item = self.by_id(cluster, id)?;
        let mut data = item.user_data(user_id);
        how(&mut data, item.row.length());
        let rows = cluster.change(|database| {
            database.item(id)?;
            database.set_user_data(user_id, id, data.clone());
            Some(database.user_data_of_item(id))
        });
        let Some(rows) = rows else {
            return Some(Err(ItemIsGone));
        };
        item.user_data = rows;
        self.user_data.insert((user_id.to_owned(), id.to_owned()), data.clone());
        Some(Ok(data))
    }

    /// `Video.PropagatePlayedState` of 12.0: all other versions of what was played are played too, and start at 0. Gives
    /// those that were written.
    pub(crate) fn mark_other_versions(&mut self, cluster: &Cluster, user_id: &str, id: &str) -> Vec<String> {
        let mut versions = cluster.read(|database| database.other_versions(id));
        versions.retain(|version| {
            let mark = |data: &mut UserData, _: Length| (data.played, data.position) = (true, 0);
            matches!(self.change_user_data(cluster, user_id, version, mark), Some(Ok(_)))
        });
        versions
    }

    /// The user's row as a list shows it: 12.0 looks into its cache first, and keeps what it read of the database.
    pub(crate) fn listed_user_data(
        &mut self,
        cluster: &Cluster,
        generation: Generation,
        user_id: &str,
        id: &str,
    ) -> UserData {
        let read = || cluster.read(|database| database.user_data(user_id, id).cloned().unwrap_or_default());
        match generation {
            Generation::V10_11 => read(),
            Generation::V12 => {
                let key = (user_id.to_owned(), id.to_owned());
                self.user_data.entry(key).or_insert_with(read).clone()
            }
        }
    }

    /// `LibraryManager.UpdateItemAsync`: changes this pod's object, and writes the whole row. `None` without such an item.
    pub(crate) fn change_item(
        &mut self,
        cluster: &Cluster,
        id: &str,
        how: impl FnOnce(&mut ItemRow),
    ) -> Option<Result<(), ItemIsGone>> {
        let item = self.by_id(cluster, id)?;
        how(&mut item.row);
        item.row.stamp();
        let there = cluster.change(|database| database.update_item(&item.row));
        Some(if there { Ok(()) } else { Err(ItemIsGone) })
    }

    /// A new item, made by this pod.
    pub(crate) fn add_item(&mut self, cluster: &Cluster, row: ItemRow) {
        cluster.change(|database| {
            if !database.update_item(&row) {
                database.items.push(row.clone());
            }
        });
        self.items.insert(row.id.clone(), CachedItem { row, user_data: HashMap::new() });
    }

    /// `LibraryManager.DeleteItem`: here and in the database. False without such an item.
    pub(crate) fn delete_item(&mut self, cluster: &Cluster, id: &str) -> bool {
        let known = self.by_id(cluster, id).is_some();
        self.items.remove(id);
        cluster.change(|database| database.delete_item(id));
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::FILM;

    fn favourite(caches: &mut Caches, cluster: &Cluster, user: &str) {
        let saved = caches.change_user_data(cluster, user, FILM, |data, _| data.favorite = true);
        assert!(saved.is_some_and(|saved| saved.is_ok()));
    }

    fn by_id(caches: &mut Caches, cluster: &Cluster, user: &str) -> Option<UserData> {
        caches.by_id(cluster, FILM).map(|item| item.user_data(user))
    }

    #[test]
    fn an_old_row_destroys_what_another_pod_wrote() {
        let (cluster, mut a, mut b) = (Cluster::new(), Caches::default(), Caches::default());
        assert!(by_id(&mut b, &cluster, "u").is_some_and(|data| !data.favorite));
        favourite(&mut a, &cluster, "u");
        assert!(by_id(&mut b, &cluster, "u").is_some_and(|data| !data.favorite), "it is old");
        assert!(b.listed_user_data(&cluster, Generation::V12, "u", FILM).favorite, "a first list reads the database");
        assert!(b.change_user_data(&cluster, "u", FILM, |data, length| data.start(length)).is_some());
        let row = cluster.read(|database| database.user_data("u", FILM).cloned()).unwrap_or_default();
        assert_eq!((row.favorite, row.play_count), (false, 1));
    }

    #[test]
    fn any_users_read_makes_an_item_old_and_any_users_write_makes_it_new() {
        let (cluster, mut a, mut b) = (Cluster::new(), Caches::default(), Caches::default());
        assert!(by_id(&mut b, &cluster, "bob").is_some());
        favourite(&mut a, &cluster, "alice");
        assert!(by_id(&mut b, &cluster, "alice").is_some_and(|data| !data.favorite));
        favourite(&mut b, &cluster, "bob");
        assert!(by_id(&mut b, &cluster, "alice").is_some_and(|data| data.favorite));
    }

    #[test]
    fn a_list_is_old_where_12_0_has_listed_before() {
        let (cluster, mut a, mut b) = (Cluster::new(), Caches::default(), Caches::default());
        for generation in [Generation::V12, Generation::V10_11] {
            assert!(!b.listed_user_data(&cluster, generation, "u", FILM).favorite);
        }
        favourite(&mut a, &cluster, "u");
        assert!(!b.listed_user_data(&cluster, Generation::V12, "u", FILM).favorite);
        assert!(b.listed_user_data(&cluster, Generation::V10_11, "u", FILM).favorite);
    }

    #[test]
    fn an_item_that_another_pod_deleted_is_still_there_by_its_id() {
        let (cluster, mut a, mut b) = (Cluster::new(), Caches::default(), Caches::default());
        assert!(by_id(&mut b, &cluster, "u").is_some());
        assert!(a.delete_item(&cluster, FILM));
        assert!(a.by_id(&cluster, FILM).is_none());
        assert!(b.by_id(&cluster, FILM).is_some());
        let saved = b.change_user_data(&cluster, "u", FILM, |data, _| data.favorite = true);
        assert!(matches!(saved, Some(Err(ItemIsGone))));
        assert!(b.delete_item(&cluster, FILM) && !b.delete_item(&cluster, FILM));
    }
}
