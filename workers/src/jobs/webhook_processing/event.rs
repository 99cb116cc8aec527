//! One delivery holds entries, an entry holds messaging items and changes, and each is an event.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::WebhookDelivery;

/// The longest id used as it is, in bytes; longer ones are hashed.
const LONGEST_ID: usize = 200;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A message was sent or received.
    Message,
    /// A message was taken back by its sender.
    MessageDeleted,
    /// A button of a message was pressed.
    Postback,
    /// Messages were read.
    Read,
    /// The account was mentioned in a post, comment or story.
    Mention,
    /// A post was commented.
    Comment,
    /// An event of a type that has no handling of its own; kept whole.
    #[serde(untagged)]
    Unknown(String),
}

impl EventKind {
    /// The name used in keys.
    pub fn name(&self) -> &str {
        match self {
            Self::Message => "message",
            Self::MessageDeleted => "message_deleted",
            Self::Postback => "postback",
            Self::Read => "read",
            Self::Mention => "mention",
            Self::Comment => "comment",
            Self::Unknown(name) => name,
        }
    }
}

/// One event of a delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookEvent {
    /// What happened.
    pub kind: EventKind,
    /// The account it happened to.
    pub account_id: String,
    /// The same in every repeat of this event, different for every other of its account and kind.
    pub event_id: String,
    /// When it happened, milliseconds since 1970, where the delivery says so.
    pub occurred_at: Option<i64>,
    /// The event as it came.
    pub payload: Value,
}

/// Splits a delivery into its events, in order. Nothing is left out: what has an unknown shape
/// becomes an event of unknown kind.
pub fn split(delivery: &WebhookDelivery) -> Vec<WebhookEvent> {
    delivery.entry.iter().flat_map(split_entry).collect()
}

fn split_entry(entry: &Value) -> Vec<WebhookEvent> {
    let account = text(entry, "id").unwrap_or_else(|| "unknown".to_owned());
    let time = entry.get("time").and_then(Value::as_i64).map(in_ms);
    let messaging = items(entry, "messaging").map(|item| messaging_event(&account, item));
    let changes = items(entry, "changes").map(|item| change_event(&account, time, item));
    let events: Vec<_> = messaging.chain(changes).collect();
    if events.is_empty() {
        return vec![unknown("entry", &account, time, entry)];
    }
    events
}

fn items<'v>(entry: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    entry
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// Entries come with seconds or milliseconds, depending on the product.
fn in_ms(time: i64) -> i64 {
    const IN_SECONDS_BELOW: i64 = 100_000_000_000;
    if time < IN_SECONDS_BELOW {
        time.saturating_mul(1000)
    } else {
        time
    }
}

fn messaging_event(account: &str, item: &Value) -> WebhookEvent {
    let time = item.get("timestamp").and_then(Value::as_i64).map(in_ms);
    let sender = item.get("sender").and_then(|sender| text(sender, "id"));
    let known = if let Some(message) = item.get("message") {
        let deleted = message.get("is_deleted").and_then(Value::as_bool) == Some(true);
        let kind = if deleted {
            EventKind::MessageDeleted
        } else {
            EventKind::Message
        };
        text(message, "mid").map(|id| (kind, id))
    } else if let Some(postback) = item.get("postback") {
        text(postback, "mid").map(|id| (EventKind::Postback, id))
    } else if let Some(read) = item.get("read") {
        // A reader's receipt for a message; two readers may read the same one.
        text(read, "mid")
            .zip(sender)
            .map(|(id, sender)| (EventKind::Read, format!("{sender}.{id}")))
    } else {
        None
    };
    match known {
        Some((kind, id)) => event(kind, account, &id, time, item),
        None => unknown(subject(item), account, time, item),
    }
}

/// The field that names what an item of unknown kind is about, such as `reaction`.
fn subject(item: &Value) -> &str {
    item.as_object()
        .and_then(|fields| {
            fields
                .keys()
                .find(|name| !matches!(name.as_str(), "sender" | "recipient" | "timestamp"))
        })
        .map_or("messaging", String::as_str)
}

fn change_event(account: &str, time: Option<i64>, item: &Value) -> WebhookEvent {
    let field = item.get("field").and_then(Value::as_str);
    let value = item.get("value").unwrap_or(&Value::Null);
    let known = match field {
        Some("comments" | "live_comments") => text(value, "id").map(|id| (EventKind::Comment, id)),
        Some("mentions") => text(value, "comment_id")
            .or_else(|| text(value, "media_id"))
            .map(|id| (EventKind::Mention, id)),
        _ => None,
    };
    match known {
        Some((kind, id)) => event(kind, account, &id, time, item),
        None => unknown(field.unwrap_or("change"), account, time, item),
    }
}

