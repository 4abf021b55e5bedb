//! `firewall`, beside the reference's: whose packets reach whom.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use cnikit_tests::{Implementation, Node, Outcome, Pod, isolated, ours};
use serde_json::{Value, json};

use crate::packets::{NEVER, SOON, outside};
use crate::pair::NO_PROBES;

/// A node with two bridges, and what firewalls are told.
struct Site<'a> {
    node: &'a Node,
    plugins: &'a Implementation,
    keys: Value,
    path: &'static str,
}

/// A node whose bridges switch without asking its packet filter, whatever the machine has as a default.
fn node(plugins: &Implementation) -> Node {
    let node = Node::new(plugins);
    node.shell(NO_PROBES);
    node.shell(&format!("[ ! -e {BRIDGE_FILTER} ] || echo 0 > {BRIDGE_FILTER}"));
    node
}

/// `br_netfilter`: what a bridge switches is forwarded, to the packet filter.
const BRIDGE_FILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// Where `iptables` is the legacy variant.
const LEGACY_PATH: &str = "/run/legacy:/usr/sbin:/usr/bin:/sbin:/bin";

impl<'a> Site<'a> {
    fn new(node: &'a Node, plugins: &'a Implementation, keys: Value) -> Self {
        Self { node, plugins, keys, path: PATH }
    }

    fn config(&self, plugin: &str, network: u8, previous: Option<&Value>) -> Value {
        let mut config = json!({
            "cniVersion": "1.0.0", "name": format!("net{network}"), "type": plugin, "bridge": format!("cni{network}"),
            "isGateway": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": format!("10.{network}.0.0/24")}], [{"subnet": format!("fd00:{network}::/64")}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
        });
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
            for (key, value) in self.keys.as_object().unwrap() {
                config[key] = value.clone();
            }
        }
        config
    }

    fn call(&self, command: &str, plugin: &str, pod: &Pod, config: &Value) -> Outcome {
        let call = self.node.call(self.plugins, command, plugin, config).on(pod).container(pod.name());
        call.env("PATH", self.path).run()
    }

    /// A pod on a bridge, whose packets pass.
    fn attach(&self, name: &str, network: u8) -> (Pod, Value) {
        let pod = self.node.pod(name);
        let said = self.call("ADD", "bridge", &pod, &self.config("bridge", network, None)).result();
        let passed =
            self.call("ADD", "firewall", &pod, &self.config("firewall", network, Some(&said))).result();
        assert_eq!(passed["ips"], said["ips"]);
        (pod, said)
    }

    fn detach(&self, pod: &Pod, network: u8, said: &Value) {
        self.call("DEL", "firewall", pod, &self.config("firewall", network, Some(said))).done();
    }

    fn rules(&self, program: &str) -> Vec<String> {
        let saved = self.node.shell(&format!("{program}-save -t filter"));
        saved.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect()
    }
}

/// Whether a packet arrives, and whether an answer comes back.
fn exchange(node: &Node, from: &Pod, to: &Pod, address: &str, patience: Duration) -> (bool, bool) {
    let address: std::net::IpAddr = address.parse().unwrap();
    let any: std::net::IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let server = node.inside_pod(to, || UdpSocket::bind((any, 0)).unwrap());
    let client = node.inside_pod(from, || UdpSocket::bind((any, 0)).unwrap());
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    }
    let there = SocketAddr::new(address, server.local_addr().unwrap().port());
    let deadline = Instant::now() + patience;
    let mut arrives = false;
    while Instant::now() < deadline {
        // A neighbour may have to be found first.
        let _ = client.send_to(b"hello", there);
        if let Ok((_, source)) = server.recv_from(&mut [0; 16]) {
            arrives = true;
            let _ = server.send_to(b"hello yourself", source);
            if client.recv_from(&mut [0; 16]).is_ok() {
                return (true, true);
            }
        }
    }
    (arrives, false)
}

