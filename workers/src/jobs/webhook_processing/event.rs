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
    /// The account itself sent a message, by any application.
    Echo,
    /// A button of a message was pressed.
    Postback,
    /// Messages were read.
    Read,
    /// A message got a reaction, or lost it.
    Reaction,
    /// The account was mentioned in a post, comment or story.
    Mention,
    /// A post was commented.
    Comment,
    /// A message was edited by its sender.
    MessageEdit,
    /// Somebody follows the account.
    Follow,
    /// A post of the account was shared to a story.
    StoryShare,
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
            Self::Echo => "echo",
            Self::Postback => "postback",
            Self::Read => "read",
            Self::Reaction => "reaction",
            Self::Mention => "mention",
            Self::Comment => "comment",
            Self::MessageEdit => "message_edit",
            Self::Follow => "follow",
            Self::StoryShare => "story_share",
            Self::Unknown(name) => name,
        }
    }
}

/// One event of a delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WebhookEvent {
    /// What happened.
    #[cfg_attr(feature = "schemas", schemars(with = "String"))]
    pub kind: EventKind,
    /// The account it happened to.
    pub account_id: String,
    /// The same in every repeat of this event, different for every other of its account and kind.
    pub event_id: String,
    /// Whom the account talks to, where it is an event of a conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// Whether another application has the conversation in hand, and this one only looks on.
    #[serde(default, skip_serializing_if = "is_false")]
    pub standby: bool,
    /// When it happened, milliseconds since 1970, if the delivery contains it.
    pub occurred_at: Option<i64>,
    /// The event as it came; of a message event that came as a change, its value.
    pub payload: Value,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Splits a delivery into its events, in order. Nothing is left out: what has an unknown shape
/// becomes an event of unknown kind.
pub fn split(delivery: &WebhookDelivery) -> Vec<WebhookEvent> {
    delivery.entry.iter().flat_map(split_entry).collect()
}

/// The fields of an entry whose items are events.
const ITEMS: [&str; 3] = ["messaging", "standby", "changes"];

fn split_entry(entry: &Value) -> Vec<WebhookEvent> {
    let account = text(entry, "id").unwrap_or_else(|| "unknown".to_owned());
    let time = time_of(entry, "time");
    let [messaging, standby, changes] = ITEMS.map(|name| items(entry, name));
    let mut events: Vec<_> = messaging
        .map(|item| messaging_event(&account, None, item))
        .chain(standby.map(|item| WebhookEvent {
            standby: true,
            ..messaging_event(&account, None, item)
        }))
        .chain(changes.map(|item| change_event(&account, time, item)))
        .collect();
    for (name, part) in entry.as_object().into_iter().flatten() {
        if is_of_unknown_shape(name, part) {
            events.push(unknown_at(name, &account, time, part));
        }
    }
    if events.is_empty() {
        events.push(unknown("entry", &account, time, entry));
    }
    events
}

/// Whether a part of an entry may hold updates that nothing else of this module reads.
fn is_of_unknown_shape(name: &str, part: &Value) -> bool {
    match part {
        Value::Array(items) => !items.is_empty() && !ITEMS.contains(&name),
        Value::Object(fields) => !fields.is_empty(),
        _ => false,
    }
}

fn items<'v>(entry: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    entry
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// A time as a number, or as a text, which message events have when they come as changes.
fn time_of(value: &Value, field: &str) -> Option<i64> {
    let time = match value.get(field)? {
        Value::String(text) => text.parse().ok()?,
        other => other.as_i64()?,
    };
    Some(in_ms(time))
}

/// Entries come with seconds or milliseconds, depending on the product.
pub fn in_ms(time: i64) -> i64 {
    const IN_SECONDS_BELOW: i64 = 100_000_000_000;
    if time < IN_SECONDS_BELOW {
        time.saturating_mul(1000)
    } else {
        time
    }
}

/// An event of a conversation; `sent` is when it came, for those that have no time.
fn messaging_event(account: &str, sent: Option<i64>, item: &Value) -> WebhookEvent {
    let time = time_of(item, "timestamp").or(sent);
    let known = message(item)
        .or_else(|| edit(item, time))
        .or_else(|| Some((EventKind::Postback, text(item.get("postback")?, "mid")?)))
        .or_else(|| read(item))
        .or_else(|| reaction(item, time));
    let mut event = match known {
        Some((kind, id)) => event(kind, account, &id, time, item),
        None if time_of(item, "timestamp").is_none() => {
            unknown_at(subject(item), account, sent, item)
        }
        None => unknown(subject(item), account, time, item),
    };
    event.conversation = other_side(account, item).map(|id| fit_for_key(&id));
    event
}

fn message(item: &Value) -> Option<(EventKind, String)> {
    let message = item.get("message")?;
    let is = |flag| message.get(flag).and_then(Value::as_bool) == Some(true);
    let kind = if is("is_deleted") {
        EventKind::MessageDeleted
    } else if is("is_echo") {
        EventKind::Echo
    } else {
        EventKind::Message
    };
    Some((kind, text(message, "mid")?))
}

