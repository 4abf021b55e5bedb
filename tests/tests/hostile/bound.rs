//! However much a plugin is told, it stays small: every plugin, whatever it is asked for.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cnikit_tests::{Call, Memory, isolated, memory};
use serde_json::{Value, json};

use crate::attack::{Victim, honest, ipam};

/// In MiB. Half of the smallest limit that anybody gives the container in which a runtime executes plugins.
const SMALL: f64 = 32.0;
/// Of a processor's time, in an executable for tests. A hundred thousand leases that no index knows take a third of it, most of that
/// in the kernel.
const SOON: Duration = Duration::from_secs(15);

const VERBS: [&str; 6] = ["ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION"];

/// That a call is over soon, and takes no more memory than anybody can spare.
pub(crate) fn small(name: &str, call: &Call<'_>) {
    let Memory { peak, busy, .. } = memory(call);
    assert!(peak < SMALL, "{name}: {peak:.1} MiB");
    assert!(busy < SOON, "{name}: took {busy:?}");
}

/// What is there for plugins that want more than a pod.
const PARENTS: &str = "ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up
    ip link add dev0 type veth peer name far0
    mkdir -p /run/cnikit; echo '{\"node\": \"n1\", \"bridge\": \"cnikit0\", \"mtu\": 1450, \"cluster\": [\"10.244.0.0/16\"],
        \"subnets\": [{\"subnet\": \"10.244.1.0/24\", \"gateway\": \"10.244.1.1\"}]}' > /run/cnikit/blue.json";

/// Plugins that have addresses from `ipam`.
const ADDRESSED: &[&str] =
    &["bridge", "ptp", "macvlan", "ipvlan", "vlan", "host-device", "dummy", "tap", "host-local"];

