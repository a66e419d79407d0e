//! Finds the name of a live playlist, whose segments are under `hls/{32 hex digits}/`.

const MARK: &[u8] = b"hls/";
const DIGITS: usize = 32;

#[derive(Default)]
pub(super) struct Reader {
    /// The end of the last piece, which may be the beginning of an id.
    rest: Vec<u8>,
    found: Option<String>,
}

impl Reader {
    /// Reads the next piece; returns whether there may be more to learn.
    pub(super) fn read(&mut self, piece: &[u8]) -> bool {
        self.rest.extend_from_slice(piece);
        self.found = self.rest.windows(MARK.len() + DIGITS + 1).find_map(id);
        let from = self.rest.len().saturating_sub(MARK.len() + DIGITS);
        self.rest.drain(..from);
        self.found.is_none()
    }

    pub(super) fn take(&mut self) -> Option<String> {
        self.found.take()
    }
}

fn id(window: &[u8]) -> Option<String> {
    let (digits, end) = window.strip_prefix(MARK)?.split_at_checked(DIGITS)?;
    let is_id = end == b"/" && digits.iter().all(u8::is_ascii_hexdigit);
    is_id.then(|| String::from_utf8_lossy(digits).into_owned())
}
