//! Reading a delivery in either shape: an object, or an array of such objects. An element of an array that is
//! no delivery becomes an entry that is kept whole; an array without any delivery is none.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::WebhookDelivery;
use super::reading::{Reading, read};

/// Why a body is no delivery. It shows nothing of the body.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoDelivery {
    /// It is no JSON.
    #[error("it is no JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// It is this.
    #[error("it is {0} instead of an object")]
    NotAnObject(&'static str),
    /// An object that lacks this field, or has it with a value of another type.
    #[error("its field `{0}` is missing or of another type")]
    Field(&'static str),
    /// An array that has nothing in it.
    #[error("it is an empty array")]
    Empty,
    /// An array without a delivery, and what its first element is.
    #[error("it is an array without a delivery: of the first element, {0}")]
    Elements(Box<Self>),
}

impl WebhookDelivery {
    /// Reads a delivery as the API posts it.
    ///
    /// # Errors
    /// When it is no JSON, or of another shape: reading it again gives the same.
    pub fn parse(text: &str) -> Result<Self, NoDelivery> {
        let Reading { value, unreadable } = read(text)?;
        let read = match value {
            Value::Array(elements) => together(elements),
            mut value => single(&mut value),
        }?;
        Ok(Self { unreadable, ..read })
    }
}

impl<'de> Deserialize<'de> for WebhookDelivery {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(json)?;
        Self::parse(raw.get()).map_err(D::Error::custom)
    }
}

/// Takes a delivery out of an object; another value stays as it is.
fn single(value: &mut Value) -> Result<WebhookDelivery, NoDelivery> {
    let fields = match value {
        Value::Object(fields) => fields,
        Value::Null => return Err(NoDelivery::NotAnObject("null")),
        Value::Bool(_) => return Err(NoDelivery::NotAnObject("a boolean")),
        Value::Number(_) => return Err(NoDelivery::NotAnObject("a number")),
        Value::String(_) => return Err(NoDelivery::NotAnObject("a text")),
        Value::Array(_) => return Err(NoDelivery::NotAnObject("an array")),
    };
    let Some(Value::String(object)) = fields.get("object") else {
        return Err(NoDelivery::Field("object"));
    };
    let object = object.clone();
    let Some(Value::Array(entry)) = fields.get_mut("entry") else {
        return Err(NoDelivery::Field("entry"));
    };
    let entry = std::mem::take(entry);
    fields.retain(|name, _| name != "object" && name != "entry");
    Ok(WebhookDelivery {
        object,
        entry,
        other: std::mem::take(fields),
        unreadable: 0,
    })
}

/// Makes one of those that an array has.
fn together(elements: Vec<Value>) -> Result<WebhookDelivery, NoDelivery> {
    let mut all: Option<WebhookDelivery> = None;
    let mut problem = None;
    let mut entries = Vec::new();
    for mut element in elements {
        match single(&mut element) {
            Ok(next) => {
                entries.extend(next.entry);
                let all = all.get_or_insert_with(|| WebhookDelivery {
                    object: next.object,
                    entry: Vec::new(),
                    other: Map::new(),
                    unreadable: 0,
                });
                for (name, value) in next.other {
                    all.other.entry(name).or_insert(value);
                }
            }
            // In an array of its own it is an entry of unknown shape, which is kept whole.
            Err(error) => {
                problem.get_or_insert(error);
                entries.push(Value::Array(vec![element]));
            }
        }
    }
    match (all, problem) {
        (Some(all), _) => Ok(WebhookDelivery {
            entry: entries,
            ..all
        }),
        (None, Some(problem)) => Err(NoDelivery::Elements(Box::new(problem))),
        (None, None) => Err(NoDelivery::Empty),
    }
}
