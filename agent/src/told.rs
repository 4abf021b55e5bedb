//! Who is told what without asking: the plugin, the service manager.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use overlay::report::Problem;
use plugin_kit::files::{self, Durability};
use plugin_overlay::NodeFile;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::known::{Known, counts};
use crate::log;
use crate::plugin_file;
use crate::settings::Settings;
use crate::systemd::ServiceManager;

/// How long a store may take to say something.
const FIRST_VIEW: Duration = Duration::from_secs(3);

/// Keeps the plugin's file as it must be.
pub(crate) async fn tell_plugin(known: Arc<Known>) -> String {
    let path = file(&known.settings);
    let mut told: Option<NodeFile> = None;
    let mut problems = Vec::new();
    let mut known_parts = Watched::new(&known);
    // What an agent that ran before has told goes on until the store has said something.
    let mut view = known.view.clone();
    let _ = timeout(FIRST_VIEW, view.changed()).await;
    loop {
        let file = what_plugin_must_know(&known);
        if told.as_ref() != Some(&file) {
            if let Err(error) = write(&path, &file) {
                return format!("write {}: {error}", path.display());
            }
            say_what_changed(told.as_ref(), &file);
            told = Some(file);
        }
        let now = known.view.borrow().problems.clone();
        say_problems(&problems, &now);
        problems = now;
        if !known_parts.changed().await {
            return "nothing changes any more".to_owned();
        }
    }
}

/// Where the plugin looks.
pub(crate) fn file(settings: &Settings) -> PathBuf {
    settings.run_dir.join(format!("{}.json", settings.network))
}

fn what_plugin_must_know(known: &Known) -> NodeFile {
    let settings = &known.settings;
    let (view, ways) = (known.view.borrow().clone(), known.ways.borrow().clone());
    plugin_file::node_file(known.id, &settings.bridge, &settings.pool, ways.mtu, &view, known.cut_off())
}

fn write(path: &Path, file: &NodeFile) -> io::Result<()> {
    let mut content = serde_json::to_vec_pretty(file)?;
    content.push(b'\n');
    files::replace(path, &content, 0o644, Durability::Memory)
}

fn say_what_changed(before: Option<&NodeFile>, now: &NodeFile) {
    let prefixes = |file: &NodeFile| {
        let prefixes: Vec<_> = file.subnets.iter().map(|assigned| assigned.subnet.to_string()).collect();
        prefixes.join(", ")
    };
    let subnets_before = before.map(prefixes).unwrap_or_default();
    match prefixes(now) {
        same if same == subnets_before => {}
        none if none.is_empty() => log::warning("new pods get no addresses any more"),
        subnets => log::info(format_args!("new pods get addresses of {subnets}")),
    }
    if let Some(waiting) = &now.waiting
        && before.and_then(|before| before.waiting.as_ref()) != Some(waiting)
    {
        log::info(format_args!("no pod can be attached yet: {waiting}"));
    }
    match (before.and_then(|before| before.cut_off.as_ref()), &now.cut_off) {
        (before, Some(why)) if before != Some(why) => log::warning(format_args!("cut off: {why}")),
        (Some(_), None) => log::info("not cut off any more"),
        _ => {}
    }
    let known_before = before.map(|before| before.duplicates.as_slice()).unwrap_or_default();
    for duplicate in now.duplicates.iter().filter(|duplicate| !known_before.contains(duplicate)) {
        log::error(format_args!(
            "{} is also the address of {}: delete one of the two pods",
            duplicate.address, duplicate.other
        ));
    }
}

/// Problems that are new, or gone.
pub(crate) fn say_problems(before: &[Problem], now: &[Problem]) {
    for problem in now.iter().filter(|problem| !before.contains(problem)) {
        log::warning(format_args!("{}: {}", problem.what, problem.advice));
    }
    for problem in before.iter().filter(|problem| !now.contains(problem)) {
        log::info(format_args!("not any more: {}", problem.what));
    }
}

/// Tells the service manager how the agent is, and that it has not got stuck.
pub(crate) async fn tell_manager(known: Arc<Known>, manager: ServiceManager) -> String {
    manager.ready(&status_line(&known));
    let mut told = String::new();
    let mut alive = manager.interval().map(|period| {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    });
    let mut known_parts = Watched::new(&known);
    loop {
        let status = status_line(&known);
        if status != told {
            manager.status(&status);
            told = status;
        }
        let ticked = async {
            match &mut alive {
                Some(ticks) => ticks.tick().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = ticked => manager.alive(),
            go_on = known_parts.changed() => if !go_on { return "nothing changes any more".to_owned() },
        }
    }
}

/// How the agent is, in a line.
pub(crate) fn status_line(known: &Known) -> String {
    let view = known.view.borrow().clone();
    let counts = counts(&view.topology, &known.id);
    let subnets: Vec<_> = view.subnets.iter().map(|subnet| subnet.prefix.to_string()).collect();
    let peers = counts.alive + counts.suspect + counts.down + counts.unknown;
    match known.unready() {
        Some(why) => why,
        None => format!(
            "{}; {peers} peers, {} do not answer; {} pods",
            subnets.join(", "),
            counts.suspect + counts.down,
            known.local.borrow().pods.len()
        ),
    }
}

/// All that is known, and whether any of it has changed.
pub(crate) struct Watched {
    local: tokio::sync::watch::Receiver<Arc<overlay::Local>>,
    view: tokio::sync::watch::Receiver<Arc<overlay::View>>,
    ways: tokio::sync::watch::Receiver<Arc<crate::known::Ways>>,
}

impl Watched {
    pub(crate) fn new(known: &Known) -> Self {
        Self { local: known.local.clone(), view: known.view.clone(), ways: known.ways.clone() }
    }

    /// Waits for a change. `false`: there will be none any more.
    pub(crate) async fn changed(&mut self) -> bool {
        tokio::select! {
            local = self.local.changed() => local.is_ok(),
            view = self.view.changed() => view.is_ok(),
            ways = self.ways.changed() => ways.is_ok(),
        }
    }
}
