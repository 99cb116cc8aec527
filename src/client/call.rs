//! What became of a request: the kinds of server errors and lost connections.

use std::error::Error as StdError;
use std::time::Duration;

use super::config::Address;
use super::connect::ConnectError;
use super::slots::redirection;
use crate::error::{Error, Outage, links};
use crate::resp::{Lost, ServerError};

/// Whether a request may be sent again when the answer to it was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repeat {
    /// Asking twice leaves what asking once leaves.
    Safe,
    /// Asking twice may do the work twice: a loss is reported instead, as
    /// [`Error::Indeterminate`]. What was certainly not executed is still sent again.
    Once,
}

/// Why a request gave no value, by what is known about its execution.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The request was certainly not executed.
    NotExecuted(Error),
    /// The connection was lost before the answer: it may have been executed.
    Unknown(Error),
    /// The server answered with an error.
    Answered(Error),
}

impl CallError {
    /// Wraps the cause of a lost answer.
    pub(crate) fn unknown(cause: impl Into<crate::error::BoxError>) -> Self {
        Self::Unknown(Error::Indeterminate(cause.into()))
    }

    /// Returns whether asking again may bring an answer: the connection may come back, and a server
    /// that cannot serve or write may recover. A closed client and every other refusal stay.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unknown(_) => true,
            Self::NotExecuted(error) | Self::Answered(error) => error.is_transient(),
        }
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        let (CallError::NotExecuted(error)
        | CallError::Unknown(error)
        | CallError::Answered(error)) = error;
        error
    }
}

/// The answer did not come: the connection it was due on must not be used again.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum LostReply {
    /// The socket failed or was closed.
    #[error("the connection was lost: {0}")]
    Broken(String),
    /// The socket failed or was closed before it got any part of the request.
    #[error("the connection was lost before the request was sent: {0}")]
    Unsent(String),
    /// Nothing came in time; an answer that comes later has no reader.
    #[error("no answer within {0:?}")]
    Late(Duration),
}

impl LostReply {
    /// Says why an answer was lost that had so long to come.
    pub(super) fn of(lost: Lost, deadline: Duration) -> Self {
        if lost.late {
            Self::Late(deadline)
        } else {
            lost.into()
        }
    }
}

impl From<Lost> for LostReply {
    fn from(Lost { cause, sent, .. }: Lost) -> Self {
        if sent {
            Self::Broken(cause)
        } else {
            Self::Unsent(cause)
        }
    }
}

/// What a server error asks the caller to do.
#[derive(Debug)]
pub(super) enum Classified {
    /// This server cannot serve us now, and did not execute the request: look for another connection.
    Reconnect(Error),
    /// The script is not in the server's cache.
    NoScript(Error),
    /// A node of a cluster does not have the key, or not yet, and did not execute the request.
    Elsewhere(Redirect, Error),
    /// The request is refused.
    Refused(Error),
}

/// What a node of a cluster says about a key that it does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Redirect {
    /// Another node has the slot: which, as the node says it.
    Moved(String),
    /// The slot is on its way to another node.
    Ask(String),
    /// Some of the keys are on their way.
    Wait,
    /// Slots have no node.
    Down,
}

impl Redirect {
    /// Returns whether it is for good, the slot and the other node, if one was named.
    pub(super) fn to(&self, from: &Address) -> Option<(bool, u16, Address)> {
        let (for_good, detail) = match self {
            Self::Moved(detail) => (true, detail),
            Self::Ask(detail) => (false, detail),
            Self::Wait | Self::Down => return None,
        };
        let (slot, address) = redirection(detail, from)?;
        Some((for_good, slot, address))
    }
}

impl Classified {
    /// Returns the error, whatever should be done about it.
    pub(super) fn into_error(self) -> Error {
        let (Self::Reconnect(error)
        | Self::NoScript(error)
        | Self::Elsewhere(_, error)
        | Self::Refused(error)) = self;
        error
    }
}

