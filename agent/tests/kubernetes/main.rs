//! The Kubernetes store: the real client, and a double of the API.
#![cfg(feature = "kubernetes")]
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;

#[path = "../store/agent.rs"]
mod agent_double;

use std::path::Path;
use std::time::{Duration, Instant};

use agent::store::Store;
use agent::store::kubernetes::{Config, Kubernetes};
use agent_double::{AgentDouble, local, pod};
use api::Api;
use overlay::{Liveness, Node, Pool, Range, SubnetState, View};
use serde_json::{Value, json};

const ANNOTATION: &str = "cnikit.io/node";

fn range(cluster: &str, subnet_length: u8) -> Range {
    Range { cluster: cluster.parse().unwrap(), subnet_length }
}

fn pool() -> Pool {
    Pool::new(vec![range("10.244.0.0/16", 24)]).unwrap()
}

fn dual_stack() -> Pool {
    Pool::new(vec![range("10.244.0.0/16", 24), range("fd00:10::/48", 64)]).unwrap()
}

fn store(api: &Api, state: &Path) -> Box<Kubernetes> {
    store_of(api, state, pool())
}

fn store_of(api: &Api, state: &Path, pool: Pool) -> Box<Kubernetes> {
    let config = Config { kubeconfig: Some(api.kubeconfig()) };
    Box::new(Kubernetes::new(config, "pods", pool, state).unwrap())
}

