//! The daemon dies at a system call, while it starts or is asked: the next one goes on, and a DEL leaves nothing.

use std::process::Command;
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::Duration;

use cnikit_tests::faults::{Fault, Tracer};
use cnikit_tests::lan::{LONG_RANGE, Lan, with_server};
use cnikit_tests::{Node, Outcome, Pod, Scene, State, cases, differences, ours};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

const DEATHS: [Fault; 2] =
    [Fault::Kill { tree: true, after: false }, Fault::Kill { tree: true, after: true }];

/// A node with a pod that has an address, and one to which a dying daemon is to give one.
struct Scenery {
    lan: Lan,
    victim: Pod,
    config: Value,
    before: Scene,
}

impl Scenery {
    fn new() -> Self {
        let node = Node::new(&ours!());
        // Link-local addresses come with time.
        node.shell("echo 1 > /proc/sys/net/ipv6/conf/default/addr_gen_mode");
        let mut lan = Lan::on(Arc::new(node), &ours!());
        lan.start_server(&[LONG_RANGE]);
        lan.start_daemon();
        let config = lan.config(&json!({}));
        let [stays, victim] = ["stays", "victim"].map(|name| {
            let pod = lan.node.pod(name);
            let quiet = "for all in all default; do echo 0 > /proc/sys/net/ipv6/conf/$all/accept_dad; done";
            lan.node.pod_shell(&pod, quiet);
            pod
        });
        lan.add(&stays, &config);
        lan.add(&victim, &config);
        lan.del(&victim, &config);
        lan.stop("daemon", Signal::SIGTERM);
        let before = seen(&State::of(&lan.node));
        Self { lan, victim, config, before }
    }

    /// A daemon under a tracer, which is asked for something if it lives long enough.
    fn asked(&self, command: &str, tracer: &mut Tracer) -> Option<Outcome> {
        let line = self.lan.daemon(&self.lan.plugins, "8");
        let mut program = Command::new(&line[0]);
        program.args(&line[1..]);
        let node = Arc::clone(&self.lan.node);
        thread::scope(|scope| {
            let daemon = scope.spawn(move || node.inside(|| tracer.run(&program, &[])));
            while !daemon.is_finished() && !self.lan.serves(true) {
                sleep(Duration::from_millis(5));
            }
            let asks = !daemon.is_finished();
            let outcome = asks.then(|| self.lan.call(command, &self.victim, &self.config).run());
            if let Some(alive) = self.lan.who_serves() {
                // It may be dying.
                let _ = kill(alive, Signal::SIGTERM);
            }
            daemon.join().unwrap();
            outcome
        })
    }

    /// What is wrong after a daemon has died while it was asked, and the next one was.
    fn round(&mut self, command: &str, tracer: &mut Tracer) -> Vec<String> {
        let (victim, config) = (self.victim.clone(), self.config.clone());
        if command == "DEL" {
            self.lan.start_daemon();
            self.lan.add(&victim, &config);
            self.lan.stop("daemon", Signal::SIGTERM);
        }
        let said = self.asked(command, tracer);
        self.lan.start_daemon();
        let mut wrong = Vec::new();
        // What it was answered holds.
        if let Some(said) = said.filter(|said| command == "ADD" && said.status.success()) {
            let mut checked = config.clone();
            checked["prevResult"] = said.result();
            let outcome = self.lan.call("CHECK", &victim, &checked).run();
            if !outcome.status.success() {
                wrong.push(format!("CHECK after a success: {outcome}"));
            }
        }
        let outcome = self.lan.call("DEL", &victim, &config).run();
        if !outcome.status.success() {
            wrong.push(format!("the DEL: {outcome}"));
        }
        let kept = self.lan.records().len();
        if kept != 1 {
            wrong.push(format!("{kept} records, of one pod"));
        }
        wrong.extend(self.lan.notes().iter().map(|note| format!("left: {}", note.display())));
        self.lan.add(&victim, &config);
        self.lan.del(&victim, &config);
        self.lan.stop("daemon", Signal::SIGTERM);
        let now = State::when(&self.lan.node, |state| seen(state) == self.before);
        wrong.extend(differences(&self.before, &seen(&now)).into_iter().map(|line| format!("left: {line}")));
        wrong
    }
}

/// Everything but what the server knows: an address that was on its way to a daemon that died is the server's to forget.
fn seen(state: &State) -> Scene {
    Scene::owned(state).without(&["served"])
}

/// The daemon dies at some of its points, which are all if there are [`cases`] enough.
fn nothing_is_left(command: &str) {
    let mut scenery = Scenery::new();
    let mut counting = Tracer::counting();
    let wrong = scenery.round(command, &mut counting);
    assert!(wrong.is_empty(), "without a death: {}", wrong.join("\n"));
    let points = counting.seen.len();
    let all: Vec<_> = (0..points).flat_map(|point| DEATHS.map(|death| (point, death))).collect();
    let step = all.len().div_ceil(cases(40) as usize);
    let (mut died, mut found) = (0, Vec::new());
    for (point, death) in all.into_iter().step_by(step) {
        let mut tracer = Tracer::at(point, death);
        let wrong = scenery.round(command, &mut tracer);
        died += usize::from(tracer.hit.is_some());
        let hit = tracer.hit.unwrap_or_default();
        found.extend(
            wrong.iter().map(|wrong| format!("{command} {point} {}: at {hit}: {wrong}", death.name())),
        );
    }
    eprintln!("{command}: {points} points, {died} deaths");
    assert!(died > 20, "it died {died} times only, of {points} points");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_daemon_that_dies_while_it_gets_an_address_leaves_nothing_that_the_next_one_does_not_end() {
    with_server(|| nothing_is_left("ADD"));
}

#[test]
fn a_daemon_that_dies_while_it_gives_an_address_back_leaves_nothing_that_the_next_one_does_not_end() {
    with_server(|| nothing_is_left("DEL"));
}