/// Who reaches whom. `expected` says only how long to wait.
fn experience(
    site: &Site<'_>,
    set_up: &str,
    expected: &dyn Fn(&str) -> bool,
) -> BTreeMap<String, (bool, bool)> {
    let world = outside(site.node);
    let ((a, said), (b, _), (c, _)) = (site.attach("a", 1), site.attach("b", 1), site.attach("c", 2));
    site.node.shell(set_up);
    let mut seen = BTreeMap::new();
    for (name, from, to, addresses) in [
        ("a to the world", &a, &world, ["192.0.2.2", "2001:db8::2"]),
        ("the world to a", &world, &a, ["10.1.0.2", "fd00:1::2"]),
        ("a to its neighbour", &a, &b, ["10.1.0.3", "fd00:1::3"]),
        ("a to another bridge", &a, &c, ["10.2.0.2", "fd00:2::2"]),
        ("another bridge to a", &c, &a, ["10.1.0.2", "fd00:1::2"]),
    ] {
        for address in addresses {
            let patience = if expected(name) { SOON } else { NEVER };
            seen.insert(format!("{name} at {address}"), exchange(site.node, from, to, address, patience));
        }
    }
    site.detach(&a, 1, &said);
    seen.insert("a, detached, to the world".to_owned(), exchange(site.node, &a, &world, "192.0.2.2", NEVER));
    seen
}

const DROP: &str = "iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP";
const DROP_LEGACY: &str = "iptables-legacy -P FORWARD DROP; ip6tables-legacy -P FORWARD DROP";
const DOCKER: &str = "
    for iptables in iptables-nft ip6tables-nft; do
        $iptables -P FORWARD DROP
        $iptables -N DOCKER; $iptables -N DOCKER-USER; $iptables -N DOCKER-ISOLATION-STAGE-1
        $iptables -A FORWARD -j DOCKER-USER; $iptables -A FORWARD -j DOCKER-ISOLATION-STAGE-1
        $iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        $iptables -A FORWARD -o docker0 -j DOCKER; $iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
        $iptables -A DOCKER-ISOLATION-STAGE-1 -j RETURN; $iptables -A DOCKER-USER -j RETURN
    done";

/// A host's packet filter, and what is expected to pass it.
struct Host {
    before: &'static str,
    after: &'static str,
    keys: Value,
    path: &'static str,
    passes: fn(&str) -> bool,
}

fn same_on_both(host: &Host) {
    let Some(reference) = Implementation::reference() else { return };
    let legacy = "mkdir -p /run/legacy
        ln -s /usr/sbin/iptables-legacy /run/legacy/iptables; ln -s /usr/sbin/ip6tables-legacy /run/legacy/ip6tables";
    let seen = [reference, ours!()].map(|plugins| {
        let node = node(&plugins);
        node.shell(legacy);
        node.shell(host.before);
        let site = Site { path: host.path, ..Site::new(&node, &plugins, host.keys.clone()) };
        experience(&site, host.after, &host.passes)
    });
    assert_eq!(seen[0], seen[1], "{} {}: reference, ours", host.before, host.after);
    for (what, (arrives, _)) in &seen[1] {
        if !what.contains("detached") {
            assert_eq!(*arrives, (host.passes)(what), "{what}, {} {}", host.before, host.after);
        }
    }
}

fn everything(_: &str) -> bool {
    true
}

fn not_from_the_world(what: &str) -> bool {
    !what.starts_with("the world")
}

#[test]
fn pods_pass_whatever_the_hosts_own_filter_does() {
    isolated(|| {
        let host = |before, path, passes| Host { before, after: "true", keys: json!({}), path, passes };
        same_on_both(&host("true", PATH, everything));
        same_on_both(&host(DROP, PATH, not_from_the_world));
        same_on_both(&host(DOCKER, PATH, not_from_the_world));
        same_on_both(&host(DROP_LEGACY, LEGACY_PATH, not_from_the_world));
        // The policy comes later.
        same_on_both(&Host { after: DROP, ..host("true", PATH, not_from_the_world) });
    });
}

