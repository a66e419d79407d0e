//! Looks for tokens in files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Digits of a token.
const LENGTH: usize = 32;

/// How many of these tokens stand in clear in some file below the folder. What may hold them by its nature is not looked at: the pods'
/// own database, and configurations.
pub(crate) fn found_below(folder: &Path, tokens: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_pods = path.file_name().is_some_and(|name| name == "cluster");
        if path.is_dir() && !is_pods {
            found.extend(found_below(&path, tokens));
        } else if path.is_file() && path.extension().is_none_or(|end| end != "conf" && end != "yml") {
            // A file may go while it is looked for.
            found.extend(found_in(&fs::read(&path).unwrap_or_default(), tokens));
        }
    }
    found
}

fn found_in(bytes: &[u8], tokens: &BTreeSet<String>) -> BTreeSet<String> {
    let runs = bytes.split(|byte| !byte.is_ascii_hexdigit()).filter(|run| run.len() >= LENGTH);
    let texts = runs.flat_map(|run| run.windows(LENGTH)).filter_map(|window| std::str::from_utf8(window).ok());
    texts.map(str::to_ascii_lowercase).filter(|text| tokens.contains(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_wherever_it_stands() {
        let token = "0123456789abcdef0123456789abcdef".to_owned();
        let tokens = BTreeSet::from([token.clone()]);
        let in_text = format!("\0\u{1}ApiKey={token}&x");
        let longer = format!("ab{}00", token.to_uppercase());
        for text in [in_text, longer] {
            assert_eq!(found_in(text.as_bytes(), &tokens), tokens, "{text}");
        }
        assert!(found_in(&token.as_bytes()[1..], &tokens).is_empty());
    }
}
