//! `cnikit status`: how is this node, and what does it see of the others?

use overlay::SubnetState;
use overlay::report::{Peer, PeerCounts, Problem, Severity, Status, Way};
use serde::Serialize;

use crate::agent_socket::AgentSocket;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, Style, Tone, harmless};

/// The answer in JSON: what the agent says, and by which way its peers are reached.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    status: &'a Status,
    ways: Ways,
}

/// How many peers are reached by which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
struct Ways {
    tunnels: usize,
    routes: usize,
    router: usize,
    none: usize,
}

impl Ways {
    fn of(peers: &[Peer]) -> Self {
        let count = |is: fn(&Way) -> bool| peers.iter().filter(|peer| is(&peer.path.way)).count();
        Self {
            tunnels: count(|way| matches!(way, Way::Vxlan { .. })),
            routes: count(|way| matches!(way, Way::Route { .. })),
            router: count(|way| matches!(way, Way::Router { .. })),
            none: count(|way| matches!(way, Way::None)),
        }
    }
}

/// Asks the agent.
pub(super) fn run(agent: &AgentSocket, json: bool, output: &mut Output) -> Result<Exit, Failure> {
    let status = agent.status()?;
    let ways = Ways::of(&agent.peers()?);
    if json {
        output.json(&Answer { status: &status, ways })?;
    } else {
        output.bytes(text(&status, ways, output.style()).as_bytes())?;
    }
    Ok(exit_of(&status))
}

fn exit_of(status: &Status) -> Exit {
    match status.problems.iter().any(|problem| problem.severity == Severity::Error) {
        _ if !status.ready => Exit::NotReady,
        true => Exit::Differs,
        false => Exit::Done,
    }
}

/// A fact a line, and then what is wrong.
fn text(status: &Status, ways: Ways, style: Style) -> String {
    let ready = if status.ready {
        style.paint(Tone::Good, "ready")
    } else {
        style.paint(Tone::Bad, "not ready: new pods get no addresses")
    };
    let facts = [
        ("node", format!("{}, {ready}", style.paint(Tone::Heading, status.name.as_str()))),
        ("id", style.paint(Tone::Faint, &status.node.to_string())),
        ("addresses", or_none(listed(&status.addresses))),
        ("network", harmless(&status.network)),
        ("bridge", format!("{}, with {}", harmless(&status.bridge), count(status.pods, "pod"))),
        ("subnets", subnets(status)),
        ("store", store(status, style)),
        ("peers", peers(status.peers, style)),
        ("ways", ways_text(ways, status, style)),
        ("agent", format!("{}, for {}", harmless(&status.version), duration(status.uptime))),
    ];
    let mut text = String::new();
    for (what, fact) in facts {
        text.push_str(&format!("{}{fact}\n", style.paint(Tone::Heading, &format!("{what:<11}"))));
    }
    for problem in &status.problems {
        text.push_str(&problem_text(problem, style));
    }
    text
}

fn problem_text(problem: &Problem, style: Style) -> String {
    let severity = match problem.severity {
        Severity::Error => style.paint(Tone::Bad, "error"),
        Severity::Warning => style.paint(Tone::Odd, "warning"),
    };
    let mut text = format!("\n{severity}: {}\n", harmless(&problem.what));
    if !problem.advice.is_empty() {
        text.push_str(&format!("{}: {}\n", style.paint(Tone::Heading, "hint"), harmless(&problem.advice)));
    }
    text
}

fn subnets(status: &Status) -> String {
    let subnet = |subnet: &overlay::Subnet| match subnet.state {
        SubnetState::Held => subnet.prefix.to_string(),
        SubnetState::Tentative => format!("{} (tentative: waits for objections)", subnet.prefix),
        SubnetState::Lost => format!("{} (lost: for the pods that it has)", subnet.prefix),
    };
    or_none(listed(&status.subnets.iter().map(subnet).collect::<Vec<_>>()))
}

