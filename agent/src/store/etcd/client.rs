//! A client of etcd's JSON gateway, as small as what we ask of it.
//!
//! Requests go to the server that answered last; from one that does not answer, to the next.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::http::uri::Scheme;
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::api::{self, Refusal, Streamed};
use super::config::{Config, Login};
use super::connect::{Http, http};

/// How long a server may take to answer before the next is asked.
const ANSWER: Duration = Duration::from_secs(5);
/// The largest answer, and the largest line of a stream, in bytes. etcd itself stops at 1.5 MiB for a value.
const LARGEST: usize = 16 << 20;
/// gRPC's number for "who are you?".
const UNAUTHENTICATED: i64 = 16;
/// gRPC's number for "ask somebody else".
const UNAVAILABLE: i64 = 14;

/// What speaks to the servers.
pub(super) struct Client {
    http: Http,
    endpoints: Vec<Uri>,
    /// The one that is asked first.
    current: usize,
    gateway: String,
    login: Option<(String, String)>,
    token: Option<HeaderValue>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No server could be asked.
    Unreachable(String),
    /// A server says no.
    Refused(String),
}

impl Failure {
    pub(super) fn text(self) -> String {
        match self {
            Self::Unreachable(text) | Self::Refused(text) => text,
        }
    }
}

type Answer<T> = Result<T, Failure>;

