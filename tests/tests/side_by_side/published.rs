//! Published ports, compared by what packets experience.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use cnikit_tests::{Implementation, Node, Pod, isolated, ours};
use serde_json::{Value, json};

use crate::packets::outside;

/// How long an answer is waited for: longer than a neighbour's, or the repetition of a lost packet, takes.
const PATIENCE: Duration = Duration::from_millis(2500);

/// A node with a pod that publishes ports, a friend of it, and a machine outside.
pub(crate) struct Scene {
    node: Node,
    plugins: Implementation,
    pod: Pod,
    friend: Pod,
    outside: Pod,
}

impl Scene {
    fn new(plugins: &Implementation) -> Self {
        let node = Node::new(plugins);
        let outside = outside(&node);
        node.shell("ip link set lo up; ip addr add 192.0.2.11/24 dev out0");
        let (pod, friend) = (node.pod("pod"), node.pod("friend"));
        Self { node, plugins: plugins.clone(), pod, friend, outside }
    }

    fn add(&self, pod: &Pod, config: &Value, previous: Option<&Value>) -> Value {
        let mut config = config.clone();
        config["cniVersion"] = json!("1.0.0");
        config["name"] = json!("blue");
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        let plugin = config["type"].as_str().unwrap();
        self.node.call(&self.plugins, "ADD", plugin, &config).on(pod).container(pod.name()).run().result()
    }

    /// Does something in a pod, outside, or on the node.
    fn at<R: Send>(&self, place: &str, work: impl FnOnce() -> R + Send) -> R {
        match place {
            "pod" => self.node.inside_pod(&self.pod, work),
            "friend" => self.node.inside_pod(&self.friend, work),
            "outside" => self.node.inside_pod(&self.outside, work),
            _ => self.node.inside(work),
        }
    }

    /// Runs a shell script somewhere; it must succeed. Returns what it printed.
    pub(crate) fn shell(&self, place: &str, script: &str) -> String {
        match place {
            "pod" => self.node.pod_shell(&self.pod, script),
            "friend" => self.node.pod_shell(&self.friend, script),
            "outside" => self.node.pod_shell(&self.outside, script),
            _ => self.node.shell(script),
        }
    }

    /// Serves TCP and UDP somewhere, at a port: says which that is, and who asks.
    pub(crate) fn serve(&self, place: &str, port: u16) {
        let listener = self.at(place, || TcpListener::bind(("::", port)).unwrap());
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let seen = client.peer_addr().unwrap().ip().to_canonical();
                let _ = write!(client, "{port} sees {seen}");
            }
        });
        let socket = self.at(place, || UdpSocket::bind(("::", port)).unwrap());
        thread::spawn(move || {
            while let Ok((_, peer)) = socket.recv_from(&mut [0; 16]) {
                let _ = socket.send_to(format!("{port} sees {}", peer.ip().to_canonical()).as_bytes(), peer);
            }
        });
    }

    pub(crate) fn ask_by_tcp(&self, from: &str, to: SocketAddr) -> Option<String> {
        self.at(from, || {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).ok()?;
            Some(said)
        })
    }

    pub(crate) fn ask_by_udp(&self, from: &str, to: SocketAddr) -> Option<String> {
        self.at(from, || {
            let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.connect(to).ok()?;
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let started = Instant::now();
            let mut buffer = [0; 64];
            while started.elapsed() < PATIENCE {
                let _ = socket.send(b"hello");
                match socket.recv(&mut buffer) {
                    Ok(length) => return Some(String::from_utf8_lossy(&buffer[..length]).into_owned()),
                    // Nobody is there, and that is said.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => return None,
                    Err(_) => {}
                }
            }
            None
        })
    }
}

/// How else a node may be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Circumstances {
    /// Keys of `bridge`.
    pub(crate) bridge: Value,
    /// Keys of `firewall`, if that comes next.
    pub(crate) firewall: Option<Value>,
    /// What its administrator has done.
    pub(crate) before: &'static str,
}

/// A node on which one implementation has attached a pod that publishes ports, and its friend.
pub(crate) fn scene(plugins: &Implementation, portmap: &Value, circumstances: &Circumstances) -> Scene {
    let scene = Scene::new(plugins);
    scene.node.shell(circumstances.before);
    let mut bridge = json!({
        "type": "bridge", "isGateway": true, "hairpinMode": true, "ipMasq": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    });
    for (key, value) in circumstances.bridge.as_object().into_iter().flatten() {
        bridge[key] = value.clone();
    }
    let result = scene.add(&scene.pod, &bridge, None);
    let mut config = portmap.clone();
    config["type"] = json!("portmap");
    // Whatever else is in it is passed on.
    assert_eq!(scene.add(&scene.pod, &config, Some(&result))["ips"], result["ips"]);
    let friends = scene.add(&scene.friend, &bridge, None);
    if let Some(firewall) = &circumstances.firewall {
        let mut firewall = firewall.clone();
        firewall["type"] = json!("firewall");
        scene.add(&scene.pod, &firewall, Some(&result));
        scene.add(&scene.friend, &firewall, Some(&friends));
    }
    for port in [80, 81] {
        scene.serve("pod", port);
    }
    scene
}