fn store(status: &Status, style: Style) -> String {
    let store = &status.store;
    let mut text = harmless(&store.kind);
    if !store.endpoints.is_empty() {
        text.push_str(&format!(": {}", harmless(&listed(&store.endpoints))));
    }
    if let Some(reason) = &store.cut_off {
        text.push_str(&style.paint(Tone::Bad, &format!(" (cut off: {})", harmless(reason))));
    }
    text
}

fn peers(counts: PeerCounts, style: Style) -> String {
    let PeerCounts { alive, suspect, down, unknown } = counts;
    let parts = [
        (alive, "alive", Tone::Good),
        (suspect, "suspect", Tone::Odd),
        (down, "down", Tone::Bad),
        (unknown, "unknown", Tone::Plain),
    ];
    let told = parts.into_iter().filter(|(number, ..)| *number > 0);
    let told = told.map(|(number, what, tone)| style.paint(tone, &format!("{number} {what}")));
    or_none(told.collect::<Vec<_>>().join(", "))
}

fn ways_text(ways: Ways, status: &Status, style: Style) -> String {
    let Ways { tunnels, routes, router, none } = ways;
    let parts = [
        (tunnels, "by tunnel", Tone::Plain),
        (routes, "by route", Tone::Plain),
        (router, "by the router", Tone::Plain),
        (none, "by none", Tone::Bad),
    ];
    let told = parts.into_iter().filter(|(number, ..)| *number > 0);
    let told = told.map(|(number, what, tone)| style.paint(tone, &format!("{number} {what}")));
    format!("{} (mode {})", or_none(told.collect::<Vec<_>>().join(", ")), status.mode)
}

fn listed<T: ToString>(list: &[T]) -> String {
    list.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A length of time for people: its two largest units.
fn duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (length, unit) in units {
        if rest >= length || unit == "s" {
            parts.push(format!("{} {unit}", rest / length));
        } else if !parts.is_empty() {
            parts.push(format!("0 {unit}"));
        }
        rest %= length;
    }
    parts.truncate(2);
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fixtures;

    #[test]
    fn a_node_that_is_well_takes_a_line_for_each_fact() {
        let expected = "\
node       n1, ready
id         01010101010101010101010101010101
addresses  192.168.1.11
network    podnet
bridge     cni-podnet, with 2 pods
subnets    10.244.1.0/24
store      gossip: 192.168.1.11:7946
peers      2 alive
ways       1 by tunnel, 1 by route (mode auto)
agent      0.1.0, for 1 h 1 min
";
        let ways = Ways::of(&fixtures::peers());
        assert_eq!(text(&fixtures::status(), ways, Style::Plain), expected);
        assert_eq!(exit_of(&fixtures::status()), Exit::Done);
    }

    #[test]
    fn what_is_wrong_comes_last_with_what_to_do() {
        let mut status = fixtures::status();
        status.ready = false;
        status.store.cut_off = Some("no peer answers".to_owned());
        status.problems = vec![Problem {
            severity: Severity::Error,
            what: "node n3 does not answer\x1b[2J".to_owned(),
            advice: "look at it".to_owned(),
        }];
        let text = text(&status, Ways::default(), Style::Plain);
        assert!(text.contains("(cut off: no peer answers)"), "{text}");
        let end = "\nerror: node n3 does not answer\\u{1b}[2J\nhint: look at it\n";
        assert!(text.ends_with(end), "{text}");
        assert_eq!(exit_of(&status), Exit::NotReady);
        status.ready = true;
        assert_eq!(exit_of(&status), Exit::Differs);
    }

    #[test]
    fn time_is_told_in_two_units() {
        let told = [0, 59, 60, 3600, 90_000].map(duration);
        assert_eq!(told, ["0 s", "59 s", "1 min 0 s", "1 h 0 min", "1 d 1 h"]);
    }
}
