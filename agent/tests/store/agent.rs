//! What an agent is to a store: it says what this node knows of itself, and reads the views.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::store::{Links, Request, Store};
use overlay::report::Forgotten;
use overlay::{Local, Machine, Mode, NodeId, NodeName, Pod, Role, View};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long something may take on a machine that is busy.
const LONG: Duration = Duration::from_secs(120);

pub struct AgentDouble {
    local: watch::Sender<Arc<Local>>,
    view: watch::Receiver<Arc<View>>,
    requests: mpsc::Sender<Request>,
    /// Every view that was seen.
    history: Arc<Mutex<Vec<Arc<View>>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl AgentDouble {
    pub fn start(store: Box<dyn Store>, local: Local) -> Self {
        let (local, local_link) = watch::channel(Arc::new(local));
        let (view_link, view) = watch::channel(Arc::default());
        let (requests, requests_link) = mpsc::channel(1);
        let running = store.run(Links { local: local_link, view: view_link, requests: requests_link });
        let history = Arc::new(Mutex::new(Vec::new()));
        let (mut seen, kept) = (view.clone(), history.clone());
        let watching = tokio::spawn(async move {
            loop {
                kept.lock().unwrap().push(seen.borrow_and_update().clone());
                if seen.changed().await.is_err() {
                    break;
                }
            }
        });
        let running = tokio::spawn(async move { panic!("the store has ended: {}", running.await) });
        Self { local, view, requests, history, tasks: vec![watching, running] }
    }

    /// Waits for a view.
    pub async fn until(&mut self, what: &str, is_so: impl Fn(&View) -> bool) -> View {
        let found = timeout(LONG, self.view.wait_for(|view| is_so(view))).await;
        let found = found.map(|view| View::clone(&view.expect("the store has ended")));
        found.unwrap_or_else(|_| panic!("not so: {what}\n{:#?}", self.view.borrow()))
    }

    /// All views so far.
    pub fn history(&self) -> Vec<Arc<View>> {
        self.history.lock().unwrap().clone()
    }

    pub fn change(&self, change: impl FnOnce(&mut Local)) {
        self.local.send_modify(|local| change(Arc::make_mut(local)));
    }

    pub async fn forget(&self, node: &str) -> Result<Forgotten, String> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Forget { node: node.to_owned(), reply }).await.unwrap();
        timeout(LONG, answer).await.unwrap().unwrap()
    }

    /// As if it were killed.
    pub async fn stop(mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = task.await;
        }
    }
}

impl Drop for AgentDouble {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The n-th node.
pub fn local(n: u8) -> Local {
    Local {
        id: NodeId::from_bytes([n; 16]),
        name: NodeName::new(&format!("node-{n}")).unwrap(),
        addresses: vec![format!("192.168.1.{n}").parse().unwrap()],
        role: Role::Worker,
        mode: Mode::Auto,
        tunnel: None,
        mtu: 1500,
        machine: Machine::default(),
        pods: Vec::new(),
    }
}

pub fn pod(container: &str, address: &str) -> Pod {
    Pod::new(container, "eth0", [address.parse().unwrap()])
        .named(Some("default"), Some(&format!("{container}-pod")))
}
