//! What each call costs the server: a proxy that asks the server, between two calls of a client that makes
//! one after the other, how much processor time it has used and how many commands it has run.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fs, io};

use oxbull_testkit::{Command, Proxy, RedisServer, Rule, TestResult};

/// What one call cost.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    /// The script's name, or that of the command.
    pub(crate) name: String,
    /// Processor time of the server's main thread, in microseconds, its answers to the meter included.
    pub(crate) cpu_us: u64,
    /// How many commands ran, those inside of a script too.
    pub(crate) commands: u64,
    /// What the reference took in this time, in microseconds.
    pub(crate) reference_us: u64,
}

/// The reference: a thousand small writes of a script, one to three milliseconds. Machines differ, and one machine
/// from minute to minute.
const REFERENCE: &str = "for i = 1, 1000 do redis.call('HSET', 'reference', i, 'value') end redis.call('DEL', 'reference')";

/// The reference is measured again after so many calls; what counts is the median of so many measurements.
const REFERENCE_EVERY: usize = 32;
const REFERENCES: usize = 7;

/// So many calls of a script or command are all measured, and after them each so-manieth: some come by the hundred
/// thousand.
const ALL: usize = 500;
const EVERY: usize = 7;

impl Cost {
    /// The processor time in references.
    pub(crate) fn references(&self) -> f64 {
        Duration::from_micros(self.cpu_us)
            .div_duration_f64(Duration::from_micros(self.reference_us.max(1)))
    }
}

/// Measures the calls that go through it.
pub(crate) struct Meter {
    pub(crate) proxy: Proxy,
    /// The hashes of the scripts, by name.
    pub(crate) hashes: BTreeMap<String, String>,
    state: Arc<Mutex<State>>,
}

struct State {
    probe: Probe,
    /// The names of scripts, by hash.
    names: BTreeMap<String, String>,
    running: Option<(String, Reading)>,
    costs: Vec<Cost>,
    references: VecDeque<u64>,
    resting: bool,
    /// How often each script or command was called.
    calls: BTreeMap<String, usize>,
}

/// What the server has used and done so far.
#[derive(Debug, Clone, Copy)]
struct Reading {
    cpu_us: u64,
    commands: u64,
}

impl Meter {
    /// Puts a meter in front of a server, which gets to know all scripts.
    pub(crate) async fn start(server: &RedisServer) -> TestResult<Self> {
        let mut hashes = BTreeMap::new();
        for (name, text) in sources()? {
            let hash = server.text(&["SCRIPT", "LOAD", &text]).await?;
            hashes.insert(name, hash.unwrap_or_default());
        }
        let names = hashes
            .iter()
            .map(|(name, hash)| (hash.clone(), name.clone()));
        let state = Arc::new(Mutex::new(State {
            probe: Probe::open(server.port())?,
            names: names.collect(),
            running: None,
            costs: Vec::new(),
            references: VecDeque::new(),
            resting: false,
            calls: BTreeMap::new(),
        }));
        let proxy = Proxy::start(server.port()).await?;
        let seen = Arc::clone(&state);
        proxy.add(Rule::reset_before(move |command| {
            lock(&seen).begin(command);
            false
        }));
        Ok(Self {
            proxy,
            hashes,
            state,
        })
    }

    /// Ends the last call: what the server does next is not its doing, nor that of calls which come meanwhile.
    pub(crate) fn rest(&self) {
        let mut state = lock(&self.state);
        state.end();
        state.resting = true;
    }

    /// Measures again.
    pub(crate) fn go_on(&self) {
        lock(&self.state).resting = false;
    }

    /// Ends the last call and returns what the calls cost since this was asked.
    pub(crate) fn costs(&self) -> Vec<Cost> {
        let mut state = lock(&self.state);
        state.end();
        std::mem::take(&mut state.costs)
    }
}

