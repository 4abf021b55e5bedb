//! Asking this node's agent: HTTP on a unix socket, one question at a time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use overlay::report::{Forgotten, Map, Peer, Refusal, Status};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::exit::Exit;
use crate::failure::{Failure, exit_of_io};
use crate::places::variable;

/// Where an agent listens, if nobody says otherwise.
const USUAL_SOCKET: &str = "/run/cnikit/agent.sock";
/// How long the agent may take to say something. It answers from memory.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer: ten thousand nodes with a hundred pods each fit into it.
const LONGEST_ANSWER: u64 = 512 << 20;

/// How long the agent may look for the pods of other nodes, where it knows of none by itself (under Kubernetes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OthersPods {
    /// Until it has all of them, or whoever has them makes it wait too long.
    Wanted,
    /// For a moment: more is known with them, but not all is lost without.
    Welcome,
    /// Not at all.
    Needless,
}

/// Where this node's agent listens.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AgentSocket {
    /// Where this node's agent listens [env: CNIKIT_AGENT] [default: /run/cnikit/agent.sock]
    #[arg(long = "agent", value_name = "SOCKET", help_heading = "Places")]
    socket: Option<PathBuf>,
}

impl AgentSocket {
    /// Where another one listens.
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self { socket: Some(path.into()) }
    }

    /// How the node and its view of the others are.
    pub(crate) fn status(&self) -> Result<Status, Failure> {
        self.ask("GET", "/v1/status", "")
    }

    /// Every other node, and the way to it.
    pub(crate) fn peers(&self) -> Result<Vec<Peer>, Failure> {
        self.ask("GET", "/v1/peers", "")
    }

    /// Every node, with its pods.
    pub(crate) fn topology(&self, pods: OthersPods) -> Result<Map, Failure> {
        let resource = match pods {
            OthersPods::Wanted => "/v1/topology",
            OthersPods::Welcome => "/v1/topology?pods=2",
            OthersPods::Needless => "/v1/topology?pods=0",
        };
        self.ask("GET", resource, "")
    }

    /// Has a node forgotten by all.
    pub(crate) fn forget(&self, node: &str) -> Result<Forgotten, Failure> {
        self.ask("POST", "/v1/forget", &json!({ "node": node }).to_string())
    }

    /// The same on a node whose files are mounted elsewhere, unless somebody said where it is.
    pub(crate) fn under(&self, root: &Path) -> Self {
        let told = self.socket.clone().or_else(|| Some(variable("CNIKIT_AGENT")?.into()));
        let usual = || root.join(USUAL_SOCKET.trim_start_matches('/'));
        Self { socket: Some(told.unwrap_or_else(usual)) }
    }

    /// Whether there is something to ask.
    pub(crate) fn is_there(&self) -> bool {
        self.path().exists()
    }

    fn path(&self) -> PathBuf {
        let told = self.socket.clone().or_else(|| Some(variable("CNIKIT_AGENT")?.into()));
        told.unwrap_or_else(|| USUAL_SOCKET.into())
    }

    fn ask<T: DeserializeOwned>(&self, method: &str, resource: &str, body: &str) -> Result<T, Failure> {
        let path = self.path();
        let answer = exchange(&path, method, resource, body).map_err(|error| unreachable(&path, &error))?;
        let (status, body) = parse(&answer).ok_or_else(|| odd(&path, "it does not speak HTTP"))?;
        if status == 200 {
            return serde_json::from_slice(body).map_err(|error| odd(&path, &error.to_string()));
        }
        let refusal = serde_json::from_slice(body).map_or_else(
            |_| format!("{method} {resource} was answered with status {status}"),
            |Refusal { error }| error,
        );
        Err(Failure::new(Exit::Agent, refusal))
    }
}

/// One request and its answer, head and body. In HTTP/1.0 the end of the connection is the end of the answer.
fn exchange(socket: &Path, method: &str, resource: &str, body: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = format!("{method} {resource} HTTP/1.0\r\nHost: agent\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

/// The status and the body of an answer.
fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let mut words = head.lines().next()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    Some((words.next()?.parse().ok()?, answer.get(end + 4..)?))
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let exit = match exit_of_io(error) {
        Exit::Privilege => Exit::Privilege,
        _ => Exit::Agent,
    };
    let failure = Failure::new(exit, format!("ask the agent at {}: {error}", socket.display()));
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => failure
            .advise("no agent runs on this node: `cnikit agent` is one; --agent says where another listens"),
        io::ErrorKind::PermissionDenied => {
            failure.advise("run it as root, or as a member of the socket's group")
        }
        _ => failure,
    }
}

fn odd(socket: &Path, why: &str) -> Failure {
    Failure::new(Exit::Agent, format!("the answer of {} makes no sense: {why}", socket.display()))
        .advise("is it an agent's socket, and the agent of this version?")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Somebody who says something to one question, and tells what that was.
    fn answered<T: Send>(answer: &str, ask: impl FnOnce(AgentSocket) -> T + Send) -> (T, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| ask(AgentSocket { socket: Some(path) }));
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = vec![0; 4096];
            let length = stream.read(&mut question).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            drop(stream);
            (asked.join().unwrap(), String::from_utf8_lossy(&question[..length]).into_owned())
        })
    }

    #[test]
    fn a_node_is_named_in_the_body_of_what_forgets_it() {
        let answer = format!(
            "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{{\"node\":\"{}\",\"name\":\"n3\",\"subnets\":[]}}",
            "03".repeat(16)
        );
        let (forgotten, question) = answered(&answer, |agent| agent.forget("n3"));
        assert_eq!(forgotten.unwrap().name.as_str(), "n3");
        assert!(question.starts_with("POST /v1/forget HTTP/1.0\r\n"), "{question}");
        assert!(question.ends_with("\r\n\r\n{\"node\":\"n3\"}"), "{question}");
    }

    #[test]
    fn pods_of_other_nodes_are_waited_for_as_long_as_they_are_of_use() {
        for (pods, resource) in [
            (OthersPods::Wanted, "/v1/topology"),
            (OthersPods::Welcome, "/v1/topology?pods=2"),
            (OthersPods::Needless, "/v1/topology?pods=0"),
        ] {
            let (_, question) = answered("", |agent| agent.topology(pods));
            assert!(question.starts_with(&format!("GET {resource} HTTP/1.0\r\n")), "{question}");
        }
    }

    #[test]
    fn what_the_agent_refuses_is_said_in_its_words() {
        let answer = "HTTP/1.1 404 Not Found\r\n\r\n{\"error\":\"no node is called n9\"}";
        let (refused, _) = answered(answer, |agent| agent.forget("n9"));
        let failure = refused.unwrap_err();
        assert_eq!((failure.exit(), failure.message()), (Exit::Agent, Some("no node is called n9")));
    }

    #[test]
    fn answers_that_are_none_are_told_of() {
        for answer in
            ["", "hello", "HTTP/1.0 200 OK\r\n\r\n[]", "HTTP/1.0 200 OK\r\n\r\n{}", "HTTP/1.0 x\r\n\r\n{}"]
        {
            let (asked, _) = answered(answer, |agent| agent.status());
            let failure = asked.unwrap_err();
            assert!(failure.message().unwrap().contains("makes no sense"), "{answer:?}: {failure:?}");
        }
    }

    #[test]
    fn where_no_agent_is_that_is_said() {
        let nowhere = AgentSocket { socket: Some("/nonexistent/agent.sock".into()) };
        let failure = nowhere.status().unwrap_err();
        assert_eq!(failure.exit(), Exit::Agent);
        assert!(failure.advice()[0].contains("cnikit agent"), "{failure:?}");
    }
}
