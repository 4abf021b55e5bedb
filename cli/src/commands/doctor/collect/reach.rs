//! Whom this node must reach: connections are tried, all at once, and given up soon.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::Root;
use crate::commands::doctor::facts::{Agent, Reached, Refused, Whom};

/// Where the kubelet is told who the API server is: kubeadm's place, and that of others.
const KUBECONFIGS: [&str; 2] = ["/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/kubeconfig"];
/// How long is waited for one connection.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long for all of them, names to be resolved included.
const LONGEST: Duration = Duration::from_secs(3);
/// How many other nodes are tried: where some are reached, others that are not are the agent's to find.
const PEERS: usize = 8;

pub(super) fn reached(root: &Root, agent: &Agent) -> Vec<Reached> {
    let api = KUBECONFIGS.iter().find_map(|path| server(&root.text(path)?));
    let api = api.into_iter().map(|at| (Whom::ApiServer, at));
    try_all(api.chain(peers(agent)).collect(), PATIENCE, LONGEST)
}

/// The first server that a kubeconfig names, as `HOST:PORT`.
fn server(text: &str) -> Option<String> {
    let url =
        text.lines().find_map(|line| line.trim().strip_prefix("server:"))?.trim().trim_matches(['"', '\'']);
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?']).next().filter(|host| !host.is_empty())?;
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let port = if scheme == "http" { 80 } else { 443 };
    Some(if has_port { host.to_owned() } else { format!("{host}:{port}") })
}

/// Where agents of other nodes listen: under gossip, at a port that is the same everywhere.
fn peers(agent: &Agent) -> Vec<(Whom, String)> {
    let Some((map, port)) = agent.map.as_ref().zip(agent.ports.and_then(|ports| ports.gossip)) else {
        return Vec::new();
    };
    let others = map.nodes.iter().filter(|node| node.node.id != map.node);
    let at = others.filter_map(|node| {
        let address = node.node.addresses.first()?;
        Some((Whom::Peer(node.node.name.to_string()), std::net::SocketAddr::new(*address, port).to_string()))
    });
    at.take(PEERS).collect()
}

/// In the order in which they were given.
fn try_all(whom: Vec<(Whom, String)>, each: Duration, all: Duration) -> Vec<Reached> {
    let deadline = Instant::now() + all;
    let (told, outcomes) = mpsc::channel();
    for (number, (_, at)) in whom.iter().enumerate() {
        let (told, at) = (told.clone(), at.clone());
        // One that hangs in a resolver ends with the process.
        thread::spawn(move || told.send((number, connect(&at, each))));
    }
    drop(told);
    let silent = |(whom, at)| Reached { whom, at, refused: Some(Refused::Silence) };
    let mut reached: Vec<Reached> = whom.into_iter().map(silent).collect();
    while let Ok((number, refused)) =
        outcomes.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    {
        if let Some(reached) = reached.get_mut(number) {
            reached.refused = refused;
        }
    }
    reached
}

fn connect(at: &str, patience: Duration) -> Option<Refused> {
    let addresses = match at.to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return Some(Refused::Error(error.to_string())),
    };
    let mut refused = Refused::Error("the name has no address".to_owned());
    for address in addresses {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(_) => return None,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => refused = Refused::Nobody,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => refused = Refused::Silence,
            Err(error) => refused = Refused::Error(error.to_string()),
        }
    }
    Some(refused)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_kubeconfig_says_where_the_server_is() {
        let at = |url: &str| server(&format!("clusters:\n- cluster:\n    server: {url}\n  name: c\n"));
        assert_eq!(at("https://192.168.1.10:6443").as_deref(), Some("192.168.1.10:6443"));
        assert_eq!(at("\"https://api.example/path\"").as_deref(), Some("api.example:443"));
        assert_eq!(at("http://[fd00::1]").as_deref(), Some("[fd00::1]:80"));
        assert_eq!(at("https://[fd00::1]:6443/").as_deref(), Some("[fd00::1]:6443"));
        for nothing in ["", "6443", "https://"] {
            assert_eq!(at(nothing), None, "{nothing}");
        }
        assert_eq!(server("clusters: []"), None);
    }

    #[test]
    fn who_listens_is_reached_and_who_does_not_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let try_it = |at: &str| {
            let whom = vec![(Whom::ApiServer, at.to_owned())];
            try_all(whom, PATIENCE, LONGEST).remove(0).refused
        };
        assert_eq!(try_it(&at), None);
        drop(listener);
        assert_eq!(try_it(&at), Some(Refused::Nobody));
        assert!(matches!(try_it("no port"), Some(Refused::Error(_))));
    }
}
