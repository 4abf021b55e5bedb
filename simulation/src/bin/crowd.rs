//! Agents in real time, for a real one that is measured among them: `tests/e2e/agent-at-rest`.
//!
//! ```text
//! crowd NODES PODS KEY-FILE
//! ```
//!
//! The nodes are at 10.7.0.1 and so on, with a subnet of 10.128.0.0/9 and so many pods each; what is sent to any of them must
//! come to this process. They begin where they know one another. From then on their gossip is a real agent's; what they tell
//! one another stays in memory, and what they tell the measured one, called `measured`, goes over the network, sealed. So do
//! probes of the ways to pods: those of the measured one are answered, and each node sends its own as often as agents do.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::error::Error;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gossip::Random;
use gossip::seal::{Incoming, Keyring, NONCE, Opener, Sealer, counter_start, frame_length};
use ipnet::{IpNet, Ipv4Net};
use nix::libc::{in_addr, in_pktinfo};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::Ipv4PacketInfo;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt,
};
use overlay::mesh::{Mesh, Saved, Settings, Shelf};
use overlay::path::{DEFAULT_PORT, Kind, Message, Seal, rest};
use overlay::{
    ClaimSettings, Local, Mode, NodeId, NodeName, Pod, Pool, Range, Role, Subnet, SubnetState, Tunnel, fabric,
};

type Failure = Box<dyn Error>;

const GOSSIP_PORT: u16 = 4793;
/// How long they are among themselves, by their own clock.
const BEGINNING: Duration = Duration::from_secs(20);
const MEASURED: &str = "measured";

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [nodes, pods, key] = words.as_slice() else { return Err("crowd NODES PODS KEY-FILE".into()) };
    let keyring = Keyring::parse(&std::fs::read_to_string(key)?)?.for_cluster("cnikit");
    let mut crowd = Crowd::new(nodes.parse()?, pods.parse()?, &keyring.into())?;
    println!("ready");
    loop {
        crowd.turn()?;
    }
}

struct Crowd {
    started: Instant,
    random: Random,
    nodes: Vec<Node>,
    /// What they have said to one another and was not heard yet: to whom, from whom.
    said: VecDeque<(usize, usize, Arc<[u8]>)>,
    wakes: BinaryHeap<Reverse<(Duration, usize)>>,
    /// A frame goes to one of them: they can share what has been seen.
    opener: Opener,
    probes: ProbeSeal,
    datagrams: UdpSocket,
    streams: TcpListener,
    probing: UdpSocket,
    /// Whose turn it is to probe, and when.
    turn: usize,
    next_turn: Duration,
    measured: Option<Measured>,
    /// How far they are: behind the clock, if this process is.
    now: Duration,
}

struct Node {
    mesh: Mesh,
    sealer: Sealer,
    wakes: Duration,
}

/// Who is measured.
#[derive(Clone, Copy)]
struct Measured {
    id: NodeId,
    address: IpAddr,
    /// As soon as it has a subnet.
    bridge: Option<IpAddr>,
}

fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a07_0001 + n as u32)
}

fn number(address: IpAddr) -> Option<usize> {
    match address {
        IpAddr::V4(address) => usize::try_from(address.to_bits().checked_sub(0x0a07_0001)?).ok(),
        IpAddr::V6(_) => None,
    }
}

fn prefix(n: usize) -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::from_bits(0x0a80_0000 + (n as u32 + 1) * 256), 24).into()
}

/// Addresses of pods begin after the bridge's.
fn pod(random: &mut Random, n: usize, nth: usize) -> Pod {
    let container: String = (0..4).map(|_| format!("{:016x}", random.number())).collect();
    let address = prefix(n).hosts().nth(nth + 1);
    Pod::new(&container, "eth0", address.as_slice())
        .named(Some("default"), Some(&format!("web-{:08x}-{nth:05}", random.number() as u32)))
}

