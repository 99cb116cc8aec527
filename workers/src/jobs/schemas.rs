//! JSON Schemas of what goes into jobs and comes out of them, for backends that are not written in Rust. They
//! are made of the types that the workers read and write; `docs/schemas` holds them as files.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::analytics_refresh::{AccountNotice, AnalyticsRefresh, Overview};
use super::post_publishing::{PostNotice, PostPublishing, PublishedPost};
use super::webhook_processing::{ProcessedDelivery, WebhookDelivery};

/// A schema (draft 2020-12) and the name of its file.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedSchema {
    /// Such as `post-publishing.data.json`: the queue and what of it.
    pub file: &'static str,
    /// The schema.
    pub schema: Value,
}

/// The schemas of every queue's data and results, and of the notices to users.
pub fn schemas() -> Vec<NamedSchema> {
    vec![
        read::<PostPublishing>("post-publishing.data.json"),
        written::<PublishedPost>("post-publishing.result.json"),
        written::<PostNotice>("post-publishing.notice.json"),
        read::<WebhookDelivery>("webhook-processing.data.json"),
        written::<ProcessedDelivery>("webhook-processing.result.json"),
        read::<AnalyticsRefresh>("analytics-refresh.data.json"),
        written::<Overview>("analytics-refresh.result.json"),
        written::<AccountNotice>("analytics-refresh.notice.json"),
    ]
}

/// What a worker reads: fields with a default may be missing.
fn read<T: JsonSchema>(file: &'static str) -> NamedSchema {
    named::<T>(file, SchemaSettings::draft2020_12().for_deserialize())
}

/// What a worker writes.
fn written<T: JsonSchema>(file: &'static str) -> NamedSchema {
    named::<T>(file, SchemaSettings::draft2020_12().for_serialize())
}

fn named<T: JsonSchema>(file: &'static str, settings: SchemaSettings) -> NamedSchema {
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut schema = Value::from(schema);
    drop_formats(&mut schema);
    NamedSchema { file, schema }
}

/// Formats such as `uint64` are Rust's own, and strict validators refuse what they do not know.
fn drop_formats(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("format").is_some_and(Value::is_string) {
                fields.remove("format");
            }
            fields.values_mut().for_each(drop_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_formats),
        _ => {}
    }
}