#[test]
fn the_administrator_has_the_first_word() {
    isolated(|| {
        for (chain, keys) in [("CNI-ADMIN", json!({})), ("MINE", json!({"iptablesAdminChainName": "MINE"}))] {
            let rules = match chain {
                "MINE" => {
                    "iptables-nft -P FORWARD DROP; iptables-nft -N MINE; iptables-nft -A MINE -d 192.0.2.2 -j DROP
                     ip6tables-nft -N MINE; ip6tables-nft -A MINE -d 2001:db8::2 -j DROP"
                }
                _ => {
                    "iptables-nft -P FORWARD DROP; iptables-nft -A CNI-ADMIN -d 192.0.2.2 -j DROP
                     ip6tables-nft -A CNI-ADMIN -d 2001:db8::2 -j DROP; ip6tables-nft -P FORWARD DROP"
                }
            };
            let passes: fn(&str) -> bool = |what| !what.contains("the world");
            // Before there is the chain, or in the one that the plugin has made.
            let (before, after) =
                if chain == "MINE" { (rules, "ip6tables-nft -P FORWARD DROP") } else { ("true", rules) };
            same_on_both(&Host { before, after, keys, path: PATH, passes });
        }
    });
}

#[test]
fn bridges_are_kept_from_one_another() {
    isolated(|| {
        let keys = json!({"ingressPolicy": "same-bridge"});
        let host = |before, passes| Host { before, after: "true", keys: keys.clone(), path: PATH, passes };
        same_on_both(&host("true", |what| !what.contains("another bridge")));
        same_on_both(&host(DROP, |what| !what.contains("another bridge") && not_from_the_world(what)));
        let open = Host { keys: json!({"ingressPolicy": "open"}), ..host(DROP, not_from_the_world) };
        same_on_both(&open);
    });
}

/// The reference of this age has no such policy.
#[test]
fn an_isolated_bridge_is_kept_from_itself() {
    isolated(|| {
        for (policy, reachable) in [("same-bridge", true), ("isolated", false)] {
            let plugins = ours!();
            let node = node(&plugins);
            let site = Site::new(&node, &plugins, json!({"ingressPolicy": policy}));
            let world = outside(&node);
            let ((a, _), (b, _), (c, _)) = (site.attach("a", 1), site.attach("b", 1), site.attach("c", 2));
            let patience = |expected| if expected { SOON } else { NEVER };
            let reaches = |from, to, address, expected| {
                assert_eq!(
                    exchange(&node, from, to, address, patience(expected)).0,
                    expected,
                    "{policy}: {address}"
                );
            };
            reaches(&a, &world, "192.0.2.2", true);
            reaches(&world, &a, "10.1.0.2", true);
            reaches(&a, &c, "10.2.0.2", false);
            // What the bridge switches is no matter of forwarding.
            reaches(&a, &b, "10.1.0.3", true);
            node.shell("for i in all cni1; do echo 0 > /proc/sys/net/ipv4/conf/$i/send_redirects; done");
            node.pod_shell(&a, "ip route add 10.1.0.3/32 via 10.1.0.1");
            node.pod_shell(&b, "ip route add 10.1.0.2/32 via 10.1.0.1");
            reaches(&a, &b, "10.1.0.3", reachable);
            if node.shell(&format!("[ ! -e {BRIDGE_FILTER} ] || echo 1 | tee {BRIDGE_FILTER}")) == "1\n" {
                node.pod_shell(&a, "ip route delete 10.1.0.3/32");
                reaches(&a, &b, "10.1.0.3", reachable);
            }
        }
    });
}

/// A firewalld, and a bus for it, in which nothing may be forwarded between networks.
const FIREWALLD: &str = "mkdir -p /run/dbus; ip link set lo up
    dbus-daemon --system --nopidfile --fork --print-pid > /run/dbus.pid
    firewalld --nofork --nopid > /run/firewalld.log 2>&1 & echo $! > /run/firewalld.pid
    until firewall-cmd --state > /run/state 2>&1; do sleep 0.1; done
    firewall-cmd --zone=public --remove-forward > /run/state 2>&1";

/// Who reaches whom where firewalld runs, with the zone that the pods' addresses are sources of.
fn under_firewalld(plugins: &Implementation, keys: Value) -> BTreeMap<String, (bool, bool)> {
    let node = node(plugins);
    node.shell(FIREWALLD);
    let site = Site::new(&node, plugins, keys);
    let seen = experience(&site, "firewall-cmd --zone=trusted --list-sources", &not_from_the_world);
    let sources =
        node.shell("firewall-cmd --zone=trusted --list-sources; firewall-cmd --zone=work --list-sources");
    node.shell("kill $(cat /run/firewalld.pid) $(cat /run/dbus.pid)");
    // Of three pods with two addresses, one is detached.
    assert_eq!(sources.split_whitespace().count(), 4, "{sources}");
    seen
}

