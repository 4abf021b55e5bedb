//! What other nodes say to an agent.

use std::net::SocketAddr;
use std::time::Duration;

use gossip::{Config, Gossip, Time};
use overlay::mesh::{Saved, Settings};
use overlay::path::{Message, Unsealed};
use overlay::{ClaimSettings, Local, Machine, Mesh, Mode, NodeId, NodeName, Pod, Pool, Range, Role, Tunnel};

const NOW: Time = Duration::from_secs(1000);
const OTHER: [u8; 16] = [2; 16];

/// Probes: what is read is written as it was, but for what fills it up.
pub(crate) fn probe(data: &[u8]) {
    if let Some(message) = Message::read(data, &mut Unsealed) {
        let written = message.write(&mut Unsealed, 0);
        assert_eq!(Message::read(&written, &mut Unsealed), Some(message));
        assert!(data.len() >= written.len() || data.starts_with(&written[..2]));
    }
}

/// A member says anything of itself: each word is its key's number, two bytes of length, and a value. This node goes on, and
/// says of itself what it did.
pub(crate) fn mesh(data: &[u8]) {
    let mut stranger = Gossip::new(OTHER, 1, vec![address(2)], Config::default(), 2, NOW);
    let mut rest = data;
    while let [key, low, high, following @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(following.len());
        let (value, following) = following.split_at(length);
        rest = following;
        let key = match key % 4 {
            0 => "node".to_owned(),
            1 => "subnets".to_owned(),
            2 => format!("pod/{key:016x}"),
            _ => "else".to_owned(),
        };
        let _ = stranger.set(NOW, &key, value);
    }
    let mut mesh = node();
    let mut now = NOW;
    for _ in 0..3 {
        let request = mesh.exchange_request(now);
        let Ok(answer) = stranger.exchange_answer(now, &request) else { unreachable!("a request") };
        assert_eq!(mesh.exchange_finish(now, &answer), Ok(()));
        let request = stranger.exchange_request(now);
        let Ok(answer) = mesh.exchange_answer(now, &request) else { unreachable!("a request") };
        assert_eq!(stranger.exchange_finish(now, &answer), Ok(*mesh.id().as_bytes()));
        stranger.ask(now);
        while let Some(question) = stranger.transmit() {
            mesh.receive(now, address(2), &question.payload);
        }
        now += Duration::from_secs(5);
        mesh.advance(now);
        if let Some(unsaved) = mesh.unsaved() {
            mesh.saved(now, unsaved);
        }
        while mesh.transmit().is_some() {}
    }
    let topology = mesh.view().topology;
    let own = topology.get(&mesh.id()).map(|member| (member.node.name.as_str(), member.node.pods.len()));
    assert_eq!(own, Some(("n1", 1)));
    for member in topology.members() {
        assert!(member.node.name.as_str().len() <= 253);
        assert!(member.node.addresses.iter().all(|address| overlay::Node::can_be_at(*address)));
        for pod in &member.node.pods {
            let texts = [Some(pod.container()), Some(pod.interface()), pod.namespace(), pod.name()];
            assert!(texts.into_iter().flatten().all(|text| !text.contains(char::is_control)));
        }
    }
    let _ = topology.conflicts();
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 4793))
}

fn node() -> Mesh {
    let (Ok(cluster), Ok(name), Ok(pod)) =
        ("10.244.0.0/16".parse(), NodeName::new("n1"), "10.244.1.2".parse())
    else {
        unreachable!("a good node")
    };
    let Ok(pool) = Pool::new(vec![Range { cluster, subnet_length: 24 }]) else { unreachable!("a good pool") };
    let settings =
        Settings { pool, gossip: Config::default(), claims: ClaimSettings::default(), bootstrap: true };
    let local = Local {
        id: NodeId::from_bytes([1; 16]),
        name,
        addresses: vec![address(1).ip()],
        role: Role::Worker,
        mode: Mode::Auto,
        tunnel: Some(Tunnel { vni: 4096, port: 4789 }),
        mtu: 1500,
        machine: Machine::default(),
        pods: vec![Pod::new("c1", "eth0", [pod])],
    };
    Mesh::new(settings, local, vec![address(1)], Saved::default(), 1, NOW)
}
