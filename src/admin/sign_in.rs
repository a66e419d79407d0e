//! Sign-in to the dashboard: the token of `[admin]`, or a Jellyfin administrator's name and password.
//!
//! A browser gets a random cookie, of which only a hash is kept, in memory alone. A password goes to
//! a pod and nowhere else. Attempts are few for each address, whether they succeed or not, and the
//! brake on clients' log-ins counts them too. Before each act jellypin looks whether the user is still
//! an administrator, since only that gave the right.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use cookie::Cookie;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::{self, Instant};

use super::{
    AdminState,
    answer::{Answer, see_other},
    dashboard,
    guard::Refusal,
};
use crate::{
    affinity::{budget::Budget, cookie::OF_ADMIN},
    limits::Kind,
    pod::Pool,
    proxy::{Administrator, SharedState},
    sessions::UnixMillis,
};

/// How long a sign-in lasts.
const LASTS: Duration = Duration::from_secs(12 * 60 * 60);

/// Sign-ins at once; the oldest goes first.
const MOST: usize = 64;

/// Attempts of one address at once, and each second after that: one in half a minute.
const AT_ONCE: f32 = 10.0;
const PER_SECOND: f32 = 1.0 / 30.0;

/// The longest form in bytes, and the longest time that it may take.
const LONGEST: usize = 4096;
const SLOWEST: Duration = Duration::from_secs(5);

/// Who has signed in. Locked for a look or a change, never across an await.
pub(super) struct SignIns {
    by_cookie: Mutex<HashMap<[u8; 32], SignedIn>>,
    attempts: Budget,
}

struct SignedIn {
    who: Who,
    until: Instant,
}

/// Who has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Who {
    name: String,
    /// `None`: by the token.
    user: Option<User>,
}

/// A user of the server, and how things stood just before the sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    id: String,
    since: UnixMillis,
    rights_changed: u64,
}

/// What a sign-in form has.
#[derive(Default)]
struct Form {
    token: String,
    name: String,
    password: String,
}

impl Default for SignIns {
    fn default() -> SignIns {
        SignIns { by_cookie: Mutex::default(), attempts: Budget::new(AT_ONCE, PER_SECOND) }
    }
}

impl SignIns {
    /// The name of the operator who has this request's cookie.
    pub(super) fn name_of(&self, headers: &HeaderMap) -> Option<String> {
        self.find(headers).map(|who| who.name)
    }

    fn find(&self, headers: &HeaderMap) -> Option<Who> {
        let now = Instant::now();
        let table = self.by_cookie.lock();
        let live = |value: &str| table.get(&hash(value)).filter(|signed_in| signed_in.until > now);
        cookies(headers).find_map(|value| live(value).map(|signed_in| signed_in.who.clone()))
    }

    /// Signs somebody in. Gives the cookie; `None` if the machine has no random numbers.
    fn add(&self, who: Who) -> Option<HeaderValue> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).ok()?;
        let value = BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let now = Instant::now();
        let mut table = self.by_cookie.lock();
        table.retain(|_, signed_in| signed_in.until > now);
        if table.len() >= MOST
            && let Some(oldest) = table.iter().min_by_key(|(_, signed_in)| signed_in.until).map(|(hash, _)| *hash)
        {
            table.remove(&oldest);
        }
        table.insert(hash(&value), SignedIn { who, until: now + LASTS });
        let attributes = format!("; Path=/; HttpOnly; SameSite=Strict; Max-Age={}", LASTS.as_secs());
        HeaderValue::from_str(&format!("{OF_ADMIN}={value}{attributes}")).ok()
    }

    pub(super) fn end_all(&self) {
        self.by_cookie.lock().clear();
    }

    fn end(&self, headers: &HeaderMap) {
        let mut table = self.by_cookie.lock();
        cookies(headers).for_each(|value| drop(table.remove(&hash(value))));
    }
}

/// The sign-in of the dashboard.
pub(super) struct SignIn {
    pub(super) state: Arc<AdminState>,
    pub(super) sign_ins: SignIns,
}

impl SignIn {
    /// `GET /sign-in`.
    pub(super) fn page(&self, query: Option<&str>) -> Answer {
        if self.state.view.load().config.token.is_none() {
            return see_other("/");
        }
        let message = match query {
            Some("failed=token") => "This is not the token.",
            Some("failed=password") => "The Jellyfin server refuses this name or password.",
            Some("failed=rights") => "Only administrators of the Jellyfin server may sign in here.",
            Some("failed=pod") => "No Jellyfin server can check the password at the moment. The token works.",
            Some("failed=brake") => "Too many attempts. Wait a minute.",
            Some("failed=form") => "The form was not complete.",
            Some("out") => "You have signed out.",
            _ => "",
        };
        dashboard::sign_in(message, self.asks_pods())
    }

