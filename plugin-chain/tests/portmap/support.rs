//! A node of the real kernel with pods on bridges, and a machine beyond it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cni_spec::plugin::Plugin;
use cni_spec::{AddResult, Error};
use netops::*;
use plugin_bridge::Bridge;
use plugin_chain::Portmap;
use plugin_kit::Kit;
use plugin_kit::testing::{Node, TestCall};
use serde_json::{Value, json};

static BRIDGE: Kit<Bridge> = Kit::new(Bridge);
static PORTMAP: Kit<Portmap> = Kit::new(Portmap);

/// How long something is waited for that should come.
pub(crate) const SOON: Duration = Duration::from_secs(3);
/// How long something is waited for that should not come.
pub(crate) const NEVER: Duration = Duration::from_millis(300);

/// The machine beyond the node.
pub(crate) const WORLD: &str = "world";

pub(crate) struct Lab {
    pub(crate) node: Node,
    leases: tempfile::TempDir,
}

impl Lab {
    /// A node with an uplink, 192.0.2.1 and 2001:db8::1, to a machine that is .2.
    pub(crate) fn new() -> Self {
        let node = Node::new();
        let name = |text: &str| LinkName::new(text).unwrap();
        let world = node.inside(WORLD, || Namespace::current().unwrap());
        let address = |link: &str, net: &str| {
            Resource::Address(Address {
                detect_duplicates: false,
                ..Address::new(name(link), net.parse().unwrap())
            })
        };
        let default = |gateway: &str, any: &str| {
            Resource::Route(Route::new(any.parse().unwrap(), gateway.parse().ok(), name("eth0")))
        };
        let peer = VethPeer { place: Place::Container, name: name("eth0"), mtu: None, mac: None };
        let mut uplink = Link::new(name("uplink"), LinkKind::Veth { peer });
        uplink.up = true;
        let mut plan = Plan::new();
        plan.own(Place::Host, Resource::Link(uplink))
            .own(Place::Host, address("uplink", "192.0.2.1/24"))
            .own(Place::Host, address("uplink", "2001:db8::1/64"))
            .own(Place::Container, address("eth0", "192.0.2.2/24"))
            .own(Place::Container, address("eth0", "2001:db8::2/64"))
            .own(Place::Container, Resource::LinkUp(name("eth0")))
            .own(Place::Container, default("192.0.2.1", "0.0.0.0/0"))
            .own(Place::Container, default("2001:db8::1", "::/0"));
        node.on_host(|| plan.apply(&mut LinuxKernel::new(Some(world))).map(drop)).unwrap();
        Self { node, leases: tempfile::tempdir().unwrap() }
    }

    fn call(&self, network: u8, config: Value) -> TestCall {
        let mut config = config;
        config["cniVersion"] = json!("1.1.0");
        config["name"] = json!(format!("net{network}"));
        TestCall::new(config).interface(&format!("eth{network}"))
    }

