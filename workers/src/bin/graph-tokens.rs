//! Keeps the accounts' access tokens in the sealed store.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat};
use clap::{Parser, Subcommand};
use oxbull::BoxError;
use oxbull::client::Client;
use oxbull::vault::Keyring;
use oxbull_workers::app::{self, RedisSettings, StartError};
use oxbull_workers::graph::{
    AccessToken, AccountId, HostSettings, InvalidId, StoredToken, TokenEntry, TokenKind, TokenStore,
};
use serde_json::json;

/// The longest token, in bytes; real ones have a few hundred.
const LONGEST: u64 = 4096;

/// Puts accounts' access tokens into the sealed store, lists, reseals and removes them
#[derive(Debug, Parser)]
#[command(
    version,
    before_help = "Access tokens of Instagram accounts",
    after_help = "Environment only: ENCRYPTION_KEYS, the keys of the store, the active one first"
)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    redis: RedisSettings,
    #[command(flatten, next_help_heading = "Graph API")]
    host: HostSettings,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Stores the token that standard input has, in place of the account's earlier one
    Put {
        /// The account's id
        #[arg(value_parser = account)]
        account: AccountId,
        /// User to notify when the account has to be connected again
        #[arg(long)]
        user: Option<String>,
        /// Seconds until the token ends, as the login answered; unknown when left out
        #[arg(long, value_parser = clap::value_parser!(i64).range(1..=315_360_000))]
        expires_in: Option<i64>,
    },
    /// Lists accounts with what is known of their tokens, never a token; fails if one cannot be read
    List {
        /// One JSON object a line; times are in milliseconds since 1970
        #[arg(long)]
        json: bool,
    },
    /// Seals anew, with the active key, every token that another key seals
    Rotate,
    /// Deletes an account's token; its jobs wait for another one
    Remove {
        /// The account's id
        #[arg(value_parser = account)]
        account: AccountId,
        /// Confirms that the token is to be deleted
        #[arg(long, required = true)]
        yes: bool,
    },
}

fn account(text: &str) -> Result<AccountId, InvalidId> {
    AccountId::new(text)
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = app::command_settings();
    app::exit_code(run(arguments).await)
}

async fn run(arguments: Arguments) -> Result<(), StartError> {
    let keyring = Keyring::from_env()?;
    let client = Client::connect(arguments.redis.config()?).await?;
    let store = TokenStore::new(&client, keyring);
    let done = match arguments.action {
        Action::Put {
            account,
            user,
            expires_in,
        } => put(&store, &arguments.host, &account, user, expires_in).await,
        Action::List { json } => list(&store, json).await,
        Action::Rotate => rotate(&store).await,
        Action::Remove { account, .. } => remove(&store, &account).await,
    };
    client.close().await;
    done.map_err(StartError::Setting)
}

async fn put(
    store: &TokenStore,
    host: &HostSettings,
    account: &AccountId,
    user: Option<String>,
    expires_in: Option<i64>,
) -> Result<(), BoxError> {
    let token = read_token()?;
    let kind = token.kind();
    match host.login()? {
        Some(login) if !login.takes(&token) => {
            return Err(format!("not stored: this is {kind}, which {login} does not take").into());
        }
        _ if kind == TokenKind::Unknown => tracing::warn!(
            "a token that begins neither with IG nor with EAA: whether the api takes it is not checked"
        ),
        _ => {}
    }
    let now = store.now().as_millis();
    let mut stored = StoredToken::new(token);
    stored.user_id = user;
    stored.obtained_at = Some(now);
    stored.expires_at = expires_in.map(|seconds| now + seconds * 1000);
    store.put(account, &stored).await?;
    say(&format!(
        "stored for {account}: {kind}, sealed with key {}",
        store.active_key()
    ))
}

