//! Real sockets on the loopback interface: each node has an address of its own there, and all have one port.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use overlay::report::Forgotten;
use overlay::{Liveness, Machine, Mode, NodeName, Range, Role, SubnetState, View};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::settings::Seed;

/// More than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The nodes of a test.
struct Cluster {
    /// What all addresses begin with.
    network: [u8; 2],
    port: u16,
    key: [u8; 32],
}

/// A node: its disk stays when its agent ends.
struct Node {
    number: u16,
    disk: TempDir,
    keys: watch::Sender<Arc<Keyring>>,
    traffic: Arc<Traffic>,
    running: Option<Running>,
}

struct Running {
    task: JoinHandle<String>,
    view: watch::Receiver<Arc<View>>,
    requests: mpsc::Sender<Request>,
    _local: watch::Sender<Arc<Local>>,
}

fn keyring(keys: &[[u8; 32]]) -> Arc<Keyring> {
    let text: String = keys.iter().map(Keyring::generate).collect();
    Arc::new(Keyring::parse(&text).unwrap().for_cluster("cnikit"))
}

impl Cluster {
    fn new() -> Self {
        // Below what the kernel gives out itself.
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let base = 20_000 + u16::try_from(std::process::id() % 100).unwrap() * 64;
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed);
        Self { network: [127, 77], port, key: [7; 32] }
    }

    fn address(&self, number: u16) -> SocketAddr {
        let ([a, b], [c, d]) = (self.network, number.to_be_bytes());
        SocketAddr::from(([a, b, c, d], self.port))
    }

    fn node(&self, number: u16) -> Node {
        Node {
            number,
            disk: tempfile::tempdir().unwrap(),
            keys: watch::Sender::new(keyring(&[self.key])),
            traffic: Arc::default(),
            running: None,
        }
    }

    fn start(&self, node: &mut Node, seeds: &[u16]) {
        let number = node.number;
        let id = crate::identity::of_name(&format!("n{number}"));
        let seed = |seed: &u16| Seed { host: self.address(*seed).ip().to_string(), port: self.port };
        let seeds = seeds.iter().map(seed);
        let settings = GossipSettings {
            seeds: seeds.collect(),
            listen: vec![self.address(number).ip()],
            port: self.port,
            key_file: None,
            bootstrap: false,
        };
        let pool =
            Pool::new(vec![Range { cluster: "10.244.0.0/16".parse().unwrap(), subnet_length: 24 }]).unwrap();
        let store = Gossip::new(
            settings,
            pool,
            id,
            &"cnikit".parse().unwrap(),
            node.disk.path().to_owned(),
            node.keys.subscribe(),
            Arc::clone(&node.traffic),
        );
        let local = Local {
            id,
            name: NodeName::new(&format!("n{number}")).unwrap(),
            addresses: vec![self.address(number).ip()],
            role: Role::Worker,
            mode: Mode::Auto,
            tunnel: None,
            mtu: 1500,
            machine: Machine::default(),
            pods: Vec::new(),
        };
        let (local, local_receiver) = watch::channel(Arc::new(local));
        let (view_sender, view) = watch::channel(Arc::default());
        let (requests, requests_receiver) = mpsc::channel(1);
        let links = Links { local: local_receiver, view: view_sender, requests: requests_receiver };
        let task = tokio::spawn(Box::new(store).run(links));
        node.running = Some(Running { task, view, requests, _local: local });
    }

    async fn start_all<const N: usize>(&self) -> [Node; N] {
        let mut nodes: [Node; N] = std::array::from_fn(|at| self.node(u16::try_from(at + 1).unwrap()));
        for node in &mut nodes {
            self.start(node, &[1, 2]);
        }
        for node in &nodes {
            node.wait("everybody, with subnets", |view| alive(view) == N && subnets(view) == N).await;
        }
        nodes
    }
}

impl Node {
    async fn wait(&self, what: &str, is_so: impl Fn(&View) -> bool) -> Arc<View> {
        let mut view = self.running.as_ref().unwrap().view.clone();
        let found = timeout(PATIENCE, view.wait_for(|view| is_so(view)))
            .await
            .map(|found| found.map(|view| view.clone()));
        match found {
            Ok(Ok(view)) => view,
            _ => panic!("n{}: {what} did not happen: {:?}", self.number, view.borrow()),
        }
    }

    /// As SIGTERM does: it says goodbye.
    async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.task.abort();
        let _ = running.task.await;
    }

    async fn forget(&self, node: &str) -> Result<Forgotten, String> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Forget { node: node.to_owned(), reply };
        self.running.as_ref().unwrap().requests.send(request).await.unwrap();
        timeout(PATIENCE, answer).await.unwrap().unwrap()
    }
}

fn alive(view: &View) -> usize {
    view.topology.members().filter(|member| member.liveness == Liveness::Alive).count()
}

/// How many different ones are held.
fn subnets(view: &View) -> usize {
    let held = view.topology.members().flat_map(|member| member.node.held().collect::<Vec<_>>());
    held.collect::<std::collections::BTreeSet<_>>().len()
}

fn own_subnet(view: &View) -> Option<ipnet::IpNet> {
    view.subnets.iter().find(|subnet| subnet.state == SubnetState::Held).map(|subnet| subnet.prefix)
}