/// Codes of a server that does not serve requests as a whole, or not this connection.
const NOT_SERVING: [&str; 4] = ["READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED"];
/// Codes of a server that cannot write, or cannot do anything, for now.
const REFUSING: [&str; 4] = ["OOM", "MISCONF", "NOREPLICAS", "BUSY"];

/// How the text begins that tells that a command inside a script may not be used: with Redis before 7.2, and
/// with newer ones and Valkey.
const DENIED_INSIDE: [&str; 2] = [
    "The user executing the script can't",
    "ACL failure in script:",
];

/// Returns whether an error, or any of its causes, is that Redis was away or unable to write. That
/// says nothing against what was asked for.
pub(crate) fn is_outage(error: &(dyn StdError + 'static)) -> bool {
    for link in links(error) {
        match link.downcast_ref() {
            Some(Error::Unreachable(_) | Error::Overloaded(_) | Error::Indeterminate(_)) => {
                return true;
            }
            Some(Error::Incomplete { .. }) => {}
            // A deadline of the caller's own says nothing about Redis.
            Some(_) => return false,
            None => {
                let connect: Option<&ConnectError> = link.downcast_ref();
                if link.is::<LostReply>()
                    || link.is::<Outage>()
                    || connect.is_some_and(ConnectError::is_outage)
                {
                    return true;
                }
            }
        }
    }
    false
}

/// Sorts a server's error `answer` to `command` (its name, for the message).
pub(super) fn classify(command: &str, answer: &ServerError) -> Classified {
    let text = message_of(answer);
    let (code, detail) = text.split_once(' ').unwrap_or((&text, ""));
    match code {
        // READONLY on the socket of a demoted master, and a server that is not serving yet.
        code if NOT_SERVING.contains(&code) => Classified::Reconnect(Error::overloaded(text)),
        "NOSCRIPT" => Classified::NoScript(Error::Server(text)),
        code if REFUSING.contains(&code) => Classified::Refused(Error::overloaded(text)),
        "NOAUTH" | "WRONGPASS" | "NOPERM" => {
            Classified::Refused(Error::Denied(format!("{command}: {text}")))
        }
        "ERR" if DENIED_INSIDE.iter().any(|start| detail.starts_with(start)) => {
            Classified::Refused(Error::Denied(format!("{command}: {text}")))
        }
        "MOVED" => elsewhere(Redirect::Moved(detail.to_owned()), text),
        "ASK" => elsewhere(Redirect::Ask(detail.to_owned()), text),
        "TRYAGAIN" => elsewhere(Redirect::Wait, text),
        "CLUSTERDOWN" => elsewhere(Redirect::Down, text),
        "ERR" if detail.contains("max number of clients") => {
            Classified::Reconnect(Error::overloaded(text))
        }
        _ => Classified::Refused(Error::Server(text)),
    }
}

fn elsewhere(redirect: Redirect, text: String) -> Classified {
    Classified::Elsewhere(redirect, Error::overloaded(text))
}

/// Returns the text of a server error without the request arguments that it repeats. Of an error that
/// carries another, it is the other's.
pub(super) fn message_of(answer: &ServerError) -> String {
    let text = scrub(&answer.to_string());
    let Some(inner) = carried(&text) else {
        return text;
    };
    let code = inner.split(' ').next().unwrap_or_default();
    if !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        inner.to_owned()
    } else {
        format!("ERR {inner}")
    }
}

/// Returns the error inside another: that of a command in a script of servers before Redis 7.0, which put the
/// places in the script before it, and that of a refused EXEC.
fn carried(text: &str) -> Option<&str> {
    let inner = if let Some(rest) = text.strip_prefix("ERR Error running script (call to f_") {
        let mut rest = rest.split_once("): ")?.1;
        while let Some(place) = rest.strip_prefix("@user_script:") {
            rest = place.split_once(": ")?.1;
        }
        rest
    } else {
        text.strip_prefix("EXECABORT Transaction discarded because of: ")?
    };
    Some(inner.strip_prefix('-').unwrap_or(inner))
}

