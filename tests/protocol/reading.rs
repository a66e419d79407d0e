//! How servers split bytes into requests: one that takes the plainest form only, and the lenient ways that are in use.

/// What a server overlooks, and how it understands it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) name: &'static str,
    /// Takes nothing but the plainest form.
    is_strict: bool,
    /// Which of the two counts where a body has a length and a coding.
    prefers: Framing,
    /// Which of two lengths counts.
    takes_last_length: bool,
    /// A line ends at a bare CR as well.
    splits_at_cr: bool,
    /// A blank before the colon belongs to no name.
    trims_names: bool,
    /// A line that begins with a blank goes on with the one before.
    unfolds: bool,
    /// Whether a coding counts that only contains `chunked`.
    takes_any_coding: bool,
    /// A chunk's size may have a sign, `0x`, blanks, or junk behind it.
    guesses_sizes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunks,
}

/// The next thing in some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A whole request: its first line, and its length in bytes.
    Request(String, usize),
    /// The beginning of one: its first line if that is whole.
    Unfinished(String),
    /// What this server refuses, and why.
    Refused(String),
}

const STRICT: Reading = Reading {
    name: "strict",
    is_strict: true,
    prefers: Framing::Chunks,
    takes_last_length: false,
    splits_at_cr: false,
    trims_names: false,
    unfolds: false,
    takes_any_coding: false,
    guesses_sizes: false,
};

const LENIENT: Reading = Reading {
    name: "length first",
    is_strict: false,
    prefers: Framing::Length,
    trims_names: true,
    unfolds: true,
    takes_any_coding: true,
    guesses_sizes: true,
    ..STRICT
};

/// All of them; the first is the strict one, the second the one that a lenient pod answers by.
pub(super) const READINGS: [Reading; 7] = [
    STRICT,
    LENIENT,
    Reading { name: "chunks first", prefers: Framing::Chunks, ..LENIENT },
    Reading { name: "the last length", takes_last_length: true, ..LENIENT },
    Reading { name: "a bare CR ends a line", splits_at_cr: true, prefers: Framing::Chunks, ..LENIENT },
    Reading { name: "exact names and codings", trims_names: false, takes_any_coding: false, ..LENIENT },
    Reading { name: "no folded lines", unfolds: false, guesses_sizes: false, prefers: Framing::Chunks, ..LENIENT },
];

impl Reading {
    /// All whole requests by their first lines, and what comes behind them.
    pub(super) fn split(&self, mut bytes: &[u8]) -> (Vec<String>, Option<Next>) {
        let mut requests = Vec::new();
        while !bytes.is_empty() {
            match self.next(bytes) {
                Next::Request(line, length) => {
                    requests.push(line);
                    bytes = &bytes[length..];
                }
                other => return (requests, Some(other)),
            }
        }
        (requests, None)
    }

    /// What stands at the beginning of these bytes.
    pub(super) fn next(&self, bytes: &[u8]) -> Next {
        let Some(head_ends) = self.head_end(bytes) else {
            let line = self.lines(bytes).first().map(|line| text(line)).unwrap_or_default();
            return Next::Unfinished(line);
        };
        let lines = self.lines(&bytes[..head_ends]);
        let first = lines.first().map(|line| text(line)).unwrap_or_default();
        if self.is_strict
            && let Some(why) = oddity(&bytes[..head_ends])
        {
            return Next::Refused(format!("{why} in {:?}", text(&bytes[..head_ends])));
        }
        let fields = self.fields(&lines[1..]);
        let of =
            |name: &str| fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value).collect::<Vec<_>>();
        let (lengths, codings) = (of("content-length"), of("transfer-encoding"));
        let is_chunked = codings.iter().any(|coding| match self.takes_any_coding {
            true => coding.contains("chunked"),
            false => *coding == "chunked",
        });
        if is_chunked && (self.prefers == Framing::Chunks || lengths.is_empty()) {
            return match self.chunks(&bytes[head_ends..]) {
                Some(Ok(length)) => Next::Request(first, head_ends + length),
                Some(Err(why)) => Next::Refused(why),
                None => Next::Unfinished(first),
            };
        }
        let length = if self.takes_last_length { lengths.last() } else { lengths.first() };
        let length = length.map_or(0, |length| leading_digits(length));
        if bytes.len() - head_ends < length {
            return Next::Unfinished(first);
        }
        Next::Request(first, head_ends + length)
    }

    /// Where the head with its empty line ends.
    fn head_end(&self, bytes: &[u8]) -> Option<usize> {
        let mut begins = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let ends = match byte {
                b'\n' if self.is_strict => at > 0 && bytes[at - 1] == b'\r',
                b'\n' => true,
                b'\r' => self.splits_at_cr && bytes.get(at + 1).is_some_and(|next| *next != b'\n'),
                _ => false,
            };
            if ends {
                let line = bytes[begins..at].strip_suffix(b"\r").unwrap_or(&bytes[begins..at]);
                if line.is_empty() && begins > 0 {
                    return Some(at + 1);
                }
                begins = at + 1;
            }
        }
        None
    }

    fn lines<'a>(&self, head: &'a [u8]) -> Vec<&'a [u8]> {
        let mut lines: Vec<&[u8]> = Vec::new();
        for line in head.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match self.splits_at_cr {
                true => lines.extend(line.split(|byte| *byte == b'\r')),
                false => lines.push(line),
            }
        }
        lines.retain(|line| !line.is_empty());
        lines
    }

    /// Names in lower case with their values.
    fn fields(&self, lines: &[&[u8]]) -> Vec<(String, String)> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in lines {
            let line = text(line).to_ascii_lowercase();
            if self.unfolds
                && line.starts_with([' ', '\t'])
                && let Some((_, value)) = fields.last_mut()
            {
                *value += line.trim();
                continue;
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            let name = if self.trims_names { name.trim_matches(|c: char| c <= ' ') } else { name };
            fields.push((name.to_owned(), value.trim_matches(|c: char| c <= ' ').to_owned()));
        }
        fields
    }

    /// The length of a chunked body; `None` if it has not come to its end.
    fn chunks(&self, bytes: &[u8]) -> Option<Result<usize, String>> {
        let mut at = 0;
        loop {
            let ends = at + bytes[at..].iter().position(|byte| *byte == b'\n')? + 1;
            let line = text(&bytes[at..ends]);
            let digits = line.split(';').next().unwrap_or_default();
            let digits = if self.guesses_sizes { guessed(digits) } else { digits.trim_end().to_owned() };
            let is_plain = line.ends_with("\r\n") && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let Ok(size) = usize::from_str_radix(&digits, 16) else {
                return Some(Err(format!("a chunk of the size {line:?}")));
            };
            if self.is_strict && !is_plain {
                return Some(Err(format!("a chunk of the size {line:?}")));
            }
            at = ends;
            if size == 0 {
                break;
            }
            let behind = at.checked_add(size).filter(|behind| *behind < bytes.len())?;
            let end = bytes[behind..].iter().position(|byte| *byte == b'\n')?;
            if self.is_strict && &bytes[behind..=behind + end] != b"\r\n" {
                return Some(Err("no end of line behind a chunk".into()));
            }
            at = behind + end + 1;
        }
        // Trailers, then an empty line.
        loop {
            let end = bytes[at..].iter().position(|byte| *byte == b'\n')?;
            let is_last = matches!(&bytes[at..at + end], b"" | b"\r");
            at += end + 1;
            if is_last {
                return Some(Ok(at));
            }
        }
    }
}

