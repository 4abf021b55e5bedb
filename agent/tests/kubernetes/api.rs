//! As much of the Kubernetes API as has Nodes and pods: lists in pages, watches from a resource version with bookmarks, patches.
//! It can forget what was (410 Gone, as an event, as an answer, or between two pages), end watches, go away, drop connections,
//! refuse, say nothing at all, and be restored from a backup.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// The API, on a port of its own, until it is dropped.
pub struct Api {
    state: Arc<State>,
    port: u16,
    directory: tempfile::TempDir,
    serving: Option<JoinHandle<()>>,
}

/// All Nodes at some time.
pub struct Backup {
    nodes: BTreeMap<String, Value>,
    revision: u64,
}

struct State {
    store: Mutex<Store>,
    /// The revision, for those who wait for the next.
    news: watch::Sender<u64>,
}

#[derive(Default)]
struct Store {
    nodes: BTreeMap<String, Value>,
    /// By namespace and name.
    pods: BTreeMap<String, Value>,
    revision: u64,
    /// Lists of which not all pages may have been asked for, by what and which revision.
    lists: BTreeMap<(String, u64), Vec<Value>>,
    /// What happened, by revision.
    events: Vec<(u64, &'static str, Value)>,
    /// What happened up to here is not known any more.
    forgotten: u64,
    /// Every request, as `GET nodes` or `WATCH 12`.
    requests: Vec<String>,
    /// What nobody may do anything with, nodes or pods, or what nobody may do with it, as `PATCH nodes`.
    forbidden: BTreeSet<&'static str>,
    /// How long a watch may last, whatever was asked for.
    longest_watch: Option<Duration>,
    /// That what was is forgotten is the answer to a watch, and no event of it.
    answers_gone: bool,
    /// The next list is forgotten when a page of it has been told.
    forgets_next_list: bool,
    /// Questions get no answer.
    is_silent: bool,
}

impl Api {
    pub async fn start() -> Self {
        let state = Arc::new(State { store: Mutex::default(), news: watch::channel(0).0 });
        // Versions begin somewhere.
        state.store().revision = 100;
        let mut api = Self { state, port: 0, directory: tempfile::tempdir().unwrap(), serving: None };
        api.resume().await;
        let server = format!("http://127.0.0.1:{}", api.port);
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": server } }],
            "users": [{ "name": "test", "user": { "token": "secret" } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        });
        std::fs::write(api.kubeconfig(), kubeconfig.to_string()).unwrap();
        api
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// Answers nobody any more, and drops who is connected.
    pub async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let state = self.state.clone();
        self.serving = Some(tokio::spawn(async move {
            // Dropped with this, so are its connections.
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let state = state.clone();
                let service = service_fn(move |request| answer(state.clone(), request));
                let http = hyper::server::conn::http1::Builder::new();
                connections.spawn(async move {
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        }));
    }

    /// Puts a Node in, or changes it.
    pub fn put(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.state.change(name, change);
    }

    /// Puts a pod in, which runs.
    pub fn put_pod(&self, namespace: &str, name: &str, spec: Value, addresses: &[&str]) {
        let addresses: Vec<Value> = addresses.iter().map(|address| json!({ "ip": address })).collect();
        let mut status = json!({ "phase": "Running", "podIPs": addresses });
        if addresses.is_empty() {
            status = json!({ "phase": "Pending" });
        }
        let metadata = json!({ "namespace": namespace, "name": name, "uid": "u", "managedFields": [{}] });
        let pod = json!({ "metadata": metadata, "spec": spec, "status": status });
        self.state.store().pods.insert(format!("{namespace}/{name}"), pod);
    }

    pub fn delete(&self, name: &str) {
        let mut store = self.state.store();
        let node = store.nodes.remove(name).unwrap();
        store.record("DELETED", node);
        self.state.news.send_replace(store.revision);
    }

    /// A Node as it is now.
    pub fn node(&self, name: &str) -> Value {
        self.state.store().nodes[name].clone()
    }

    /// From now on nobody may go on from what was until now.
    pub fn forget_history(&self) {
        let mut store = self.state.store();
        // A change of something else.
        store.revision += 1;
        store.forgotten = store.revision;
        store.events.clear();
        store.lists.clear();
        self.state.news.send_replace(store.revision);
    }

    /// The same, and a watch from what was is refused, instead of begun with an error.
    pub fn forget_history_and_refuse(&self) {
        self.state.store().answers_gone = true;
        self.forget_history();
    }

    /// Of the next list there is no second page any more when it is asked for.
    pub fn forget_next_list(&self) {
        self.state.store().forgets_next_list = true;
    }

    /// Watches from now on end by themselves, as they do on a server that is about to be replaced.
    pub fn end_watches_after(&self, longest: Duration) {
        self.state.store().longest_watch = Some(longest);
    }

    /// What a backup would have.
    pub fn backup(&self) -> Backup {
        let store = self.state.store();
        Backup { nodes: store.nodes.clone(), revision: store.revision }
    }

    /// Everything is as it was, versions too.
    pub fn restore(&self, Backup { nodes, revision }: Backup) {
        let mut store = self.state.store();
        (store.nodes, store.revision, store.forgotten) = (nodes, revision, revision);
        store.events.clear();
        store.lists.clear();
        self.state.news.send_replace(revision);
    }

    /// From now on nobody may do anything with `nodes`, or `pods`; or only not `PATCH nodes`.
    pub fn forbid(&self, resource: &'static str) {
        self.state.store().forbidden.insert(resource);
    }

    pub fn permit(&self, resource: &'static str) {
        self.state.store().forbidden.remove(resource);
    }

    /// From now on questions are taken and none is answered, until it speaks again.
    pub fn silence(&self) {
        self.state.store().is_silent = true;
    }

    /// New questions are answered again.
    pub fn speak(&self) {
        self.state.store().is_silent = false;
    }

    /// The requests so far that begin with this.
    pub fn requests(&self, prefix: &str) -> usize {
        self.state.store().requests.iter().filter(|request| request.starts_with(prefix)).count()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

impl State {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut store = self.store();
        let mut node =
            store.nodes.get(name).cloned().unwrap_or_else(|| json!({ "metadata": { "name": name } }));
        let kind = if store.nodes.contains_key(name) { "MODIFIED" } else { "ADDED" };
        change(&mut node);
        let node = store.record(kind, node);
        store.nodes.insert(name.to_owned(), node.clone());
        self.news.send_replace(store.revision);
        node
    }
}

impl Store {
    fn record(&mut self, kind: &'static str, mut node: Value) -> Value {
        self.revision += 1;
        node["apiVersion"] = json!("v1");
        node["kind"] = json!("Node");
        node["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.events.push((self.revision, kind, node.clone()));
        node
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let query: BTreeMap<String, String> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name.to_owned(), value.replace("%21", "!").replace("%3D", "=").replace("%2C", ",")))
        })
        .collect();
    let since = query.get("resourceVersion").cloned().unwrap_or_default();
    let is_watch = query.get("watch").is_some_and(|value| value == "true" || value == "1");
    let path = request.uri().path().strip_prefix("/api/v1/").unwrap_or_default().to_owned();
    let (word, about) =
        if is_watch { ("WATCH", since.clone()) } else { (request.method().as_str(), path.clone()) };
    let resource = path.split('/').next().unwrap_or_default().to_owned();
    let (forbidden, is_silent) = {
        let mut store = state.store();
        store.requests.push(format!("{word} {about}"));
        let forbidden = [resource.clone(), format!("{word} {resource}")];
        (forbidden.iter().any(|what| store.forbidden.contains(&**what)), store.is_silent)
    };
    if is_silent {
        std::future::pending::<()>().await;
    }
    let authorized = request.headers().get("authorization").is_some_and(|value| value == "Bearer secret");
    if !authorized {
        return Ok(status(401, "Unauthorized", "who are you?"));
    }
    if forbidden {
        let message = format!("{resource} is forbidden: User \"agent\" cannot do that");
        return Ok(status(403, "Forbidden", &message));
    }
    let metadata_only = request
        .headers()
        .get("accept")
        .is_some_and(|value| value.to_str().unwrap().contains("PartialObject"));
    Ok(match (request.method(), path.split_once('/')) {
        (&Method::GET, None) if is_watch && path == "nodes" => {
            let asked = query.get("timeoutSeconds").map(|text| Duration::from_secs(text.parse().unwrap()));
            watch_from(state, since.parse().unwrap(), asked)
        }
        (&Method::GET, None) if matches!(&*path, "nodes" | "pods") => {
            list(&state, &path, &query, metadata_only)
        }
        (&Method::PATCH, Some(("nodes", name))) => {
            assert_eq!(request.headers()["content-type"], "application/merge-patch+json");
            let name = name.to_owned();
            let patch: Value =
                serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap();
            if state.store().nodes.contains_key(&name) {
                json_answer(200, &state.change(&name, |node| merge(node, &patch)))
            } else {
                status(404, "NotFound", "no such node")
            }
        }
        _ => status(404, "NotFound", "no such thing"),
    })
}

/// A list, or a page of one: where it goes on is a revision and how many have been told, and it is the list of that revision.
fn list(state: &State, resource: &str, query: &BTreeMap<String, String>, metadata_only: bool) -> Answer {
    let mut store = state.store();
    let limit = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
    let (revision, told) = match query.get("continue") {
        Some(token) => {
            let (revision, told) = token.split_once('.').unwrap();
            (revision.parse().unwrap(), told.parse().unwrap())
        }
        None => {
            let revision = store.revision;
            let all = if resource == "pods" { &store.pods } else { &store.nodes };
            let items = all.values().filter(|item| is_selected(item, query)).cloned().collect();
            store.lists.insert((resource.to_owned(), revision), items);
            (revision, 0)
        }
    };
    let Some(items) = store.lists.get(&(resource.to_owned(), revision)) else {
        let message = "The provided continue parameter is too old to display a consistent list result.";
        return status(410, "Expired", message);
    };
    let items = items.clone();
    let mut metadata = json!({ "resourceVersion": revision.to_string() });
    let remaining = items.len().saturating_sub(told).saturating_sub(limit);
    if remaining > 0 {
        if std::mem::take(&mut store.forgets_next_list) {
            store.lists.clear();
        }
        metadata["continue"] = json!(format!("{revision}.{}", told + limit));
        metadata["remainingItemCount"] = json!(remaining);
    }
    let only =
        |item: &Value| if metadata_only { json!({ "metadata": item["metadata"] }) } else { item.clone() };
    let page: Vec<Value> = items.iter().skip(told).take(limit).map(only).collect();
    let (version, kind) = match (metadata_only, resource) {
        (true, _) => ("meta.k8s.io/v1", "PartialObjectMetadataList"),
        (false, "pods") => ("v1", "PodList"),
        (false, _) => ("v1", "NodeList"),
    };
    json_answer(200, &json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "items": page }))
}

