//! Plugins, their configurations, and what a node must have for them.

use serde_json::{Value, json};

use super::ward::Verb;

/// A list of plugins, some of which come to grief.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name: the plugin that faults happen to, or `chain`.
    pub name: &'static str,
    /// Configurations, in the list's order.
    list: fn() -> Value,
    /// Whether faults happen to all plugins of the list, or to the last only.
    pub everywhere: bool,
    /// What is done on the node before: shell.
    pub before: &'static str,
    /// The container's interface.
    pub interface: &'static str,
    /// Whether the reference has it.
    pub in_reference: bool,
    /// What the container has of it.
    pub inside: Inside,
    /// Whether there are a DHCP server and a daemon, to which nothing happens.
    pub served: bool,
}

/// What a container has of an attachment when nothing of it is on the node any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    /// Nothing.
    Nothing,
    /// Something of its own: no GC looks there, and the container is to end.
    Own,
    /// A device of the node's: if the container ends, so does that, and no DEL can bring it back.
    Nodes,
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario::of("bridge", || json!([bridge()])),
    Scenario {
        before: AGENT,
        in_reference: false,
        ..Scenario::of("overlay", || json!([{"type": "overlay"}]))
    },
    Scenario::of("ptp", || json!([{"type": "ptp", "ipMasq": true, "ipam": dual()}])),
    Scenario {
        before: UPLINK,
        inside: Inside::Own,
        ..Scenario::of("macvlan", || json!([{"type": "macvlan", "master": "up0", "ipam": dual()}]))
    },
    Scenario {
        interface: "lo",
        inside: Inside::Own,
        ..Scenario::of("loopback", || json!([{"type": "loopback"}]))
    },
    Scenario {
        before: "ip link add dev0 type veth peer name far0; ip link add dev1 type veth peer name far1",
        inside: Inside::Nodes,
        // Nobody is at the other ends: an IPv6 address would wait for somebody.
        ..Scenario::of("host-device", || {
            let ranges = json!([[{"subnet": "10.1.0.0/16"}]]);
            json!([{"type": "host-device", "ipam": {"type": "host-local", "ranges": ranges}}])
        })
    },
    Scenario {
        in_reference: false,
        inside: Inside::Own,
        ..Scenario::of("tap", || json!([{"type": "tap", "ipam": dual()}]))
    },
    Scenario::of("host-local", || json!([{"type": "host-local", "ipam": dual()}])),
    Scenario::of(
        "static",
        || json!([{"type": "static", "ipam": {"type": "static", "addresses": [{"address": "10.9.0.2/24"}]}}]),
    ),
    Scenario {
        served: true,
        // What its servers are not told of is no matter of faults.
        in_reference: false,
        ..Scenario::of("dhcp", || json!([{"type": "bridge", "bridge": "cni0", "ipam": {"type": "dhcp"}}]))
    },
    Scenario::of("portmap", || json!([plain_bridge(), {"type": "portmap"}])),
    Scenario::of("firewall", || json!([plain_bridge(), {"type": "firewall"}])),
    Scenario::of("bandwidth", || json!([plain_bridge(), bandwidth()])),
    Scenario::of("tuning", || {
        json!([plain_bridge(), {
            "type": "tuning", "mac": "c2:b0:57:49:47:f1", "mtu": 1400, "promisc": true,
            "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"},
        }])
    }),
    Scenario { inside: Inside::Own, ..Scenario::of("sbr", || json!([plain_bridge(), {"type": "sbr"}])) },
    Scenario {
        everywhere: true,
        ..Scenario::of("chain", || json!([bridge(), {"type": "portmap"}, {"type": "firewall"}, bandwidth()]))
    },
];

/// What a node's agent would say.
const AGENT: &str = r#"
    mkdir /run/cnikit
    cat > /run/cnikit/blue.json <<end
    {"node": "1", "bridge": "cnikit0", "mtu": 1450,
     "subnets": [{"subnet": "10.1.0.0/24", "gateway": "10.1.0.1", "first": "10.1.0.2"}, {"subnet": "fd00:1::/64", "gateway": "fd00:1::1", "first": "fd00:1::2"}],
     "cluster": ["10.1.0.0/16", "fd00::/16"]}
end
"#;
const UPLINK: &str = "ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up";

impl Scenario {
    const fn of(name: &'static str, list: fn() -> Value) -> Self {
        let before = "";
        Self {
            name,
            list,
            everywhere: false,
            before,
            interface: "eth0",
            in_reference: true,
            inside: Inside::Nothing,
            served: false,
        }
    }

    /// The scenario of a name.
    pub fn find(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// Whether there is anything for it to do.
    pub fn has(&self, verb: Verb) -> bool {
        match verb {
            Verb::AddThenGone | Verb::DelWhenGone | Verb::Gc => self.inside != Inside::Nodes,
            Verb::Add | Verb::Del => true,
        }
    }

    /// The configurations of a container's attachment, in the list's order. Containers differ in what they cannot share.
    pub fn configs(&self, container: &str) -> Vec<Value> {
        let number = if container == super::ward::BYSTANDER { 0 } else { 1 };
        let Value::Array(mut list) = (self.list)() else { panic!("{}: not a list", self.name) };
        for config in &mut list {
            config["cniVersion"] = "1.0.0".into();
            config["name"] = "blue".into();
            match config["type"].as_str() {
                Some("portmap") => {
                    let mapping =
                        json!({"hostPort": 20_000 + number, "containerPort": 80, "protocol": "tcp"});
                    config["runtimeConfig"] = json!({"portMappings": [mapping]});
                }
                Some("host-device") => config["device"] = format!("dev{number}").into(),
                _ => {}
            }
        }
        list
    }
}

/// Addresses of both families.
fn dual() -> Value {
    json!({
        "type": "host-local", "ranges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "fd00:1::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    })
}

/// A bridge that does all that one can.
fn bridge() -> Value {
    json!({"type": "bridge", "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": dual()})
}

/// One that others stand behind.
fn plain_bridge() -> Value {
    json!({"type": "bridge", "isGateway": true, "ipam": dual()})
}

fn bandwidth() -> Value {
    let bits = 1_000_000_000;
    json!({
        "type": "bandwidth",
        "ingressRate": bits, "ingressBurst": bits, "egressRate": bits, "egressBurst": bits,
    })
}
