//! Which of the library's scripts a command runs.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use oxbull_testkit::Command;

/// The names of the scripts seen so far, by hash. Servers begin without scripts, so that every
/// one of them comes by as text first.
fn known() -> &'static Mutex<HashMap<String, String>> {
    static KNOWN: OnceLock<Mutex<HashMap<String, String>>> = OnceLock::new();
    KNOWN.get_or_init(Mutex::default)
}

/// The script's name, once its text has been seen.
pub(crate) fn script_of(command: &Command) -> Option<String> {
    let mut known = known().lock().unwrap_or_else(PoisonError::into_inner);
    if command.is("EVALSHA") {
        return known.get(command.text(1).as_ref()).cloned();
    }
    if !command.is("EVAL") {
        return None;
    }
    // The parts open with a comment each; the last is the script itself.
    let source = command.text(1);
    let name = source
        .lines()
        .filter_map(|line| line.strip_prefix("-- lua/")?.strip_suffix(".lua"))
        .rfind(|name| !name.starts_with("lib/"))?
        .to_owned();
    let hash = sha1_smol::Sha1::from(source.as_bytes())
        .digest()
        .to_string();
    known.insert(hash, name.clone());
    Some(name)
}

/// Accepts the commands that run a script.
pub(crate) fn runs(name: &'static str) -> impl Fn(&Command) -> bool + Send + Sync + 'static {
    move |command| script_of(command).as_deref() == Some(name)
}
