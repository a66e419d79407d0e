//! The dashboard's files: plain HTML, CSS and JavaScript, which the program carries itself.

use http::StatusCode;

use super::answer::{Answer, text, whole};

const INDEX: &str = include_str!("dashboard/index.html");
const SIGN_IN: &str = include_str!("dashboard/sign_in.html");
const STYLE: &str = include_str!("dashboard/style.css");
const SCRIPT: &str = include_str!("dashboard/script.js");

/// Where the sign-in page says why it is shown again.
const MESSAGE: &str = "<!-- message -->";

/// Where the sign-in page asks for a name and a password, if Jellyfin's administrators may sign in.
const BY_NAME: (&str, &str) = ("<!-- by name -->", "<!-- end of by name -->");

/// The path of the style sheet, which the sign-in page needs too.
pub(super) const STYLE_PATH: &str = "/assets/style.css";

pub(super) fn index() -> Answer {
    whole("text/html; charset=utf-8", INDEX)
}

/// A file of the dashboard.
pub(super) fn asset(path: &str) -> Answer {
    match path {
        STYLE_PATH => whole("text/css; charset=utf-8", STYLE),
        "/assets/script.js" => whole("text/javascript; charset=utf-8", SCRIPT),
        _ => text(StatusCode::NOT_FOUND, "There is no such file.\n"),
    }
}

/// The sign-in page. `message` is one of this program's own sentences.
pub(super) fn sign_in(message: &'static str, by_name: bool) -> Answer {
    let message = if message.is_empty() { String::new() } else { format!("<p role=\"alert\">{message}</p>") };
    let mut page = SIGN_IN.replace(MESSAGE, &message);
    if !by_name && let (Some(begin), Some(end)) = (page.find(BY_NAME.0), page.find(BY_NAME.1)) {
        page.replace_range(begin..end, "");
    }
    whole("text/html; charset=utf-8", page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_page_has_a_script_a_style_or_a_host_of_another() {
        for page in [INDEX, SIGN_IN] {
            for forbidden in ["<style", " style=", "onclick", "onload", "http://", "https://", "<script>"] {
                assert!(!page.contains(forbidden), "{forbidden}");
            }
        }
        for forbidden in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"]
        {
            // The name of a namespace is no address.
            let script = SCRIPT.replace("http://www.w3.org/2000/svg", "");
            assert!(!script.contains(forbidden), "{forbidden}");
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }

    #[test]
    fn the_sign_in_page_has_its_places() {
        assert!(SIGN_IN.contains(MESSAGE) && SIGN_IN.contains(BY_NAME.0) && SIGN_IN.contains(BY_NAME.1));
    }
}