/// As much of field selectors as is used: `status.phase!=VALUE`, and several of them.
fn is_selected(item: &Value, query: &BTreeMap<String, String>) -> bool {
    let selector = query.get("fieldSelector").map(String::as_str).unwrap_or_default();
    selector.split(',').filter(|term| !term.is_empty()).all(|term| {
        let (field, value) = term.split_once("!=").unwrap();
        assert_eq!(field, "status.phase");
        item["status"]["phase"] != value
    })
}

/// Events after a revision, for some time, and a bookmark after each batch; the error 410 if they are forgotten.
fn watch_from(state: Arc<State>, mut since: u64, asked: Option<Duration>) -> Answer {
    // Half an hour to an hour is a server's own choice (--min-request-timeout).
    let mut life = asked.unwrap_or(Duration::from_secs(1800));
    {
        let store = state.store();
        life = life.min(store.longest_watch.unwrap_or(life));
        if store.answers_gone && since < store.forgotten {
            return status(
                410,
                "Expired",
                &format!("too old resource version: {since} ({})", store.forgotten),
            );
        }
    }
    let (lines, line) = mpsc::channel::<Bytes>(16);
    tokio::spawn(async move {
        let end = tokio::time::sleep(life);
        tokio::pin!(end);
        let mut news = state.news.subscribe();
        loop {
            let mut batch = Vec::new();
            {
                let store = state.store();
                if since < store.forgotten {
                    let gone = json!({
                        "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Expired", "code": 410,
                        "message": format!("too old resource version: {since} ({})", store.forgotten),
                    });
                    batch.push(json!({ "type": "ERROR", "object": gone }));
                } else {
                    let after = store.events.iter().filter(|(revision, _, _)| *revision > since);
                    batch.extend(after.map(|(_, kind, object)| json!({ "type": kind, "object": object })));
                    // Of a version that has not been yet, nothing is said until it has.
                    since = since.max(store.revision);
                    let version = json!({ "resourceVersion": since.to_string() });
                    let bookmark = json!({ "apiVersion": "v1", "kind": "Node", "metadata": version });
                    batch.push(json!({ "type": "BOOKMARK", "object": bookmark }));
                }
            }
            let is_over = batch.iter().any(|event| event["type"] == "ERROR");
            for event in batch {
                if lines.send(format!("{event}\n").into()).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return },
                () = lines.closed() => return,
                () = &mut end => return,
            }
            if is_over {
                return;
            }
        }
    });
    let frames = stream::unfold(line, |mut line| async move {
        line.recv().await.map(|bytes| (Ok::<_, Infallible>(Frame::data(bytes)), line))
    });
    Response::new(BodyExt::boxed(StreamBody::new(frames)))
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else { return *target = patch.clone() };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

fn status(code: u16, reason: &str, message: &str) -> Answer {
    let (kind, failure) = ("Status", "Failure");
    json_answer(
        code,
        &json!({
            "apiVersion": "v1", "kind": kind, "status": failure, "reason": reason, "message": message, "code": code
        }),
    )
}

fn json_answer(code: u16, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).boxed();
    Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
}
