//! What a delivery has for each account.

use std::collections::{HashMap, HashSet};

use super::{WebhookDelivery, WebhookEvent, split};

/// Most events of a share, which Redis handles in one step of about two milliseconds.
pub const SHARE_MAX: usize = 200;

/// What one account has in a delivery, or a part of it where that is much.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The account.
    pub account: String,
    /// Its number among the account's shares of the delivery.
    pub part: usize,
    /// Its events in their order, each once.
    pub events: Vec<WebhookEvent>,
    /// The conversations they belong to, each once.
    pub conversations: Vec<String>,
}

/// Splits a delivery by account, in the order in which the accounts come, into shares of up to
/// [`SHARE_MAX`] events; also returns how many events there are with those that it repeats within
/// itself.
pub fn shares(delivery: &WebhookDelivery) -> (Vec<Share>, usize) {
    let all = split(delivery);
    let found = all.len();
    let mut shares: Vec<Share> = Vec::new();
    // Of each account, the share that its next event goes to.
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut within = HashSet::new();
    for event in all {
        let identity = (
            event.account_id.clone(),
            event.kind.clone(),
            event.event_id.clone(),
        );
        if !within.insert(identity) {
            continue;
        }
        let open = places
            .get(&event.account_id)
            .and_then(|place| Some((*place, shares.get(*place)?)));
        let place = match open {
            Some((place, share)) if share.events.len() < SHARE_MAX => place,
            full => {
                let part = full.map_or(0, |(_, share)| share.part + 1);
                shares.push(Share {
                    account: event.account_id.clone(),
                    part,
                    events: Vec::new(),
                    conversations: Vec::new(),
                });
                places.insert(event.account_id.clone(), shares.len() - 1);
                shares.len() - 1
            }
        };
        let Some(share) = shares.get_mut(place) else {
            continue;
        };
        if let Some(conversation) = &event.conversation
            && !share.conversations.contains(conversation)
        {
            share.conversations.push(conversation.clone());
        }
        share.events.push(event);
    }
    (shares, found)
}

/// Gathers the shares of each account, in their order.
pub(super) fn by_account(shares: Vec<Share>) -> Vec<Vec<Share>> {
    let mut accounts: Vec<Vec<Share>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for share in shares {
        let place = *places
            .entry(share.account.clone())
            .or_insert(accounts.len());
        match accounts.get_mut(place) {
            Some(shares) => shares.push(share),
            None => accounts.push(vec![share]),
        }
    }
    accounts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An account's events stay together and in order regardless of entries in between, and an event
    /// that a delivery contains twice is one event.
    #[test]
    fn delivery_is_split_by_account() {
        let message = |account: &str, peer: &str, mid: &str| {
            json!({ "id": account, "messaging": [{
                "sender": {"id": peer}, "recipient": {"id": account}, "message": {"mid": mid} }] })
        };
        let delivery = serde_json::from_value(json!({ "object": "instagram", "entry": [
            message("1", "8", "a"), message("2", "8", "b"), message("1", "9", "c"),
            message("1", "8", "d"), message("1", "8", "a"),
        ]}))
        .unwrap();
        let (shares, found) = shares(&delivery);
        let ids = |share: &Share| -> String {
            share.events.iter().map(|e| e.event_id.as_str()).collect()
        };
        assert_eq!(found, 5);
        assert_eq!(shares.len(), 2);
        assert_eq!(ids(&shares[0]), "acd");
        assert_eq!(shares[0].conversations, ["8", "9"]);
        assert_eq!(ids(&shares[1]), "b");
    }

    /// One step of Redis must stay short however much a delivery holds.
    #[test]
    fn large_shares_come_in_parts() {
        let messaging: Vec<_> = (0..=2 * SHARE_MAX)
            .map(|n| json!({ "sender": {"id": "8"}, "message": {"mid": n} }))
            .collect();
        let entry = json!([{ "id": "1", "messaging": messaging }]);
        let delivery = json!({ "object": "instagram", "entry": entry });
        let (shares, _) = shares(&serde_json::from_value(delivery).unwrap());
        let parts: Vec<_> = shares.iter().map(|s| (s.part, s.events.len())).collect();
        assert_eq!(parts, [(0, SHARE_MAX), (1, SHARE_MAX), (2, 1)]);
    }
}
