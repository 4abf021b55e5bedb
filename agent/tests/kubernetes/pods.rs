//! The pods of all Nodes, which are listed when somebody asks.

use std::time::{Duration, Instant};

use agent::store::Store;
use serde_json::json;

use crate::agent_double::{AgentDouble, local};
use crate::api::Api;
use crate::{held, register, store};

/// As long as somebody who wants to see them waits.
const LONG: Duration = Duration::from_secs(8);

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

    let listed = pods.list(LONG).await;
    assert_eq!(listed.lacking, None);
    let names: Vec<_> = listed.pods.keys().map(overlay::NodeName::as_str).collect();
    assert_eq!(names, ["node-1", "node-2"]);
    let [dns] = &listed.pods[&local(1).name][..] else { panic!("{listed:?}") };
    assert_eq!((dns.to_string(), dns.addresses().len()), ("kube-system/dns".to_owned(), 2));
    assert_eq!(listed.pods[&local(2).name].len(), 1100);
    assert_eq!(api.requests("GET pods"), 3, "pages");
    // For a moment that is an answer to others, too.
    assert_eq!(pods.list(LONG).await, listed);
    assert_eq!(api.requests("GET pods"), 3);
    tokio::time::sleep(Duration::from_secs(6)).await;
    pods.list(LONG).await;
    assert_eq!(api.requests("GET pods"), 6);

    tokio::time::sleep(Duration::from_secs(6)).await;
    api.forbid("pods");
    let listed = pods.list(LONG).await;
    let why = listed.lacking.as_deref().unwrap();
    assert!(
        listed.pods.is_empty() && why.contains("pods is forbidden") && why.contains("ClusterRole"),
        "{why}"
    );
    assert_eq!(one.until("nothing else is wrong", |_| true).await.problems, []);
    api.permit("pods");
    tokio::time::sleep(Duration::from_secs(6)).await;
    api.stop().await;
    let why = pods.list(LONG).await.lacking.clone().unwrap();
    assert!(why.contains("list pods"), "{why}");
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for_longer_than_who_asks_wants_to() {
    let (api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    api.put_pod("default", "web", json!({ "nodeName": "node-2" }), &["10.244.2.2"]);
    let pods = store(&api, state.path()).pods().unwrap();
    api.silence();
    let (short, begun) = (Duration::from_secs(1), Instant::now());
    let listed = pods.list(short).await;
    assert!(listed.pods.is_empty() && listed.lacking.as_ref().unwrap().contains("in 1 s"), "{listed:?}");
    assert!((short..LONG / 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    // Who has no more patience than that is told at once, and asks nobody.
    assert_eq!((pods.list(short).await, api.requests("GET pods")), (listed, 1));

    // Who waits for one who has more does not wait as long.
    let begun = Instant::now();
    let (patient, hasty) = tokio::join!(pods.list(short * 3), async {
        tokio::time::sleep(short / 2).await;
        (pods.list(short).await, begun.elapsed())
    });
    assert!(patient.lacking.as_ref().unwrap().contains("in 3 s"), "{patient:?}");
    assert!(hasty.0.lacking.as_ref().unwrap().contains("in 1 s") && hasty.1 < short * 5 / 2, "{hasty:?}");
    assert_eq!(api.requests("GET pods"), 2);

    // And what came in a short time is no answer to who has a longer one.
    api.speak();
    let listed = pods.list(LONG).await;
    assert_eq!((listed.pods.len(), listed.lacking.as_ref()), (1, None));
    assert_eq!(pods.list(short).await, listed, "all of it is an answer to everybody");
}
