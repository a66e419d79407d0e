//! The identifiers of Jellyfin: GUIDs written as 32 hex, made at random or from a text by MD5.

use md5::{Digest, Md5};

/// A fresh random GUID, 32 lower-case hex.
pub(crate) fn random_guid() -> String {
    hex(&random_bytes::<16>())
}

/// Random bytes from the operating system.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without entropy no identifier can be trusted to be unique, so nothing sensible could follow.
    assert!(getrandom::fill(&mut bytes).is_ok(), "the operating system gives no random bytes");
    bytes
}

/// The id of a session: MD5 over Client and DeviceId in UTF-16LE, read as a .NET `Guid` and written as `N`.
pub fn session_id(client: &str, device_id: &str) -> String {
    guid_of(&format!("{client}{device_id}"))
}

/// .NET's `new Guid(MD5(UTF-16LE(text)))` in format `N`: the first three fields are little-endian.
pub(crate) fn guid_of(text: &str) -> String {
    let mut md5 = Md5::new();
    for unit in text.encode_utf16() {
        md5.update(unit.to_le_bytes());
    }
    let mut guid: [u8; 16] = md5.finalize().into();
    guid[0..4].reverse();
    guid[4..6].reverse();
    guid[6..8].reverse();
    hex(&guid)
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// The plain form of a GUID as `Guid.Parse` takes it: 32 digits, with dashes at their places or none, in braces or parentheses, between
/// blanks; `None` if it is none. (The form `{0x…,0x…}` is left out.)
pub(crate) fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let within = |open, close| text.strip_prefix(open).and_then(|rest: &str| rest.strip_suffix(close));
    let (text, is_dashed) = match within('{', '}').or_else(|| within('(', ')')) {
        Some(inner) => (inner, true),
        None => (text, text.len() == 36),
    };
    let dashes_fit = !is_dashed || (text.len() == 36 && [8, 13, 18, 23].iter().all(|at| text.as_bytes()[*at] == b'-'));
    let plain: String = if is_dashed { text.replace('-', "") } else { text.to_owned() }.to_ascii_lowercase();
    (dashes_fit && plain.len() == 32 && plain.bytes().all(|b| b.is_ascii_hexdigit())).then_some(plain)
}

/// The dashed form of a plain GUID.
pub(crate) fn dashed(guid: &str) -> String {
    if guid.len() != 32 || !guid.is_ascii() {
        return guid.to_owned();
    }
    format!("{}-{}-{}-{}-{}", &guid[..8], &guid[8..12], &guid[12..16], &guid[16..20], &guid[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_is_the_md5_of_client_and_device_as_a_dotnet_guid() {
        // python: uuid.UUID(bytes_le=md5(("Story"+"d1").encode("utf-16-le")).digest()).hex
        assert_eq!(session_id("Story", "d1"), "604be5e667c77c146523f5dc9837bc1a");
    }

    #[test]
    fn guids_are_read_in_any_form_and_written_with_dashes() {
        let text = "4D52F8D3-8F00-5C44-8D02-0D5B3A2A3B7C";
        let plain = plain(text).unwrap_or_default();
        assert_eq!(plain, "4d52f8d38f005c448d020d5b3a2a3b7c");
        assert_eq!(dashed(&plain), text.to_ascii_lowercase());
        assert_eq!(super::plain(&format!(" {{{text}}} ")).as_ref(), Some(&plain));
        for none in ["nope", "4d52f8d3-8f005c44-8d02-0d5b-3a2a3b7c", "{4d52f8d38f005c448d020d5b3a2a3b7c}"] {
            assert_eq!(super::plain(none), None, "{none}");
        }
    }
}
