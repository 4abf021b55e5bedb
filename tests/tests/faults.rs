//! What is left when something happens to a call at one of its system calls: nothing.
//!
//! All points of `bridge` with `host-local`, and a sample of everybody else's. `faults` tries all of them with all that
//! can happen; see its head.

#![allow(clippy::unwrap_used)] // tests
#![cfg(target_arch = "x86_64")]

use std::sync::Mutex;

use cnikit_tests::faults::{Campaign, Fault, Kind, SCENARIOS, Scenario, Verb};
use cnikit_tests::lan::{has_server, with_server};
use cnikit_tests::{Implementation, isolated, ours};

/// One error at each point, one refusal of each request, and one way to die.
fn campaign(step: usize) -> Campaign {
    let kills = vec![Fault::Kill { tree: true, after: true }];
    Campaign { errors_per_point: 1, kills, step, jobs: 2, ..Campaign::default() }
}

/// That nothing is left, and every failure is told. Returns how often something happened.
fn nothing_is_left(campaign: &Campaign, scenario: &Scenario, plugins: &Implementation, verb: Verb) -> usize {
    let found = Mutex::new(Vec::new());
    let stands_behind_others = scenario.configs("victim").len() > 1;
    let tallies = campaign.run(scenario, plugins, verb, &|number, fault, round| {
        // An ADD whose answer cannot be written is taken back as a DEL does it: some of that goes with the interface.
        let unanswered = round.hit.as_ref().is_some_and(|hit| hit.starts_with("write(1 "));
        let is_clean = round.after.is_empty() && round.troubles.is_empty() && !round.hung;
        if stands_behind_others && unanswered && is_clean {
            return;
        }
        let line = format!("{} {} {number} {}: {round}", scenario.name, verb.name(), fault.name());
        found.lock().unwrap().push(line);
    });
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{}", found.join("\n"));
    tallies.iter().map(|tally| tally.rounds).sum()
}

#[test]
fn an_add_and_a_del_of_bridge_that_fail_or_die_anywhere_leave_nothing() {
    isolated(|| {
        let scenario = Scenario::find("bridge").unwrap();
        for verb in [Verb::Add, Verb::Del] {
            let rounds = nothing_is_left(&campaign(1), scenario, &ours!(), verb);
            assert!(rounds > 80, "{}: something happened {rounds} times only", verb.name());
        }
    });
}

#[test]
fn what_happens_to_any_other_plugin_leaves_nothing_either() {
    isolated(|| {
        for (number, scenario) in SCENARIOS.iter().enumerate() {
            if scenario.served && !has_server() {
                continue;
            }
            // Another verb each, so that each has its turn with something that makes an interface and something that
            // does not.
            let verbs: Vec<_> = Verb::ALL.into_iter().filter(|verb| scenario.has(*verb)).collect();
            let verb = verbs[number % verbs.len()];
            nothing_is_left(&campaign(7), scenario, &ours!(), verb);
        }
    });
}

/// All of these look into the container's namespace first, and some have nothing else that a DEL would have to remove.
#[test]
fn a_namespace_that_cannot_be_looked_at_is_not_taken_for_one_that_is_gone() {
    isolated(|| {
        for name in ["loopback", "tap", "sbr"] {
            let campaign = Campaign { kills: Vec::new(), ..campaign(1) };
            nothing_is_left(&campaign, Scenario::find(name).unwrap(), &ours!(), Verb::Del);
        }
    });
}

/// It writes a file before it changes anything, and has to find it again by that.
#[test]
fn what_tuning_remembers_is_neither_left_half_written_nor_passed_over() {
    isolated(|| {
        for (verb, kind) in [(Verb::Add, Kind::Death), (Verb::Gc, Kind::Error)] {
            let campaign = Campaign { kinds: vec![kind], points: 15..=usize::MAX, ..campaign(1) };
            nothing_is_left(&campaign, Scenario::find("tuning").unwrap(), &ours!(), verb);
        }
    });
}

/// The daemon, the server and the interface know of an address each.
#[test]
fn an_add_that_fails_anywhere_about_an_address_of_dhcp_leaves_it_with_nobody() {
    with_server(|| {
        let campaign = Campaign { kinds: vec![Kind::Error], points: 30..=usize::MAX, ..campaign(1) };
        nothing_is_left(&campaign, Scenario::find("dhcp").unwrap(), &ours!(), Verb::Add);
    });
}

#[test]
fn what_happens_to_any_plugin_of_a_chain_leaves_nothing() {
    isolated(|| {
        for verb in [Verb::Add, Verb::Del] {
            nothing_is_left(&campaign(5), Scenario::find("chain").unwrap(), &ours!(), verb);
        }
    });
}

#[test]
fn what_is_left_is_found() {
    isolated(|| {
        let Some(reference) = Implementation::reference() else { return };
        // The reference writes a lease after it has made the file: who dies in between leaves an empty one for ever.
        let campaign = Campaign { kinds: vec![Kind::Death], ..campaign(1) };
        let scenario = Scenario::find("host-local").unwrap();
        let [.., deaths] = campaign.run(scenario, &reference, Verb::Add, &|_, _, _| {});
        assert!(deaths.rounds > 20 && deaths.after > 0, "{deaths:?}");
    });
}
