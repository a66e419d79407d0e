//! Values with a unit or a fixed form: durations, sizes, addresses, networks and choices.

mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytesize::ByteSize;
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use super::{
    names::{did_you_mean, listed},
    value::{FromText, Written},
};
use crate::{
    affinity::{
        cookie::{SameSite, Secure},
        persistence::RENEWAL,
    },
    jellyfin::Legacy,
    leader::Mode,
    observe::Format,
    proxy::drain_policy::When,
    websocket::CloseStyle,
};

pub(super) use tls::{Directory, Hsts, Redirect};

/// A time that is not zero.
pub(super) type Time = Written<Duration>;

/// How long a browser keeps a cookie. Browsers count in whole seconds.
pub(super) struct MaxAge(pub(super) Duration);

/// How long a WebSocket's peer may be silent before it counts as gone.
pub(super) struct SocketIdle(pub(super) Duration);

/// The longest time that a request waits for Redis.
pub(super) struct Deadline(pub(super) Duration);

/// How long an unused pin is kept.
pub(super) struct PinLife(pub(super) Duration);

/// How long a tombstone is kept.
pub(super) struct TombstoneLife(pub(super) Duration);

/// How long a lease lasts without renewal.
pub(super) struct LeaseLife(pub(super) Duration);

/// The time in which all places of the log-in brake come back.
pub(super) struct Window(pub(super) Duration);

/// A size in bytes within bounds.
pub(super) struct Size<const MIN: u32, const MAX: u32>(pub(super) usize);

/// An address to listen on, or `None` for "off".
pub(super) struct MaybeAddress(pub(super) Option<SocketAddr>);

/// Log directives that parse.
pub(super) struct Directives(pub(super) String);

pub(super) const fn millis(count: u64) -> Time {
    Written(Duration::from_millis(count))
}

pub(super) const fn seconds(count: u64) -> Time {
    Written(Duration::from_secs(count))
}

pub(super) const fn kibibytes<const MIN: u32, const MAX: u32>(count: usize) -> Written<Size<MIN, MAX>> {
    Written(Size(count << 10))
}

/// The longest accepted time. Longer ones could overflow a clock and make no sense.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl FromText for Duration {
    const EXPECTED: &'static str = "a duration such as \"10s\"";
    const HAS_UNIT: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        match humantime::parse_duration(text) {
            Ok(Duration::ZERO) => Err("must be more than 0".to_owned()),
            Ok(time) if time > LONGEST => Err("longer than ten years".to_owned()),
            Ok(time) => Ok(time),
            Err(_) => Err(format!("{text:?} is not a duration; write one such as \"250ms\", \"10s\" or \"1m 30s\"")),
        }
    }
}

impl FromText for MaxAge {
    const EXPECTED: &'static str = "a duration such as \"30days\"";
    const HAS_UNIT: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        match Duration::from_text(text)? {
            age if age.subsec_nanos() == 0 => Ok(MaxAge(age)),
            _ => Err("a cookie's age counts in whole seconds".to_owned()),
        }
    }
}

impl FromText for SocketIdle {
    const EXPECTED: &'static str = "a duration such as \"90s\"";
    const HAS_UNIT: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        match Duration::from_text(text)? {
            idle if idle >= Duration::from_secs(75) => Ok(SocketIdle(idle)),
            _ => Err("less than 75s; Jellyfin lets a living socket be silent for its keep-alive of 60s".to_owned()),
        }
    }
}

impl Default for Deadline {
    fn default() -> Self {
        Deadline(Duration::from_millis(30))
    }
}

impl FromText for Deadline {
    const EXPECTED: &'static str = "a duration such as \"30ms\"";
    const HAS_UNIT: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        match Duration::from_text(text)? {
            deadline if deadline <= Duration::from_secs(1) => Ok(Deadline(deadline)),
            _ => Err("more than 1s; requests wait for it".to_owned()),
        }
    }
}

impl Default for PinLife {
    fn default() -> Self {
        PinLife(Duration::from_secs(30 * 24 * 60 * 60))
    }
}