#[test]
fn pods_pass_firewalld() {
    if ["/usr/sbin/firewalld", "/usr/bin/dbus-daemon"].iter().any(|program| !Path::new(program).exists()) {
        eprintln!("DID NOT RUN: firewalld and dbus-daemon are not installed");
        return;
    }
    isolated(|| {
        let Some(reference) = Implementation::reference() else { return };
        for keys in [json!({}), json!({"backend": "firewalld", "firewalldZone": "trusted"})] {
            let theirs = under_firewalld(&reference, keys.clone());
            let ours = under_firewalld(&ours!(), keys.clone());
            assert_eq!(theirs, ours, "{keys}: reference, ours");
            assert_eq!(ours["a to the world at 192.0.2.2"], (true, true));
            assert_eq!(ours["a to the world at 2001:db8::2"], (true, true));
            assert!(!ours["a, detached, to the world"].0);
        }
    });
}

/// Listens to what firewalld is asked about zones.
const MONITOR: &str = "dbus-monitor --system \"destination='org.fedoraproject.FirewallD1',type='method_call',interface='org.fedoraproject.FirewallD1.zone'\" \\
        > /run/asked 2>&1 & echo $! > /run/monitor.pid; echo 0 > /run/number";

/// What firewalld was asked since the last time: a method and its arguments each.
fn asked(node: &Node) -> Vec<String> {
    // Once a question of ours has been heard, so has all before it.
    let log = node.shell(
        "last=$(cat /run/number); number=$((last + 1)); echo $number > /run/number
         until grep -qF \"198.51.100.$number\\\"\" /run/asked; do
             firewall-cmd --zone=work --query-source=198.51.100.$number > /run/state 2>&1 || true
         done
         echo $last; cat /run/asked",
    );
    let (last, log) = log.split_once('\n').unwrap();
    let mut calls: Vec<String> = Vec::new();
    for line in log.lines() {
        if let Some((_, member)) = line.split_once("member=") {
            calls.push(member.to_owned());
        } else if let (Some(argument), Some(call)) = (line.strip_prefix("   string "), calls.last_mut()) {
            *call += &format!(" {argument}");
        }
    }
    let heard = calls.iter().rposition(|call| call.ends_with(&format!("198.51.100.{last}\"")));
    calls.drain(..heard.map_or(0, |heard| heard + 1));
    calls.retain(|call| !call.contains("198.51.100."));
    calls
}

