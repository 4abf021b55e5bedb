//! What Nodes say of their node, and what an agent says in its own.

use std::time::Duration;

use overlay::{Liveness, SubnetState, View};
use serde_json::json;

use crate::agent_double::{AgentDouble, local, pod};
use crate::api::Api;
use crate::{ANNOTATION, annotation, dual_stack, held, join, names, register, store, store_of};

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