impl Node {
    fn new(n: usize, pods: usize, keyring: &Arc<Keyring>, random: &mut Random) -> Result<Self, Failure> {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&random.number().to_be_bytes());
        id[8..].copy_from_slice(&random.number().to_be_bytes());
        let local = Local {
            id: NodeId::from_bytes(id),
            name: NodeName::new(&format!("n{n}"))?,
            addresses: vec![address(n).into()],
            role: Role::Worker,
            mode: Mode::Auto,
            tunnel: Some(Tunnel { vni: 4096, port: 4789 }),
            mtu: 1500,
            machine: simulation::hardware(random.number()),
            pods: (0..pods).map(|nth| pod(random, n, nth)).collect(),
        };
        let settings = Settings {
            pool: Pool::new(vec![Range { cluster: "10.128.0.0/9".parse()?, subnet_length: 24 }])?,
            gossip: gossip::Config::default(),
            claims: ClaimSettings::default(),
            bootstrap: true,
        };
        let held = Subnet { prefix: prefix(n), state: SubnetState::Held };
        let saved = Saved { incarnation: 1, subnets: vec![held] };
        let at = SocketAddr::new(address(n).into(), GOSSIP_PORT);
        let mut mesh = Mesh::new(settings, local, vec![at], saved, random.number(), Duration::ZERO);
        save(&mut mesh, Duration::ZERO);
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        Ok(Self {
            mesh,
            sealer: Sealer::new(keyring.clone(), id, counter_start(clock, None)),
            wakes: Duration::MAX,
        })
    }
}

fn save(mesh: &mut Mesh, now: Duration) {
    while let Some(wanted) = mesh.unsaved() {
        mesh.saved(now, wanted);
    }
}

impl Crowd {
    fn new(count: usize, pods: usize, keyring: &Arc<Keyring>) -> Result<Self, Failure> {
        let mut random = Random::new(1);
        let nodes = (0..count).map(|n| Node::new(n, pods, keyring, &mut random));
        let mut nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let shelf = Arc::new(Shelf::of_what_is_read());
        nodes.iter_mut().for_each(|node| node.mesh.share(&shelf));
        acquaint(&mut nodes)?;
        let any = Ipv4Addr::UNSPECIFIED;
        let datagrams = UdpSocket::bind((any, GOSSIP_PORT))?;
        setsockopt(&datagrams, Ipv4PacketInfo, &true)?;
        let probing = UdpSocket::bind((any, DEFAULT_PORT))?;
        let streams = TcpListener::bind((any, GOSSIP_PORT))?;
        datagrams.set_nonblocking(true)?;
        probing.set_nonblocking(true)?;
        streams.set_nonblocking(true)?;
        let mut sender = [0; 16];
        sender[..8].copy_from_slice(&random.number().to_be_bytes());
        let mut crowd = Self {
            started: Instant::now(),
            random,
            nodes,
            said: VecDeque::new(),
            wakes: BinaryHeap::new(),
            opener: Opener::new(keyring.clone()),
            probes: ProbeSeal::new(sender, keyring),
            datagrams,
            streams,
            probing,
            turn: 0,
            next_turn: Duration::ZERO,
            measured: None,
            now: Duration::ZERO,
        };
        (0..count).for_each(|n| crowd.after(n));
        // What all say when they begin is heard by all.
        while crowd.is_behind(BEGINNING) {
            crowd.work(BEGINNING);
        }
        crowd.started = Instant::now() - BEGINNING;
        Ok(crowd)
    }

    /// Does what is due by then, in order, and at once: nobody is taken for dead because this process had no processor.
    fn work(&mut self, until: Duration) {
        // Whoever is elsewhere does not wait for long.
        for _ in 0..1000 {
            if let Some((to, from, payload)) = self.said.pop_front() {
                let from = SocketAddr::new(address(from).into(), GOSSIP_PORT);
                self.nodes[to].mesh.receive(self.now, from, &payload);
                self.after(to);
                continue;
            }
            let Some(Reverse((when, n))) =
                self.wakes.peek().copied().filter(|Reverse((when, _))| *when <= until)
            else {
                break;
            };
            self.wakes.pop();
            // It may have been put off.
            if self.nodes[n].wakes == when {
                self.now = self.now.max(when);
                self.nodes[n].mesh.advance(self.now);
                self.after(n);
            }
        }
    }

    fn is_behind(&self, until: Duration) -> bool {
        !self.said.is_empty() || self.wakes.peek().is_some_and(|Reverse((when, _))| *when <= until)
    }