impl Client {
    /// Reads the files that the configuration names.
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        let endpoints = config.endpoints.iter().map(|url| endpoint(url)).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err("etcd has no endpoints: give at least one, as https://192.168.1.11:2379".to_owned());
        }
        let secure = endpoints.iter().any(|endpoint| endpoint.scheme() == Some(&Scheme::HTTPS));
        if secure && config.tls.is_none() {
            return Err("an endpoint of etcd is https: \"tls\" must say by which CA it is known".to_owned());
        }
        Ok(Self {
            http: http(config.tls.as_ref())?,
            endpoints,
            current: 0,
            gateway: format!("/{}", config.gateway.trim_matches('/')),
            login: config.login.as_ref().map(password).transpose()?,
            token: None,
        })
    }

    /// Begins anew with the next server. Reads the files again: certificates are replaced while an agent runs.
    pub(super) fn renew(&mut self, config: &Config) -> Result<(), String> {
        *self = Self { current: self.current, ..Self::new(config)? };
        self.next();
        Ok(())
    }

    /// The server that is asked first.
    pub(super) fn endpoint(&self) -> String {
        self.endpoints.get(self.current).map_or_else(String::new, origin)
    }

    pub(super) async fn range(&mut self, range: &api::Range) -> Answer<api::RangeAnswer> {
        self.ask("kv/range", range).await
    }

    pub(super) async fn txn(&mut self, txn: &api::Txn) -> Answer<api::TxnAnswer> {
        self.ask("kv/txn", txn).await
    }

    pub(super) async fn grant(&mut self, ttl: Duration) -> Answer<i64> {
        let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let answer: api::LeaseAnswer = self.ask("lease/grant", &api::Grant { ttl: api::Number(ttl) }).await?;
        Ok(answer.id.0)
    }

    /// Whether the lease is still there.
    pub(super) async fn keep_alive(&mut self, lease: i64) -> Answer<bool> {
        let request = api::KeepAlive { id: api::Number(lease) };
        let answer: Streamed<api::LeaseAnswer> = self.ask("lease/keepalive", &request).await?;
        match (answer.result, answer.error) {
            (Some(lease), None) => Ok(lease.ttl.0 > 0),
            (_, refusal) => {
                let why = refusal.map_or_else(|| "nothing".to_owned(), |refusal| refusal.message);
                Err(Failure::Refused(format!("etcd at {} answers a keep-alive: {why}", self.endpoint())))
            }
        }
    }

    /// What happens to keys, from a revision on.
    pub(super) async fn watch(&mut self, create_request: api::WatchCreate) -> Answer<Watch> {
        let response = self.send("watch", &api::Watch { create_request }).await?;
        Ok(Watch { endpoint: self.endpoint(), body: response.into_body(), rest: BytesMut::new() })
    }

    async fn ask<T: DeserializeOwned>(&mut self, call: &str, request: &impl Serialize) -> Answer<T> {
        let response = self.send(call, request).await?;
        let body = match timeout(ANSWER, Limited::new(response.into_body(), LARGEST).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return Err(self.lost(&error.to_string())),
            Err(_) => return Err(self.lost("it stopped in the middle of an answer")),
        };
        serde_json::from_slice(&body).map_err(|error| {
            Failure::Refused(format!(
                "etcd at {} answers {call} with what is no such answer: {error}",
                self.endpoint()
            ))
        })
    }

    /// A connection that ended in the middle; the next request goes to the next server.
    fn lost(&mut self, why: &str) -> Failure {
        let failure = Failure::Unreachable(format!("etcd at {}: {why}", self.endpoint()));
        self.next();
        failure
    }

    fn next(&mut self) {
        self.current = (self.current + 1) % self.endpoints.len().max(1);
    }

    /// Asks one server after another, and logs in where that is wanted.
    async fn send(&mut self, call: &str, request: &impl Serialize) -> Answer<Response<Incoming>> {
        let body = serde_json::to_vec(request).map_err(|error| Failure::Refused(error.to_string()))?;
        let body = Bytes::from(body);
        let mut failures = Vec::new();
        for _ in 0..self.endpoints.len() {
            match self.send_to_current(call, body.clone()).await {
                Err(Failure::Unreachable(why)) => failures.push(why),
                answer => return answer,
            }
            self.next();
        }
        Err(Failure::Unreachable(format!("no server of etcd can be asked: {}", failures.join("; "))))
    }

    async fn send_to_current(&mut self, call: &str, body: Bytes) -> Answer<Response<Incoming>> {
        if self.login.is_some() && self.token.is_none() {
            self.log_in().await?;
        }
        match self.send_once(call, body.clone()).await? {
            Ok(response) => Ok(response),
            // A token lasts for minutes, and no longer than the server that made it.
            Err(refusal) if refusal.code == UNAUTHENTICATED && self.login.is_some() => {
                self.log_in().await?;
                self.send_once(call, body).await?.map_err(|refusal| self.refused(call, refusal))
            }
            Err(refusal) => Err(self.refused(call, refusal)),
        }
    }

    async fn log_in(&mut self) -> Answer<()> {
        self.token = None;
        let Some((name, password)) = &self.login else { return Ok(()) };
        let body = serde_json::to_vec(&api::Authenticate { name, password }).unwrap_or_default();
        let response = match self.send_once("auth/authenticate", body.into()).await? {
            Ok(response) => response,
            // Whose password would be wrong if nobody has one?
            Err(refusal) if refusal.message.contains("authentication is not enabled") => return Ok(()),
            Err(refusal) => return Err(self.refused("auth/authenticate", refusal)),
        };
        let text = small(response).await.unwrap_or_default();
        let answer: api::AuthenticateAnswer = serde_json::from_slice(&text).unwrap_or_default();
        self.token = HeaderValue::from_str(&answer.token).ok().filter(|token| !token.is_empty());
        Ok(())
    }

    /// The answer, or what the server has against it.
    async fn send_once(&self, call: &str, body: Bytes) -> Answer<Result<Response<Incoming>, Refusal>> {
        let endpoint = self.endpoint();
        let unreachable = |why: String| Failure::Unreachable(format!("{endpoint}: {why}"));
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{endpoint}{}/{call}", self.gateway))
            .header(CONTENT_TYPE, "application/json")
            // A server that has lost its cluster is to say so rather than to know nothing new for ever.
            .header("Grpc-Metadata-Hasleader", "true");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        let request = request.body(Full::new(body)).map_err(|error| unreachable(error.to_string()))?;
        let response = match timeout(ANSWER, self.http.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(unreachable(with_advice(causes(&error)))),
            Err(_) => return Err(unreachable(format!("no answer in {} s", ANSWER.as_secs()))),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(Ok(response));
        }
        let text = small(response).await.unwrap_or_default();
        let Ok(refusal) = serde_json::from_slice::<Refusal>(&text) else {
            return Err(unreachable(self.not_etcd(status, call, &text)));
        };
        // "etcdserver: no leader", "etcdserver: request timed out": another server may do better.
        if refusal.code == UNAVAILABLE || status == StatusCode::SERVICE_UNAVAILABLE {
            return Err(unreachable(refusal.message));
        }
        Ok(Err(refusal))
    }

    /// What an answer means that is not etcd's own, or not in its form.
    fn not_etcd(&self, status: StatusCode, call: &str, text: &[u8]) -> String {
        let text: String = String::from_utf8_lossy(text).trim().chars().take(200).collect();
        if status == StatusCode::NOT_FOUND {
            return format!(
                "there is no {}/{call}: is this etcd's client URL, is \"gateway\" right for its version (/v3beta for \
                 3.3), and is --enable-grpc-gateway on?",
                self.gateway
            );
        }
        if text.contains("CommonName of client") {
            return "its gateway wants a client's certificate without a common name (subject O=cnikit, no CN): who the client \
                    is, \"login\" says"
                .to_owned();
        }
        format!("HTTP status {status}: {}", text.escape_debug())
    }

    fn refused(&self, call: &str, refusal: Refusal) -> Failure {
        let advice = match refusal.message.as_str() {
            message if message.contains("invalid user ID or password") => {
                ": see \"login\" in the configuration"
            }
            message if message.contains("user name is empty") => ": etcd wants a user: give \"login\"",
            // Without one, it may take the gateway's own certificate for a user's.
            message if message.contains("permission denied") && self.login.is_none() => {
                ": etcd wants a user: give \"login\""
            }
            message if message.contains("permission denied") => {
                ": the user needs a role that may read and write the prefix (etcdctl role grant-permission)"
            }
            message if message.contains("database space exceeded") => ": compact and defragment it (etcdctl)",
            _ => "",
        };
        Failure::Refused(format!("etcd at {} refuses {call}: {}{advice}", self.endpoint(), refusal.message))
    }
}

