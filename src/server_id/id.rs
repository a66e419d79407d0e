//! The id of a server.

use std::{fmt, str};

/// 32 lower-case hex digits: a GUID in .NET's format `N`. Upper-case digits become lower-case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerId([u8; ServerId::LENGTH]);

impl ServerId {
    /// In bytes.
    pub const LENGTH: usize = 32;

    /// `None` for text that is not such a GUID.
    pub fn parse(text: &str) -> Option<ServerId> {
        let mut digits: [u8; ServerId::LENGTH] = text.as_bytes().try_into().ok()?;
        digits.make_ascii_lowercase();
        digits.iter().all(u8::is_ascii_hexdigit).then_some(ServerId(digits))
    }

    /// The same digits with dashes, as most languages write a GUID.
    pub fn dashed(&self) -> [u8; ServerId::LENGTH + 4] {
        let mut dashed = [b'-'; ServerId::LENGTH + 4];
        let mut from = 0;
        for (at, length) in [(0, 8), (9, 4), (14, 4), (19, 4), (24, 12)] {
            dashed[at..at + length].copy_from_slice(&self.0[from..from + length]);
            from += length;
        }
        dashed
    }

    pub fn bytes(&self) -> &[u8; ServerId::LENGTH] {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        // ASCII digits are valid UTF-8.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl PartialEq<str> for ServerId {
    fn eq(&self, text: &str) -> bool {
        self.0 == *text.as_bytes()
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_thirty_two_hex_digits() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(ServerId::parse(id).expect("an id").as_str(), id);
        assert_eq!(ServerId::parse(&id.to_uppercase()), ServerId::parse(id));
        for text in ["", &id[1..], "0123456789abcdef0123456789abcdeg", "01234567-89ab-cdef-0123-456789abcdef"] {
            assert_eq!(ServerId::parse(text), None, "{text}");
        }
    }
}