/// A configuration with which a plugin has something to do.
fn keys(plugin: &str) -> Value {
    let mut keys = match plugin {
        "macvlan" | "ipvlan" => json!({"master": "up0"}),
        "vlan" => json!({"master": "up0", "vlanId": 7}),
        "host-device" => json!({"device": "dev0"}),
        "bandwidth" => json!({"ingressRate": 1_000_000, "ingressBurst": 1_000_000}),
        "firewall" => json!({"ingressPolicy": "same-bridge"}),
        "portmap" => {
            json!({"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "udp"}]}})
        }
        "tuning" => json!({"mtu": 1400, "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}}),
        "vrf" => json!({"vrfname": "vrf0"}),
        "static" => json!({"ipam": {"type": "static", "addresses": [{"address": "10.1.0.2/29"}]}}),
        "dhcp" => json!({"ipam": {"type": "dhcp"}}),
        _ => json!({}),
    };
    keys["cniVersion"] = json!("1.1.0");
    keys["cni.dev/valid-attachments"] = json!([{"containerID": "other", "ifname": "eth0"}]);
    keys["prevResult"] = previous(json!([{"address": "10.1.0.2/29", "interface": 1}]));
    keys
}

fn previous(ips: Value) -> Value {
    json!({
        "cniVersion": "1.1.0", "ips": ips,
        "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/run/netns/blue", "mac": "02:00:00:00:00:02"}],
    })
}

fn names() -> impl Iterator<Item = &'static str> {
    plugins::ALL.iter().map(|(name, _)| *name)
}

/// That every verb of some plugins is small, each with something else in its configuration or its call.
fn all_small<'v>(
    victim: &'v Victim,
    plugins: impl IntoIterator<Item = &'static str>,
    what: &str,
    config: impl Fn(Value) -> Value,
    change: impl Fn(Call<'v>) -> Call<'v>,
) {
    for plugin in plugins {
        for verb in VERBS {
            let call = victim.plugin(verb, plugin, config(keys(plugin)));
            let call = match verb {
                "GC" | "STATUS" => call.without("CNI_CONTAINERID").without("CNI_IFNAME").without("CNI_NETNS"),
                _ => call,
            };
            small(&format!("{what}: {plugin} {verb}"), &change(call));
        }
    }
}

fn node() -> Victim {
    let victim = Victim::new();
    victim.node.shell(PARENTS);
    victim
}

#[test]
fn a_hundred_megabytes() {
    isolated(|| {
        let victim = node();
        let text = format!("{{\"x\":\"{}", "y".repeat(100_000_000)).into_bytes();
        all_small(&victim, names(), "a text without end", |keys| keys, |call| call.stdin(text.clone()));
    });
}

#[test]
fn as_much_as_is_read() {
    isolated(|| {
        let victim = node();
        let text = format!("\"x\":\"{}\"", "y".repeat(4_000_000));
        let deep = format!("\"x\":{}", "[".repeat(4_000_000));
        let objects = format!("\"x\":[{}]", vec!["{\"\":0}"; 16_000].join(","));
        let more = format!("\"x\":[{}]", vec!["{\"\":0}"; 500_000].join(","));
        for (what, inside) in [("text", text), ("depth", deep), ("objects", objects), ("more objects", more)]
        {
            for plugin in names() {
                let mut config = honest();
                config.as_object_mut().unwrap().extend(keys(plugin).as_object().unwrap().clone());
                let stdin = config.to_string().replacen('{', &format!("{{{inside},"), 1);
                all_small(&victim, [plugin], what, |keys| keys, |call| call.stdin(stdin.as_bytes()));
            }
        }
    });
}

#[test]
fn as_many_addresses_interfaces_and_routes_as_there_can_be_before_it() {
    isolated(|| {
        let victim = node();
        let result = |count: u32| {
            let numbers = || (0..count).map(|n| format!("10.{}.{}", n / 250, n % 250));
            let ips: Value =
                numbers().map(|n| json!({"address": format!("{n}.2/24"), "interface": 1})).collect();
            let routes: Value =
                numbers().map(|n| json!({"dst": format!("{n}.0/24"), "gw": "10.1.0.1"})).collect();
            let mut result = previous(ips);
            let others =
                (0..count).map(|n| json!({"name": format!("veth{n}"), "sandbox": "/run/netns/blue"}));
            result["interfaces"].as_array_mut().unwrap().extend(others);
            result["routes"] = routes;
            result
        };
        let result = result(2000);
        for plugin in names() {
            let config = |mut keys: Value| {
                keys["prevResult"] = result.clone();
                keys
            };
            all_small(&victim, [plugin], "a previous result", config, |call| call);
        }
    });
}

#[test]
fn as_many_of_its_own_keys_as_there_can_be() {
    isolated(|| {
        let victim = node();
        let many = |each: &dyn Fn(usize) -> Value| (0..3000).map(each).collect::<Value>();
        let config = |mut keys: Value| {
            let runtime = json!({
                "portMappings": many(&|n| json!({"hostPort": n + 1, "containerPort": 80})),
                "ips": many(&|n| json!(format!("10.9.{}.{}", n / 250, n % 250))),
            });
            let sysctl: serde_json::Map<_, _> =
                (0..3000).map(|n| (format!("net.ipv4.conf.eth{n}.arp_filter"), json!("1"))).collect();
            keys["runtimeConfig"] = runtime;
            keys["sysctl"] = sysctl.into();
            keys["cni.dev/valid-attachments"] =
                many(&|n| json!({"containerID": format!("c{n}"), "ifname": "eth0"}));
            keys["dns"] = json!({"nameservers": many(&|n| json!(format!("192.0.2.{}", n % 250)))});
            keys
        };
        all_small(&victim, names(), "lists", config, |call| call);
        let config = |mut keys: Value| {
            let kind = keys["ipam"]["type"].as_str().unwrap_or("host-local").to_owned();
            keys["ipam"] = json!({
                "type": kind,
                "ranges": many(&|n| json!([{"subnet": format!("10.{}.{}.0/24", n / 250, n % 250)}])),
                "addresses": many(&|n| json!({"address": format!("10.{}.{}.2/24", n / 250, n % 250)})),
                "routes": many(&|n| json!({"dst": format!("10.{}.{}.0/24", 20 + n / 250, n % 250)})),
            });
            keys
        };
        all_small(&victim, ADDRESSED.iter().copied().chain(["static"]), "ranges", config, |call| call);
    });
}

/// The longest that execve(2) takes is 128 KiB a variable, and 2 MB in all.
#[test]
fn as_long_variables_as_there_can_be() {
    isolated(|| {
        let victim = node();
        let arguments = format!("IgnoreUnknown=1{}", ";K=V".repeat(32_000));
        let addresses = format!("IgnoreUnknown=1;IP=10.1.0.2{}", ",10.1.0.2".repeat(14_000));
        let paths = format!("/run/cni/ours{}", ":/a".repeat(43_000));
        all_small(&victim, names(), "arguments", |keys| keys, |call| surrounded(call.args(&arguments)));
        all_small(&victim, names(), "addresses", |keys| keys, |call| call.args(&addresses));
        let foreign = |mut keys: Value| {
            keys["ipam"] = json!({"type": "nowhere"});
            keys
        };
        all_small(&victim, ADDRESSED.iter().copied(), "paths", foreign, |call| call.env("CNI_PATH", &paths));
        for name in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            let long = "a".repeat(130_000);
            all_small(&victim, names(), name, |keys| keys, |call| call.env(name, &long));
        }
    });
}