    /// `POST /sign-in`.
    pub(super) async fn sign_in(&self, body: Incoming, from: IpAddr) -> Answer {
        let view = self.state.view.load_full();
        let Some(token) = &view.config.token else { return see_other("/") };
        if !self.sign_ins.attempts.try_spend(from, Instant::now()) {
            tracing::warn!(client.address = %from, why = "brake", "a sign-in to the admin API failed");
            return see_other("/sign-in?failed=brake");
        }
        let read = time::timeout(SLOWEST, Limited::new(body, LONGEST).collect()).await;
        let Ok(Ok(body)) = read else { return see_other("/sign-in?failed=form") };
        let form = Form::read(&body.to_bytes());
        let who = if !form.token.is_empty() {
            let is_it = bool::from(form.token.as_bytes().ct_eq(token.bytes()));
            if is_it {
                Ok(Who { name: "token".to_owned(), user: None })
            } else {
                Err(("token", "/sign-in?failed=token"))
            }
        } else if form.name.is_empty() || !self.asks_pods() {
            Err(("form", "/sign-in?failed=form"))
        } else {
            self.ask_pod(&form, from).await
        };
        match who {
            // A reload may have changed the way to sign in, and ended the sign-ins of before.
            Ok(_) if !Arc::ptr_eq(&view, &self.state.view.load_full()) => see_other("/sign-in"),
            Ok(who) => {
                let name = who.name.clone();
                let Some(cookie) = self.sign_ins.add(who) else { return see_other("/sign-in") };
                tracing::info!(by = name, client.address = %from, "an operator signed in");
                let mut answer = see_other("/");
                answer.headers_mut().insert(header::SET_COOKIE, cookie);
                answer
            }
            Err((why, page)) => {
                tracing::warn!(client.address = %from, why, "a sign-in to the admin API failed");
                see_other(page)
            }
        }
    }

    /// `POST /sign-out`.
    pub(super) fn sign_out(&self, headers: &HeaderMap) -> Answer {
        self.sign_ins.end(headers);
        let mut answer = see_other("/sign-in?out");
        let gone = format!("{OF_ADMIN}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
        if let Ok(gone) = HeaderValue::from_str(&gone) {
            answer.headers_mut().insert(header::SET_COOKIE, gone);
        }
        answer
    }

    /// Whether who has signed in may still act. A sign-in whose user may not is over.
    pub(super) async fn may_act<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        if matches!(request.uri().path(), "/sign-in" | "/sign-out") {
            return Ok(());
        }
        let Who { name, user } = self.sign_ins.find(request.headers()).ok_or(Refusal::NoToken)?;
        let Some(user) = user else { return Ok(()) };
        match self.is_administrator(&user).await {
            Some(true) => Ok(()),
            Some(false) => {
                self.sign_ins.end(request.headers());
                tracing::warn!(
                    by = name,
                    "a sign-in to the admin API has ended: its user is no administrator any more"
                );
                Err(Refusal::NoToken)
            }
            None => Err(Refusal::NoPod),
        }
    }

    /// Whether a user who has signed in still is an administrator, with the same password. `None` if no
    /// pod says so.
    async fn is_administrator(&self, user: &User) -> Option<bool> {
        let Some(pool) = self.only_pool() else { return Some(false) };
        let shared = self.state.shared();
        // A new password, a disabled user or a deleted one, at any replica.
        if shared.sessions.ends.user_ended_at(&pool.name, &user.id).await >= user.since {
            return Some(false);
        }
        match &shared.migration.api_key {
            Some(key) => self.state.lifecycle()?.checks().is_administrator(&pool, key, &user.id).await,
            // Nobody can be asked, so any such act ends all sign-ins.
            None => Some(shared.rights_changed.load(Ordering::Relaxed) == user.rights_changed),
        }
    }

    /// Whether Jellyfin's administrators may sign in. Another pool's could be anybody.
    fn asks_pods(&self) -> bool {
        self.state.view.load().config.administrators && self.only_pool().is_some()
    }

    fn only_pool(&self) -> Option<Arc<Pool>> {
        let shared = self.state.shared();
        let mut configured = shared.pools.iter().filter(|pool| pool.is_configured);
        let (first, second) = (configured.next()?, configured.next());
        second.is_none().then(|| first.pool.clone())
    }

