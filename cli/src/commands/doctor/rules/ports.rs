//! Whether the ports that a node needs are free, or held by whom they are for.

use std::fmt;

use overlay::report::Ports;

use crate::commands::doctor::Role;
use crate::commands::doctor::facts::{Facts, Holder, Socket, Transport};
use crate::commands::doctor::finding::{Findings, Severity};

/// A port that something needs.
struct Need {
    transport: Transport,
    port: u16,
    /// What for.
    of: &'static str,
    /// The names of the processes that are it, as far as the kernel has them: 15 characters.
    names: &'static [&'static str],
    /// Where it is needed; `Role::Any`: everywhere.
    on: Role,
}

const fn tcp(port: u16, on: Role, of: &'static str, names: &'static [&'static str]) -> Need {
    Need { transport: Transport::Tcp, port, of, names, on }
}

/// Distributions in one executable have other names for all of them.
const ALL_IN_ONE: &[&str] = &["k3s", "k3s-server", "k3s-agent", "kubelite", "k0s"];

/// Kubernetes' ports (kubernetes.io/docs/reference/networking/ports-and-protocols).
const NEEDS: &[Need] = &[
    tcp(6443, Role::ControlPlane, "the API server", &["kube-apiserver"]),
    tcp(2379, Role::ControlPlane, "etcd", &["etcd"]),
    tcp(2380, Role::ControlPlane, "etcd", &["etcd"]),
    tcp(10257, Role::ControlPlane, "the controller manager", &["kube-controller"]),
    tcp(10259, Role::ControlPlane, "the scheduler", &["kube-scheduler"]),
    tcp(10250, Role::Any, "the kubelet", &["kubelet"]),
];

/// The agent's.
fn ours(ports: Ports) -> impl Iterator<Item = Need> {
    const AGENT: &[&str] = &["cnikit"];
    let tcp = |port, of| tcp(port, Role::Any, of, AGENT);
    let udp = move |port, of| Need { transport: Transport::Udp, ..tcp(port, of) };
    let tunnels = Need { names: &[], ..udp(ports.tunnel, "tunnels between nodes") };
    let gossip = |port| [tcp(port, "the agents' gossip"), udp(port, "the agents' gossip")];
    let health = ports.health.map(|port| tcp(port, "the agent's health and metrics"));
    let always = [udp(ports.probes, "the agents' probes of the way between nodes"), tunnels];
    ports.gossip.map(gossip).into_iter().flatten().chain(health).chain(always)
}

/// The ports of services on every node (`--service-node-port-range`).
const NODE_PORTS: (u16, u16) = (30000, 32767);
/// Who may listen there.
const SERVICE_PROXIES: &[&str] = &["kube-proxy", "cilium-agent", "kube-router"];

pub(super) fn check(facts: &Facts, role: Role) -> Findings {
    let mut findings = Findings::of("ports");
    let Some(sockets) = &facts.sockets else {
        findings.info("who listens where could not be read (/proc/net/tcp)");
        return findings;
    };
    let mut free = Vec::new();
    let ours: Vec<Need> = facts.agent.ports.into_iter().flat_map(ours).collect();
    for need in NEEDS.iter().chain(&ours).filter(|need| need.is_on(role)) {
        let of_port = |socket: &&Socket| (socket.transport, socket.port) == (need.transport, need.port);
        let mut holders: Vec<&Holder> = sockets.iter().filter(of_port).map(|socket| &socket.holder).collect();
        holders.dedup();
        if holders.is_empty() {
            free.push(need.to_string());
        }
        for holder in holders {
            check_holder(&mut findings, need, holder, role);
        }
    }
    if !free.is_empty() {
        findings.ok(format!("free: {}", free.join(", ")));
    }
    check_node_ports(&mut findings, sockets);
    check_local_ports(&mut findings, facts);
    findings
}

fn check_holder(findings: &mut Findings, need: &Need, holder: &Holder, role: Role) {
    match holder {
        Holder::Process(_, name) if need.is_its(name) => {
            findings.ok(format!("{need} is held by {name}, for {}", need.of))
        }
        // A tunnel's end is the kernel's own.
        Holder::Kernel if need.names.is_empty() => {
            findings.ok(format!("{need} is held by the kernel, for {}", need.of))
        }
        Holder::Unseen => {
            findings.info(format!("{need}, for {}, is held by somebody whom only root may see", need.of))
        }
        holder => {
            let what = format!("{need}, which {} needs, is held by {holder}", need.of);
            let advice = "stop that, or have it listen elsewhere; `ss -lntup` shows all who listen";
            // Where it is not known that the node is to be one of those that need it.
            let certain = need.on == Role::Any || role == need.on;
            let severity = if certain { Severity::Error } else { Severity::Warning };
            findings.add(severity, what, Some(advice.to_owned()));
        }
    }
}

fn check_node_ports(findings: &mut Findings, sockets: &[Socket]) {
    let is_others = |socket: &&Socket| {
        let is_in = (NODE_PORTS.0..=NODE_PORTS.1).contains(&socket.port);
        let is_proxys = matches!(&socket.holder, Holder::Process(_, name)
            if SERVICE_PROXIES.contains(&name.as_str()) || ALL_IN_ONE.contains(&name.as_str()));
        is_in && !is_proxys
    };
    let mut held: Vec<String> = sockets
        .iter()
        .filter(is_others)
        .map(|socket| format!("{}/{} by {}", socket.port, socket.transport, socket.holder))
        .collect();
    held.sort();
    held.dedup();
    let shown: Vec<_> = held.iter().take(5).cloned().collect();
    match held.len() {
        0 => findings.ok("no port of services (30000-32767) is held by anybody else"),
        n => findings.warning(
            format!("{n} of the ports of services (30000-32767) are held: {}", shown.join(", ")),
            "a service that gets one of them is not reached by it here: have those listen elsewhere",
        ),
    }
}

/// Connections of the node's own take ports, too.
fn check_local_ports(findings: &mut Findings, facts: &Facts) {
    let Some((first, last)) = facts.settings.local_ports else { return };
    let overlaps = first <= NODE_PORTS.1 && NODE_PORTS.0 <= last;
    let reserved = facts
        .settings
        .reserved_ports
        .iter()
        .any(|(from, to)| *from <= NODE_PORTS.0.max(first) && *to >= NODE_PORTS.1.min(last));
    if overlaps && !reserved {
        findings.warning(
            format!("connections of the node's own take ports from {first} to {last}, services' among them"),
            "sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\", or reserve services' ports: \
             net.ipv4.ip_local_reserved_ports=30000-32767",
        );
    }
}

impl Need {
    fn is_on(&self, role: Role) -> bool {
        self.on == Role::Any || role == Role::Any || role == self.on
    }

    fn is_its(&self, name: &str) -> bool {
        self.names.contains(&name) || (!self.names.is_empty() && ALL_IN_ONE.contains(&name))
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.transport)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid, name) => write!(f, "{name} (process {pid})"),
            Self::Kernel => f.write_str("the kernel"),
            Self::Unseen => f.write_str("somebody"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::healthy::{complains, listens, process, spoilt};
    use super::*;
    use crate::commands::doctor::finding::Severity::{Error, Info, Warning};

    fn on(role: Role) -> impl Fn(&Facts) -> Findings {
        move |facts| check(facts, role)
    }

    fn add(transport: Transport, port: u16, holder: Holder) -> impl FnOnce(&mut Facts) {
        move |facts| facts.sockets.as_mut().unwrap().push(listens(transport, port, holder))
    }

    #[track_caller]
    fn is_fine(role: Role, spoil: impl FnOnce(&mut Facts)) {
        let found = spoilt(on(role), spoil);
        assert!(found.iter().all(|finding| finding.severity >= Info), "{found:#?}");
    }

    #[test]
    fn a_port_is_held_by_whom_it_is_for() {
        use Transport::{Tcp, Udp};
        for (transport, port, name) in [
            (Tcp, 6443, "kube-apiserver"),
            (Tcp, 2379, "etcd"),
            (Tcp, 2380, "etcd"),
            (Tcp, 10250, "kubelet"),
            (Tcp, 10257, "kube-controller"),
            (Tcp, 10259, "kube-scheduler"),
            (Tcp, 4793, "cnikit"),
            (Tcp, 4794, "cnikit"),
            (Udp, 4793, "cnikit"),
            (Udp, 4794, "cnikit"),
        ] {
            is_fine(Role::ControlPlane, add(transport, port, process(name)));
            is_fine(Role::ControlPlane, add(transport, port, process("k3s-server")));
            let held = format!("{port}/{transport}");
            complains(on(Role::ControlPlane), add(transport, port, process("nginx")), Error, &held);
        }
        is_fine(Role::Worker, add(Udp, 4789, Holder::Kernel));
        complains(
            on(Role::Worker),
            add(Udp, 4789, process("openvswitch")),
            Error,
            "openvswitch (process 812)",
        );
    }

    #[test]
    fn the_agents_ports_are_those_that_it_is_told() {
        let other = Ports { gossip: None, tunnel: 8472, probes: 4794, health: None };
        let with = |port, transport| {
            move |facts: &mut Facts| {
                facts.agent.ports = Some(other);
                add(transport, port, process("nginx"))(facts);
            }
        };
        complains(
            on(Role::Worker),
            with(8472, Transport::Udp),
            Error,
            "8472/udp, which tunnels between nodes",
        );
        is_fine(Role::Worker, with(4789, Transport::Udp));
        is_fine(Role::Worker, with(4793, Transport::Tcp));
        is_fine(Role::Worker, with(4794, Transport::Tcp));
    }

    #[test]
    fn a_control_planes_ports_are_no_workers_business() {
        is_fine(Role::Worker, add(Transport::Tcp, 6443, process("nginx")));
        complains(on(Role::Any), add(Transport::Tcp, 6443, process("nginx")), Warning, "the API server");
        complains(on(Role::Worker), add(Transport::Tcp, 10250, process("nginx")), Error, "the kubelet");
    }

    #[test]
    fn a_port_of_the_other_transport_is_another() {
        is_fine(Role::ControlPlane, add(Transport::Udp, 6443, process("nginx")));
        is_fine(Role::ControlPlane, add(Transport::Tcp, 4789, process("nginx")));
    }

    #[test]
    fn who_cannot_be_seen_is_not_accused() {
        is_fine(Role::ControlPlane, add(Transport::Tcp, 6443, Holder::Unseen));
        let found = spoilt(on(Role::Any), |facts| facts.sockets = None);
        assert!(found.len() == 1 && found[0].severity == Info, "{found:#?}");
    }

    #[test]
    fn ports_of_services_are_left_to_them() {
        for port in [30000, 32767] {
            complains(on(Role::Worker), add(Transport::Tcp, port, process("java")), Warning, "java");
            is_fine(Role::Worker, add(Transport::Tcp, port, process("kube-proxy")));
        }
        is_fine(Role::Worker, add(Transport::Tcp, 29999, process("java")));
        is_fine(Role::Worker, add(Transport::Tcp, 32768, process("java")));
    }

    #[test]
    fn the_nodes_own_connections_keep_away_from_them() {
        let range = |first, last| move |facts: &mut Facts| facts.settings.local_ports = Some((first, last));
        complains(on(Role::Any), range(1024, 65535), Warning, "1024 to 65535");
        complains(on(Role::Any), range(32767, 60999), Warning, "32767");
        is_fine(Role::Any, range(1024, 29999));
        is_fine(Role::Any, |facts| {
            facts.settings.local_ports = Some((1024, 65535));
            facts.settings.reserved_ports = vec![(30000, 32767)];
        });
    }
}