/// What those who ask at some addresses are told, with one implementation.
fn experience(
    plugins: &Implementation,
    portmap: &Value,
    circumstances: &Circumstances,
) -> BTreeMap<String, Option<String>> {
    let scene = scene(plugins, portmap, circumstances);
    let mut told = BTreeMap::new();
    for from in ["outside", "the node", "friend", "pod"] {
        for to in
            ["192.0.2.1:8080", "192.0.2.11:8080", "10.1.0.1:8080", "[2001:db8::1]:8080", "[fd00:1::1]:8080"]
        {
            told.insert(format!("{from}, {to}, TCP"), scene.ask_by_tcp(from, to.parse().unwrap()));
            told.insert(format!("{from}, {to}, UDP"), scene.ask_by_udp(from, to.parse().unwrap()));
        }
    }
    let loopback = "127.0.0.1:8080".parse().unwrap();
    told.insert("the node, 127.0.0.1, TCP".into(), scene.ask_by_tcp("the node", loopback));
    told.insert("the node, 127.0.0.1, UDP".into(), scene.ask_by_udp("the node", loopback));
    let setting = scene
        .node
        .shell("cat /proc/sys/net/ipv4/conf/*/route_localnet; ls /proc/sys/net/ipv4/conf | grep -v veth");
    told.insert("route_localnet".into(), Some(setting));
    told
}

/// A host whose own filter lets nothing pass.
pub(crate) const DROP: &str = "iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP";

fn mappings(hosts: &[(&str, u16)]) -> Value {
    let both = |(host, port): &(&str, u16)| {
        ["tcp", "udp"].map(
            |protocol| json!({"hostPort": 8080, "containerPort": port, "protocol": protocol, "hostIP": host}),
        )
    };
    json!({"portMappings": hosts.iter().flat_map(both).collect::<Vec<_>>()})
}

#[test]
fn a_published_port_is_to_everybody_what_the_references_is() {
    isolated(|| {
        let everywhere = || mappings(&[("", 80)]);
        for portmap in [
            json!({"runtimeConfig": everywhere()}),
            json!({"runtimeConfig": everywhere(), "snat": false}),
            // Without masqAll: Debian's reference does not know it yet.
            json!({"runtimeConfig": everywhere(), "markMasqBit": 7}),
            json!({"runtimeConfig": mappings(&[("192.0.2.11", 81), ("0.0.0.0", 80), ("::", 80)])}),
            json!({"runtimeConfig": mappings(&[("192.0.2.11", 80), ("2001:db8::1", 81), ("127.0.0.1", 81)])}),
            json!({
                "runtimeConfig": everywhere(),
                "conditionsV4": ["!", "-d", "192.0.2.11", "!", "-s", "10.1.0.0/24"],
                "conditionsV6": ["-s", "2001:db8::/32"],
            }),
        ] {
            assert_same(&portmap, &Circumstances::default());
        }
    });
}

#[test]
fn a_published_port_is_the_references_whatever_the_bridge_and_the_host_are_like() {
    const FILTERED: &str =
        "for to in iptables ip6tables; do echo 1 > /proc/sys/net/bridge/bridge-nf-call-$to; done";
    isolated(|| {
        let everywhere = json!({"runtimeConfig": mappings(&[("", 80)])});
        for (hairpin, before) in [(false, FILTERED), (true, DROP)] {
            let bridge = json!({"hairpinMode": hairpin});
            assert_same(&everywhere, &Circumstances { bridge, firewall: Some(json!({})), before });
        }
    });
}

fn assert_same(portmap: &Value, circumstances: &Circumstances) {
    let Some(reference) = Implementation::reference() else { return };
    let (theirs, ours) =
        (experience(&reference, portmap, circumstances), experience(&ours!(), portmap, circumstances));
    let differences: Vec<_> = theirs
        .iter()
        .filter(|(about, told)| ours[*about] != **told)
        .map(|(about, told)| format!("{about}: theirs {told:?}, ours {:?}", ours[about]))
        .collect();
    let before = circumstances.before;
    assert!(differences.is_empty(), "{portmap}, {before}:\n{}", differences.join("\n"));
    assert!(
        theirs.values().flatten().any(|told| told.contains("sees")),
        "{portmap}, {before}: nobody was told anything"
    );
}
