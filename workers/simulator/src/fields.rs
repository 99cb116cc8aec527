//! The `fields` of a request, with the API's field expansion:
//! `name,edge.key(value){name,edge.key(value)}`.

use serde::Deserialize;

/// The fields asked for, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Wish")]
pub(super) struct Fields(Vec<Field>);

#[derive(Deserialize)]
struct Wish {
    #[serde(default)]
    fields: String,
}

impl From<Wish> for Fields {
    fn from(wish: Wish) -> Self {
        Self::read(&wish.fields)
    }
}

/// One field, with what is asked about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    name: String,
    modifiers: Vec<(String, String)>,
    pub(super) inner: Fields,
}

impl Fields {
    fn read(text: &str) -> Self {
        Self(
            split(text, ',')
                .into_iter()
                .filter_map(Field::read)
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&Field> {
        self.0.iter().find(|field| field.name == name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The metrics of `insights.metric(a,b)`; `None` when no insights are asked for.
    pub(super) fn metrics(&self) -> Option<Vec<&str>> {
        let metrics = self.get("insights")?.modifier("metric").unwrap_or_default();
        Some(metrics.split(',').collect())
    }
}

impl Field {
    fn read(text: &str) -> Option<Self> {
        let (head, inner) = match text.split_once('{') {
            Some((head, inner)) => (head, inner.strip_suffix('}')?),
            None => (text, ""),
        };
        let mut parts = split(head, '.').into_iter();
        let name = parts.next().filter(|name| !name.is_empty())?.to_owned();
        let modifiers = parts.filter_map(|part| {
            let (key, value) = part.split_once('(')?;
            Some((key.to_owned(), value.strip_suffix(')')?.to_owned()))
        });
        Some(Self {
            name,
            modifiers: modifiers.collect(),
            inner: Fields::read(inner),
        })
    }

    pub(super) fn modifier(&self, key: &str) -> Option<&str> {
        let found = self.modifiers.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }
}

/// Splits where no bracket is open.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut open = 0_i32;
    text.split(|character| {
        match character {
            '(' | '{' => open += 1,
            ')' | '}' => open -= 1,
            _ => {}
        }
        open == 0 && character == separator
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The simulator answers what is asked and nothing else, so it must read it as the API does.
    #[test]
    fn expansions_are_read_to_their_depth() {
        let fields = Fields::read(
            "username,insights.metric(reach,views).period(day),media.limit(3){id,insights.metric(saved)}",
        );
        assert!(fields.has("username") && !fields.has("saved") && !fields.has("period"));
        assert_eq!(fields.metrics().unwrap(), ["reach", "views"]);
        let media = fields.get("media").unwrap();
        assert_eq!(media.modifier("limit"), Some("3"));
        assert_eq!(media.inner.metrics().unwrap(), ["saved"]);
        assert!(media.inner.has("id"));
        assert_eq!(Fields::read(""), Fields::default());
    }
}