/// What a kubelet and the controller manager say of the n-th node.
fn register(api: &Api, n: u8) {
    api.put(&format!("node-{n}"), |node| {
        node["spec"] =
            json!({ "podCIDR": format!("10.244.{n}.0/24"), "podCIDRs": [format!("10.244.{n}.0/24")] });
        node["status"] = json!({
            "addresses": [{ "type": "InternalIP", "address": format!("192.168.1.{n}") }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        });
    });
}

/// The same, with an agent that has said what it is.
fn join(api: &Api, n: u8) {
    register(api, n);
    announce(api, n);
}

fn announce(api: &Api, n: u8) {
    let text = serde_json::to_string(&local(n).with_subnets(vec![])).unwrap();
    api.put(&format!("node-{n}"), |node| node["metadata"]["annotations"][ANNOTATION] = json!(text));
}

fn annotation(node: &Value) -> Option<Node> {
    serde_json::from_str(node["metadata"]["annotations"][ANNOTATION].as_str()?).ok()
}

fn names(view: &View) -> Vec<&str> {
    view.topology.members().map(|member| member.node.name.as_str()).collect()
}

fn held(view: &View) -> Vec<String> {
    let held = view.subnets.iter().filter(|subnet| subnet.state == SubnetState::Held);
    held.map(|subnet| subnet.prefix.to_string()).collect()
}

#[tokio::test]
async fn a_node_has_the_subnets_of_its_node_and_says_what_it_is() {
    let (api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    join(&api, 2);
    // No agent has run there.
    register(&api, 3);
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    let view = one.until("it knows two", |view| names(view) == ["node-1", "node-2"]).await;
    assert_eq!(
        (held(&view), view.waiting.as_ref(), view.cut_off.as_ref()),
        (vec!["10.244.1.0/24".to_owned()], None, None)
    );
    let two = view.topology.get(&local(2).id).unwrap();
    assert_eq!(
        (two.liveness, two.node.held().next().unwrap().to_string()),
        (Liveness::Alive, "10.244.2.0/24".to_owned())
    );
    assert_eq!(annotation(&api.node("node-1")).unwrap(), local(1).with_subnets(vec![]));

    // Only what is different is written: not pods in their subnet, but a new MTU, and a pod from elsewhere.
    one.change(|local| local.pods.push(pod("c1", "10.244.1.5")));
    one.until("it has the pod", |view| !view.topology.get(&local(1).id).unwrap().node.pods.is_empty()).await;
    assert_eq!(api.requests("PATCH"), 1);
    one.change(|local| {
        local.mtu = 1400;
        local.pods.push(pod("c2", "10.244.77.5"));
    });
    while api.requests("PATCH") == 1 {
        tokio::task::yield_now().await;
    }
    let said = annotation(&api.node("node-1")).unwrap();
    assert_eq!(
        (said.mtu, said.pods.iter().map(|pod| pod.container()).collect::<Vec<_>>()),
        (1400, vec!["c2"])
    );
    assert!(one.forget("node-2").await.unwrap_err().contains("kubectl delete node node-2"));
}

#[tokio::test]
async fn a_pod_cidr_that_comes_late_is_waited_for_in_words() {
    let (api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    let waits =
        |word: &'static str| move |view: &View| view.waiting.as_ref().is_some_and(|why| why.contains(word));
    one.until("there is no Node", waits("no Node node-1")).await;
    api.put("node-1", |_| {});
    one.until("there is no podCIDR", waits("--allocate-node-cidrs")).await;
    api.put("node-1", |node| node["spec"] = json!({ "podCIDR": "10.244.1.0/24" }));
    let view = one.until("it has a subnet", |view| view.waiting.is_none()).await;
    assert_eq!(held(&view), ["10.244.1.0/24"]);
}

#[tokio::test]
async fn a_family_that_a_node_has_no_pod_cidr_of_is_waited_for_by_its_name() {
    let (api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    let mut one = AgentDouble::start(store_of(&api, state.path(), dual_stack()), local(1));
    let view = one.until("it has one family", |view| held(view) == ["10.244.1.0/24"]).await;
    assert!(view.waiting.as_ref().unwrap().contains("Node node-1 has no podCIDR of IPv6 yet"), "{view:?}");
}

#[tokio::test]
async fn both_families_are_known() {
    let (api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    for n in [1, 2] {
        register(&api, n);
        api.put(&format!("node-{n}"), |node| {
            node["spec"]["podCIDRs"] = json!([format!("10.244.{n}.0/24"), format!("fd00:10:0:{n}::/64")]);
            let six = json!({ "type": "InternalIP", "address": format!("fd00::{n}") });
            node["status"]["addresses"].as_array_mut().unwrap().push(six);
        });
    }
    // Told no address by its agent, the kubelet's are taken.
    let mut second = local(2);
    second.addresses.clear();
    let text = serde_json::to_string(&second.with_subnets(vec![])).unwrap();
    api.put("node-2", |node| node["metadata"]["annotations"][ANNOTATION] = json!(text));
    let mut one = AgentDouble::start(store_of(&api, state.path(), dual_stack()), local(1));
    let view = one.until("it knows two", |view| names(view).len() == 2).await;
    assert_eq!(held(&view), ["10.244.1.0/24", "fd00:10:0:1::/64"]);
    let two = &view.topology.get(&local(2).id).unwrap().node;
    assert_eq!(
        two.addresses,
        ["192.168.1.2", "fd00::2"].map(|text| text.parse::<std::net::IpAddr>().unwrap())
    );
    assert_eq!((two.held().count(), view.problems.len()), (2, 0));
}

#[tokio::test]
async fn readiness_and_deletion_are_followed() {
    let (api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    join(&api, 2);
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    one.until("it knows two", |view| names(view).len() == 2).await;
    let liveness = |view: &View| view.topology.get(&local(2).id).map(|member| member.liveness);
    for (status, expected) in
        [("False", Liveness::Suspect), ("Unknown", Liveness::Down), ("True", Liveness::Alive)]
    {
        api.put("node-2", |node| node["status"]["conditions"][0]["status"] = json!(status));
        one.until(status, |view| liveness(view) == Some(expected)).await;
    }
    api.delete("node-2");
    one.until("it is gone", |view| names(view) == ["node-1"]).await;
}

#[tokio::test]
async fn a_server_that_went_away_costs_nothing_and_the_watch_goes_on_from_where_it_was() {
    let (mut api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    (2..=9).for_each(|n| join(&api, n));
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    one.until("it knows all", |view| names(view).len() == 9).await;
    let watches = api.requests("WATCH");
    api.stop().await;
    let view = one.until("it says so", |view| view.cut_off.is_some()).await;
    assert_eq!((names(&view).len(), held(&view).len(), view.waiting), (9, 1, None));
    // One leaves and one comes meanwhile.
    api.delete("node-9");
    join(&api, 10);
    api.resume().await;
    one.until("it knows the new one", |view| {
        view.topology.get(&local(10).id).is_some() && view.cut_off.is_none()
    })
    .await;
    let view = one.until("it knows who has left", |view| view.topology.get(&local(9).id).is_none()).await;
    assert_eq!(names(&view).len(), 9);
    let stayed = |view: &View| (1..=8).all(|n| view.topology.get(&local(n).id).is_some());
    assert!(one.history().iter().skip_while(|view| !stayed(view)).all(|view| stayed(view)));
    assert!(api.requests("WATCH") > watches);
}

#[tokio::test]
async fn a_history_that_is_gone_is_listed_again_and_loses_no_node() {
    let (mut api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    (2..=9).for_each(|n| join(&api, n));
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    one.until("it knows all", |view| names(view).len() == 9).await;
    for gone in [9, 8] {
        let lists = api.requests("GET nodes");
        if gone == 9 {
            api.stop().await;
        }
        api.delete(&format!("node-{gone}"));
        api.forget_history();
        if gone == 9 {
            api.resume().await;
        }
        let who = local(gone).id;
        let view = one
            .until("it knows who has left", |view| {
                view.topology.get(&who).is_none() && view.cut_off.is_none()
            })
            .await;
        assert_eq!(names(&view).len(), usize::from(gone) - 1);
        assert!(gone == 8 || api.requests("GET nodes") > lists);
    }
    let sizes: Vec<_> =
        one.history().iter().map(|view| names(view).len()).skip_while(|size| *size < 9).collect();
    assert!(sizes.windows(2).all(|pair| pair[1] + 1 >= pair[0] && pair[1] <= pair[0]), "{sizes:?}");
}

/// Something happens in a long time without the server.
async fn long_without_the_server(meanwhile: impl FnOnce(&Api)) {
    let (mut api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    join(&api, 2);
    register(&api, 3);
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    one.until("it knows two", |view| names(view).len() == 2).await;
    api.stop().await;
    // By now it waits longer after each attempt than it will have to.
    tokio::time::sleep(Duration::from_secs(25)).await;
    announce(&api, 3);
    meanwhile(&api);
    api.resume().await;
    let back = Instant::now();
    one.until("it says that it is back", |view| view.cut_off.is_none()).await;
    let said = Instant::now();
    one.until("it knows the new one", |view| names(view).len() == 3).await;
    assert!(said.elapsed() < Duration::from_secs(2), "it was not: {:?}", said.elapsed());
    assert!(back.elapsed() < Duration::from_secs(8), "{:?}", back.elapsed());
}

#[tokio::test]
async fn after_a_long_time_without_the_server_it_is_watched_again_soon() {
    long_without_the_server(|_| {}).await;
}

#[tokio::test]
async fn after_a_long_time_without_a_server_that_has_forgotten_it_is_listed_soon() {
    long_without_the_server(Api::forget_history).await;
}

#[tokio::test]
async fn a_server_that_was_restored_from_a_backup_is_listed_again() {
    let (mut api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    join(&api, 2);
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    one.until("it knows two", |view| names(view).len() == 2).await;
    let backup = api.backup();
    (0..100).for_each(|_| join(&api, 3));
    one.until("it knows three", |view| names(view).len() == 3).await;
    api.stop().await;
    one.until("it is cut off", |view| view.cut_off.is_some()).await;
    api.restore(backup);
    api.resume().await;
    join(&api, 4);
    let view = one.until("it knows the new one", |view| view.topology.get(&local(4).id).is_some()).await;
    assert_eq!(names(&view), ["node-1", "node-2", "node-4"], "node-3 has never been");
}

#[tokio::test]
async fn a_start_without_the_server_is_made_from_what_was_saved() {
    let (mut api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    join(&api, 2);
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    one.until("it knows two", |view| names(view).len() == 2).await;
    let file = state.path().join("kubernetes-pods.json");
    while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains("10.244.2.0/24")) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    one.stop().await;
    api.stop().await;
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    let view = one.until("it says that it is cut off", |view| view.cut_off.is_some()).await;
    assert_eq!(
        (names(&view), held(&view), view.waiting.as_ref()),
        (vec!["node-1", "node-2"], vec!["10.244.1.0/24".to_owned()], None)
    );
    api.resume().await;
    one.until("it is back", |view| view.cut_off.is_none()).await;
    assert!(one.history().iter().skip(1).all(|view| names(view).len() == 2 && held(view).len() == 1));
}

#[tokio::test]
async fn a_node_that_comes_back_with_another_subnet_tells_where_its_pods_are() {
    let (api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    one.until("it has a subnet", |view| held(view) == ["10.244.1.0/24"]).await;
    one.change(|local| local.pods.push(pod("c1", "10.244.1.5")));
    api.delete("node-1");
    one.until("its subnet is gone", |view| {
        view.waiting.is_some() && view.subnets[0].state == SubnetState::Lost
    })
    .await;
    api.put("node-1", |node| node["spec"] = json!({ "podCIDRs": ["10.244.9.0/24"] }));
    let view = one.until("it has another", |view| held(view) == ["10.244.9.0/24"]).await;
    assert_eq!((view.subnets.len(), view.subnets[1].state), (2, SubnetState::Lost));
    while annotation(&api.node("node-1")).is_none_or(|node| node.pods.len() != 1) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    one.change(|local| local.pods.clear());
    one.until("the old one is forgotten", |view| view.subnets.len() == 1).await;
}

#[tokio::test]
async fn what_may_not_be_done_is_said_with_what_to_do() {
    let (api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    one.until("it has a subnet", |view| !held(view).is_empty()).await;
    api.forbid("nodes");
    one.change(|local| local.mtu = 1300);
    let view = one.until("it says so", |view| !view.problems.is_empty()).await;
    assert!(
        view.problems[0].what.contains("Node node-1 cannot be changed")
            && view.problems[0].what.contains("ClusterRole")
    );
    api.permit("nodes");
    one.until("it is well", |view| view.problems.is_empty()).await;

    let strange = state.path().join("kubeconfig");
    std::fs::write(&strange, std::fs::read_to_string(api.kubeconfig()).unwrap().replace("secret", "wrong"))
        .unwrap();
    let config = Config { kubeconfig: Some(strange) };
    let other = Kubernetes::new(config, "pods", pool(), &state.path().join("2")).unwrap();
    let mut two = AgentDouble::start(Box::new(other), local(2));
    let view = two.until("it says so", |view| view.cut_off.is_some()).await;
    assert!(
        view.cut_off.as_ref().unwrap().contains("the token or certificate is not valid"),
        "{:?}",
        view.cut_off
    );
}

#[tokio::test]
async fn two_agents_under_one_name_do_not_write_in_turns() {
    let (api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    one.until("it has a subnet", |view| !held(view).is_empty()).await;
    while annotation(&api.node("node-1")).is_none() {
        tokio::task::yield_now().await;
    }
    let mut other = local(2);
    other.name = local(1).name;
    let text = serde_json::to_string(&other.with_subnets(vec![])).unwrap();
    api.put("node-1", |node| node["metadata"]["annotations"][ANNOTATION] = json!(text));
    let view = one.until("it says so", |view| !view.problems.is_empty()).await;
    assert!(view.problems[0].what.contains("somebody else writes"), "{:?}", view.problems);
    assert_eq!(api.requests("PATCH"), 1);
}

#[tokio::test]
async fn a_subnet_outside_of_the_ranges_is_reported() {
    let (api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    api.put("node-1", |node| node["spec"] = json!({ "podCIDRs": ["172.16.1.0/24"] }));
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    let view = one.until("it has a subnet", |view| !held(view).is_empty()).await;
    assert!(
        view.problems[0].what.contains("172.16.1.0/24") && view.problems[0].advice.contains("--cluster-cidr")
    );
}

#[tokio::test]
async fn a_kubeconfig_that_is_none_ends_the_store_with_the_reason() {
    use agent::store::Links;
    let state = tempfile::tempdir().unwrap();
    let config = Config { kubeconfig: Some(state.path().join("missing")) };
    let store = Box::new(Kubernetes::new(config, "pods", pool(), state.path()).unwrap());
    let (_local, local) = tokio::sync::watch::channel(std::sync::Arc::new(local(1)));
    let (view, _view) = tokio::sync::watch::channel(std::sync::Arc::default());
    let (_requests, requests) = tokio::sync::mpsc::channel(1);
    let why = store.run(Links { local, view, requests }).await;
    assert!(why.contains("missing"), "{why}");
}

#[tokio::test]
async fn pods_of_all_nodes_are_listed_when_somebody_asks_and_not_before() {
    let (mut api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    let on = |n: u8| json!({ "nodeName": format!("node-{n}"), "containers": [{ "name": "c" }] });
    // More than are told at once.
    for n in 0..1100_u16 {
        api.put_pod("default", &format!("web-{n}"), on(2), &[&format!("10.244.{}.{}", 2 + n / 250, n % 250)]);
    }
    api.put_pod("kube-system", "dns", on(1), &["10.244.1.5", "fd00:10::5"]);
    let host = json!({ "nodeName": "node-1", "hostNetwork": true });
    api.put_pod("kube-system", "proxy", host, &["192.168.1.1"]);
    api.put_pod("default", "not-yet-anywhere", json!({}), &[]);
    api.put_pod("default", "not-yet-attached", on(1), &[]);
    let store = store(&api, state.path());
    let pods = store.pods().unwrap();
    let mut one = AgentDouble::start(store, local(1));
    one.until("it has a subnet", |view| !held(view).is_empty()).await;
    assert_eq!(api.requests("GET pods"), 0);

    let listed = pods.list().await;
    assert_eq!(listed.lacking, None);
    let names: Vec<_> = listed.pods.keys().map(overlay::NodeName::as_str).collect();
    assert_eq!(names, ["node-1", "node-2"]);
    let [dns] = &listed.pods[&local(1).name][..] else { panic!("{listed:?}") };
    assert_eq!((dns.to_string(), dns.addresses().len()), ("kube-system/dns".to_owned(), 2));
    assert_eq!(listed.pods[&local(2).name].len(), 1100);
    assert_eq!(api.requests("GET pods"), 3, "pages");
    // For a moment that is an answer to others, too.
    assert_eq!(pods.list().await, listed);
    assert_eq!(api.requests("GET pods"), 3);
    tokio::time::sleep(Duration::from_secs(6)).await;
    pods.list().await;
    assert_eq!(api.requests("GET pods"), 6);

    tokio::time::sleep(Duration::from_secs(6)).await;
    api.forbid("pods");
    let listed = pods.list().await;
    let why = listed.lacking.as_deref().unwrap();
    assert!(
        listed.pods.is_empty() && why.contains("pods is forbidden") && why.contains("ClusterRole"),
        "{why}"
    );
    assert_eq!(one.until("nothing else is wrong", |_| true).await.problems, []);
    api.permit("pods");
    tokio::time::sleep(Duration::from_secs(6)).await;
    api.stop().await;
    let why = pods.list().await.lacking.clone().unwrap();
    assert!(why.contains("list pods"), "{why}");
}

#[tokio::test]
async fn a_watch_that_the_server_ends_goes_on_where_it_was_without_a_list() {
    let (api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    api.end_watches_after(Duration::from_secs(1));
    register(&api, 1);
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    one.until("it has a subnet", |view| !held(view).is_empty()).await;
    for n in 2..=6 {
        join(&api, n);
        let who = local(n).id;
        one.until("it knows the new one", |view| view.topology.get(&who).is_some()).await;
        let watches = api.requests("WATCH");
        while api.requests("WATCH") == watches {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(api.requests("GET nodes"), 1);
    assert!(one.history().iter().all(|view| view.cut_off.is_none()));
}

#[tokio::test]
async fn a_watch_that_is_refused_for_a_history_that_is_gone_is_listed_again() {
    let (mut api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    join(&api, 2);
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    one.until("it knows two", |view| names(view).len() == 2).await;
    api.stop().await;
    one.until("it is cut off", |view| view.cut_off.is_some()).await;
    api.forget_history_and_refuse();
    join(&api, 3);
    api.resume().await;
    one.until("it knows three", |view| names(view).len() == 3 && view.cut_off.is_none()).await;
}

#[tokio::test]
async fn a_list_of_which_the_second_page_is_gone_is_begun_again() {
    let (api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    for n in 0..700 {
        api.put(&format!("bare-{n}"), |_| ());
    }
    // The last of the second page.
    join(&api, 9);
    api.forget_next_list();
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    one.until("it knows two", |view| names(view) == ["node-1", "node-9"]).await;
    assert_eq!(api.requests("GET nodes"), 4, "two pages, twice");
    assert!(one.history().iter().all(|view| view.cut_off.is_none()), "it answers, after all");
}
