//! Picks the coding of an answer out of `Accept-Encoding` (RFC 9110, 12.5.3). Pure.

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

impl Coding {
    /// The coding that the client likes best. Of several that it likes alike, the cheapest for its
    /// size. `None` if it knows none of them, or likes the answer better as it is.
    pub(super) fn best<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Coding> {
        let entries: Vec<(&str, u16)> = lines.flat_map(|line| line.split(',')).filter_map(entry).collect();
        let quality_of = |names: &[&str]| {
            let named = |(name, _): &&(&str, u16)| names.iter().any(|known| name.eq_ignore_ascii_case(known));
            entries.iter().find(named).map(|(_, quality)| *quality)
        };
        let rest = quality_of(&["*"]);
        let of = |names: &[&str]| quality_of(names).or(rest).unwrap_or(0);
        let all =
            [(Coding::Gzip, of(&["gzip", "x-gzip"])), (Coding::Brotli, of(&["br"])), (Coding::Zstd, of(&["zstd"]))];
        // Of equal ones `max_by_key` takes the last.
        let (coding, quality) = all.into_iter().max_by_key(|(_, quality)| *quality)?;
        let unchanged = quality_of(&["identity"]).unwrap_or(0);
        (quality > 0 && quality >= unchanged).then_some(coding)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
            Coding::Gzip => "gzip",
        }
    }
}

/// A coding's name and its quality in thousandths, from `br;q=0.8`. A malformed quality is 0.
fn entry(text: &str) -> Option<(&str, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    let quality = quality.map_or(Some(1.0), |quality| quality.trim().parse::<f32>().ok());
    let quality = quality.filter(|quality| (0.0..=1.0).contains(quality)).unwrap_or(0.0);
    Some((name, (quality * 1000.0) as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_picks_and_the_cheapest_wins_among_equals() {
        let best = |accepted: &str| Coding::best(std::iter::once(accepted));
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("gzip", Some(Coding::Gzip)),
            ("GZIP;q=1.0, br;q=0.5", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.5, zstd;q=0", Some(Coding::Brotli)),
            ("br;q=0, gzip;q=0", None),
            ("gzip;q=0.5, identity;q=0.9", None),
            ("gzip;q=0.5, identity;q=0.5", Some(Coding::Gzip)),
            ("identity", None),
            ("deflate", None),
            ("", None),
            ("gzip;q=2, br;q=x", None),
            (" ;q=1, , gzip ; q=0.1", Some(Coding::Gzip)),
        ] {
            assert_eq!(best(accepted), expected, "{accepted}");
        }
        assert_eq!(Coding::best(["identity;q=0.1", "br;q=0.2"].into_iter()), Some(Coding::Brotli));
    }
}