impl FromText for PinLife {
    const EXPECTED: &'static str = "a duration such as \"30days\"";
    const HAS_UNIT: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        match Duration::from_text(text)? {
            life if life >= 2 * RENEWAL => Ok(PinLife(life)),
            _ => Err("less than 2h; a pin in use is renewed once an hour".to_owned()),
        }
    }
}

impl Default for TombstoneLife {
    fn default() -> Self {
        TombstoneLife(Duration::from_secs(365 * 24 * 60 * 60))
    }
}

impl FromText for TombstoneLife {
    const EXPECTED: &'static str = "a duration such as \"365days\"";
    const HAS_UNIT: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        match Duration::from_text(text)? {
            life if life >= Duration::from_secs(7 * 24 * 60 * 60) => Ok(TombstoneLife(life)),
            _ => Err("less than 7days; a pod may be away for as long and still know the token".to_owned()),
        }
    }
}

impl Default for Window {
    fn default() -> Self {
        Window(Duration::from_secs(5 * 60))
    }
}

impl FromText for Window {
    const EXPECTED: &'static str = "a duration such as \"5m\"";
    const HAS_UNIT: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        match Duration::from_text(text)? {
            window if window > Duration::from_secs(24 * 60 * 60) => {
                Err("more than a day; a stranger would keep users out for so long".to_owned())
            }
            window => Ok(Window(window)),
        }
    }
}

impl FromText for LeaseLife {
    const EXPECTED: &'static str = "a duration such as \"30s\"";
    const HAS_UNIT: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        match Duration::from_text(text)? {
            life if life >= Duration::from_secs(1) => Ok(LeaseLife(life)),
            _ => Err("less than 1s; a busy machine would lose it all the time".to_owned()),
        }
    }
}

impl<const MIN: u32, const MAX: u32> FromText for Size<MIN, MAX> {
    const EXPECTED: &'static str = "a size such as \"64KiB\"";
    const HAS_UNIT: bool = true;

    fn from_text(text: &str) -> Result<Self, String> {
        let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
        let size = has_unit.then(|| text.parse::<ByteSize>().ok()).flatten();
        let Some(ByteSize(bytes)) = size else {
            return Err(format!("{text:?} is not a size; write one such as \"512B\", \"64KiB\" or \"1MiB\""));
        };
        match u32::try_from(bytes) {
            Ok(bytes) if (MIN..=MAX).contains(&bytes) => Ok(Size(bytes as usize)),
            _ => Err(format!("out of bounds; write a size from {} to {}", round(MIN), round(MAX))),
        }
    }
}

/// A bound as text, in the largest unit that divides it.
fn round(bytes: u32) -> String {
    match bytes {
        0 => "0B".to_owned(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => format!("{bytes}B"),
    }
}

impl FromText for SocketAddr {
    const EXPECTED: &'static str = "an address such as \"0.0.0.0:8096\"";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            format!("{text:?} is not an address with a port; write one such as \"0.0.0.0:8096\" or \"[::]:8096\"")
        })
    }
}

impl FromText for MaybeAddress {
    const EXPECTED: &'static str = "an address such as \"127.0.0.1:9096\", or \"off\"";

    fn from_text(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(MaybeAddress(None)) } else { SocketAddr::from_text(text).map(|a| MaybeAddress(Some(a))) }
    }
}

impl FromText for IpNet {
    const EXPECTED: &'static str = "a network such as \"10.0.0.0/8\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        network
            .map(|network| network.trunc())
            .ok_or_else(|| format!("{text:?} is not a network; write one such as \"10.0.0.0/8\" or \"192.0.2.1\""))
    }
}

impl FromText for Directives {
    const EXPECTED: &'static str = "log directives such as \"info\"";

