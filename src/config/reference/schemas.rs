//! The schemas of the file's own types.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::config::{
    file::{Access, Pod, PodTable},
    pod_url::PodUrl,
    secret::{SecretSource, SecretTable},
    value::{FromText, OneOrMany, Spanned, Table, Whole, Written},
};

fn titled(title: impl Into<String>, mut schema: Schema) -> Schema {
    schema.insert("title".to_owned(), json!(title.into()));
    schema
}

/// A string; an enum of the names in backticks if `expected` lists nothing else.
fn text(expected: &'static str) -> Schema {
    let parts: Vec<&str> = expected.split('`').collect();
    let is_choice = parts.len() > 2 && parts.iter().step_by(2).all(|between| ["", ", ", " or "].contains(between));
    let choices: Vec<&str> = parts.into_iter().skip(1).step_by(2).collect();
    let schema = if is_choice {
        json_schema!({ "type": "string", "enum": choices })
    } else {
        json_schema!({ "type": "string" })
    };
    titled(expected, schema)
}

macro_rules! inline {
    ($name:expr) => {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            $name.into()
        }
    };
}

impl<T: FromText> JsonSchema for Written<T> {
    inline!(T::EXPECTED);

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text(T::EXPECTED)
    }
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Whole<MIN, MAX> {
    inline!(format!("whole_from_{MIN}_to_{MAX}"));

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let schema = json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX });
        titled(format!("a whole number from {MIN} to {MAX}"), schema)
    }
}

impl<T: JsonSchema> JsonSchema for Table<T> {
    inline!(T::schema_name());

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    inline!(T::schema_name());

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    inline!(format!("one_or_many_{}", T::schema_name()));

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = T::json_schema(generator);
        let title = format!("{}, or a list of them", one.get("title").and_then(Value::as_str).unwrap_or("a value"));
        titled(title, json_schema!({ "anyOf": [one.clone(), { "type": "array", "items": one }] }))
    }
}

impl JsonSchema for Pod {
    inline!("Pod");

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (url, table) = (text(PodUrl::EXPECTED), PodTable::json_schema(generator));
        let title = format!(
            "{}, or a table of `url`, `instance_id`, `api_key`, `standby`, `wake`, `idle_after`, `tls` and `host`",
            PodUrl::EXPECTED
        );
        titled(title, json_schema!({ "anyOf": [url, table] }))
    }
}

impl JsonSchema for SecretSource {
    inline!("Secret");

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (inline, table) = (text("the secret itself"), SecretTable::json_schema(generator));
        let title = "a secret: `{ file = \"…\" }`, `{ env = \"…\" }` or the text itself";
        titled(title, json_schema!({ "anyOf": [table, inline] }))
    }
}

impl JsonSchema for Access {
    inline!("Access");

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        titled("`true`, `false` or the path of a file", json_schema!({ "type": ["boolean", "string"] }))
    }
}