    /// Does what there is to do, and waits for more.
    fn turn(&mut self) -> Result<(), Failure> {
        let time = self.started.elapsed();
        self.work(time);
        if self.next_turn <= time {
            self.probe(time);
        }
        if !self.is_behind(time) {
            self.now = self.now.max(time);
            let next =
                self.wakes.peek().map_or(Duration::MAX, |Reverse((when, _))| *when).min(self.next_turn);
            self.wait(next.saturating_sub(time))?;
        }
        self.receive()
    }

    fn wait(&self, at_most: Duration) -> Result<(), Failure> {
        let sockets = [self.datagrams.as_fd(), self.probing.as_fd(), self.streams.as_fd()];
        let mut sockets = sockets.map(|socket| PollFd::new(socket, PollFlags::POLLIN));
        let timeout = PollTimeout::try_from(at_most.as_millis().min(1000) + 1)?;
        poll(&mut sockets, timeout)?;
        Ok(())
    }

    /// What follows from something that has happened to a node.
    fn after(&mut self, n: usize) {
        let (now, count) = (self.now, self.nodes.len());
        save(&mut self.nodes[n].mesh, now);
        while let Some(datagram) = self.nodes[n].mesh.transmit() {
            match number(datagram.to.ip()).filter(|to| *to < count) {
                Some(to) => self.said.push_back((to, n, datagram.payload)),
                None => {
                    let frame = self.nodes[n].sealer.seal(nonce(), &datagram.payload);
                    send(&self.datagrams, Some(address(n)), datagram.to, &frame);
                }
            }
            save(&mut self.nodes[n].mesh, now);
        }
        while let Some(with) = self.nodes[n].mesh.wants_exchange() {
            // One that cannot be had costs time, nothing else.
            if let Some(with) = number(with.ip()).filter(|with| *with < count && *with != n) {
                let _ = exchange(&mut self.nodes, n, with, now);
            }
        }
        let due = self.nodes[n].mesh.timeout().max(now);
        if due != self.nodes[n].wakes {
            self.nodes[n].wakes = due;
            self.wakes.push(Reverse((due, n)));
        }
    }

    /// Takes in what has come by the network.
    fn receive(&mut self) -> Result<(), Failure> {
        while let Some((from, to, frame)) = receive(&self.datagrams) {
            let now = self.now;
            let Some(n) = number(to.into()).filter(|n| *n < self.nodes.len()) else { continue };
            match self.opener.open(now, &frame) {
                Ok(opened) => self.nodes[n].mesh.receive(now, from, &opened.payload),
                Err(why) => eprintln!("{from}: {why}"),
            }
            self.after(n);
        }
        let mut buffer = [0; 2048];
        while let Ok(length) = self.probing.recv(&mut buffer) {
            self.answer_probe(&buffer[..length]);
        }
        while let Ok((stream, _)) = self.streams.accept() {
            if let Err(why) = self.answer_stream(stream) {
                eprintln!("a stream: {why}");
            }
        }
        Ok(())
    }

    fn answer_stream(&mut self, mut stream: TcpStream) -> Result<(), Failure> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let n =
            number(stream.local_addr()?.ip()).filter(|n| *n < self.nodes.len()).ok_or("it is for nobody")?;
        let mut message = Incoming::request();
        let request = loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut frame = vec![0; frame_length(length)?];
            stream.read_exact(&mut frame)?;
            if let Some(request) = self.opener.take(self.now, &mut message, &frame)? {
                break request;
            }
        };
        let now = self.now;
        let answer = self.nodes[n].mesh.exchange_answer(now, &request.payload)?;
        self.after(n);
        stream.write_all(&self.nodes[n].sealer.answer(nonce, &request.ticket, &answer))?;
        Ok(())
    }

    //---------------------------------------------------------------------------------------------- probes of ways to pods

    fn answer_probe(&mut self, datagram: &[u8]) {
        let Some(probe) = Message::read(datagram, &mut self.probes) else { return };
        if let Some(Measured { id, address, .. }) =
            self.measured.filter(|it| it.id == probe.from && probe.kind == Kind::Probe)
        {
            let answer = Message { kind: Kind::Answer, from: probe.to, to: id, ..probe };
            let bytes = answer.write(&mut self.probes, 0);
            send(&self.probing, None, SocketAddr::new(address, DEFAULT_PORT), &bytes);
        }
    }

    /// The next one probes the measured one.
    fn probe(&mut self, time: Duration) {
        let count = self.nodes.len();
        self.next_turn = time + rest(count) / u32::try_from(count).unwrap_or(u32::MAX);
        self.turn = (self.turn + 1) % count;
        if self.turn == 0 || self.measured.is_none_or(|it| it.bridge.is_none()) {
            self.look();
        }
        let Some(Measured { id, bridge: Some(bridge), .. }) = self.measured else { return };
        let IpAddr::V4(source) = fabric::gateway(prefix(self.turn)) else { return };
        let (from, nonce) = (self.nodes[self.turn].mesh.id(), self.random.number());
        let probe = Message { kind: Kind::Probe, from, to: id, nonce };
        // As large as interfaces promise: an IPv4 and a UDP header are before it.
        let bytes = probe.write(&mut self.probes, 1500 - 28);
        send(&self.probing, Some(source), SocketAddr::new(bridge, DEFAULT_PORT), &bytes);
    }

    fn look(&mut self) {
        self.measured = self.nodes[0].mesh.topology().named(MEASURED).next().and_then(|member| {
            let node = &member.node;
            let bridge = node.held().next().map(fabric::gateway);
            Some(Measured { id: node.id, address: node.address(false)?, bridge })
        });
    }
}