fn event(
    kind: EventKind,
    account: &str,
    id: &str,
    occurred_at: Option<i64>,
    payload: &Value,
) -> WebhookEvent {
    WebhookEvent {
        kind,
        account_id: account.to_owned(),
        event_id: fit_for_key(id),
        occurred_at,
        payload: payload.clone(),
    }
}

/// An event without an id of its own is known by its content, its time included.
fn unknown(name: &str, account: &str, time: Option<i64>, payload: &Value) -> WebhookEvent {
    let kind = EventKind::Unknown(fit_for_key(name));
    let id = hash(&payload.to_string());
    event(kind, account, &id, time, payload)
}

/// Ids become part of a Redis key; one with other characters is replaced by its hash.
fn fit_for_key(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.=+/$".contains(&byte);
    if !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(plain) {
        id.to_owned()
    } else {
        hash(id)
    }
}

fn hash(text: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).to_string()
}

/// A field as text; the API sends some ids as numbers.
fn text(value: &Value, field: &str) -> Option<String> {
    match value.get(field)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn events(entry: &Value) -> Vec<WebhookEvent> {
        let delivery = json!({ "object": "instagram", "entry": [entry] });
        split(&serde_json::from_value(delivery).unwrap())
    }

    fn ids(entry: &Value) -> Vec<(String, String)> {
        events(entry)
            .into_iter()
            .map(|event| (event.kind.name().to_owned(), event.event_id))
            .collect()
    }

    fn pair(kind: &str, id: &str) -> (String, String) {
        (kind.to_owned(), id.to_owned())
    }

    /// One delivery mixes events of several kinds; each comes out with the id that repeats share.
    #[test]
    fn each_item_becomes_an_event_of_its_kind() {
        let messaging = json!({ "id": "178", "time": 1_700_000_000, "messaging": [
            { "sender": {"id": "5"}, "timestamp": 1_700_000_000_123_i64,
              "message": {"mid": "m1", "text": "hi"} },
            { "sender": {"id": "5"}, "message": {"mid": "m1", "is_deleted": true} },
            { "sender": {"id": "5"}, "postback": {"mid": "m2", "payload": "BUY"} },
            { "sender": {"id": "5"}, "read": {"mid": "m3"} },
        ]});
        let expected = [
            pair("message", "m1"),
            pair("message_deleted", "m1"),
            pair("postback", "m2"),
            pair("read", "5.m3"),
        ];
        assert_eq!(ids(&messaging), expected);
        assert_eq!(events(&messaging)[0].occurred_at, Some(1_700_000_000_123));

        let changes = json!({ "id": "178", "time": 1_700_000_000, "changes": [
            { "field": "comments", "value": {"id": 17, "text": "nice"} },
            { "field": "mentions", "value": {"media_id": "9", "comment_id": "c1"} },
            { "field": "mentions", "value": {"media_id": "9"} },
        ]});
        let expected = [
            pair("comment", "17"),
            pair("mention", "c1"),
            pair("mention", "9"),
        ];
        assert_eq!(ids(&changes), expected);
        assert_eq!(events(&changes)[0].occurred_at, Some(1_700_000_000_000));
    }

    /// Event types we do not know are kept whole, not lost.
    #[test]
    fn unknown_types_and_shapes_are_kept() {
        let reaction = json!({ "sender": {"id": "5"}, "timestamp": 1,
            "reaction": {"mid": "m1", "action": "react"} });
        let insight = json!({ "field": "story_insights", "value": {"reach": 3} });
        let known = events(&json!({ "id": "178", "messaging": [reaction], "changes": [insight] }));
        assert_eq!(known[0].kind, EventKind::Unknown("reaction".to_owned()));
        assert_eq!(known[0].payload, reaction);
        assert_eq!(
            known[1].kind,
            EventKind::Unknown("story_insights".to_owned())
        );
        let odd = events(&json!({ "id": "178", "standby": [] }));
        assert_eq!(odd[0].kind, EventKind::Unknown("entry".to_owned()));
        assert_eq!(events(&json!(7)).len(), 1);
    }

    /// Without an id, equal content is the same event and other content is not.
    #[test]
    fn events_without_ids_are_told_apart_by_content() {
        let reaction = |time: i64| {
            let item = json!({ "timestamp": time, "reaction": {"mid": "m1"} });
            ids(&json!({ "id": "178", "messaging": [item] }))
        };
        assert_eq!(reaction(1), reaction(1));
        assert_ne!(reaction(1), reaction(2));
    }

    /// An id with separators must not reach into another key.
    #[test]
    fn ids_with_separators_are_hashed() {
        let comment = json!({ "id": "178",
            "changes": [{ "field": "comments", "value": {"id": "a:b{c}"} }] });
        let (_, id) = ids(&comment).remove(0);
        assert!(Uuid::parse_str(&id).is_ok());
    }
}