/// What is asked by each command, and what CHECK says once a pod's address is no source any more.
fn conversation(plugins: &Implementation, keys: Value) -> (Vec<(&'static str, Vec<String>)>, Outcome) {
    let node = node(plugins);
    node.shell(FIREWALLD);
    node.shell(MONITOR);
    asked(&node);
    let site = Site::new(&node, plugins, keys);
    let (pod, said) = site.attach("a", 1);
    let mut heard = vec![("ADD", asked(&node))];
    let config = site.config("firewall", 1, Some(&said));
    site.call("CHECK", "firewall", &pod, &config).done();
    heard.push(("CHECK", asked(&node)));
    node.shell("firewall-cmd --zone=trusted --remove-source=10.1.0.2/32 || firewall-cmd --zone=work --remove-source=10.1.0.2/32");
    let missed = site.call("CHECK", "firewall", &pod, &config);
    asked(&node);
    for _ in 0..2 {
        site.detach(&pod, 1, &said);
        heard.push(("DEL", asked(&node)));
    }
    node.shell("kill $(cat /run/monitor.pid) $(cat /run/firewalld.pid) $(cat /run/dbus.pid)");
    (heard, missed)
}

#[test]
fn firewalld_is_asked_for_the_same() {
    if ["/usr/sbin/firewalld", "/usr/bin/dbus-monitor"].iter().any(|program| !Path::new(program).exists()) {
        eprintln!("DID NOT RUN: firewalld and dbus-monitor are not installed");
        return;
    }
    isolated(|| {
        let Some(reference) = Implementation::reference() else { return };
        for keys in [json!({}), json!({"backend": "firewalld", "firewalldZone": "work"})] {
            let (theirs, _) = conversation(&reference, keys.clone());
            let (ours, missed) = conversation(&ours!(), keys.clone());
            assert_eq!(theirs, ours, "{keys}: reference, ours");
            assert_eq!(ours[0].1.len(), 2, "an address of each family: {ours:?}");
            // Debian's reference asks, and does not look at the answer.
            let missed = missed.error();
            assert_eq!(missed["code"], 102, "{missed}");
            assert!(missed["msg"].as_str().unwrap().contains("10.1.0.2"), "{missed}");
        }
    });
}

#[test]
fn a_firewalld_that_was_asked_for_and_is_not_there_is_an_error() {
    isolated(|| {
        let plugins = ours!();
        let node = node(&plugins);
        let site = Site::new(&node, &plugins, json!({"backend": "firewalld"}));
        let pod = node.pod("a");
        let config = site.config("firewall", 1, Some(&previous("10.1.0.2")));
        let error = site.call("ADD", "firewall", &pod, &config).error();
        assert!(error["msg"].as_str().unwrap().contains("firewalld"), "{error}");
        assert!(!node.shell("nft list ruleset").contains("10.1.0.2"), "what was made is unmade");
        site.call("DEL", "firewall", &pod, &config).done();
    });
}

#[test]
fn a_packet_that_somebody_else_has_marked_does_not_pass_and_nobody_else_sees_our_mark() {
    isolated(|| {
        let plugins = ours!();
        let node = node(&plugins);
        let site = Site::new(&node, &plugins, json!({}));
        let world = outside(&node);
        let (a, _) = site.attach("a", 1);
        node.shell(DROP);
        node.shell(
            "nft add table inet other
             nft add chain inet other early '{ type filter hook prerouting priority mangle; }'
             nft add chain inet other late '{ type filter hook postrouting priority srcnat + 1; }'
             nft add rule inet other late meta mark '&' 0x1000 == 0x1000 counter
             nft add rule inet other late meta mark '&' 0x1000 == 0 counter",
        );
        for (from, to, address) in [(&a, &world, "192.0.2.2"), (&a, &world, "2001:db8::2")] {
            assert_eq!(exchange(&node, from, to, address, SOON), (true, true), "{address}");
        }
        let counted = node.shell("nft list chain inet other late");
        let counted: Vec<_> = counted.lines().filter(|line| line.contains("counter")).collect();
        assert!(counted[0].contains("packets 0 ") && !counted[1].contains("packets 0 "), "{counted:?}");

        node.shell("nft add rule inet other early iifname out0 meta mark set 0x1000");
        for address in ["10.1.0.2", "fd00:1::2"] {
            assert_eq!(exchange(&node, &world, &a, address, NEVER), (false, false), "{address}");
        }
    });
}

#[test]
fn the_two_implementations_share_one_way() {
    isolated(|| {
        let Some(reference) = Implementation::reference() else { return };
        for ours_first in [true, false] {
            let both = if ours_first { [ours!(), reference.clone()] } else { [reference.clone(), ours!()] };
            let node = node(&both[0]);
            node.install(&both[1]);
            node.shell(DROP);
            let world = outside(&node);
            let sites = [&both[0], &both[1]].map(|plugins| Site::new(&node, plugins, json!({})));
            let pods = [sites[0].attach("a", 1), sites[1].attach("b", 2)];
            for (pod, _) in &pods {
                for address in ["192.0.2.2", "2001:db8::2"] {
                    assert_eq!(exchange(&node, pod, &world, address, SOON), (true, true), "{address}");
                }
            }
            for program in ["iptables-nft", "ip6tables-nft"] {
                let rules = sites[0].rules(program);
                let jumps =
                    |to: &str| rules.iter().filter(|rule| rule.ends_with(&format!("-j {to}"))).count();
                assert_eq!((jumps("CNI-FORWARD"), jumps("CNI-ADMIN")), (1, 1), "{rules:?}");
                assert!(
                    rules[0].contains("-j CNI-FORWARD") && rules[1].contains("-j CNI-ADMIN"),
                    "{rules:?}"
                );
            }
            // Each one's CHECK is content, and each one's DEL removes what is its own.
            for (site, ((pod, said), network)) in sites.iter().zip(pods.iter().zip([1, 2])) {
                let config = site.config("firewall", network, Some(said));
                site.call("CHECK", "firewall", pod, &config).done();
                site.detach(pod, network, said);
                assert_eq!(exchange(&node, pod, &world, "192.0.2.2", NEVER), (false, false));
            }
        }
    });
}

#[test]
fn after_everything_was_flushed_the_next_pod_sets_it_up_again() {
    isolated(|| {
        let plugins = ours!();
        let node = node(&plugins);
        let site = Site::new(&node, &plugins, json!({}));
        let world = outside(&node);
        site.attach("a", 1);
        for flush in
            ["nft flush ruleset", "iptables-nft -F; ip6tables-nft -F", "nft delete table inet cnikit"]
        {
            node.shell(flush);
            node.shell(DROP);
            let (pod, said) = site.attach("b", 1);
            for address in ["192.0.2.2", "2001:db8::2"] {
                assert_eq!(exchange(&node, &pod, &world, address, SOON), (true, true), "{flush}: {address}");
            }
            site.detach(&pod, 1, &said);
            site.call("DEL", "bridge", &pod, &site.config("bridge", 1, None)).done();
            node.end(&pod);
        }
    });
}

fn previous(address: &str) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "cni1"}, {"name": "eth0", "sandbox": "/run/netns/a"}],
        "ips": [{"address": format!("{address}/16"), "interface": 1}],
    })
}