    fn from_text(text: &str) -> Result<Self, String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let not_directives = |hint: String| Err(format!("{text:?} does not set a log level; {hint}"));
        // A bare word that is no level would enable one target of that name, and no other.
        let stray = text.split(',').find(|part| {
            !part.contains(['=', '[', ':']) && !LEVELS.iter().any(|level| part.trim().eq_ignore_ascii_case(level))
        });
        if let Some(stray) = stray {
            let hint = did_you_mean(stray.trim(), LEVELS.into_iter());
            return not_directives(hint.unwrap_or_else(|| format!("the levels are {}", listed(LEVELS))));
        }
        match EnvFilter::builder().parse(text) {
            Ok(_) => Ok(Directives(text.to_owned())),
            Err(_) => not_directives("write `info`, or `jellypin::health=debug,info`".to_owned()),
        }
    }
}

/// Whether pods accept a token in Jellyfin's legacy places; `None` if their version decides.
#[derive(Default)]
pub(super) struct LegacyCarriers(pub(super) Option<Legacy>);

impl FromText for LegacyCarriers {
    const EXPECTED: &'static str = "`auto`, `on` or `off`";

    fn from_text(text: &str) -> Result<Self, String> {
        let choices = [("auto", None), ("on", Some(Legacy::Accepted)), ("off", Some(Legacy::Ignored))];
        choice(text, &choices).map(LegacyCarriers)
    }
}

/// On or off; on by default.
pub(super) struct Switch(pub(super) bool);

impl Default for Switch {
    fn default() -> Self {
        Switch(true)
    }
}

impl FromText for Switch {
    const EXPECTED: &'static str = "`on` or `off`";

    fn from_text(text: &str) -> Result<Self, String> {
        choice(text, &[("on", true), ("off", false)]).map(Switch)
    }
}

/// Whether each pod of a pool has a database of its own; by default they share one.
#[derive(Clone, Copy, Default)]
pub(super) struct Database {
    pub(super) is_separate: bool,
}

impl FromText for Database {
    const EXPECTED: &'static str = "`shared` or `separate`";

    fn from_text(text: &str) -> Result<Self, String> {
        let is_separate = choice(text, &[("shared", false), ("separate", true)])?;
        Ok(Database { is_separate })
    }
}

impl FromText for SameSite {
    const EXPECTED: &'static str = "`strict`, `lax` or `none`";

    fn from_text(text: &str) -> Result<Self, String> {
        choice(text, &[("strict", SameSite::Strict), ("lax", SameSite::Lax), ("none", SameSite::None)])
    }
}

impl FromText for Secure {
    const EXPECTED: &'static str = "`auto`, `always` or `never`";

    fn from_text(text: &str) -> Result<Self, String> {
        choice(text, &[("auto", Secure::Auto), ("always", Secure::Always), ("never", Secure::Never)])
    }
}

impl FromText for Mode {
    const EXPECTED: &'static str = "`local`, `follow`, `elect` or `probe`";

    fn from_text(text: &str) -> Result<Self, String> {
        let modes = [("local", Mode::Local), ("follow", Mode::Follow), ("elect", Mode::Elect), ("probe", Mode::Probe)];
        choice(text, &modes)
    }
}

impl FromText for Format {
    const EXPECTED: &'static str = "`json` or `text`";

    fn from_text(text: &str) -> Result<Self, String> {
        choice(text, &[("json", Format::Json), ("text", Format::Text)])
    }
}

impl FromText for CloseStyle {
    const EXPECTED: &'static str = "`abrupt` or `clean`";

    fn from_text(text: &str) -> Result<Self, String> {
        choice(text, &[("abrupt", CloseStyle::Abrupt), ("clean", CloseStyle::Clean)])
    }
}

impl FromText for When {
    const EXPECTED: &'static str = "`idle` or `now`";

    fn from_text(text: &str) -> Result<Self, String> {
        choice(text, &[("idle", When::Idle), ("now", When::Now)])
    }
}

fn choice<T: Copy>(text: &str, names: &[(&str, T)]) -> Result<T, String> {
    match names.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)) {
        Some((_, meaning)) => Ok(*meaning),
        None => Err(format!("{text:?} is none of {}", listed(names.iter().map(|(name, _)| *name)))),
    }
}
