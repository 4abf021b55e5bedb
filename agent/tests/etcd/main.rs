//! The etcd store with the real server.
#![cfg(feature = "etcd")]
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod server;

#[path = "../store/agent.rs"]
mod agent_double;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use agent::store::etcd::{Config, Etcd, Login, Tls};
use agent_double::{AgentDouble, local, pod};
use overlay::{Liveness, Pool, Range, SubnetState, View};
use server::{Server, installed, written};
use tokio::time::sleep;

fn range(cluster: &str, subnet_length: u8) -> Range {
    Range { cluster: cluster.parse().unwrap(), subnet_length }
}

fn pool() -> Pool {
    Pool::new(vec![range("10.244.0.0/16", 24)]).unwrap()
}

fn config(server: &Server) -> Config {
    serde_json::from_value(serde_json::json!({ "endpoints": [server.url()] })).unwrap()
}

fn store(server: &Server, state: &Path) -> Box<Etcd> {
    Box::new(Etcd::new(config(server), "pods", pool(), state).unwrap())
}

/// An agent of the n-th node, with a state directory below one.
fn node(server: &Server, state: &Path, n: u8) -> AgentDouble {
    AgentDouble::start(store(server, &state.join(n.to_string())), local(n))
}

fn has_subnet(view: &View) -> bool {
    view.subnets.iter().any(|subnet| subnet.state == SubnetState::Held)
}

fn connected(view: &View) -> bool {
    view.cut_off.is_none()
}

#[tokio::test]
async fn fifty_nodes_at_once_get_a_subnet_each_and_know_all_others() {
    if !installed() {
        return;
    }
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    // So few that many choose the same.
    let pool = Pool::new(vec![range("10.244.0.0/18", 24), range("fd00:10::/58", 64)]).unwrap();
    let start = |n: u8| {
        let own = state.path().join(n.to_string());
        AgentDouble::start(
            Box::new(Etcd::new(config(&server), "pods", pool.clone(), &own).unwrap()),
            local(n),
        )
    };
    let mut agents: Vec<_> = (1..=50).map(start).collect();
    let mut subnets = BTreeSet::new();
    for agent in &mut agents {
        let view = agent.until("it knows all others, with both subnets", |view| {
            view.topology.members().filter(|member| member.node.held().count() == 2).count() == 50
        });
        let view = view.await;
        assert_eq!(
            (view.waiting.as_ref(), view.cut_off.as_ref(), view.problems.as_slice()),
            (None, None, &[][..])
        );
        assert_eq!(view.topology.conflicts(), []);
        subnets.extend(view.subnets.iter().map(|subnet| subnet.prefix));
    }
    assert_eq!(subnets.len(), 100);
    let claimed: BTreeSet<_> = server.keys("/cnikit/pods/subnets/").into_iter().collect();
    assert_eq!(claimed, subnets.iter().map(|prefix| format!("/cnikit/pods/subnets/{prefix}")).collect());
}

#[tokio::test]
async fn pods_and_addresses_are_told_and_taken_back() {
    if !installed() {
        return;
    }
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let (mut one, mut two) = (node(&server, state.path(), 1), node(&server, state.path(), 2));
    let own = one.until("it has a subnet", has_subnet).await;
    let id = local(1).id;
    let pods =
        |view: &View| view.topology.get(&id).map(|member| member.node.pods.clone()).unwrap_or_default();
    two.until("it knows one", |view| {
        view.topology.get(&id).is_some_and(|member| member.node.subnets == own.subnets)
    })
    .await;

    // More than etcd takes in one transaction.
    let many: Vec<_> = (0..250).map(|n| pod(&format!("c{n}"), &format!("10.244.9.{n}"))).collect();
    one.change(|local| local.pods.clone_from(&many));
    let view = two.until("it knows all pods", |view| pods(view).len() == 250).await;
    assert!(many.iter().all(|pod| pods(&view).contains(pod)));

    one.change(|local| {
        local.pods = vec![pod("c7", "10.244.9.99")];
        local.addresses = vec!["192.168.9.9".parse().unwrap()];
    });
    two.until("it knows the new address", |view| {
        let member = view.topology.get(&id).unwrap();
        pods(view).len() == 1 && member.node.addresses == ["192.168.9.9".parse::<std::net::IpAddr>().unwrap()]
    })
    .await;
    assert_eq!(server.keys("/cnikit/pods/pods/"), [format!("/cnikit/pods/pods/{id}/c7/eth0")]);
}