impl State {
    fn begin(&mut self, command: &Command) {
        if self.resting {
            return;
        }
        let key = match command.name() {
            name if name == "EVALSHA" => command.text(1).into_owned(),
            name => name,
        };
        let calls = self.calls.entry(key).or_default();
        *calls += 1;
        if *calls > ALL && !calls.is_multiple_of(EVERY) {
            if self.running.is_some() {
                self.end();
            }
            return;
        }
        let Some(reading) = self.end() else { return };
        let name = match command.name() {
            // A text that the server does not know is compiled, once.
            name if name == "EVAL" => name,
            name if name == "EVALSHA" => {
                let known = self.names.get(command.text(1).as_ref());
                known.cloned().unwrap_or(name)
            }
            name => name,
        };
        self.running = Some((name, reading));
    }

    /// Measures the reference again if it is time to. Returns what it takes now.
    fn reference_us(&mut self) -> Option<u64> {
        if self.costs.len().is_multiple_of(REFERENCE_EVERY) || self.references.len() < REFERENCES {
            let (_, before) = self.probe.read().ok()?;
            self.probe.run(REFERENCE).ok()?;
            let (after, _) = self.probe.read().ok()?;
            self.references
                .push_back(after.cpu_us.saturating_sub(before.cpu_us));
            if self.references.len() > REFERENCES {
                self.references.pop_front();
            }
        }
        let mut sorted = Vec::from(self.references.clone());
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// Ends the running call; returns where the next one begins.
    fn end(&mut self) -> Option<Reading> {
        let (end, mut next) = self.probe.read().ok()?;
        if let Some((name, start)) = self.running.take() {
            let reference_us = self.reference_us()?;
            next = self.probe.read().ok()?.1;
            self.costs.push(Cost {
                reference_us,
                name,
                cpu_us: end.cpu_us.saturating_sub(start.cpu_us),
                commands: end.commands.saturating_sub(start.commands),
            });
        }
        Some(next)
    }
}

/// A connection that asks for readings. It blocks: the proxy has a thread of its own, and the call that is
/// measured waits for it.
struct Probe(BufReader<TcpStream>);

impl Probe {
    fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Returns a reading for what has ended and one for what begins; what the readings themselves cost is
    /// between the two.
    fn read(&mut self) -> io::Result<(Reading, Reading)> {
        self.0
            .get_mut()
            .write_all(b"INFO cpu\r\nINFO commandstats\r\nINFO cpu\r\n")?;
        let (before, stats, after) = (self.section()?, self.section()?, self.section()?);
        let calls = |line: &&str| -> Option<u64> {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let counts = !matches!(name, "info" | "evalsha" | "eval");
            rest.split(',').next()?.parse().ok().filter(|_| counts)
        };
        let commands = stats.lines().filter_map(|line| calls(&line)).sum();
        let reading = |text: &str| Reading {
            cpu_us: cpu_us(text),
            commands,
        };
        Ok((reading(&before), reading(&after)))
    }

    /// Runs a script that answers with an integer or nothing.
    fn run(&mut self, script: &str) -> io::Result<()> {
        let call = format!(
            "*3\r\n$4\r\nEVAL\r\n${}\r\n{script}\r\n$1\r\n0\r\n",
            script.len()
        );
        self.0.get_mut().write_all(call.as_bytes())?;
        self.0.read_line(&mut String::new())?;
        Ok(())
    }

    /// Reads the answer to one INFO: `$<length>`, the text and a line's end.
    fn section(&mut self) -> io::Result<String> {
        let mut head = String::new();
        self.0.read_line(&mut head)?;
        let length: usize = head
            .trim()
            .trim_start_matches('$')
            .parse()
            .map_err(io::Error::other)?;
        let mut text = vec![0; length + 2];
        self.0.read_exact(&mut text)?;
        String::from_utf8(text).map_err(io::Error::other)
    }
}

/// Processor time of the thread that runs the commands, where the server tells it apart.
fn cpu_us(info: &str) -> u64 {
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        let (seconds, micros) = line.strip_prefix(':')?.trim().split_once('.')?;
        Some(seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?)
    };
    let total = |user: &str, sys: &str| Some(field(user)? + field(sys)?);
    total("used_cpu_user_main_thread", "used_cpu_sys_main_thread")
        .or_else(|| total("used_cpu_user", "used_cpu_sys"))
        .unwrap_or(0)
}