/// Cuts the echo of a request's arguments from a server's text: they are job data or secrets.
fn scrub(text: &str) -> String {
    let text = text
        .split_once(", with args beginning with")
        .map_or(text, |(head, _)| head);
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What four servers say when a command inside a script fails: the same is decided on each.
    #[test]
    fn errors_inside_scripts_are_sorted_as_those_of_commands() {
        const OLD: &str = "ERR Error running script (call to f_59b3): @user_script:1: ";
        const PLACE: &str = "@user_script: 1: ";
        const SEVEN: &str = " script: 59b3, on @user_script:1.";
        const VALKEY: &str = " script: on @user_script:1.";
        let (readonly, oom) = ("READONLY You can't", "OOM command not allowed");
        let (masterdown, wrong) = ("MASTERDOWN Link with MASTER", "WRONGTYPE Operation");
        let (command, key) = (
            "The user executing the script can't run this command",
            "The user executing the script can't access at least one of the keys",
        );
        let acl = "ERR ACL failure in script: User u has no permissions to run the 'mget' command";
        for (text, sort) in [
            (format!("{OLD}{PLACE}-{readonly}"), "reconnect"),
            (format!("{readonly}{SEVEN}"), "reconnect"),
            (format!("{readonly}{VALKEY}"), "reconnect"),
            (
                format!("EXECABORT Transaction discarded because of: {readonly}"),
                "reconnect",
            ),
            (format!("{OLD}{PLACE}-{masterdown}"), "reconnect"),
            (format!("{OLD}{PLACE}-{oom}"), "overloaded"),
            (format!("{oom}{SEVEN}"), "overloaded"),
            (format!("{OLD}{PLACE}-MISCONF Redis is"), "overloaded"),
            (format!("{OLD}{PLACE}{command}"), "denied"),
            (format!("{OLD}{PLACE}{key}"), "denied"),
            (format!("ERR {command}{SEVEN}"), "denied"),
            (format!("ERR {key}{SEVEN}"), "denied"),
            (format!("{acl}{SEVEN}"), "denied"),
            (format!("{acl}{VALKEY}"), "denied"),
            (
                format!("ERR ACL failure in script: No permissions to access a key{VALKEY}"),
                "denied",
            ),
            (format!("{OLD}{wrong}"), "WRONGTYPE"),
            (format!("{wrong}{SEVEN}"), "WRONGTYPE"),
            // A script's own words are no error of the server's.
            (format!("{OLD}user_script:1: x: -OOM hi"), "ERR"),
            (format!("ERR user_script:1: x: -OOM hi{SEVEN}"), "ERR"),
        ] {
            let found = match classify("advance", &ServerError::new(text.as_str())) {
                Classified::Reconnect(Error::Overloaded(_)) => "reconnect".to_owned(),
                Classified::Refused(Error::Overloaded(_)) => "overloaded".to_owned(),
                Classified::Refused(Error::Denied(_)) => "denied".to_owned(),
                Classified::Refused(Error::Server(text)) => {
                    text.split(' ').next().unwrap_or_default().to_owned()
                }
                other => panic!("{text}: {other:?}"),
            };
            assert_eq!(found, sort, "{text}");
        }
    }

    /// Every settler goes by this table: asking goes on as long as an answer may come.
    #[test]
    fn asking_goes_on_while_an_answer_may_come() {
        let down = || Error::Unreachable("refused".into());
        let full = || Error::overloaded("OOM");
        for (error, may_pass) in [
            (CallError::unknown(LostReply::Late(Duration::ZERO)), true),
            (CallError::unknown(Error::Closed), true),
            (CallError::NotExecuted(down()), true),
            (CallError::NotExecuted(full()), true),
            (CallError::NotExecuted(Error::Closed), false),
            (CallError::NotExecuted(Error::Denied("AUTH".into())), false),
            (
                CallError::NotExecuted(Error::Unsuitable("old".into())),
                false,
            ),
            (CallError::Answered(full()), true),
            (CallError::Answered(Error::Denied("NOPERM".into())), false),
            (CallError::Answered(Error::Server("ERR".into())), false),
            (CallError::Answered(Error::Protocol("odd".into())), false),
        ] {
            assert_eq!(error.may_pass(), may_pass, "{error:?}");
        }
    }
}
