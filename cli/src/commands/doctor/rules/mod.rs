//! What facts mean. Each rule is a function of them, and says what is wrong, or that nothing is.

mod agent;
#[cfg(test)]
mod healthy;
mod identity;
mod kernel;
mod network;
mod ports;
mod reach;
mod runtime;
mod settings;

use super::Role;
use super::facts::Facts;
use super::finding::{Finding, Findings};

/// Everything that is found, the worst first.
pub(super) fn check(facts: &Facts, role: Role) -> Vec<Finding> {
    let found = [
        identity::check(facts),
        network::check(facts),
        ports::check(facts, role),
        reach::check(facts),
        settings::check(facts),
        kernel::check(facts),
        runtime::check(facts),
        agent::check(facts),
    ];
    let mut found: Vec<_> = found.into_iter().flat_map(Findings::into_vec).collect();
    found.sort_by_key(|finding| finding.severity);
    found
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn of_a_healthy_node_there_is_nothing_to_complain_about() {
        for role in [Role::Any, Role::ControlPlane, Role::Worker] {
            let found = check(&healthy::facts(), role);
            let complaints: Vec<_> =
                found.iter().filter(|finding| finding.severity < Severity::Info).collect();
            assert!(complaints.is_empty(), "{complaints:#?}");
            assert!(found.iter().any(|finding| finding.severity == Severity::Ok));
        }
    }

    #[test]
    fn of_a_node_of_which_nothing_is_known_nothing_bad_is_said_without_advice() {
        for finding in check(&Facts::default(), Role::Any) {
            let is_bad = finding.severity < Severity::Info;
            assert_eq!(is_bad, finding.advice.is_some(), "{finding:#?}");
        }
    }

    #[test]
    fn the_worst_comes_first() {
        let mut facts = healthy::facts();
        facts.identity.host_name = Some("localhost".to_owned());
        let severities: Vec<_> = check(&facts, Role::Any).iter().map(|finding| finding.severity).collect();
        assert!(severities.is_sorted() && severities[0] == Severity::Error, "{severities:?}");
    }
}