/// All scripts, by name, put together as the library does.
fn sources() -> TestResult<BTreeMap<String, String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let uses = wrappers(&root.join("src"))?;
    let mut all = BTreeMap::new();
    for folder in ["", "kv/"] {
        for entry in fs::read_dir(root.join("lua").join(folder))? {
            let path = entry?.path();
            let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else {
                continue;
            };
            if path.extension().is_none_or(|extension| extension != "lua") {
                continue;
            }
            let name = format!("{folder}{stem}");
            let none = Uses::default();
            let uses = uses.get(&name).unwrap_or(&none);
            let mut text = Vec::new();
            declare(&uses.rarely, &mut text);
            for part in &uses.parts {
                text.push(part_of(root, &format!("lib/{part}"))?);
            }
            define(root, &uses.rarely, &mut text)?;
            text.push(part_of(root, &name)?);
            all.insert(name, text.concat());
        }
    }
    Ok(all)
}

/// Declares groups, so that what is before them may call them.
fn declare(groups: &[Group], text: &mut Vec<String>) {
    for Group { name, .. } in groups {
        text.push(format!("local {name}, made_{name}\n"));
    }
}

/// The functions that make groups.
fn define(root: &Path, groups: &[Group], text: &mut Vec<String>) -> io::Result<()> {
    for group in groups {
        let name = &group.name;
        text.push(format!(
            "function {name}()\nif made_{name} then return made_{name} end\n"
        ));
        declare(&group.inner, text);
        for part in &group.parts {
            text.push(part_of(root, &format!("lib/{part}"))?);
        }
        define(root, &group.inner, text)?;
        text.push(format!("made_{name} = {{"));
        text.extend(group.made.iter().map(|made| format!("{made} = {made},")));
        text.push(format!("}}\nreturn made_{name}\nend\n"));
    }
    Ok(())
}

fn part_of(root: &Path, name: &str) -> io::Result<String> {
    let text = fs::read_to_string(root.join("lua").join(format!("{name}.lua")))?;
    Ok(format!("-- lua/{name}.lua\n{text}"))
}

/// What a script is made of before its own file.
#[derive(Default)]
struct Uses {
    parts: Vec<String>,
    rarely: Vec<Group>,
}

/// Fragments whose functions are made when they are used, and groups for these to call.
struct Group {
    name: String,
    inner: Vec<Self>,
    parts: Vec<String>,
    made: Vec<String>,
}

/// The items of a list in brackets.
fn items(list: &str) -> Vec<String> {
    let list = list.trim().trim_start_matches('[');
    let list = list.split(']').next().unwrap_or_default();
    list.split(',')
        .map(|item| item.trim().trim_matches('"').to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

/// The fragments that each script uses, in the order of its wrapper:
/// `lua!("name", uses: [...], rarely: { group: [...] => [...] })`.
fn wrappers(folder: &Path) -> TestResult<BTreeMap<String, Uses>> {
    let mut all = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path)?;
            for call in text.split("lua!(").skip(1) {
                let name = call.split('"').nth(1).unwrap_or_default();
                let call = call.split(");").next().unwrap_or_default();
                let (_, uses) = call.split_once("uses: ").unwrap_or_default();
                let (_, mut rarely) = call.split_once("rarely: {").unwrap_or_default();
                let groups = groups(&mut rarely);
                let uses = Uses {
                    parts: items(uses),
                    rarely: groups,
                };
                all.insert(name.to_owned(), uses);
            }
        }
    }
    Ok(all)
}

/// Reads `group: {group: ...} [...] => [...], ...` up to the brace that ends it; the inner groups may be missing.
fn groups(text: &mut &str) -> Vec<Group> {
    let mut all = Vec::new();
    while let Some((name, rest)) = text.split_once(':').filter(|(name, _)| !name.contains('}')) {
        let name = name.trim_matches(|c: char| c == ',' || c.is_whitespace());
        *text = rest.trim_start();
        let inner = match text.strip_prefix('{') {
            Some(within) => {
                *text = within;
                groups(text)
            }
            None => Vec::new(),
        };
        let (parts, rest) = text.split_once("=>").unwrap_or_default();
        let (made, rest) = rest.split_once(']').unwrap_or_default();
        *text = rest;
        all.push(Group {
            name: name.to_owned(),
            inner,
            parts: items(parts),
            made: items(made),
        });
    }
    *text = text.split_once('}').unwrap_or_default().1;
    all
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
