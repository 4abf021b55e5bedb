//! A server that goes away, forgets, is restored, or has not been there yet.

use std::time::{Duration, Instant};

use overlay::View;

use crate::agent_double::{AgentDouble, local};
use crate::api::Api;
use crate::{announce, held, join, names, register, store};

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

#[tokio::test]
async fn a_server_that_never_answers_is_asked_again() {
    let (api, state) = (Api::start().await, tempfile::tempdir().unwrap());
    register(&api, 1);
    join(&api, 2);
    // What is asked now has no answer, ever.
    api.silence();
    let mut one = AgentDouble::start(store(&api, state.path()), local(1));
    while api.requests("GET nodes") == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    api.speak();
    let view = one.until("it says so", |view| view.cut_off.is_some()).await;
    assert!(view.cut_off.as_ref().unwrap().contains("no answer in 30 s"), "{:?}", view.cut_off);
    one.until("it knows two", |view| names(view).len() == 2 && view.cut_off.is_none()).await;
}
