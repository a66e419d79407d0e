//! Which Jellyfin a pod plays: the two generations differ in carriers, headers and some refusals.

/// The generation of the simulated server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// Jellyfin 12.0.0: legacy carriers off, `Content-Language` on every answer.
    #[default]
    V12,
    /// Jellyfin 10.11.11: legacy carriers on, `/emby` and `/mediabrowser` stripped.
    V10_11,
}

impl Generation {
    /// What `Version` says in the server's own information.
    pub fn version(self) -> &'static str {
        match self {
            Generation::V12 => "12.0.0",
            Generation::V10_11 => "10.11.11",
        }
    }

    /// Whether `EnableLegacyAuthorization` is on when nobody has set it.
    pub fn legacy_authorization_by_default(self) -> bool {
        self == Generation::V10_11
    }
}

impl std::str::FromStr for Generation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "12" | "12.0" | "12.0.0" => Ok(Generation::V12),
            "10.11" | "10.11.11" => Ok(Generation::V10_11),
            other => Err(format!("unknown generation {other}: 12.0 or 10.11 expected")),
        }
    }
}
