//! Who is connected, by the names of connections (`docs/protocol.md#connection-names`).

use std::collections::HashMap;

use crate::client::Repeat;
use crate::error::Result;
use crate::resp::Command;
use crate::store::{Store, reply};

/// A connection of a worker or listener of the queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Connected {
    /// The name of the connection.
    pub(crate) client_name: String,
    pub(crate) id: u64,
    pub(crate) address: String,
    /// Seconds.
    pub(crate) age: u64,
    /// Seconds.
    pub(crate) idle: u64,
    pub(crate) library: Option<String>,
    pub(crate) library_version: Option<String>,
}

impl Store {
    /// Lists the connections of workers and listeners of the queue.
    pub(crate) async fn connected(&self) -> Result<Vec<Connected>> {
        let base = self.keys.worker_client_name(None);
        let mut found = Vec::new();
        // On a cluster, workers are connected to the node of their queue, or were to one that had it before.
        for node in self.connection.each().await? {
            let command = Command::new("CLIENT").arg("LIST");
            let answer = node.request(command, Repeat::Safe).await?;
            let list = reply::text(answer, "the connected clients")?;
            found.extend(list.lines().filter_map(|line| connected(line, &base)));
        }
        Ok(found)
    }
}

/// Reads a line of the list; `None` for the connections of others.
fn connected(line: &str, base: &str) -> Option<Connected> {
    // No value has a blank in it: Redis refuses them in names.
    let fields: HashMap<&str, &str> = line
        .split(' ')
        .filter_map(|field| field.split_once('='))
        .collect();
    let text = |name: &str| fields.get(name).copied();
    let number = |name: &str| text(name).and_then(|text| text.parse().ok());
    let client_name = text("name")?;
    let rest = client_name.strip_prefix(base)?;
    if !(rest.is_empty() || rest.starts_with(":w:") || rest == ":qe") {
        return None;
    }
    let given = |name: &str| {
        text(name)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    Some(Connected {
        client_name: client_name.to_owned(),
        id: number("id").unwrap_or(0),
        address: text("addr").unwrap_or_default().to_owned(),
        age: number("age").unwrap_or(0),
        idle: number("idle").unwrap_or(0),
        library: given("lib-name"),
        library_version: given("lib-ver"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_and_listeners_are_found_by_their_exact_names() {
        let read = |line: &str| connected(line, "bull:UQ==").map(|found| found.client_name);
        for own in [
            "bull:UQ==",
            "bull:UQ==:w:a:b",
            "bull:UQ==:qe",
            "bull:UQ==:w:",
        ] {
            let line = format!("id=7 addr=127.0.0.1:1 name={own} age=1 idle=0");
            assert_eq!(read(&line).as_deref(), Some(own));
        }
        for other in [
            "",
            "bull:UQ==x",
            "bull:UQ==:x",
            "pre:UQ==",
            "bull:UQ==:qe:1",
        ] {
            assert_eq!(read(&format!("id=7 name={other} age=1")), None, "{other}");
        }
    }

    /// What a server leaves out, or a newer one adds, is no reason to miss a worker.
    #[test]
    fn odd_lines_are_read_as_far_as_they_go() {
        let line = "id=x name=q addr=[::1]:5 age=-1 new=1=2 bare lib-name= lib-ver=5.4";
        let found = connected(line, "q").unwrap();
        assert_eq!((found.id, found.age, found.idle), (0, 0, 0));
        assert_eq!(found.address, "[::1]:5");
        assert_eq!(
            (found.library, found.library_version.as_deref()),
            (None, Some("5.4"))
        );
        assert_eq!(connected("", "q"), None);
    }
}