/// A message may be edited several times.
fn edit(item: &Value, time: Option<i64>) -> Option<(EventKind, String)> {
    let edit = item.get("message_edit")?;
    let id = text(edit, "mid")?;
    let which = text(edit, "num_edit").or_else(|| Some(time?.to_string()))?;
    Some((EventKind::MessageEdit, format!("{id}.{which}")))
}

/// A reader's receipt for a message; two readers may read the same one.
fn read(item: &Value) -> Option<(EventKind, String)> {
    let id = text(item.get("read")?, "mid")?;
    Some((EventKind::Read, format!("{}.{id}", party(item, "sender")?)))
}

/// The same person may react, take it back and react again: only the time distinguishes these.
fn reaction(item: &Value, time: Option<i64>) -> Option<(EventKind, String)> {
    let reaction = item.get("reaction")?;
    let id = text(reaction, "mid")?;
    let action = text(reaction, "action").unwrap_or_default();
    let sender = party(item, "sender")?;
    Some((
        EventKind::Reaction,
        format!("{sender}.{id}.{action}.{}", time?),
    ))
}

fn party(item: &Value, role: &str) -> Option<String> {
    text(item.get(role)?, "id")
}

/// Echoes come from the account itself, everything else from whom it talks to.
fn other_side(account: &str, item: &Value) -> Option<String> {
    ["sender", "recipient"]
        .into_iter()
        .filter_map(|role| party(item, role))
        .find(|id| id != account)
}

/// The field that names what an item of unknown kind is about, such as `referral`.
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
    // A message event has the same content in either form, and so the same identity.
    if party(value, "sender").is_some() || party(value, "recipient").is_some() {
        return messaging_event(account, time, value);
    }
    let known = match field {
        Some("comments" | "live_comments") => text(value, "id").map(|id| (EventKind::Comment, id)),
        Some("mentions") => text(value, "comment_id")
            .or_else(|| text(value, "media_id"))
            .map(|id| (EventKind::Mention, id)),
        _ => None,
    };
    let Some((kind, id)) = known else {
        let event = unknown_at(field.unwrap_or("change"), account, time, item);
        // No id in these is documented, so they are known by their content.
        return match field {
            Some("follow") => event.of(EventKind::Follow),
            Some("share_to_story") => event.of(EventKind::StoryShare),
            _ => event,
        };
    };
    event(kind, account, &id, time, item)
}

impl WebhookEvent {
    fn of(self, kind: EventKind) -> Self {
        Self { kind, ..self }
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
        account_id: fit_for_key(account),
        event_id: fit_for_key(id),
        conversation: None,
        standby: false,
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

/// As [`unknown`], for what has no time in it: the same may happen again.
fn unknown_at(name: &str, account: &str, time: Option<i64>, payload: &Value) -> WebhookEvent {
    let mut event = unknown(name, account, time, payload);
    if let Some(time) = time {
        event.event_id = hash(&format!("{time} {payload}"));
    }
    event
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
            { "sender": {"id": "178"}, "recipient": {"id": "5"},
              "message": {"mid": "m4", "is_echo": true, "attachments": [{"type": "image"}]} },
            { "sender": {"id": "5"}, "timestamp": 1_700_000_000_123_i64,
              "reaction": {"mid": "m4", "action": "react", "emoji": "x"} },
        ]});
        let expected = [
            pair("message", "m1"),
            pair("message_deleted", "m1"),
            pair("postback", "m2"),
            pair("read", "5.m3"),
            pair("echo", "m4"),
            pair("reaction", "5.m4.react.1700000000123"),
        ];
        assert_eq!(ids(&messaging), expected);
        for event in events(&messaging) {
            assert_eq!(event.conversation.as_deref(), Some("5"), "{event:?}");
        }
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
        let referral = json!({ "sender": {"id": "5"}, "timestamp": 1,
            "referral": {"ref": "m1", "source": "ADS"} });
        let insight = json!({ "field": "story_insights", "value": {"reach": 3} });
        let known = events(&json!({ "id": "178", "messaging": [referral], "changes": [insight] }));
        assert_eq!(known[0].kind, EventKind::Unknown("referral".to_owned()));
        assert_eq!(known[0].payload, referral);
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
    fn events_without_ids_are_distinguished_by_content() {
        let referral = |time: i64| {
            let item = json!({ "timestamp": time, "referral": {"ref": "m1"} });
            ids(&json!({ "id": "178", "messaging": [item] }))
        };
        assert_eq!(referral(1), referral(1));
        assert_ne!(referral(1), referral(2));
    }

    /// An id with separators must not reach into another key.
    #[test]
    fn ids_with_separators_are_hashed() {
        let comment = json!({ "id": "178",
            "changes": [{ "field": "comments", "value": {"id": "a:b{c}"} }] });
        let (_, id) = ids(&comment).remove(0);
        assert!(Uuid::parse_str(&id).is_ok());
        let odd = events(&json!({ "id": "1}:x", "messaging": [{
            "sender": {"id": "{2}"}, "message": {"mid": "m"} }] }));
        assert!(Uuid::parse_str(&odd[0].account_id).is_ok());
        assert!(Uuid::parse_str(odd[0].conversation.as_deref().unwrap()).is_ok());
    }
}
