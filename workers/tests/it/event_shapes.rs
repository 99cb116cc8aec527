//! Every shape of an update ends in an event: of its kind where a seller's software acts on it, else whole.
//!
//! Fields are those of `facebook-business` 26.0.3; shapes are those of Meta's documentation of October 2026.

use std::collections::BTreeSet;

use oxbull_workers::jobs::webhook_processing::{
    EventKind, WebhookDelivery, WebhookEvent, shares, split,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const ACCOUNT: &str = "178";

fn delivery(entry: &Value) -> WebhookDelivery {
    let body = json!({ "object": "instagram", "entry": [entry] });
    WebhookDelivery::parse(&body.to_string()).unwrap()
}

fn events(parts: &Value) -> Vec<WebhookEvent> {
    let mut entry = json!({ "id": ACCOUNT, "time": 1_700_000_000 });
    let parts = parts.as_object().unwrap().clone();
    entry.as_object_mut().unwrap().extend(parts);
    split(&delivery(&entry))
}

fn item(subject: &str, content: &Value) -> Value {
    json!({ "sender": {"id": "5"}, "recipient": {"id": ACCOUNT}, "timestamp": 1_700_000_000_123_i64,
        subject: content })
}

fn names(events: &[WebhookEvent]) -> Vec<&str> {
    events.iter().map(|event| event.kind.name()).collect()
}

/// While another application has a conversation in hand, its messages come beside those of others.
#[test]
fn standby_beside_messaging_is_handled() {
    let found = events(&json!({
        "messaging": [item("message", &json!({"mid": "a"}))],
        "standby": [item("message", &json!({"mid": "b"})), item("read", &json!({"mid": "a"}))],
    }));
    assert_eq!(names(&found), ["message", "message", "read"]);
    let standby: Vec<_> = found.iter().map(|event| event.standby).collect();
    assert_eq!(standby, [false, true, true]);
}

#[test]
fn standby_alone_keeps_its_conversation() {
    let found = events(&json!({ "standby": [item("message", &json!({"mid": "b"}))] }));
    assert_eq!(names(&found), ["message"]);
    assert_eq!(found[0].conversation.as_deref(), Some("5"));
}

/// A message event that comes in both forms is one event.
#[test]
fn message_as_a_change_is_the_same_event() {
    for (field, subject, content) in [
        ("messages", "message", json!({"mid": "a", "text": "hi"})),
        ("messages", "message", json!({"mid": "a", "is_echo": true})),
        (
            "message_edit",
            "message_edit",
            json!({"mid": "a", "num_edit": 1}),
        ),
        (
            "message_reactions",
            "reaction",
            json!({"mid": "a", "action": "react"}),
        ),
        ("messaging_seen", "read", json!({"mid": "a"})),
        (
            "messaging_postbacks",
            "postback",
            json!({"mid": "a", "payload": "BUY"}),
        ),
        ("messaging_referral", "referral", json!({"ref": "ad"})),
        ("messaging_optins", "optin", json!({"type": "x"})),
        (
            "messaging_handover",
            "pass_thread_control",
            json!({"new_owner_app_id": "1"}),
        ),
    ] {
        let item = item(subject, &content);
        let change = json!({ "changes": [{ "field": field, "value": item }] });
        let found = events(&change);
        assert_eq!(found, events(&json!({ "messaging": [item] })), "{field}");
        assert_eq!(found[0].conversation.as_deref(), Some("5"), "{field}");
    }
    // As a change, times are texts in the documentation.
    let mut text = item("reaction", &json!({"mid": "a", "action": "react"}));
    text["timestamp"] = json!("1700000000123");
    let found = events(&json!({ "changes": [{ "field": "message_reactions", "value": text }] }));
    assert_eq!(found[0].event_id, "5.a.react.1700000000123");
}

/// Each edit of a message is an event, and so is the message.
#[test]
fn edited_message_is_an_event_of_its_own() {
    let edit = |number: u32| item("message_edit", &json!({"mid": "a", "num_edit": number}));
    let found = events(&json!({
        "messaging": [item("message", &json!({"mid": "a"})), edit(1), edit(2), edit(2)] }));
    assert_eq!(
        names(&found),
        ["message", "message_edit", "message_edit", "message_edit"]
    );
    let ids: BTreeSet<_> = found.iter().map(|event| &event.event_id).collect();
    assert_eq!(ids.len(), 3);
}

/// Fields without an id of their own have a kind where sellers act on them; the same at another time is
/// another event.
#[test]
fn follows_and_story_shares_have_kinds_and_polls_are_kept() {
    let change = |field: &str| json!({ "field": field, "value": {"from": {"id": "5"}} });
    let found = events(&json!({ "changes": [
        change("follow"), change("share_to_story"), change("story_poll"), change("story_insights")] }));
    assert_eq!(
        names(&found),
        ["follow", "story_share", "story_poll", "story_insights"]
    );
    assert_eq!(found[0].kind, EventKind::Follow);
    assert_eq!(found[1].kind, EventKind::StoryShare);
    assert_eq!(found[2].payload, change("story_poll"));
    let later = events(&json!({ "time": 1_700_000_060, "changes": [change("follow")] }));
    assert_ne!(later[0].event_id, found[0].event_id);
    assert_eq!(
        serde_json::from_value::<EventKind>(json!("story_share")).unwrap(),
        EventKind::StoryShare
    );
}

#[test]
fn unknown_parts_of_an_entry_are_kept() {
    let found = events(&json!({
        "messaging": [item("message", &json!({"mid": "a"}))],
        "polls": [{"id": 1}], "changes": {"field": "comments"}, "empty": [], "flag": true }));
    assert_eq!(names(&found), ["message", "changes", "polls"]);
    assert_eq!(found[2].payload, json!([{"id": 1}]));
    assert_eq!(names(&events(&json!({ "standby": [] }))), ["entry"]);
}

/// The documentation's examples are arrays of deliveries.
#[test]
fn array_of_deliveries_is_one_delivery() {
    let entry =
        |mid: &str| json!({ "id": ACCOUNT, "messaging": [item("message", &json!({"mid": mid}))] });
    let single = |mid: &str| json!({ "object": "instagram", "entry": [entry(mid)] });
    let body = json!([single("a"), single("b")]).to_string();
    let read = WebhookDelivery::parse(&body).unwrap();
    let together = json!({ "object": "instagram", "entry": [entry("a"), entry("b")] });
    assert_eq!(read, serde_json::from_value(together).unwrap());
    for odd in ["[]", "[7]", "[{\"object\":\"instagram\"}]", "7"] {
        assert!(WebhookDelivery::parse(odd).is_err(), "{odd}");
    }
}

/// An element that is no delivery costs the others nothing, and is kept whole: wherever it stands, whatever it is.
#[test]
fn odd_element_of_an_array_is_kept_whole_beside_the_others() {
    let entry = json!({ "id": ACCOUNT, "messaging": [item("message", &json!({"mid": "a"}))] });
    let single = json!({ "object": "instagram", "entry": [entry] });
    for odd in [
        json!(7),
        json!(null),
        json!([single]),
        json!({ "object": 7, "entry": [entry], "note": "x" }),
        json!({ "object": "instagram", "entry": {"id": ACCOUNT}, "note": "x" }),
        entry.clone(),
    ] {
        for body in [json!([odd, single]), json!([single, odd])] {
            let read = WebhookDelivery::parse(&body.to_string()).unwrap();
            assert_eq!(read.object, "instagram");
            let mut found = split(&read);
            found.sort_by_key(|event| event.kind.name() == "entry");
            assert_eq!(names(&found), ["message", "entry"], "{body}");
            assert_eq!(found[1].payload, json!([odd]));
        }
    }
    // Where nothing can be read, the job fails with the reason.
    for odd in [
        json!([]),
        json!([7]),
        json!({ "object": 7, "entry": [] }),
        json!({ "object": "instagram", "entry": {} }),
        json!({ "object": "instagram" }),
    ] {
        let refused = WebhookDelivery::parse(&odd.to_string());
        assert!(!refused.unwrap_err().to_string().is_empty(), "{odd}");
    }
}

/// Votes and polls have no documented shape: in a message they are part of it, else they are kept whole, with
/// their conversation.
#[test]
fn polls_keep_their_conversation() {
    let poll = json!({ "question": "Which colour?", "options": ["red", "blue"] });
    let message = item("message", &json!({ "mid": "a", "poll": poll }));
    let found = events(&json!({ "messaging": [
        message, item("poll", &poll), item("polls", &json!([poll])), item("poll_vote", &json!({"option": 1}))] }));
    assert_eq!(names(&found), ["message", "poll", "polls", "poll_vote"]);
    assert_eq!(found[0].payload, message);
    for event in &found {
        assert_eq!(event.conversation.as_deref(), Some("5"), "{event:?}");
    }
    let change = json!({ "changes": [{ "field": "messages", "value": item("poll", &poll) }] });
    assert_eq!(events(&change), found[1..2]);
}

/// What an update may be, apart from its mark.
#[derive(Debug, Clone)]
enum Update {
    Messaging(usize, &'static str),
    Change(usize, &'static str),
    Part(usize, &'static str),
}

const SUBJECTS: [&str; 11] = [
    "message",
    "message_edit",
    "postback",
    "read",
    "reaction",
    "referral",
    "optin",
    "messaging_poll",
    "poll",
    "poll_vote",
    "pass_thread_control",
];
/// All that can be subscribed to (SDK 26.0.3, `SubscribedFields` of an Instagram user), and one that cannot yet.
const FIELDS: [&str; 18] = [
    "comment_poll_response",
    "comments",
    "follow",
    "live_comments",
    "mentions",
    "message_edit",
    "message_reactions",
    "messages",
    "messaging_optins",
    "messaging_postbacks",
    "messaging_referral",
    "messaging_seen",
    "onboarding_welcome_message_series",
    "share_to_story",
    "standby",
    "story_insights",
    "story_poll_response",
    "creator_marketplace",
];
const PARTS: [&str; 3] = ["polls", "messaging_feedback", "hop_context"];

fn updates() -> impl Strategy<Value = Vec<(u8, bool, Update)>> {
    let update = prop_oneof![
        (0..4_usize, prop::sample::select(&SUBJECTS[..]))
            .prop_map(|(s, n)| Update::Messaging(s, n)),
        (0..4_usize, prop::sample::select(&FIELDS[..])).prop_map(|(s, n)| Update::Change(s, n)),
        (0..4_usize, prop::sample::select(&PARTS[..])).prop_map(|(s, n)| Update::Part(s, n)),
    ];
    prop::collection::vec((0..4_u8, any::<bool>(), update), 0..60)
}

/// Content with a mark; some with the id that its kind has, some without, some odd.
fn content(shape: usize, mark: &str) -> Value {
    match shape {
        0 => json!({ "mid": mark, "id": mark, "media_id": mark }),
        1 => json!({ "mid": null, "id": [], "mark": mark }),
        2 => json!([mark]),
        _ => json!(mark),
    }
}

/// The entry of one update.
fn entry(account: u8, standby: bool, update: &Update, mark: &str) -> Value {
    let mut entry = json!({ "id": account.to_string(), "time": 1_700_000_000 });
    let (name, part) = match update {
        Update::Messaging(shape, subject) => {
            let item = item(subject, &content(*shape, mark));
            (if standby { "standby" } else { "messaging" }, json!([item]))
        }
        Update::Change(shape, field) => {
            let mut value = content(*shape, mark);
            if standby {
                value = item("message", &value);
            }
            ("changes", json!([{ "field": field, "value": value }]))
        }
        Update::Part(shape, name) => (*name, json!([content(*shape, mark)])),
    };
    entry[name] = part;
    entry
}

proptest! {
    /// Nothing that is acknowledged is dropped: each update is whole in exactly one event, of its account.
    #[test]
    fn every_update_is_in_one_event(
        updates in updates(),
        as_array in any::<bool>(),
        odd in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let marks: Vec<_> = (0..updates.len()).map(|n| format!("mark-{n}-")).collect();
        let entries: Vec<_> = updates
            .iter()
            .zip(&marks)
            .map(|((account, standby, update), mark)| entry(*account, *standby, update, mark))
            .collect();
        let as_array = as_array && !entries.is_empty();
        let odd = if as_array { odd } else { Vec::new() };
        let odd_marks: Vec<_> = (0..odd.len()).map(|n| format!("odd-{n}-")).collect();
        let body = if as_array {
            let single = |entry: &Value| json!({ "object": "instagram", "entry": [entry] });
            let mut elements: Vec<_> = entries.iter().map(single).collect();
            for (n, (place, mark)) in odd.iter().zip(&odd_marks).enumerate() {
                let element = if n == 0 { json!({ "entry": mark }) } else { json!(mark) };
                elements.insert(place.index(elements.len() + 1), element);
            }
            json!(elements)
        } else {
            json!({ "object": "instagram", "entry": entries })
        };
        let read = WebhookDelivery::parse(&body.to_string()).unwrap();
        let (shares, found) = shares(&read);
        let events: Vec<_> = shares.into_iter().flat_map(|share| share.events).collect();
        prop_assert_eq!(found, updates.len() + odd.len());
        for mark in &odd_marks {
            let holds = |event: &&WebhookEvent| event.payload.to_string().contains(mark.as_str());
            prop_assert_eq!(events.iter().filter(holds).count(), 1, "{}", mark);
        }
        for ((account, ..), mark) in updates.iter().zip(&marks) {
            let holders: Vec<_> = events
                .iter()
                .filter(|event| event.payload.to_string().contains(mark.as_str()))
                .collect();
            prop_assert_eq!(holders.len(), 1, "{}", mark);
            prop_assert_eq!(&holders[0].account_id, &account.to_string());
        }
    }
}