    fn bridge(&self, network: u8) -> TestCall {
        let ipam = json!({
            "type": "host-local", "dataDir": self.leases.path(),
            "ranges": [[{"subnet": format!("10.{network}.0.0/24")}], [{"subnet": format!("fd00:{network}::/64")}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        });
        self.call(
            network,
            json!({
                "type": "bridge", "bridge": format!("cni{network}"), "isGateway": true, "hairpinMode": true,
                "ipMasq": true, "ipam": ipam,
            }),
        )
    }

    fn portmap(&self, network: u8, config: &Value) -> TestCall {
        let mut config = config.clone();
        config["type"] = json!("portmap");
        self.call(network, config)
    }

    /// Attaches a pod to a network, with a configuration of portmap; returns the result.
    pub(crate) fn add(&self, network: u8, pod: &str, portmap: &Value) -> Result<AddResult, Error> {
        let result = self.node.add(&BRIDGE, &self.bridge(network).container(pod))?;
        self.publish(network, pod, portmap, &result)?;
        Ok(result)
    }

    /// The second half of an ADD.
    pub(crate) fn publish(
        &self,
        network: u8,
        pod: &str,
        portmap: &Value,
        result: &AddResult,
    ) -> Result<AddResult, Error> {
        let passed =
            self.node.add(&PORTMAP, &self.portmap(network, portmap).container(pod).previous(result))?;
        assert_eq!(passed, *result);
        Ok(passed)
    }

    pub(crate) fn check(
        &self,
        network: u8,
        pod: &str,
        portmap: &Value,
        result: &AddResult,
    ) -> Result<(), Error> {
        self.node.check(&PORTMAP, &self.portmap(network, portmap).container(pod).previous(result))
    }

    pub(crate) fn del(&self, network: u8, pod: &str, portmap: &Value, result: Option<&AddResult>) {
        let mut call = self.portmap(network, portmap).container(pod);
        let mut bridge = self.bridge(network).container(pod);
        if let Some(result) = result {
            (call, bridge) = (call.previous(result), bridge.previous(result));
        }
        self.node.del(&PORTMAP, &call).unwrap();
        self.node.del(&BRIDGE, &bridge).unwrap();
    }

    /// The first half of a DEL.
    pub(crate) fn unpublish(&self, network: u8, pod: &str, portmap: &Value, result: &AddResult) {
        self.node.del(&PORTMAP, &self.portmap(network, portmap).container(pod).previous(result)).unwrap();
    }

    /// Removes what no valid attachment of a network has; an attachment is a container and an interface.
    pub(crate) fn gc(&self, network: u8, valid: &[(&str, &str)]) {
        let request = self.portmap(network, &json!({})).gc_request(valid);
        self.node.on_host(|| PORTMAP.gc(&request)).unwrap();
    }

    /// What a command says on the node.
    pub(crate) fn run(&self, command: &str) -> String {
        let mut words = command.split_whitespace();
        let mut program = std::process::Command::new(words.next().unwrap());
        let output = self.node.on_host(|| program.args(words).output().unwrap());
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Does something in a pod, or on the node if it has no name.
    pub(crate) fn at<R>(&self, place: &str, work: impl FnOnce() -> R) -> R {
        if place.is_empty() { self.node.on_host(work) } else { self.node.inside(place, work) }
    }
}

/// Configuration of portmap.
pub(crate) fn publish(mappings: &[Value]) -> Value {
    json!({"runtimeConfig": {"portMappings": mappings}})
}

/// Serves TCP connections in a pod: says who it is, and who the client seems to be. Until the lab ends.
pub(crate) fn serve(lab: &Lab, pod: &str, port: u16) {
    let who = pod.to_owned();
    let bind = |any: &str| lab.at(pod, || TcpListener::bind((any, port)).unwrap());
    // One for both versions.
    let listener = bind("::");
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let seen = client.peer_addr().map(|peer| peer.ip().to_canonical()).unwrap();
            let _ = write!(client, "{who} {seen}");
        }
    });
}

/// The same with datagrams.
pub(crate) fn serve_datagrams(lab: &Lab, pod: &str, port: u16) {
    let who = pod.to_owned();
    let socket = lab.at(pod, || UdpSocket::bind(("::", port)).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let question = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let answer = format!("{who} {}{question}", peer.ip().to_canonical());
            let _ = socket.send_to(answer.as_bytes(), peer);
        }
    });
}

/// Who answers at an address, and as whom it sees who asks; an error if nobody does.
pub(crate) fn ask(lab: &Lab, from: &str, to: &str, patience: Duration) -> std::io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    lab.at(from, || {
        let mut stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_read_timeout(Some(patience))?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    })
}

/// A client that sends datagrams from one and the same port.
pub(crate) fn client(lab: &Lab, from: &str, to: &str) -> UdpSocket {
    let to: SocketAddr = to.parse().unwrap();
    lab.at(from, || {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(NEVER)).unwrap();
        socket
    })
}

/// What a client is answered.
pub(crate) fn answer(client: &UdpSocket, patience: Duration) -> std::io::Result<String> {
    static QUESTIONS: AtomicUsize = AtomicUsize::new(0);
    // Answers to earlier questions may still come.
    let question = format!(" ({})", QUESTIONS.fetch_add(1, Ordering::Relaxed));
    let started = Instant::now();
    let mut buffer = [0; 64];
    let mut outcome = client.send(question.as_bytes());
    loop {
        outcome = outcome.and_then(|_| client.recv(&mut buffer));
        match outcome {
            Ok(length) => {
                let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if let Some(said) = said.strip_suffix(&question) {
                    return Ok(said.to_owned());
                }
                outcome = Ok(length);
            }
            Err(error) if started.elapsed() >= patience => return Err(error),
            // Refused at once, perhaps.
            Err(_) => {
                std::thread::sleep(Duration::from_millis(20));
                outcome = client.send(question.as_bytes());
            }
        }
    }
}
