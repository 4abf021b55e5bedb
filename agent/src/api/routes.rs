//! Which question has which answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::connection::{Answer, Question};
use super::metrics;
use crate::json;
use crate::known::Known;
use crate::store::Request;

/// How long a store may take to do what it was asked for.
const STORE: Duration = Duration::from_secs(30);
/// How long it may take to learn of other nodes' pods, at the most: less than those who ask an agent wait.
const PODS: Duration = Duration::from_secs(8);

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What this node's root may ask.
pub(super) fn people(known: Arc<Known>, question: Question) -> Answering {
    Box::pin(async move {
        match (question.method.clone(), question.path.as_str()) {
            (Method::GET, "/v1/status") => Answer::json(&known.status()),
            (Method::GET, "/v1/peers") => Answer::json(&known.peers()),
            (Method::GET, "/v1/topology") => topology(&known, &question.query).await,
            (Method::POST, "/v1/forget") => forget(&known, &question.body).await,
            (_, "/v1/status" | "/v1/peers" | "/v1/topology" | "/v1/forget") => wrong_method(&question),
            _ => watched(&known, &question),
        }
    })
}

/// What anybody may ask who reaches the address: never who is where.
pub(super) fn watchers(known: Arc<Known>, question: Question) -> Answering {
    Box::pin(async move { watched(&known, &question) })
}

fn watched(known: &Known, question: &Question) -> Answer {
    const TEXT: &str = "text/plain; charset=utf-8";
    match (&question.method, question.path.as_str()) {
        (&Method::GET | &Method::HEAD, "/healthz") => Answer::text(StatusCode::OK, TEXT, "ok\n"),
        (&Method::GET | &Method::HEAD, "/readyz") => match known.unready() {
            None => Answer::text(StatusCode::OK, TEXT, "ok\n"),
            Some(why) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
        },
        (&Method::GET, "/metrics") => {
            Answer::text(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(known))
        }
        (_, "/healthz" | "/readyz" | "/metrics") => wrong_method(question),
        _ => Answer::refusal(StatusCode::NOT_FOUND, "there is nothing of that name"),
    }
}

fn wrong_method(question: &Question) -> Answer {
    let error = format!("{} is no way to ask {}", question.method, question.path);
    Answer::refusal(StatusCode::METHOD_NOT_ALLOWED, &error)
}

/// `?pods=SECONDS`: how long other nodes' pods may be waited for. Whatever else is there an agent of another version may know.
async fn topology(known: &Known, query: &str) -> Answer {
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("pods="));
    match asked.map_or(Ok(PODS), |text| text.parse().map(Duration::from_secs)) {
        Ok(patience) => Answer::json(&known.map(patience.min(PODS)).await),
        Err(_) => Answer::refusal(StatusCode::BAD_REQUEST, "\"pods\" is how many seconds to wait for them"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Forget {
    node: String,
}

async fn forget(known: &Known, body: &[u8]) -> Answer {
    let asked: Result<Forget, String> =
        std::str::from_utf8(body).map_err(|error| error.to_string()).and_then(json::parse);
    let node = match asked {
        Ok(Forget { node }) => node,
        Err(error) => {
            let error = format!("the body is not {{\"node\": \"ID or name\"}}: {error}");
            return Answer::refusal(StatusCode::BAD_REQUEST, &error);
        }
    };
    let (reply, answer) = oneshot::channel();
    let unavailable = |why: &str| Answer::refusal(StatusCode::SERVICE_UNAVAILABLE, why);
    let asked = async {
        known.requests.send(Request::Forget { node, reply }).await.ok()?;
        answer.await.ok()
    };
    match timeout(STORE, asked).await {
        Ok(Some(Ok(forgotten))) => Answer::json(&forgotten),
        Ok(Some(Err(why))) => Answer::refusal(StatusCode::CONFLICT, &why),
        Ok(None) => unavailable("the agent is about to end"),
        Err(_) => unavailable("the store did not answer in time: try again"),
    }
}
