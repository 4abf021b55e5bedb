//! The watch of all Nodes, which goes on after failures.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Node as Object;
use kube::api::Api;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use tokio::time::{Instant, sleep_until, timeout_at};

/// It begins anew after so many seconds, so that a server that vanished is noticed.
pub(super) const LIFE: u32 = 120;
/// How long the next page of a list may take. Who takes the question and never answers (a balancer without servers) would be
/// waited for without end.
const PAGE: Duration = Duration::from_secs(30);
/// What has not failed for so long after it was begun is at work: that is all there is to be seen of a watch that goes on
/// where it was while nothing happens.
const PROOF: Duration = Duration::from_secs(1);

type Events = Pin<Box<dyn Stream<Item = watcher::Result<Event<Object>>> + Send>>;

/// All Nodes, and what happens to them.
pub(super) struct Watch {
    api: Api<Object>,
    events: Events,
    backoff: DefaultBackoff,
    state: State,
    /// Since when the list's next page is waited for, if the list has not ended.
    listing: Option<Instant>,
    /// The newest version of a Node that it has told.
    newest: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Begun then, and not failed since.
    AtWork(Instant),
    /// Failed, and not to be begun again before that time.
    Resting { until: Instant, server: Server },
}

/// Why a watch has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    /// The server has too much to do, and has said so.
    Busy,
    /// All else: it was not there, or did not want to.
    Gone,
}

impl Watch {
    /// Begins with a list.
    pub(super) fn new(api: Api<Object>) -> Self {
        let (events, now) = (Self::list_and_watch(api.clone()), Instant::now());
        let (state, listing) = (State::AtWork(now), Some(now));
        Self { api, events, backoff: DefaultBackoff::default(), state, listing, newest: 0 }
    }

    /// Pages and not the server's cache, which knows none: a thousand Nodes at once are more than the agent itself.
    fn list_and_watch(api: Api<Object>) -> Events {
        Box::pin(watcher(api, watcher::Config::default().timeout(LIFE)))
    }

    /// What happens next. Nothing is lost if this is dropped while it waits.
    pub(super) async fn next(&mut self) -> Option<watcher::Result<Event<Object>>> {
        if let State::Resting { until, .. } = self.state {
            sleep_until(until).await;
            self.begin_again();
        }
        let event = match self.listing {
            None => self.events.next().await?,
            Some(since) => match timeout_at(since + PAGE, self.events.next()).await {
                Ok(event) => event?,
                Err(_) => {
                    self.events = Self::list_and_watch(self.api.clone());
                    let why = format!("no answer in {} s", PAGE.as_secs());
                    Err(watcher::Error::InitialListFailed(kube::Error::Service(why.into())))
                }
            },
        };
        match &event {
            Ok(event) => {
                self.backoff.reset();
                self.note_version(event);
                self.listing = match event {
                    Event::Init | Event::InitApply(_) => Some(Instant::now()),
                    Event::InitDone | Event::Apply(_) | Event::Delete(_) => None,
                };
            }
            Err(error) => {
                // It answers, only not from there on: the list that is next need not wait as for one that does not.
                if has_forgotten(error) {
                    self.backoff.reset();
                    // The watcher lists again by itself after such an event; after such an answer it would ask the same again.
                    if matches!(error, watcher::Error::WatchStartFailed(_)) {
                        self.events = Self::list_and_watch(self.api.clone());
                    }
                }
                let wait = self.backoff.next().unwrap_or(PROOF);
                self.state = State::Resting { until: Instant::now() + wait, server: Server::of(error) };
            }
        }
        Some(event)
    }

    /// The server has answered a small question, at this version of everything. Who waits for it needs not wait longer: after
    /// a long time without it that would be a minute. Whether the watch itself is at work.
    pub(super) fn server_answers(&mut self, version: Option<&str>) -> bool {
        // A server whose data come from a backup goes through versions that have been: of a watch from a later one it would
        // say nothing until all of them have been again.
        if version.and_then(|version| version.parse().ok()).is_some_and(|version: u64| version < self.newest)
        {
            *self = Self::new(self.api.clone());
            return false;
        }
        match self.state {
            State::AtWork(since) => since.elapsed() >= PROOF,
            State::Resting { server: Server::Busy, .. } => false,
            State::Resting { server: Server::Gone, .. } => {
                self.begin_again();
                false
            }
        }
    }

    fn begin_again(&mut self) {
        let now = Instant::now();
        self.state = State::AtWork(now);
        self.listing = self.listing.map(|_| now);
    }

    fn note_version(&mut self, event: &Event<Object>) {
        match event {
            Event::Init => self.newest = 0,
            Event::InitDone => {}
            Event::InitApply(object) | Event::Apply(object) | Event::Delete(object) => {
                let version = object.metadata.resource_version.as_deref();
                let version = version.and_then(|version| version.parse().ok()).unwrap_or(0);
                self.newest = self.newest.max(version);
            }
        }
    }
}

/// Whether the server has forgotten what was to come next, so that there will be a list.
pub(super) fn has_forgotten(error: &watcher::Error) -> bool {
    code(error) == Some(410)
}

/// What the server has answered, in HTTP's numbers, if it has.
fn code(error: &watcher::Error) -> Option<u16> {
    use watcher::Error;
    match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status))
        | Error::WatchFailed(kube::Error::Api(status))
        | Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

impl Server {
    fn of(error: &watcher::Error) -> Self {
        if code(error).is_some_and(|code| code == 429 || code >= 500) { Self::Busy } else { Self::Gone }
    }
}