/// With variables that are nobody's.
fn surrounded(call: Call<'_>) -> Call<'_> {
    (0..10).fold(call, |call, number| call.env(format!("MORE{number}"), "m".repeat(130_000)))
}

/// A hundred thousand files. (All of them on the node of a test's own, which is in memory.)
fn fill(victim: &Victim, directory: &str, name: impl Fn(usize) -> String + Send + Sync, content: &str) {
    victim.node.inside(|| {
        fs::create_dir_all(directory).unwrap();
        for number in 0..100_000 {
            fs::write(Path::new(directory).join(name(number)), content).unwrap();
        }
    });
}

#[test]
fn a_directory_of_a_hundred_thousand_leases() {
    isolated(|| {
        let victim = node();
        let leases = "/var/lib/cni/networks/blue";
        let address = |n: usize| format!("10.{}.{}.{}", 2 + n / 62_500, n / 250 % 250, 2 + n % 250);
        fill(&victim, leases, address, "another\r\neth0");
        let wide = |mut keys: Value| {
            keys["ipam"] = json!({"type": "host-local", "ranges": [[{"subnet": "10.0.0.0/8"}]]});
            keys
        };
        // Without an index they are another plugin's, and all of them valid for all that is known.
        all_small(&victim, ["host-local", "bridge"], "leases", wide, |call| call);
        let index = victim.node.shell(&format!("ls -d {leases}/.cnikit.*"));
        fill(&victim, index.trim(), |n| format!("c{n}:eth0:0"), "another\r\neth0");
        all_small(&victim, ["host-local", "bridge"], "an index", wide, |call| call);
        let ipam = |mut keys: Value| {
            keys["ipam"] = ipam(json!({}))["ipam"].clone();
            keys
        };
        all_small(&victim, ["ptp", "overlay", "macvlan"], "leases", ipam, |call| call);
    });
}

#[test]
fn directories_of_a_hundred_thousand_other_files() {
    isolated(|| {
        let victim = node();
        fill(&victim, "/run/cni/tuning", |n| format!("c{n}_eth0.json"), "{\"mtu\": 1500}");
        all_small(&victim, ["tuning"], "what was before", |keys| keys, |call| call);
        fill(&victim, "/run/cnikit", |n| format!("net{n}.json"), "{}");
        all_small(&victim, ["overlay"], "node files", |keys| keys, |call| call);
        fill(&victim, "/run/cni/dhcp.sock.ended", |n| format!("blue:c{n}:eth0"), "{}");
        all_small(&victim, ["dhcp"], "ended attachments", |keys| keys, |call| call);
    });
}

#[test]
fn files_of_a_hundred_megabytes() {
    isolated(|| {
        let leases = "/var/lib/cni/networks/blue";
        let make = |path: &str, byte: &str| {
            // Read, it is as long as any; only zeros need no memory.
            match byte {
                "0" => format!("rm -f {path}; truncate -s 100M {path}"),
                byte => format!("rm -f {path}; head -c 100M /dev/zero | tr '\\0' '{byte}' > {path}"),
            }
        };
        for byte in ["0", " ", "["] {
            let victim = node();
            victim.node.shell(&format!(
                "mkdir -p {leases} /run/cni/tuning; mount -t tmpfs none /etc; mkdir -p /etc/cni/tuning"
            ));
            for (path, plugins) in [
                ("/run/cnikit/blue.json", &["overlay"][..]),
                ("/run/cni/tuning/c1_eth0.json", &["tuning"]),
                ("/etc/cni/tuning/allowlist.conf", &["tuning"]),
                (&format!("{leases}/10.1.0.2"), &["host-local", "bridge"]),
                (&format!("{leases}/last_reserved_ip.0"), &["host-local", "ptp"]),
                (&format!("{leases}/lock"), &["host-local"]),
                ("/run/resolv.conf", &["host-local", "dhcp"]),
            ] {
                victim.node.shell(&make(path, byte));
                let config = |mut keys: Value| {
                    if keys["ipam"]["type"] != "dhcp" {
                        keys["ipam"] = ipam(json!({"resolvConf": "/run/resolv.conf"}))["ipam"].clone();
                    }
                    keys
                };
                victim.node.shell("[ -e /run/resolv.conf ] || touch /run/resolv.conf");
                all_small(&victim, plugins.iter().copied(), path, config, |call| call);
                victim.node.shell(&format!("rm -rf {path}"));
            }
        }
    });
}

/// Those who are asked say as much as anybody listens to: the daemon, the bus, an IPAM plugin of somebody else's.
#[test]
fn answers_without_end() {
    isolated(|| {
        let victim = node();
        victim.node.shell(
            "printf '#!/bin/sh\\nexec yes x\\n' > /run/cni/ours/endless; chmod +x /run/cni/ours/endless",
        );
        let foreign = |mut keys: Value| {
            keys["ipam"] = json!({"type": "endless"});
            keys
        };
        all_small(&victim, ["bridge", "ptp"], "an IPAM plugin", foreign, |call| call);

        let endless = |path: &str, beginning: &str| {
            victim.node.shell(&format!(
                "rm -f {path}; socat UNIX-LISTEN:{path},fork SYSTEM:'printf \"{beginning}\"; exec yes x' > /dev/null 2>&1 & echo $! > /run/socat.pid
                 until [ -e {path} ]; do sleep 0.01; done"
            ));
        };
        let end = || victim.node.shell("kill $(cat /run/socat.pid)");
        endless("/run/cni/dhcp.sock", "");
        let dhcp = |mut keys: Value| {
            keys["ipam"] = json!({"type": "dhcp"});
            keys
        };
        all_small(&victim, ["dhcp", "macvlan"], "a DHCP daemon", dhcp, |call| call);
        end();
        for (what, beginning) in [("a bus", ""), ("a bus that says yes", "OK 0123\\\\r\\\\n")] {
            endless("/run/bus", beginning);
            let firewalld = |mut keys: Value| {
                keys["backend"] = json!("firewalld");
                keys
            };
            let bus = "unix:path=/run/bus";
            all_small(&victim, ["firewall"], what, firewalld, |call| {
                call.env("DBUS_SYSTEM_BUS_ADDRESS", bus)
            });
            end();
        }
    });
}
