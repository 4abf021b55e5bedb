use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use overlay::report::{Map, Refusal, Status};
use overlay::{Liveness, Local, NodeId, NodeName, Pod, Subnet, SubnetState, Topology, View};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::known::{StoreFacts, Ways};
use crate::options::{InForce, Options};
use crate::settings::Settings;
use crate::store::{ListedPods, Listing, PodList, Request};

/// An agent that knows what a test says, and answers in a runtime of its own.
struct Agent {
    directory: tempfile::TempDir,
    view: watch::Sender<Arc<View>>,
    ways: watch::Sender<Arc<Ways>>,
    _local: watch::Sender<Arc<Local>>,
    requests: mpsc::Receiver<Request>,
    health: std::net::SocketAddr,
    runtime: tokio::runtime::Runtime,
}

impl Agent {
    fn new() -> Self {
        Self::whose_store_lists(None)
    }

    fn whose_store_lists(pods: Option<Box<dyn PodList>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { node_name: Some("n1".to_owned()), ..Options::default() };
        let options = InForce::of(&options, None, &Options::defaults()).unwrap().options;
        let settings = Settings::new(&options).unwrap();
        let id = NodeId::from_bytes([1; 16]);
        let (local, local_receiver) = watch::channel(Arc::new(crate::local::first(&settings, id)));
        let (view, view_receiver) = watch::channel(Arc::default());
        let (ways, ways_receiver) = watch::channel(Arc::default());
        let (requests_sender, requests) = mpsc::channel(1);
        let known = Arc::new(Known {
            settings,
            id,
            started: Instant::now(),
            store: StoreFacts { kind: "gossip", endpoints: vec!["192.168.1.11:4793".to_owned()], pods },
            local: local_receiver,
            view: view_receiver,
            ways: ways_receiver,
            requests: requests_sender,
            traffic: Arc::default(),
            kernel: Arc::default(),
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let health = runtime.block_on(async {
            let listener = listen(directory.path()).unwrap();
            tokio::spawn(serve_people(listener, Arc::clone(&known)));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let health = listener.local_addr().unwrap();
            tokio::spawn(serve_watchers(listener, known));
            health
        });
        Self { directory, view, ways, _local: local, requests, health, runtime }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join(SOCKET)
    }

    fn people(&self, request: &str) -> (u16, String) {
        exchange(UnixStream::connect(self.socket()).unwrap(), request)
    }

    fn watchers(&self, path: &str) -> (u16, String) {
        let stream = std::net::TcpStream::connect(self.health).unwrap();
        exchange(stream, &format!("GET {path} HTTP/1.0\r\n\r\n"))
    }

    fn is_ready(&self) {
        let subnet = Subnet { prefix: "10.244.7.0/24".parse().unwrap(), state: SubnetState::Held };
        self.view.send_modify(|view| Arc::make_mut(view).subnets = vec![subnet]);
        self.ways.send_modify(|ways| Arc::make_mut(ways).reconciled = true);
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> (u16, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_default();
    (status, body.to_owned())
}

fn get<T: DeserializeOwned>(agent: &Agent, path: &str) -> T {
    let (status, body) = agent.people(&format!("GET {path} HTTP/1.0\r\n\r\n"));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn post(agent: &Agent, body: &str) -> (u16, String) {
    agent.people(&format!("POST /v1/forget HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

/// What a store lists.
#[derive(Debug)]
struct Listed(Arc<ListedPods>);

impl PodList for Listed {
    fn list(&self, patience: Duration) -> Listing<'_> {
        assert!(patience <= Duration::from_secs(8), "who asks waits no longer than 10: {patience:?}");
        Box::pin(std::future::ready(Arc::clone(&self.0)))
    }
}

#[test]
fn a_topology_has_the_pods_that_the_store_lists_and_this_nodes_as_it_knows_them_itself() {
    let pod = |name: &str, address: &str| {
        Pod::new("c", "eth0", [address.parse().unwrap()]).named(Some("default"), Some(name))
    };
    let name = |n: u8| NodeName::new(&format!("n{n}")).unwrap();
    let listed = ListedPods {
        pods: BTreeMap::from([
            (name(1), vec![pod("late", "10.244.1.5")]),
            (name(2), vec![pod("web", "10.244.2.5"), pod("stray", "10.244.9.5")]),
            (name(9), vec![pod("nowhere", "10.244.9.9")]),
        ]),
        lacking: Some("pods is forbidden".to_owned()),
    };
    let agent = Agent::whose_store_lists(Some(Box::new(Listed(Arc::new(listed)))));
    let own = (**agent._local.borrow()).clone();
    let node = |n: u8, pods: Vec<Pod>| {
        let id = NodeId::from_bytes([n; 16]);
        Arc::new(Local { id, name: name(n), pods, ..own.clone() }.with_subnets(Vec::new()))
    };
    agent.view.send_modify(|view| {
        let mut topology = Topology::new();
        topology.insert(node(1, vec![pod("own", "10.244.1.4")]), Liveness::Alive);
        topology.insert(node(2, vec![pod("stray", "10.244.9.5"), pod("new", "10.244.9.6")]), Liveness::Alive);
        topology.insert(node(3, vec![pod("said", "10.244.9.7")]), Liveness::Alive);
        Arc::make_mut(view).topology = Arc::new(topology);
    });
    let map: Map = get(&agent, "/v1/topology");
    let pods = |node: &overlay::report::MapNode| -> Vec<String> {
        node.node.pods.iter().filter_map(|pod| pod.name().map(str::to_owned)).collect()
    };
    let known: Vec<_> = map.nodes.iter().map(pods).collect();
    assert_eq!(known, [vec!["own"], vec!["web", "stray", "new"], vec!["said"]]);
    assert_eq!(map.lacking_pods.as_deref(), Some("pods is forbidden"));
    assert_eq!(get::<Map>(&agent, "/v1/topology?verbose&pods=99"), map);
    // Who does not want them waits for nobody.
    let without: Map = get(&agent, "/v1/topology?pods=0");
    assert_eq!(
        without.nodes.iter().map(pods).collect::<Vec<_>>(),
        [vec!["own"], vec!["stray", "new"], vec!["said"]]
    );
    assert_eq!(without.lacking_pods.as_deref(), Some("nobody was asked for them"));
    for odd in ["", "-1", "soon"] {
        let (status, body) = agent.people(&format!("GET /v1/topology?pods={odd} HTTP/1.0\r\n\r\n"));
        assert_eq!((status, body.contains("how many seconds")), (400, true), "{odd}: {body}");
    }
    // Nobody else is told that there is such a thing.
    let map: Map = get(&Agent::new(), "/v1/topology");
    assert_eq!(map.lacking_pods, None);
}

#[test]
fn status_and_topology_are_told_in_their_own_types() {
    let agent = Agent::new();
    let status: Status = get(&agent, "/v1/status");
    assert!(!status.ready && status.problems[0].what.contains("no pod can be attached"), "{status:?}");
    agent.is_ready();
    agent.view.send_modify(|view| {
        let own = Local { name: NodeName::new("n1").unwrap(), ..(**agent._local.borrow()).clone() };
        let mut topology = Topology::new();
        topology.insert(Arc::new(own.with_subnets(view.subnets.clone())), Liveness::Alive);
        Arc::make_mut(view).topology = Arc::new(topology);
    });
    let status: Status = get(&agent, "/v1/status");
    assert!(status.ready && status.problems.is_empty(), "{status:?}");
    let map: Map = get(&agent, "/v1/topology");
    assert_eq!(map.nodes.len(), 1);
    assert_eq!(map.nodes[0].path, None);
    let peers: Vec<overlay::report::Peer> = get(&agent, "/v1/peers");
    assert_eq!(peers, []);
}

#[test]
fn the_socket_is_for_root_and_its_group() {
    let agent = Agent::new();
    let mode = std::fs::metadata(agent.socket()).unwrap().mode();
    assert_eq!(mode & 0o777, 0o660);
    let _inside = agent.runtime.enter();
    let refused = listen(agent.directory.path()).unwrap_err();
    assert!(refused.to_string().contains("another agent"), "{refused}");
}

#[test]
fn a_socket_that_a_dead_agent_has_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(directory.path().join(SOCKET)).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let listener = listen(directory.path()).unwrap();
    drop(listener);
    assert!(!Path::exists(&directory.path().join(SOCKET)));
}

#[test]
fn readiness_is_told_in_words() {
    let agent = Agent::new();
    assert_eq!(agent.watchers("/healthz"), (200, "ok\n".to_owned()));
    let (status, why) = agent.watchers("/readyz");
    assert_eq!(status, 503);
    assert!(why.contains("no subnet"), "{why}");
    agent.is_ready();
    assert_eq!(agent.watchers("/readyz"), (200, "ok\n".to_owned()));
}

#[test]
fn who_is_where_is_not_told_over_tcp() {
    let agent = Agent::new();
    for path in ["/v1/status", "/v1/peers", "/v1/topology", "/v1/forget", "/"] {
        assert_eq!(agent.watchers(path).0, 404, "{path}");
    }
    let (status, page) = agent.watchers("/metrics");
    assert_eq!(status, 200);
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("cnikit_") || name.starts_with("process_"), "{line}");
        value.parse::<f64>().unwrap();
    }
    assert!(page.contains("cnikit_subnets{state=\"held\"} 0\n"), "{page}");
}

#[test]
fn to_forget_is_what_the_store_does() {
    let mut agent = Agent::new();
    let (reason, body) = post(&agent, "{");
    assert!(reason == 400 && body.contains("ID or name"), "{body}");
    assert_eq!(post(&agent, r#"{"node": "n2", "now": true}"#).0, 400);
    let mut requests = std::mem::replace(&mut agent.requests, mpsc::channel(1).1);
    agent.runtime.spawn(async move {
        while let Some(Request::Forget { node, reply }) = requests.recv().await {
            let _ = reply.send(Err(format!("no node is called {node}")));
        }
    });
    let (status, body) = post(&agent, r#"{"node": "n9"}"#);
    assert_eq!(status, 409);
    let refusal: Refusal = serde_json::from_str(&body).unwrap();
    assert_eq!(refusal.error, "no node is called n9");
}

#[test]
fn what_is_too_large_or_no_question_is_refused() {
    let agent = Agent::new();
    assert_eq!(post(&agent, &"x".repeat(20 << 10)).0, 413);
    assert_eq!(agent.people("GET /v2/status HTTP/1.0\r\n\r\n").0, 404);
    assert_eq!(agent.people("DELETE /v1/status HTTP/1.0\r\n\r\n").0, 405);
    let endless = format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(64 << 10));
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    let _ = stream.write_all(endless.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(!answer.starts_with("HTTP/1.0 200"), "{answer}");
    let status: Status = get(&agent, "/v1/status");
    assert_eq!(status.network, "cnikit");
}

#[test]
fn those_who_hang_on_do_not_keep_others_out() {
    let agent = Agent::new();
    let silent: Vec<_> = (0..CONNECTIONS - 1).map(|_| UnixStream::connect(agent.socket()).unwrap()).collect();
    let begun = Instant::now();
    let _: Status = get(&agent, "/v1/status");
    assert!(begun.elapsed() < Duration::from_secs(60));
    drop(silent);
}