#[tokio::test]
async fn a_server_that_restarts_and_has_compacted_costs_nobody_anything() {
    if !installed() {
        return;
    }
    let (mut server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let (mut one, mut two) = (node(&server, state.path(), 1), node(&server, state.path(), 2));
    let before =
        one.until("both are there", |view| has_subnet(view) && view.topology.members().len() == 2).await;
    two.until("both are there", |view| has_subnet(view) && view.topology.members().len() == 2).await;

    server.stop();
    let cut = one.until("it says so", |view| view.cut_off.is_some()).await;
    assert!(cut.cut_off.as_ref().unwrap().contains(&server.url()), "{:?}", cut.cut_off);
    assert_eq!(
        (&cut.subnets, cut.waiting.as_ref(), cut.topology.members().len()),
        (&before.subnets, None, 2)
    );
    // Told when it is back.
    one.change(|local| local.pods.push(pod("c1", "10.244.1.9")));

    server.resume();
    // What comes next on the watch does not exist any more.
    for n in 0..5 {
        server.admin(&["put", "/cnikit/pods/ignored", &n.to_string()]);
    }
    server.compact();
    let after = one.until("it is back", connected).await;
    assert_eq!(after.subnets, before.subnets);
    let id = local(1).id;
    two.until("it knows the pod", |view| view.topology.get(&id).is_some_and(|one| one.node.pods.len() == 1))
        .await;
    // At no time had it forgotten anybody.
    assert!(
        one.history().iter().skip_while(|view| view.topology.members().len() < 2).all(|view| view
            .topology
            .members()
            .len()
            == 2)
    );
}

#[tokio::test]
async fn what_was_compacted_under_a_watch_is_read_again() {
    if !installed() {
        return;
    }
    let (mut server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let mut one = node(&server, state.path(), 1);
    one.until("it has a subnet", has_subnet).await;
    server.stop();
    one.until("it says so", |view| view.cut_off.is_some()).await;
    server.resume();
    server.compact();
    let mut two = node(&server, state.path(), 2);
    let id = local(2).id;
    two.until("it has a subnet", has_subnet).await;
    one.until("it knows the new one", |view| {
        view.topology.get(&id).is_some_and(|two| two.node.held().count() == 1)
    })
    .await;
}

#[tokio::test]
async fn a_start_without_the_server_is_made_from_what_was_saved() {
    if !installed() {
        return;
    }
    let (mut server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let mut one = node(&server, state.path(), 1);
    let mut two = node(&server, state.path(), 2);
    let knows_two =
        |view: &View| view.topology.get(&local(2).id).is_some_and(|two| two.node.held().count() == 1);
    let before = one.until("it knows two", |view| has_subnet(view) && knows_two(view)).await;
    let prefix = two.until("it has a subnet", has_subnet).await.subnets[0].prefix.to_string();
    // Its peers are on disk a moment later.
    let file = state.path().join("1/etcd-pods.json");
    while !std::fs::read_to_string(&file).unwrap().contains(&prefix) {
        sleep(Duration::from_millis(100)).await;
    }
    one.stop().await;
    server.stop();

    let mut one = node(&server, state.path(), 1);
    let view = one.until("it says that it is cut off", |view| view.cut_off.is_some()).await;
    assert_eq!((&view.subnets, view.waiting.as_ref()), (&before.subnets, None));
    assert!(knows_two(&view));
    assert!(one.history().iter().skip(1).all(|view| view.subnets == before.subnets && knows_two(view)));

    // A node that has nothing saved waits, and says for whom.
    let mut three = node(&server, state.path(), 3);
    let view = three.until("it waits", |view| view.cut_off.is_some()).await;
    assert!(view.waiting.unwrap().contains(&server.url()));

    server.resume();
    let after = one.until("it is back", connected).await;
    assert_eq!(after.subnets, before.subnets);
    three.until("it has a subnet", has_subnet).await;
}

#[tokio::test]
async fn a_node_is_forgotten_only_when_it_is_dead_and_its_subnet_is_free_then() {
    if !installed() {
        return;
    }
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let (mut one, mut two) = (node(&server, state.path(), 1), node(&server, state.path(), 2));
    let own = two.until("it has a subnet", has_subnet).await.subnets;
    let id = local(2).id;
    one.until("it knows two", |view| view.topology.get(&id).is_some_and(|two| two.node.subnets == own)).await;
    assert!(one.forget("node-2").await.unwrap_err().contains("alive"));
    assert!(one.forget("node-1").await.unwrap_err().contains("this node"));
    assert!(one.forget("nobody").await.unwrap_err().contains("no node"));

    two.change(|local| local.pods.push(pod("c1", "10.244.1.9")));
    one.until("it knows the pod", |view| view.topology.get(&id).unwrap().node.pods.len() == 1).await;
    two.stop().await;
    one.until("it knows that two is down", |view| view.topology.get(&id).unwrap().liveness == Liveness::Down)
        .await;
    let forgotten = one.forget(&id.to_string()).await.unwrap();
    assert_eq!((forgotten.node, &forgotten.subnets), (id, &own));
    one.until("two is gone", |view| view.topology.get(&id).is_none()).await;
    assert_eq!(server.keys("/cnikit/pods/subnets/").len(), 1);
    assert!(!server.keys("/cnikit/").iter().any(|key| key.contains(&id.to_string())));

    // It was only switched off: what it had is free, so it gets it again.
    let mut two = node(&server, state.path(), 2);
    assert_eq!(
        two.until("it has a subnet", |view| view.topology.members().len() == 2 && has_subnet(view))
            .await
            .subnets,
        own
    );
}

#[tokio::test]
async fn a_subnet_that_went_to_another_is_lost_while_pods_have_addresses_of_it() {
    if !installed() {
        return;
    }
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let mut one = node(&server, state.path(), 1);
    let prefix = one.until("it has a subnet", has_subnet).await.subnets[0].prefix;
    one.stop().await;
    let other = local(9).id;
    server.admin(&["put", &format!("/cnikit/pods/subnets/{prefix}"), &format!("{{\"node\":\"{other}\"}}")]);

    let mut with_pod = local(1);
    with_pod.pods.push(pod("c1", &prefix.hosts().nth(4).unwrap().to_string()));
    let mut one = AgentDouble::start(store(&server, &state.path().join("1")), with_pod);
    let view = one.until("it has another", |view| view.subnets.len() == 2).await;
    let states: Vec<_> = view.subnets.iter().map(|subnet| (subnet.prefix == prefix, subnet.state)).collect();
    assert_eq!(states, [(false, SubnetState::Held), (true, SubnetState::Lost)]);
    one.change(|local| local.pods.clear());
    one.until("the lost one is gone", |view| view.subnets.len() == 1).await;
}

#[tokio::test]
async fn two_agents_with_one_id_do_not_both_give_addresses() {
    if !installed() {
        return;
    }
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let mut one = node(&server, state.path(), 1);
    let own = one.until("it has a subnet", has_subnet).await.subnets;
    let mut copy = local(1);
    copy.addresses = vec!["192.168.1.77".parse().unwrap()];
    let mut copy = AgentDouble::start(store(&server, &state.path().join("copy")), copy);
    let view = copy.until("it has seen the other", |view| !view.problems.is_empty()).await;
    let what = &view.problems[0].what;
    assert!(what.contains("192.168.1.1") && what.contains(&local(1).id.to_string()), "{what}");
    assert_eq!((view.subnets.len(), view.waiting.as_deref()), (0, Some(what.as_str())));
    one.change(|local| local.mtu = 1400);
    let told = |view: &View| view.topology.get(&local(1).id).is_some_and(|member| member.node.mtu == 1400);
    one.until("it writes as before", |view| told(view) && view.subnets == own).await;

    // The other may have been this node's run before, which has not ended cleanly.
    one.stop().await;
    let view = copy.until("it is the only one", has_subnet).await;
    assert_eq!((view.subnets, view.problems.len()), (own, 0));
}

#[tokio::test]
async fn a_restart_does_not_wait_for_the_run_before_to_expire() {
    if !installed() {
        return;
    }
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let mut one = node(&server, state.path(), 1);
    let own = one.until("it has a subnet", has_subnet).await.subnets;
    one.stop().await;
    let mut again = node(&server, state.path(), 1);
    again
        .until("it is alive", |view| {
            view.topology.get(&local(1).id).is_some_and(|member| member.liveness == Liveness::Alive)
        })
        .await;
    assert!(again.history().iter().skip(1).all(|view| view.subnets == own && view.problems.is_empty()));
}

#[tokio::test]
async fn agents_that_cut_the_range_otherwise_get_nothing_and_say_why() {
    if !installed() {
        return;
    }
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let mut one = node(&server, state.path(), 1);
    one.until("it has a subnet", has_subnet).await;
    let other = Pool::new(vec![range("10.244.0.0/16", 26)]).unwrap();
    let other = Etcd::new(config(&server), "pods", other, &state.path().join("2")).unwrap();
    let mut two = AgentDouble::start(Box::new(other), local(2));
    let view =
        two.until("it waits", |view| view.topology.members().len() == 2 && view.waiting.is_some()).await;
    let why = view.waiting.unwrap();
    assert!(
        why.contains("/26") && why.contains("in subnets of /24") && why.contains("/cnikit/pods/ranges/ipv4"),
        "{why}"
    );
    assert!(
        view.problems.iter().any(|problem| problem.what.contains("no subnet of 10.244.0.0/16 cut to /26"))
    );
    assert_eq!(server.keys("/cnikit/pods/subnets/").len(), 1);
}

#[tokio::test]
async fn a_range_that_is_used_up_says_so_until_a_node_is_forgotten() {
    if !installed() {
        return;
    }
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let small = Pool::new(vec![range("10.244.0.0/24", 25)]).unwrap();
    let start = |n: u8| {
        let own = state.path().join(n.to_string());
        AgentDouble::start(
            Box::new(Etcd::new(config(&server), "pods", small.clone(), &own).unwrap()),
            local(n),
        )
    };
    let (mut one, mut two) = (start(1), start(2));
    one.until("it has a subnet", has_subnet).await;
    two.until("it has a subnet", has_subnet).await;
    let mut three = start(3);
    let view =
        three.until("it waits", |view| view.waiting.as_ref().is_some_and(|why| why.contains("taken"))).await;
    assert!(view.waiting.unwrap().contains("all 2 subnets of 10.244.0.0/24 are taken"));
    two.stop().await;
    one.until("it knows that two is down", |view| {
        view.topology.get(&local(2).id).is_some_and(|two| two.liveness == Liveness::Down)
    })
    .await;
    one.forget("node-2").await.unwrap();
    three.until("it has a subnet", has_subnet).await;
}

#[tokio::test]
async fn values_that_make_no_sense_are_reported_and_change_nothing() {
    if !installed() {
        return;
    }
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let mut one = node(&server, state.path(), 1);
    one.until("it has a subnet", has_subnet).await;
    let id = local(2).id;
    for (key, value) in [
        (format!("nodes/{id}"), "{}".to_owned()),
        (format!("nodes/{}", local(3).id), serde_json::to_string(&local(4).with_subnets(vec![])).unwrap()),
        ("subnets/10.244.0.7/24".to_owned(), format!("{{\"node\":\"{id}\"}}")),
        ("subnets/../../etc".to_owned(), "x".to_owned()),
        (format!("pods/{id}/c/eth0"), "[1]".to_owned()),
    ] {
        server.admin(&["put", &format!("/cnikit/pods/{key}"), &value]);
    }
    let view = one
        .until("it says so", |view| view.problems.iter().any(|problem| problem.what.starts_with("5 keys")))
        .await;
    assert_eq!(view.topology.members().len(), 1);
    server.admin(&["del", "--prefix", &format!("/cnikit/pods/pods/{id}")]);
    one.until("it counts them", |view| {
        view.problems.iter().any(|problem| problem.what.starts_with("4 keys"))
    })
    .await;
}

#[tokio::test]
async fn a_certificate_and_a_password_are_shown_where_they_are_wanted() {
    if !installed() {
        return;
    }
    let (server, state) = (Server::with_tls(), tempfile::tempdir().unwrap());
    let password = written(&state.path().join("password"), "secret\n");
    for arguments in [
        &["user", "add", "root:root"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "cnikit"],
        &["role", "grant-permission", "cnikit", "--prefix=true", "readwrite", "/cnikit/"],
        &["user", "add", "agent:secret"],
        &["user", "grant-role", "agent", "cnikit"],
    ] {
        // The role root exists from the beginning.
        server.admin(arguments);
    }
    server.admin(&["auth", "enable"]);
    let right = Config {
        tls: Some(Tls {
            ca_file: server.file("ca.pem"),
            certificate_file: Some(server.file("client.pem")),
            key_file: Some(server.file("client.key")),
            server_name: Some("etcd.test".to_owned()),
        }),
        login: Some(Login { user: "agent".to_owned(), password_file: password }),
        ..config(&server)
    };
    let start = |config: &Config, n: u8| {
        let own = state.path().join(n.to_string());
        AgentDouble::start(Box::new(Etcd::new(config.clone(), "pods", pool(), &own).unwrap()), local(n))
    };
    let mut one = start(&right, 1);
    let view = one.until("it has a subnet", has_subnet).await;
    assert_eq!(view.problems, []);

    let refused = |config: Config, n: u8, word: &'static str| {
        let mut agent = start(&config, n);
        async move {
            let view = agent.until("it says why", |view| view.cut_off.is_some()).await;
            let why = view.cut_off.unwrap();
            assert!(why.contains(word), "{why}");
        }
    };
    let tls = right.tls.clone().unwrap();
    let with_tls = |tls: Tls| Config { tls: Some(tls), ..right.clone() };
    refused(with_tls(Tls { server_name: None, ..tls.clone() }), 2, "see tls.serverName").await;
    refused(
        with_tls(Tls { certificate_file: None, key_file: None, ..tls.clone() }),
        3,
        "see tls.certificateFile",
    )
    .await;
    refused(with_tls(Tls { ca_file: server.file("client.pem"), ..tls.clone() }), 4, "see tls.caFile").await;
    let (certificate, key) = (server.file("named.pem"), server.file("named.key"));
    let named = Tls { certificate_file: Some(certificate), key_file: Some(key), ..tls.clone() };
    refused(with_tls(named), 8, "without a common name").await;
    refused(Config { login: None, ..right.clone() }, 5, "give \"login\"").await;
    let wrong = written(&state.path().join("wrong"), "wrong");
    let login = Some(Login { user: "agent".to_owned(), password_file: wrong });
    refused(Config { login, ..right.clone() }, 6, "see \"login\"").await;
    refused(Config { prefix: "/elsewhere".to_owned(), ..right.clone() }, 7, "grant-permission").await;
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_does_not_answer() {
    if !installed() {
        return;
    }
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    // One that is not there, and one that accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let nobody = Server::stopped(false);
    let endpoints = vec![nobody.url(), silent, server.url()];
    let config = Config { endpoints, ..config(&server) };
    let store = Etcd::new(config, "pods", pool(), state.path()).unwrap();
    let mut one = AgentDouble::start(Box::new(store), local(1));
    let view = one.until("it has a subnet", has_subnet).await;
    assert_eq!(view.cut_off, None);
}

#[test]
fn a_configuration_is_refused_in_words() {
    let state = Path::new("/nonexistent");
    let refused = |value: serde_json::Value| {
        let config: Config = serde_json::from_value(value).unwrap();
        Etcd::new(config, "pods", pool(), state).err().unwrap()
    };
    assert!(refused(serde_json::json!({ "endpoints": [] })).contains("no endpoints"));
    assert!(refused(serde_json::json!({ "endpoints": ["10.0.0.1:2379"] })).contains("no URL"));
    assert!(refused(serde_json::json!({ "endpoints": ["https://10.0.0.1:2379"] })).contains("\"tls\""));
    let tls = serde_json::json!({ "caFile": "/nonexistent/ca.pem" });
    let text = refused(serde_json::json!({ "endpoints": ["https://10.0.0.1:2379"], "tls": tls }));
    assert!(text.contains("/nonexistent/ca.pem"), "{text}");
    let config: Config =
        serde_json::from_value(serde_json::json!({ "endpoints": ["http://10.0.0.1:2379"] })).unwrap();
    assert!(Etcd::new(config, "../x", pool(), state).is_err());
}
