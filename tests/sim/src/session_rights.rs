//! Which sessions `GET /Sessions` shows to whom, as `SessionManager.GetSessions` decides it.

use std::time::Duration;

use crate::cluster::User;
use crate::sessions::Session;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker<'a> {
    ApiKey,
    User(&'a User),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) device_id: Option<&'a str>,
    pub(crate) active_within: Option<Duration>,
    /// The user by whom they are to be controllable.
    pub(crate) controllable_by: Option<&'a User>,
}

/// Whether the asker is shown this session.
pub(crate) fn is_shown(session: &Session, asker: Asker<'_>, wanted: Wanted<'_>) -> bool {
    let fits_device = wanted.device_id.is_none_or(|id| id.eq_ignore_ascii_case(&session.client_headers.device_id));
    let is_active = wanted.active_within.is_none_or(|within| session.heard.elapsed() <= within);
    // Nobody's sessions, those of API keys, are everybody's.
    let is_nobodys = session.user_id.is_empty();
    let is_askers = |user: &User| is_nobodys || session.is_of(&user.id);
    let may = match (wanted.controllable_by, asker) {
        (None, Asker::ApiKey) => true,
        (None, Asker::User(user)) => user.administrator || is_askers(user),
        (Some(controller), asker) => {
            let among_shared = controller.controls_shared || !is_nobodys;
            let may_control = match asker {
                Asker::ApiKey => true,
                Asker::User(user) => (user.controls_others || is_askers(user)) && may_use_device(user, session),
            };
            session.can_be_controlled() && among_shared && may_control
        }
    };
    fits_device && is_active && may
}

/// `DeviceManager.CanAccessDevice`.
fn may_use_device(user: &User, session: &Session) -> bool {
    user.may_use_device(&session.client_headers.device_id) || !session.has_persistent_id()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::devices::Client;
    use crate::sessions::Sessions;

    /// Shows, by the devices' names, what an asker is shown of five sessions: two of alice's, one of bob's with alice added, one
    /// of root's, and one of an API key. Those with a small letter at the end can be controlled.
    fn shown(asker: Asker<'_>, wanted: Wanted<'_>) -> String {
        let mut sessions = Sessions::default();
        for (device, user) in [("A", "alice"), ("a", "alice"), ("b", "bob"), ("r", "root"), ("k", "")] {
            let client = Client {
                client: "Story".to_owned(),
                device: device.to_owned(),
                device_id: format!("device {device}{user}"),
                version: "1".to_owned(),
            };
            let capabilities = (device != "A").then(|| json!({"SupportsMediaControl": true}));
            let id = sessions.touch((user, user), &client, "", capabilities).id.clone();
            let _ = sessions.attach(&id);
            if let Some(session) = sessions.get_mut(&id).filter(|_| user == "bob") {
                session.additional.push(("carol".to_owned(), "carol".to_owned()));
            }
        }
        let all = sessions.all().into_iter();
        let mut shown: Vec<_> = all.filter(|session| is_shown(session, asker, wanted)).collect();
        shown.sort_by_key(|session| session.client_headers.device.clone());
        shown.iter().map(|session| session.client_headers.device.as_str()).collect()
    }

    fn user(name: &str) -> User {
        User { id: name.to_owned(), ..User::new(name, "", name == "root") }
    }

    #[test]
    fn a_list_shows_ones_own_sessions_and_nobodys_and_to_administrators_all() {
        let none = Wanted::default();
        for (name, seen) in [("alice", "Aak"), ("bob", "bk"), ("carol", "bk"), ("root", "Aabkr")] {
            assert_eq!(shown(Asker::User(&user(name)), none), seen, "{name}");
        }
        assert_eq!(shown(Asker::ApiKey, none), "Aabkr");
        let wanted = Wanted { device_id: Some("DEVICE Bbob"), ..none };
        assert_eq!(shown(Asker::ApiKey, wanted), "b");
        let wanted = Wanted { active_within: Some(Duration::ZERO), ..none };
        assert_eq!(shown(Asker::ApiKey, wanted), "");
    }

    #[test]
    fn what_can_be_controlled_depends_on_rights() {
        let (alice, root) = (user("alice"), user("root"));
        let by = |controller| Wanted { controllable_by: Some(controller), ..Wanted::default() };
        assert_eq!(shown(Asker::User(&alice), by(&alice)), "ak");
        let controls_others = User { controls_others: true, ..alice.clone() };
        assert_eq!(shown(Asker::User(&controls_others), by(&controls_others)), "abkr");
        let unshared = User { controls_shared: false, ..alice.clone() };
        assert_eq!(shown(Asker::User(&unshared), by(&unshared)), "a");
        let restricted = User { only_devices: Some(vec!["device k".to_owned()]), ..alice.clone() };
        assert_eq!(shown(Asker::User(&restricted), by(&restricted)), "k");
        assert_eq!(shown(Asker::User(&root), by(&alice)), "abkr");
        assert_eq!(shown(Asker::ApiKey, by(&unshared)), "abr");
    }
}