#[test]
fn fifty_first_pods_at_once_make_one_way() {
    isolated(|| {
        for set_up in ["true", DROP, DROP_LEGACY] {
            let plugins = ours!();
            let node = node(&plugins);
            node.shell(set_up);
            let site = Site::new(&node, &plugins, json!({"ingressPolicy": "same-bridge"}));
            let (pod, barrier) = (node.pod("a"), Barrier::new(50));
            thread::scope(|scope| {
                for number in 0..50 {
                    let (site, pod, barrier) = (&site, &pod, &barrier);
                    scope.spawn(move || {
                        let config = site.config("firewall", 1, Some(&previous(&format!("10.1.1.{number}"))));
                        let id = format!("c{number}");
                        let call =
                            site.node.call(site.plugins, "ADD", "firewall", &config).on(pod).container(&id);
                        barrier.wait();
                        call.run().result();
                    });
                }
            });
            let rules = site.rules(if set_up == DROP_LEGACY { "iptables-legacy" } else { "iptables-nft" });
            assert_eq!(rules.len(), 3, "{rules:?}");
            let set = node.shell("nft list set inet cnikit pods4");
            assert_eq!(set.matches("comment").count(), 50, "{set}");
        }
    });
}

/// How many system calls an `ADD` is on a node with some other pods.
fn system_calls(others: usize) -> usize {
    let plugins = ours!();
    let node = node(&plugins);
    let site = Site::new(&node, &plugins, json!({"ingressPolicy": "same-bridge"}));
    let pod = node.pod("a");
    let config = |address: &str| site.config("firewall", 1, Some(&previous(address)));
    site.call("ADD", "firewall", &pod, &config("10.1.255.1")).result();
    let elements: Vec<_> =
        (0..others).map(|n| format!("10.1.{}.{} comment \"pod {n}\"", n / 250, n % 250)).collect();
    if others > 0 {
        let file = format!("add element inet cnikit pods4 {{ {} }}", elements.join(", "));
        node.shell(&format!("nft -f - <<'END'\n{file}\nEND"));
    }
    let call = node.call(&plugins, "ADD", "firewall", &config("10.1.255.2")).on(&pod).container("c2");
    call.run_through(&["strace", "-f", "-qq", "-o", "/run/trace"]).result();
    node.shell("cat /run/trace").lines().count()
}

#[test]
fn a_pod_costs_the_same_system_calls_beside_a_thousand_others() {
    isolated(|| {
        let (few, many) = (system_calls(0), system_calls(1000));
        assert_eq!(few, many);
        assert!(few < 150, "{few} system calls");
    });
}
