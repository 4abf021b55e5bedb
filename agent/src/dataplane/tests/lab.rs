//! Nodes on a segment, each in a namespace of its own, with a pod, and a data plane at work.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netops::LinkName;
use nix::sched::{CloneFlags, unshare};
use overlay::path::Unsealed;
use overlay::report::Way;
use overlay::{
    Liveness, Local, Mode, Node, NodeId, NodeName, Pool, Range, Role, Subnet, SubnetState, Topology, Tunnel,
    View,
};
use tokio::sync::{oneshot, watch};

use super::super::{Links, Settings, run};
use crate::counters::KernelWork;
use crate::known::Ways;

type Job = Box<dyn FnOnce() + Send>;

/// A namespace: a thread that lives in it, and does there what it is given. Gone when the value is.
pub(super) struct Place {
    pub(super) thread_id: i32,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Place {
    pub(super) fn new() -> Self {
        let (jobs, work) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            work.into_iter().for_each(|job| job());
        });
        let thread_id = told.recv().unwrap();
        let place = Self { thread_id, jobs: Some(jobs), thread: Some(thread) };
        place.ip("link set lo up");
        place
    }

    pub(super) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job = Box::new(move || tell.send(job()).unwrap());
        self.jobs.as_ref().unwrap().send(job).unwrap();
        told.recv().expect("what was asked of the namespace")
    }

    /// What a program says here.
    pub(super) fn try_says(&self, program: &str, arguments: &str) -> Result<String, String> {
        let (program, words) =
            (program.to_owned(), arguments.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let what = format!("{program} {}", words.join(" "));
        let output = self.run(move || Command::new(program).args(words).output().unwrap());
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(format!("{what}: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }

    pub(super) fn ip(&self, arguments: &str) -> String {
        self.try_says("ip", arguments).unwrap()
    }

    pub(super) fn nft(&self, ruleset: &str) {
        let ruleset = ruleset.to_owned();
        let output = self.run(move || Command::new("nft").arg(ruleset).output().unwrap());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(super) fn sysctl(&self, path: &str) -> String {
        let path = format!("/proc/sys/{path}");
        self.run(move || std::fs::read_to_string(path).unwrap().trim().to_owned())
    }

    pub(super) fn set_sysctl(&self, path: &str, value: &str) {
        let (path, value) = (format!("/proc/sys/{path}"), value.to_owned());
        self.run(move || std::fs::write(path, value).unwrap());
    }

    /// Whether a datagram of so many bytes (IP header included, not to be fragmented) gets from here to there, tried for a
    /// while: senders learn what a path takes.
    pub(super) fn reaches(&self, to: &Self, address: IpAddr, size: usize) -> bool {
        let any: IpAddr = if address.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
        let receiver = to.run(move || {
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            socket
        });
        let target = SocketAddr::new(address, receiver.local_addr().unwrap().port());
        let payload = size - if address.is_ipv4() { 28 } else { 48 };
        let sender = self.run(move || UdpSocket::bind((any, 0)).unwrap());
        for _ in 0..10 {
            match sender.send_to(&vec![7; payload], target) {
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable) => {
                }
                Err(error) => panic!("send to {target}: {error}"),
            }
            let mut buffer = [0; 9000];
            if receiver.recv(&mut buffer).is_ok_and(|length| length == payload) {
                return true;
            }
        }
        false
    }

    /// Whether a TCP connection carries a megabyte: its segments are as large as both ends believe that they may be.
    pub(super) fn streams_to(&self, to: &Self, address: IpAddr) -> bool {
        use std::io::{Read, Write};
        use std::net::{TcpListener, TcpStream};
        const SIZE: usize = 1 << 20;
        let any: IpAddr = if address.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
        let listener = to.run(move || TcpListener::bind((any, 0)).unwrap());
        let port = listener.local_addr().unwrap().port();
        let reader = thread::spawn(move || -> io::Result<usize> {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let (mut buffer, mut total) = ([0; 65536], 0);
            while total < SIZE {
                match stream.read(&mut buffer)? {
                    0 => break,
                    length => total += length,
                }
            }
            Ok(total)
        });
        let connected =
            self.run(move || TcpStream::connect_timeout(&(address, port).into(), Duration::from_secs(5)));
        let Ok(mut stream) = connected else {
            // Let the reader go.
            drop(to.run(move || TcpStream::connect(("127.0.0.1", port))));
            return false;
        };
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        let written = stream.write_all(&vec![7; SIZE]).is_ok();
        drop(stream);
        reader.join().unwrap().is_ok_and(|total| total == SIZE) && written
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Nodes on a segment.
pub(super) struct Lab {
    pub(super) wire: Place,
    pub(super) machines: Vec<Machine>,
}

pub(super) struct Machine {
    pub(super) place: Place,
    pub(super) pod: Place,
    pub(super) node: Node,
    pub(super) number: u8,
    agent: Option<Agent>,
}

/// A data plane at work.
struct Agent {
    local: watch::Sender<Arc<Local>>,
    view: watch::Sender<Arc<View>>,
    ways: watch::Receiver<Arc<Ways>>,
    work: Arc<KernelWork>,
    stop: oneshot::Sender<()>,
    ended: mpsc::Receiver<Option<String>>,
    thread_id: i32,
}

pub(super) fn link(name: &str) -> LinkName {
    LinkName::new(name).unwrap()
}

pub(super) fn settings() -> Settings {
    let range = |cluster: &str, subnet_length| Range { cluster: cluster.parse().unwrap(), subnet_length };
    Settings {
        fabric: overlay::fabric::Settings {
            pool: Pool::new(vec![range("10.244.0.0/16", 24), range("fd00:244::/48", 64)]).unwrap(),
            bridge: link("cnikit0"),
            tunnel: link("cnikit-vxlan"),
            masquerade_except: Some(Vec::new()),
        },
        port: overlay::path::DEFAULT_PORT,
        mtu: None,
    }
}

impl Lab {
    pub(super) fn new(count: u8, mode: Mode) -> Self {
        Self::with(count, mode, |_| {})
    }

    /// Nodes that are all told of one another, after a change of what they say.
    pub(super) fn with(count: u8, mode: Mode, change: impl Fn(&mut Node)) -> Self {
        let wire = Place::new();
        wire.ip("link add segment type bridge");
        wire.ip("link set segment up");
        let mut machines = Vec::new();
        for number in 1..=count {
            let machine = Machine::new(&wire, number, mode);
            machines.push(machine);
        }
        machines.iter_mut().for_each(|machine| change(&mut machine.node));
        let mut lab = Self { wire, machines };
        for number in 0..lab.machines.len() {
            lab.start(number);
        }
        lab
    }

    pub(super) fn start(&mut self, number: usize) {
        let view = self.view(number);
        self.machines[number].start(view);
        // What the plugin would do with a pod.
        self.wait("a bridge", |lab| {
            lab.machines[number].node.subnets.is_empty()
                || lab.machines[number].place.try_says("ip", "link show cnikit0").is_ok()
        });
        self.machines[number].plug_in_pod();
    }

    fn view(&self, of: usize) -> Arc<View> {
        let mut topology = Topology::new();
        for machine in &self.machines {
            topology.insert(Arc::new(machine.node.clone()), Liveness::Alive);
        }
        let subnets = self.machines[of].node.subnets.clone();
        Arc::new(View { topology: Arc::new(topology), subnets, ..View::default() })
    }

    /// Tells everybody what all are now.
    pub(super) fn tell(&self) {
        for (number, machine) in self.machines.iter().enumerate() {
            if let Some(agent) = &machine.agent {
                agent.local.send_replace(machine.local());
                agent.view.send_replace(self.view(number));
            }
        }
    }

    /// Tells one of others that are not there.
    pub(super) fn tell_of(&self, number: usize, others: &[Node]) {
        self.machines[number].see(self.view_of(number, others));
    }

    /// What one has to be told of others that are not there.
    pub(super) fn view_of(&self, number: usize, others: &[Node]) -> Arc<View> {
        let machine = &self.machines[number];
        let mut topology = Topology::new();
        for node in others.iter().chain([&machine.node]) {
            topology.insert(Arc::new(node.clone()), Liveness::Alive);
        }
        let subnets = machine.node.subnets.clone();
        Arc::new(View { topology: Arc::new(topology), subnets, ..View::default() })
    }

    pub(super) fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) -> Duration {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(60) {
            if is_so(self) {
                return begin.elapsed();
            }
            for machine in &self.machines {
                if let Some(Ok(Some(why))) = machine.agent.as_ref().map(|agent| agent.ended.try_recv()) {
                    panic!("node {} ended: {why}", machine.number);
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        let states: Vec<_> = self.machines.iter().map(Machine::state).collect();
        panic!("not within a minute: {what}\n{}", states.join("\n"));
    }

    /// Waits until every node's path to every other one is so.
    pub(super) fn wait_for_ways(&self, what: &str, is_so: impl Fn(&overlay::report::Path) -> bool) {
        self.wait(what, |lab| {
            let ids = || lab.machines.iter().map(|machine| machine.node.id);
            lab.machines.iter().all(|machine| {
                let ways = machine.ways();
                ids().filter(|id| *id != machine.node.id).all(|id| ways.paths.get(&id).is_some_and(&is_so))
            })
        });
    }

    pub(super) fn assert_all_reach_all(&self, size: usize) {
        for from in &self.machines {
            for to in self.machines.iter().filter(|to| to.number != from.number) {
                for address in to.pod_addresses() {
                    assert!(
                        from.pod.reaches(&to.pod, address, size),
                        "{address} from {} with {size} bytes\n{}\n{}",
                        from.number,
                        from.state(),
                        to.state()
                    );
                }
            }
        }
    }
}

impl Machine {
    fn new(wire: &Place, number: u8, mode: Mode) -> Self {
        let place = Place::new();
        wire.ip(&format!("link add to{number} type veth peer name eth0 netns {}", place.thread_id));
        wire.ip(&format!("link set to{number} master segment up"));
        // A node's own interface has been there for long: while its link-local address is tentative, it asks for no neighbour.
        place.set_sysctl("net/ipv6/conf/eth0/accept_dad", "0");
        place.ip("link set eth0 up");
        place.ip(&format!("addr add 192.168.7.{number}/24 dev eth0"));
        place.ip(&format!("addr add 2001:db8::{number}/64 dev eth0 nodad"));
        let subnet = |prefix: String| Subnet { prefix: prefix.parse().unwrap(), state: SubnetState::Held };
        let node = Node {
            id: NodeId::from_bytes([number; 16]),
            name: NodeName::new(&format!("n{number}")).unwrap(),
            addresses: vec![
                IpAddr::from([192, 168, 7, number]),
                format!("2001:db8::{number}").parse().unwrap(),
            ],
            subnets: vec![
                subnet(format!("10.244.{number}.0/24")),
                subnet(format!("fd00:244:0:{number}::/64")),
            ],
            role: Role::Worker,
            mode,
            tunnel: Some(Tunnel { vni: 1, port: 4789 }),
            mtu: 1500,
            machine: overlay::Machine::default(),
            pods: Vec::new(),
        };
        Self { place, pod: Place::new(), node, number, agent: None }
    }

    fn local(&self) -> Arc<Local> {
        let node = self.node.clone();
        Arc::new(Local {
            id: node.id,
            name: node.name,
            addresses: node.addresses,
            role: node.role,
            mode: node.mode,
            tunnel: node.tunnel,
            mtu: node.mtu,
            machine: node.machine,
            pods: node.pods,
        })
    }

    fn start(&mut self, view: Arc<View>) {
        let (local, local_receiver) = watch::channel(self.local());
        let (view, view_receiver) = watch::channel(view);
        let (ways_sender, ways) = watch::channel(Arc::<Ways>::default());
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = mpsc::channel();
        let work = Arc::<KernelWork>::default();
        let links =
            Links { local: local_receiver, view: view_receiver, ways: ways_sender, work: Arc::clone(&work) };
        // In a thread of its own, in the namespace of the one that begins it.
        let (tell, told) = mpsc::channel();
        self.place.run(move || {
            thread::spawn(move || {
                tell.send(nix::unistd::gettid().as_raw()).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let why = runtime.block_on(async {
                    tokio::select! {
                        why = run(settings(), links, Box::new(Unsealed)) => Some(why),
                        _ = stopped => None,
                    }
                });
                let _ = end.send(why);
            });
        });
        let thread_id = told.recv().unwrap();
        self.agent = Some(Agent { local, view, ways, work, stop, ended, thread_id });
    }

    /// The store knows something else from now on.
    pub(super) fn see(&self, view: Arc<View>) {
        self.agent.as_ref().unwrap().view.send_replace(view);
    }

    /// How long its data plane has had a processor.
    pub(super) fn on_processor(&self) -> Duration {
        let path = format!("/proc/self/task/{}/schedstat", self.agent.as_ref().unwrap().thread_id);
        let text = std::fs::read_to_string(path).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }

    /// As kill -9 does: nothing is tidied up.
    pub(super) fn stop(&mut self) {
        let agent = self.agent.take().unwrap();
        agent.stop.send(()).unwrap();
        assert_eq!(agent.ended.recv().unwrap(), None);
    }

    pub(super) fn ways(&self) -> Arc<Ways> {
        self.agent.as_ref().unwrap().ways.borrow().clone()
    }

    /// How often others had changed what it keeps.
    pub(super) fn repairs(&self) -> u64 {
        self.agent.as_ref().unwrap().work.repairs.get()
    }

    pub(super) fn way_to(&self, other: &Self) -> Way {
        self.ways().paths.get(&other.node.id).map_or(Way::None, |path| path.way)
    }

    pub(super) fn pod_addresses(&self) -> Vec<IpAddr> {
        vec![
            IpAddr::from([10, 244, self.number, 7]),
            format!("fd00:244:0:{}::7", self.number).parse().unwrap(),
        ]
    }

    fn plug_in_pod(&self) {
        if self.node.subnets.is_empty() || self.place.try_says("ip", "link show pod").is_ok() {
            return;
        }
        self.place.ip(&format!("link add pod type veth peer name eth0 netns {}", self.pod.thread_id));
        self.place.ip("link set pod master cnikit0 up");
        self.pod.ip("link set eth0 up");
        let n = self.number;
        self.pod.ip(&format!("addr add 10.244.{n}.7/24 dev eth0"));
        self.pod.ip(&format!("addr add fd00:244:0:{n}::7/64 dev eth0 nodad"));
        self.pod.ip(&format!("route add default via 10.244.{n}.1"));
        self.pod.ip(&format!("-6 route add default via fd00:244:0:{n}::1"));
    }

    /// All that a person would look at.
    pub(super) fn state(&self) -> String {
        let say = |arguments: &str| self.place.try_says("ip", arguments).unwrap_or_else(|error| error);
        let ways = self.agent.as_ref().map(|agent| agent.ways.borrow().clone());
        let looks =
            ["-br link", "-br addr", "route", "-6 route", "nexthop", "rule", "neigh show nud permanent"];
        let looks: Vec<_> = looks.iter().map(|look| format!("# ip {look}\n{}", say(look))).collect();
        let fdb = self.place.try_says("bridge", "fdb show dev cnikit-vxlan").unwrap_or_else(|error| error);
        format!("node {}: {ways:#?}\n{}\n# fdb\n{fdb}", self.number, looks.join("\n"))
    }
}
