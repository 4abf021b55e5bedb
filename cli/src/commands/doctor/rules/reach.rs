//! Whether those are reached whom this node cannot do without.

use crate::commands::doctor::facts::{Facts, Reached, Refused, Whom};
use crate::commands::doctor::finding::Findings;

pub(super) fn check(facts: &Facts) -> Findings {
    let mut findings = Findings::of("reach");
    for Reached { whom, at, refused } in &facts.reached {
        let who = match whom {
            Whom::ApiServer => format!("the API server at {at}/tcp"),
            Whom::Peer(name) => format!("the agent of {name} at {at}/tcp"),
        };
        let Some(refused) = refused else {
            findings.ok(format!("{who} is reached"));
            continue;
        };
        match (whom, refused) {
            (_, Refused::Error(error)) => findings.error(
                format!("{who} is not reached: {error}"),
                "look at this node's routes, and at what resolves names here",
            ),
            (Whom::ApiServer, Refused::Nobody) => findings.error(
                format!("{who} is not reached: nobody listens there"),
                "on the control plane, see whether kube-apiserver runs; and whether this is its address, which \
                 /etc/kubernetes/kubelet.conf says",
            ),
            (Whom::ApiServer, Refused::Silence) => findings.error(
                format!("{who} is not reached: nothing comes back"),
                "let this port through between the nodes and the control plane, in firewalls of both and in between",
            ),
            // Others reach it, or its agent is being replaced: which of them is wrong is not known here.
            (Whom::Peer(_), Refused::Nobody) => findings.warning(
                format!("{who} is not reached: nobody listens there"),
                "its agent does not run, or listens elsewhere: `systemctl status cnikit-agent` there, or kubectl logs",
            ),
            (Whom::Peer(name), Refused::Silence) => findings.warning(
                format!("{who} is not reached: nothing comes back"),
                format!("{name} is down, or a firewall drops it: agents need this port, TCP and UDP, between all nodes"),
            ),
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::healthy::complains;
    use super::*;
    use crate::commands::doctor::finding::Severity::{Error, Warning};

    fn refuses(whom: Whom, refused: Refused) -> impl FnOnce(&mut Facts) {
        let at = "192.168.1.12:4793".to_owned();
        move |facts| facts.reached = vec![Reached { whom, at, refused: Some(refused) }]
    }

    #[test]
    fn without_the_api_server_there_is_no_node() {
        complains(check, refuses(Whom::ApiServer, Refused::Nobody), Error, "nobody listens");
        complains(check, refuses(Whom::ApiServer, Refused::Silence), Error, "nothing comes back");
        let error = Refused::Error("no such name".to_owned());
        complains(check, refuses(Whom::ApiServer, error), Error, "no such name");
    }

    #[test]
    fn another_node_may_be_down() {
        let peer = || Whom::Peer("n2".to_owned());
        complains(
            check,
            refuses(peer(), Refused::Silence),
            Warning,
            "the agent of n2 at 192.168.1.12:4793/tcp",
        );
        complains(check, refuses(peer(), Refused::Nobody), Warning, "nobody listens");
    }
}