/// Has all know one another: what the first has gathered, all others take.
fn acquaint(nodes: &mut [Node]) -> Result<(), Failure> {
    for n in 1..nodes.len() {
        exchange(nodes, 0, n, Duration::ZERO)?;
    }
    for n in 1..nodes.len() {
        exchange(nodes, n, 0, Duration::ZERO)?;
    }
    // What they would tell is known.
    for node in nodes {
        save(&mut node.mesh, Duration::ZERO);
        while node.mesh.transmit().is_some() {}
    }
    Ok(())
}

fn exchange(nodes: &mut [Node], asks: usize, answers: usize, now: Duration) -> Result<(), Failure> {
    let request = nodes[asks].mesh.exchange_request(now);
    let answer = nodes[answers].mesh.exchange_answer(now, &request)?;
    save(&mut nodes[answers].mesh, now);
    nodes[asks].mesh.exchange_finish(now, &answer)?;
    save(&mut nodes[asks].mesh, now);
    Ok(())
}

struct ProbeSeal {
    sealer: Sealer,
    opener: Opener,
    begun: Instant,
}

impl ProbeSeal {
    fn new(sender: [u8; 16], keyring: &Arc<Keyring>) -> Self {
        let (sealer, opener) = (Sealer::new(keyring.clone(), sender, 1), Opener::new(keyring.clone()));
        Self { sealer, opener, begun: Instant::now() }
    }
}

impl Seal for ProbeSeal {
    fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        self.sealer.seal(nonce(), message)
    }

    fn open(&mut self, sealed: &[u8]) -> Option<Vec<u8>> {
        self.opener.open(self.begun.elapsed(), sealed).ok().map(|opened| opened.payload)
    }
}

/// Never the same twice.
fn nonce() -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    // It fails only before the kernel's pool is ready, which no network is before.
    while getrandom::fill(&mut nonce).is_err() {}
    nonce
}

/// Sends from one of the addresses. What cannot be sent is lost, as it could be on its way.
fn send(socket: &UdpSocket, from: Option<Ipv4Addr>, to: SocketAddr, bytes: &[u8]) {
    let SocketAddr::V4(to) = to else { return };
    let source = from.map(|from| in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: in_addr { s_addr: u32::from_ne_bytes(from.octets()) },
        ipi_addr: in_addr { s_addr: 0 },
    });
    let control = source.as_ref().map(ControlMessage::Ipv4PacketInfo);
    let to = SockaddrIn::from(to);
    let _ =
        sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], control.as_slice(), MsgFlags::empty(), Some(&to));
}

/// From whom, to which of the addresses, what.
fn receive(socket: &UdpSocket) -> Option<(SocketAddr, Ipv4Addr, Vec<u8>)> {
    let mut buffer = [0; 2048];
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let mut control = nix::cmsg_space!(in_pktinfo);
    let received =
        recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)
            .ok()?;
    let from = SocketAddr::V4(received.address?.into());
    let to = received.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())),
        _ => None,
    })?;
    let length = received.bytes;
    Some((from, to, buffer.get(..length)?.to_vec()))
}