/// A stream of events.
pub(super) struct Watch {
    endpoint: String,
    body: Incoming,
    rest: BytesMut,
}

impl Watch {
    /// The next of them. Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Answer<api::WatchAnswer> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1);
                return self.read(&line);
            }
            if self.rest.len() > LARGEST {
                return Err(self.ended(&format!("an event of more than {LARGEST} bytes")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.rest.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(error)) => return Err(self.ended(&causes(&error))),
                None => return Err(self.ended("it has ended the watch")),
            }
        }
    }

    /// Whether another one can be had without waiting.
    pub(super) fn has_more(&self) -> bool {
        self.rest.contains(&b'\n')
    }

    fn read(&self, line: &[u8]) -> Answer<api::WatchAnswer> {
        let streamed: Streamed<api::WatchAnswer> = serde_json::from_slice(line)
            .map_err(|error| self.ended(&format!("no event of a watch: {error}")))?;
        match (streamed.result, streamed.error) {
            (Some(answer), None) => Ok(answer),
            (_, Some(refusal)) => Err(self.ended(&refusal.message)),
            (None, None) => Err(self.ended("an empty answer")),
        }
    }

    fn ended(&self, why: &str) -> Failure {
        Failure::Unreachable(format!("etcd at {}: {why}", self.endpoint))
    }
}

fn endpoint(url: &str) -> Result<Uri, String> {
    let wrong =
        || format!("\"{}\" is no URL of an etcd server: https://192.168.1.11:2379", url.escape_debug());
    let uri: Uri = url.trim_end_matches('/').parse().map_err(|_| wrong())?;
    let scheme = uri.scheme().is_some_and(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
    if scheme && plain && uri.host().is_some_and(|host| !host.is_empty()) { Ok(uri) } else { Err(wrong()) }
}

/// `https://192.168.1.11:2379`
fn origin(endpoint: &Uri) -> String {
    let scheme = endpoint.scheme_str().unwrap_or("https");
    let authority = endpoint.authority().map_or("", |authority| authority.as_str());
    format!("{scheme}://{authority}")
}

fn password(login: &Login) -> Result<(String, String), String> {
    let file = &login.password_file;
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok((login.user.clone(), text.trim_end().to_owned()))
}

/// A small answer, where it is one.
async fn small(response: Response<Incoming>) -> Option<Bytes> {
    let body = timeout(ANSWER, Limited::new(response.into_body(), 1 << 16).collect()).await.ok()?.ok()?;
    Some(body.to_bytes())
}

/// An error and what it comes from, in one line.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = chain.map(ToString::to_string).collect();
    // Each may already repeat the next.
    texts.dedup_by(|next, before| before.ends_with(next.as_str()));
    texts.join(": ")
}

fn with_advice(why: String) -> String {
    let advice = match why.as_str() {
        text if text.contains("alert: BadCertificate") || text.contains("alert: CertificateRequired") => {
            " (it wants another certificate of this node: see tls.certificateFile)"
        }
        text if text.contains("UnknownIssuer") => " (another CA signed its certificate: see tls.caFile)",
        text if text.contains("not valid for name") => " (see tls.serverName)",
        text if text.contains("Connection refused") => " (is etcd running there?)",
        _ => "",
    };
    why + advice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_without_a_path() {
        assert_eq!(
            endpoint("https://192.168.1.11:2379/").map(|uri| origin(&uri)),
            Ok("https://192.168.1.11:2379".into())
        );
        assert_eq!(
            endpoint("http://[fd00::1]:2379").map(|uri| origin(&uri)),
            Ok("http://[fd00::1]:2379".into())
        );
        for wrong in ["", "192.168.1.11:2379", "ftp://a", "http://a/b", "http://a?b", "http://:1\n"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }
}
