//! The user name in the body of a log-in by name.

use serde_json::Value;

/// The body has two names, and the pod may take either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwoNames;

/// The name in the body of a log-in, in lower case; empty if there is none. Pods ignore the case of
/// its key, and of the name.
///
/// # Errors
/// The body has two names.
pub fn user_name(body: &[u8]) -> Result<String, TwoNames> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return Ok(String::new()) };
    let mut names = fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case("username")).map(|(_, name)| name);
    let name = names.next().and_then(Value::as_str).unwrap_or_default();
    if names.next().is_some() {
        return Err(TwoNames);
    }
    Ok(name.trim().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_name_is_found_in_any_form_that_a_pod_reads() {
        for body in
            [r#"{"Username":"Alice","Pw":"x"}"#, r#"{"username":"alice"}"#, r#"{"Pw":"x","USERNAME":" \u0041lice "}"#]
        {
            assert_eq!(user_name(body.as_bytes()), Ok("alice".to_owned()), "{body}");
        }
        for body in ["", "[]", r#"{"Pw":"x"}"#, r#"{"Username":1}"#, "\u{feff}{}"] {
            assert_eq!(user_name(body.as_bytes()), Ok(String::new()), "{body}");
        }
        assert!(user_name(br#"{"Username":"a","username":"b"}"#).is_err());
    }
}