/// What a careless parser makes of a chunk's size.
fn guessed(digits: &str) -> String {
    let digits = digits.trim().trim_start_matches('+').to_ascii_lowercase();
    let digits = digits.trim_start_matches("0x");
    let digits: String = digits.chars().take_while(char::is_ascii_hexdigit).collect();
    // One that has overflowed keeps its last digits.
    let kept = digits.len().saturating_sub(8);
    if digits.is_empty() { "0".into() } else { digits[kept..].to_owned() }
}

/// What a careless parser makes of a length.
fn leading_digits(value: &str) -> usize {
    let digits: String = value.trim_start_matches('+').chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Why a head is not of the plainest form.
fn oddity(head: &[u8]) -> Option<&'static str> {
    let head = text(head);
    let head = head.strip_suffix("\r\n\r\n")?;
    let plain = head.replace("\r\n", "");
    if plain.contains(['\r', '\n', '\0']) {
        return Some("a bare CR, LF or NUL");
    }
    let mut lines = head.split("\r\n");
    let line: Vec<&str> = lines.next()?.split(' ').collect();
    match line[..] {
        [method, target, "HTTP/1.1"] if is_token(method) && (target.starts_with('/') || target == "*") => {}
        _ => return Some("the request line"),
    }
    let (mut hosts, mut lengths, mut codings) = (0, Vec::new(), Vec::new());
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return Some("a line without a colon") };
        if !is_token(name) {
            return Some("a field's name");
        }
        if value.chars().any(|c| c < ' ' && c != '\t' || c == '\x7f') {
            return Some("a control character");
        }
        match &*name.to_ascii_lowercase() {
            "host" => hosts += 1,
            "content-length" => lengths.push(value.trim_matches([' ', '\t'])),
            "transfer-encoding" => codings.push(value.trim_matches([' ', '\t'])),
            // A server that knows no such version could take the rest of the connection for something else.
            "http2-settings" => return Some("HTTP2-Settings"),
            _ => {}
        }
    }
    match (&lengths[..], &codings[..]) {
        _ if hosts != 1 => Some("not one Host"),
        ([], []) | ([], ["chunked"]) => None,
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => None,
        _ => Some("the framing of the body"),
    }
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Each byte as a character.
pub(super) fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

#[test]
fn the_readings_differ_where_servers_do() {
    let split = |bytes: &str| READINGS.map(|reading| reading.split(bytes.as_bytes()).0.len());
    let smuggled = "GET /b HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(split(&format!("GET /a HTTP/1.1\r\nHost: h\r\n\r\n{smuggled}")), [2; 7]);
    let length = smuggled.len() + 5;
    let both = format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}");
    assert_eq!(split(&format!("POST /a HTTP/1.1\r\nHost: h\r\n{both}")), [0, 1, 2, 1, 2, 1, 2]);
    let folded = format!("Transfer-Encoding:\r\n chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n{smuggled}");
    assert_eq!(split(&format!("POST /a HTTP/1.1\r\nHost: h\r\n{folded}"))[1..3], [1, 2]);
    let bare = format!("X: a\rTransfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n{smuggled}");
    assert_eq!(split(&format!("POST /a HTTP/1.1\r\nHost: h\r\n{bare}"))[3..5], [1, 2]);
}
