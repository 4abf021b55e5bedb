//! What is wrong, and is said with what to do.

use agent::store::Store;
use agent::store::kubernetes::{Config, Kubernetes};
use serde_json::json;

use crate::agent_double::{AgentDouble, local};
use crate::api::Api;
use crate::{ANNOTATION, annotation, held, pool, register, store};

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
async fn of_a_node_that_is_gone_it_is_said_that_it_is_and_nothing_else() {
    let (api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    one.until("it has a subnet", |view| !held(view).is_empty()).await;
    api.forbid("PATCH nodes");
    one.change(|local| local.mtu = 1300);
    one.until("it says so", |view| !view.problems.is_empty()).await;
    api.delete("node-1");
    one.until("it says nothing else", |view| {
        view.problems.is_empty()
            && view.waiting.as_ref().is_some_and(|why| why.contains("there is no Node node-1"))
    })
    .await;
    register(&api, 1);
    api.permit("PATCH nodes");
    one.until("it is well", |view| view.problems.is_empty()).await;
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