    /// Asks a pod, if the brake on log-ins allows it.
    async fn ask_pod(&self, form: &Form, from: IpAddr) -> Result<Who, (&'static str, &'static str)> {
        let no_pod = ("no_pod", "/sign-in?failed=pod");
        let (Some(lifecycle), Some(pool)) = (self.state.lifecycle(), self.only_pool()) else {
            return Err(no_pod);
        };
        let shared = self.state.shared();
        let (brake, name) = (&shared.limits.log_in, form.name.trim().to_lowercase());
        let attempt = match brake.holds_for(from).then(|| brake.start_attempt(from, &name, Instant::now())) {
            None => None,
            Some(Ok(attempt)) => Some(attempt),
            Some(Err(braked)) => {
                shared.limits.count(Kind::LogIns, braked.scope);
                return Err(("brake", "/sign-in?failed=brake"));
            }
        };
        let (since, rights_changed) = now(&shared);
        let answered = lifecycle.administrator(&pool, &form.name, &form.password, from).await;
        if let Some(attempt) = attempt.filter(|_| answered != Administrator::Refused) {
            let is_right = answered != Administrator::Unknown;
            brake.did_not_fail(&attempt, is_right, Instant::now());
        }
        match answered {
            Administrator::Yes { id, name } => Ok(Who { name, user: Some(User { id, since, rights_changed }) }),
            Administrator::No => Err(("rights", "/sign-in?failed=rights")),
            Administrator::Refused => Err(("password", "/sign-in?failed=password")),
            Administrator::Unknown => Err(no_pod),
        }
    }
}

impl Form {
    /// Reads `application/x-www-form-urlencoded`.
    fn read(body: &Bytes) -> Form {
        let text = String::from_utf8_lossy(body);
        let mut form = Form::default();
        for (key, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned();
            match key {
                "token" => form.token = value.trim().to_owned(),
                "name" => form.name = value,
                "password" => form.password = value,
                _ => {}
            }
        }
        form
    }
}

/// The present moment, and the number of acts so far that may have taken rights.
fn now(shared: &SharedState) -> (UnixMillis, u64) {
    (shared.sessions.backend.clock.now(), shared.rights_changed.load(Ordering::Relaxed))
}

/// The values of all cookies of this name.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let named = lines.flat_map(|line| Cookie::split_parse(line).filter_map(Result::ok));
    named.filter(|cookie| cookie.name() == OF_ADMIN).filter_map(|cookie| cookie.value_raw())
}

fn hash(value: &str) -> [u8; 32] {
    Sha256::digest(value).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Who {
        Who { name: name.to_owned(), user: None }
    }

    fn shown(cookie: &HeaderValue) -> HeaderMap {
        let pair = cookie.to_str().expect("text").split(';').next().expect("a pair");
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_str(&format!("other=1; {pair}")).expect("a value"));
        headers
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_in_lasts_half_a_day_unless_it_is_ended() {
        let sign_ins = SignIns::default();
        let (one, other) = (sign_ins.add(who("alice")), sign_ins.add(who("bob")));
        let (one, other) = (shown(&one.expect("a cookie")), shown(&other.expect("a cookie")));
        assert_eq!(sign_ins.name_of(&one).as_deref(), Some("alice"));
        sign_ins.end(&one);
        assert_eq!((sign_ins.name_of(&one), sign_ins.name_of(&other).as_deref()), (None, Some("bob")));
        time::advance(LASTS).await;
        assert_eq!(sign_ins.name_of(&other), None);
        assert_eq!(sign_ins.name_of(&HeaderMap::new()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_sign_in_makes_room() {
        let sign_ins = SignIns::default();
        let first = shown(&sign_ins.add(who("first")).expect("a cookie"));
        time::advance(Duration::from_secs(1)).await;
        let second = shown(&sign_ins.add(who("second")).expect("a cookie"));
        for _ in 1..MOST {
            assert!(sign_ins.add(who("more")).is_some());
        }
        assert_eq!(sign_ins.name_of(&first), None);
        assert!(sign_ins.name_of(&second).is_some() && sign_ins.by_cookie.lock().len() == MOST);
    }

    #[test]
    fn a_form_is_read_as_browsers_write_it() {
        let form = Form::read(&Bytes::from_static(b"name=zo%C3%AB+k&password=a%26b%2B+&token="));
        assert_eq!((&*form.name, &*form.password, &*form.token), ("zoë k", "a&b+ ", ""));
        assert_eq!(Form::read(&Bytes::from_static(b"token=+secret%0A")).token, "secret");
    }
}
