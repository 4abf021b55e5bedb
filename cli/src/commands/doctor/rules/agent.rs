//! What the agent says of the node, and what it has told the plugin.

use overlay::report;

use crate::commands::doctor::facts::Facts;
use crate::commands::doctor::finding::{Findings, Severity};

pub(super) fn check(facts: &Facts) -> Findings {
    let mut findings = Findings::of("agent");
    match &facts.agent.status {
        None => check_absence(&mut findings, facts),
        Some(Err(reason)) => findings.warning(
            format!("the agent does not answer: {reason}"),
            "journalctl -u cnikit-agent, or kubectl logs of its pod, says why; pods and routes stay as they are meanwhile",
        ),
        Some(Ok(status)) => check_status(&mut findings, status),
    }
    for (network, file) in &facts.agent.files {
        if let Err(reason) = file {
            findings.error(
                format!("network {network}: {reason}"),
                "remove the file: a running agent writes it anew when it is started again",
            );
        }
    }
    findings
}

/// That no agent runs is fine, unless a network waits for one.
fn check_absence(findings: &mut Findings, facts: &Facts) {
    let chains =
        facts.runtime.configurations.iter().filter_map(|configuration| configuration.content.as_ref().ok());
    let waits = chains.into_iter().find(|chain| chain.plugins.iter().any(|(name, _)| name == "overlay"));
    match waits {
        Some(chain) => findings.warning(
            format!("no agent runs, and network {} needs one: its pods reach those of other nodes as it left them", chain.network),
            "start `cnikit agent`",
        ),
        None => findings.info("no agent runs"),
    }
}

fn check_status(findings: &mut Findings, status: &report::Status) {
    match status.ready {
        true => {
            let subnets: Vec<_> = status.subnets.iter().map(|subnet| subnet.prefix.to_string()).collect();
            findings.ok(format!(
                "the agent of network {} is ready, with {}",
                status.network,
                subnets.join(", ")
            ));
        }
        false => findings.warning(
            format!("the agent of network {} is not ready: new pods get no addresses", status.network),
            "`cnikit status` says what it waits for",
        ),
    }
    for problem in &status.problems {
        let severity = match problem.severity {
            report::Severity::Error => Severity::Error,
            report::Severity::Warning => Severity::Warning,
        };
        findings.add(severity, problem.what.clone(), Some(problem.advice.clone()));
    }
}

#[cfg(test)]
mod tests {
    use overlay::report::Problem;

    use super::super::healthy::{complains, spoilt};
    use super::*;
    use crate::commands::doctor::finding::Severity::{Error, Info, Warning};

    #[test]
    fn an_agent_answers_and_is_ready() {
        complains(
            check,
            |facts| facts.agent.status = Some(Err("timed out".to_owned())),
            Warning,
            "timed out",
        );
        complains(check, |facts| status(facts).ready = false, Warning, "not ready");
    }

    #[test]
    fn what_an_agent_says_itself_is_passed_on() {
        let problem = |severity| {
            move |facts: &mut Facts| {
                let (what, advice) = ("10.244.3.9 is two pods'".to_owned(), "delete one".to_owned());
                status(facts).problems.push(Problem { severity, what, advice });
            }
        };
        complains(check, problem(report::Severity::Error), Error, "10.244.3.9");
        complains(check, problem(report::Severity::Warning), Warning, "10.244.3.9");
    }

    #[test]
    fn no_agent_is_fine_where_nobody_needs_one() {
        complains(check, |facts| facts.agent.status = None, Warning, "network pods needs one");
        let found = spoilt(check, |facts| {
            facts.agent.status = None;
            facts.runtime.configurations.clear();
        });
        assert!(found.iter().all(|finding| finding.severity == Info), "{found:#?}");
    }

    #[test]
    fn what_the_plugin_is_told_can_be_read() {
        let garbage = ("pods".to_owned(), Err("pods.json: it is a symbolic link".to_owned()));
        complains(check, |facts| facts.agent.files = vec![garbage], Error, "symbolic link");
    }

    fn status(facts: &mut Facts) -> &mut report::Status {
        match &mut facts.agent.status {
            Some(Ok(status)) => status,
            other => panic!("{other:?}"),
        }
    }
}