#[tokio::test]
async fn ten_nodes_find_one_another_and_have_a_subnet_each() {
    let cluster = Cluster::new();
    let nodes = cluster.start_all::<10>().await;
    let view = nodes[9].wait("calm", |view| view.problems.is_empty() && view.waiting.is_none()).await;
    assert_eq!(view.topology.conflicts(), []);
}

#[tokio::test]
async fn who_is_alone_and_has_no_seeds_but_itself_is_the_first_node() {
    let cluster = Cluster::new();
    let mut node = cluster.node(1);
    cluster.start(&mut node, &[1]);
    node.wait("a subnet", |view| own_subnet(view).is_some()).await;
}

#[tokio::test]
async fn who_does_not_reach_its_seeds_waits_and_says_so() {
    let cluster = Cluster::new();
    let mut node = cluster.node(1);
    cluster.start(&mut node, &[1, 2]);
    let view = node.wait("cut off", |view| view.cut_off.is_some()).await;
    assert_eq!(own_subnet(&view), None);
    assert!(view.waiting.as_ref().unwrap().contains("seed"), "{view:?}");
}

#[tokio::test]
async fn a_subnet_outlives_a_restart_and_a_goodbye_is_heard_at_once() {
    let cluster = Cluster::new();
    let [one, mut two, _three] = cluster.start_all::<3>().await;
    let view = two.wait("a subnet", |view| own_subnet(view).is_some()).await;
    let before = own_subnet(&view);
    two.stop().await;
    one.wait("a goodbye", |view| alive(view) == 2).await;
    cluster.start(&mut two, &[1]);
    let view = two.wait("a subnet", |view| own_subnet(view).is_some()).await;
    assert_eq!(own_subnet(&view), before);
    one.wait("that it is back", |view| alive(view) == 3).await;
}

#[tokio::test]
async fn a_stranger_learns_nothing_and_changes_nothing() {
    let cluster = Cluster::new();
    let [one, _two] = cluster.start_all::<2>().await;
    let mut stranger = cluster.node(66);
    stranger.keys.send_replace(keyring(&[[66; 32]]));
    cluster.start(&mut stranger, &[1, 2]);
    let view = stranger.wait("cut off", |view| view.cut_off.is_some()).await;
    assert_eq!(view.topology.members().len(), 1);
    let refused = || one.traffic.refused.get() > 0;
    timeout(PATIENCE, async {
        while !refused() {
            tokio::time::sleep(Duration::from_millis(20)).await
        }
    })
    .await
    .unwrap();
    let view = one.wait("no change", |view| alive(view) == 2).await;
    assert_eq!(view.topology.members().len(), 2);
}

#[tokio::test]
async fn a_datagram_that_is_recorded_and_sent_again_is_refused() {
    let cluster = Cluster::new();
    let tap = tokio::net::UdpSocket::bind(cluster.address(99)).await.unwrap();
    // A seed that only listens: what is sent to it is sent on to another node, twice.
    let mut one = cluster.node(1);
    cluster.start(&mut one, &[99]);
    let mut two = cluster.node(2);
    cluster.start(&mut two, &[2]);
    two.wait("a subnet", |view| own_subnet(view).is_some()).await;
    let mut datagram = [0; 2048];
    let length = timeout(PATIENCE, tap.recv(&mut datagram)).await.unwrap().unwrap();
    for _ in 0..2 {
        tap.send_to(&datagram[..length], cluster.address(2)).await.unwrap();
    }
    timeout(PATIENCE, async {
        while two.traffic.received.get() < 2 || two.traffic.refused.get() < 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(two.traffic.refused.get(), 1);
}

#[tokio::test]
async fn keys_are_changed_while_nodes_talk() {
    let cluster = Cluster::new();
    let nodes = cluster.start_all::<3>().await;
    let (old, new) = (cluster.key, [8; 32]);
    for keys in [vec![old, new], vec![new, old], vec![new]] {
        for node in &nodes {
            node.keys.send_replace(keyring(&keys));
        }
    }
    // Whoever comes with the new key alone gets to know all, and they him.
    let mut four = cluster.node(4);
    four.keys.send_replace(keyring(&[new]));
    cluster.start(&mut four, &[1]);
    four.wait("everybody", |view| alive(view) == 4 && subnets(view) == 4).await;
    nodes[1].wait("the fourth", |view| alive(view) == 4).await;
}

#[tokio::test]
async fn a_node_that_is_gone_is_forgotten_when_somebody_asks_for_it() {
    let cluster = Cluster::new();
    let [one, two, mut three] = cluster.start_all::<3>().await;
    assert!(one.forget("n3").await.unwrap_err().contains("alive"));
    assert!(one.forget("n9").await.is_err());
    three.stop().await;
    one.wait("a goodbye", |view| alive(view) == 2).await;
    assert_eq!(one.forget("n3").await.unwrap().name.as_str(), "n3");
    two.wait("two nodes", |view| view.topology.members().len() == 2).await;
}

#[tokio::test]
async fn what_strangers_send_by_stream_is_not_answered() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let cluster = Cluster::new();
    let mut one = cluster.node(1);
    cluster.start(&mut one, &[1]);
    one.wait("a subnet", |view| own_subnet(view).is_some()).await;
    for words in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0xff; 64], &[100, 0, 0, 0]] {
        let mut stream = tokio::net::TcpStream::connect(cluster.address(1)).await.unwrap();
        stream.write_all(words).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is as good as an end.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.is_empty(), "{answer:?}");
    }
}
