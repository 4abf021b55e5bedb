//! One connection: bounded in size and time.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use overlay::report::Refusal;

use crate::known::Known;

/// How long a client may take to ask.
const ASK: Duration = Duration::from_secs(10);
/// How long a connection may last, all questions together.
const CONNECTION: Duration = Duration::from_secs(120);
/// An answer of more bytes is about all nodes. What it took to put that together, megabytes where they are a thousand, is given
/// back at once.
const MUCH: usize = 1 << 10;
/// The largest question's body, in bytes.
const LARGEST: usize = 16 << 10;

/// A question: method, path, what follows a question mark, and body.
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Bytes,
}

/// An answer: what HTTP makes of it.
pub(super) struct Answer {
    status: StatusCode,
    kind: &'static str,
    body: Vec<u8>,
}

/// What answers questions.
pub(super) type Routes = fn(Arc<Known>, Question) -> Pin<Box<dyn Future<Output = Answer> + Send>>;

impl Answer {
    pub(super) fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(mut body) => {
                body.push(b'\n');
                Self { status: StatusCode::OK, kind: "application/json", body }
            }
            Err(error) => Self::refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    pub(super) fn text(status: StatusCode, kind: &'static str, text: impl Into<String>) -> Self {
        Self { status, kind, body: text.into().into_bytes() }
    }

    pub(super) fn refusal(status: StatusCode, error: &str) -> Self {
        Self { status, ..Self::json(&Refusal { error: error.to_owned() }) }
    }
}

impl From<Answer> for Response<Full<Bytes>> {
    fn from(answer: Answer) -> Self {
        let mut response = Self::new(Full::new(answer.body.into()));
        *response.status_mut() = answer.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.kind));
        response
    }
}

/// Serves a connection, as long as it has its seat.
pub(super) fn serve<S>(stream: S, known: Arc<Known>, routes: Routes, seat: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let has_said_much = Arc::new(AtomicBool::new(false));
    let says_much = Arc::clone(&has_said_much);
    let answer = move |request: Request<Incoming>| {
        let (known, says_much) = (Arc::clone(&known), Arc::clone(&says_much));
        async move {
            let answer = answer(known, routes, request).await;
            if answer.body.len() > MUCH {
                says_much.store(true, Ordering::Relaxed);
            }
            Ok::<_, Infallible>(Response::from(answer))
        }
    };
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ASK)
        .max_buf_size(LARGEST)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    tokio::spawn(async move {
        // A client that does not keep to HTTP, or to the time, hears no more.
        let _ = timeout(CONNECTION, serving).await;
        drop(seat);
        if has_said_much.load(Ordering::Relaxed) {
            netops::shrink_footprint();
        }
    });
}

async fn answer(known: Arc<Known>, routes: Routes, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let body = match timeout(ASK, Limited::new(body, LARGEST).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            return Answer::refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or was cut off");
        }
        Err(_) => return Answer::refusal(StatusCode::REQUEST_TIMEOUT, "the body did not come"),
    };
    let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
    routes(known, Question { method: head.method, path, query, body }).await
}