/// Reads a token from standard input: arguments are visible to every user of the machine.
fn read_token() -> Result<AccessToken, BoxError> {
    let mut text = String::new();
    let input = std::io::stdin().lock().take(LONGEST + 1);
    let mut input = std::io::BufReader::new(input);
    input
        .read_to_string(&mut text)
        .map_err(|_| "standard input is no text")?;
    let token = text.trim_end_matches(['\r', '\n']);
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token || text.len() as u64 > LONGEST {
        return Err("standard input must have one token and nothing else".into());
    }
    Ok(AccessToken::new(token))
}

/// All entries by account.
async fn entries(store: &TokenStore) -> oxbull::Result<BTreeMap<String, TokenEntry>> {
    let mut entries = BTreeMap::new();
    let mut cursor = 0;
    loop {
        let (next, page) = store.page(cursor).await?;
        let page = page.into_iter().map(|entry| (entry.account.clone(), entry));
        entries.extend(page);
        if next == 0 {
            return Ok(entries);
        }
        cursor = next;
    }
}

async fn list(store: &TokenStore, json: bool) -> Result<(), BoxError> {
    let entries = entries(store).await?;
    for (account, entry) in &entries {
        say(&if json {
            in_json(account, entry).to_string()
        } else {
            in_words(account, entry)
        })?;
    }
    let unreadable = entries.values().filter(|entry| entry.token.is_err());
    match (unreadable.count(), entries.len()) {
        (0, _) => Ok(()),
        (some, all) => Err(format!("{some} of {all} tokens cannot be read").into()),
    }
}

fn in_json(account: &str, entry: &TokenEntry) -> serde_json::Value {
    let key = entry.key_id();
    match &entry.token {
        Ok(token) => json!({
            "account": account,
            "kind": name(token.token.kind()),
            "user": token.user_id,
            "obtainedAt": token.obtained_at,
            "refreshedAt": token.refreshed_at,
            "expiresAt": token.expires_at,
            "key": key,
        }),
        Err(problem) => json!({ "account": account, "key": key, "problem": problem.to_string() }),
    }
}

fn in_words(account: &str, entry: &TokenEntry) -> String {
    let key = entry.key_id();
    match &entry.token {
        Ok(token) => format!(
            "{account}  {}  expires {}  refreshed {}  key {key}",
            name(token.token.kind()),
            time(token.expires_at),
            time(token.refreshed_at),
        ),
        Err(problem) => format!("{account}  unreadable: {problem}  key {key}"),
    }
}

fn name(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::InstagramUser => "instagram-user",
        TokenKind::Facebook => "facebook",
        TokenKind::Unknown => "unknown",
    }
}

fn time(millis: Option<i64>) -> String {
    millis
        .and_then(DateTime::from_timestamp_millis)
        .map_or_else(
            || "-".to_owned(),
            |time| time.to_rfc3339_opts(SecondsFormat::Secs, true),
        )
}

async fn rotate(store: &TokenStore) -> Result<(), BoxError> {
    let (mut resealed, mut current, mut unreadable) = (0, 0, 0);
    for (account, entry) in entries(store).await? {
        match &entry.token {
            Ok(token) if store.is_stale(&entry) => {
                // One that was replaced meanwhile has been sealed by whoever did it.
                if store.replace(&entry, token).await? {
                    resealed += 1;
                } else {
                    current += 1;
                }
            }
            Ok(_) => current += 1,
            Err(problem) => {
                unreadable += 1;
                tracing::error!(account, %problem, "not sealed anew");
            }
        }
    }
    let key = store.active_key();
    say(&format!(
        "{resealed} sealed anew with key {key}, {current} had it, {unreadable} unreadable"
    ))?;
    if unreadable > 0 {
        return Err("some tokens could not be opened; keep the old keys".into());
    }
    Ok(())
}

async fn remove(store: &TokenStore, account: &AccountId) -> Result<(), BoxError> {
    if store.remove(account).await? {
        return say(&format!("removed the token of {account}"));
    }
    Err(format!("there is no token of {account}").into())
}

/// Prints a line. Nobody may be left to read it, as behind `| head`.
fn say(text: &str) -> Result<(), BoxError> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
