//! Somebody who answers as an agent does.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::node::CNIKIT;

/// A socket, and a thread that answers there for as long as the test runs.
pub(crate) struct Agent {
    directory: tempfile::TempDir,
}

impl Agent {
    pub(crate) fn new(status: Value, peer: Value, topology: Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("agent.sock")).unwrap();
        let answers =
            move |stream: io::Result<UnixStream>| answer(stream.unwrap(), &status, &peer, &topology);
        std::thread::spawn(move || listener.incoming().for_each(answers));
        Self { directory }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("agent.sock")
    }

    /// A place below the directory that goes with it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn cnikit(&self, words: &str) -> Output {
        let mut command = Command::new(CNIKIT);
        command.args(words.split_whitespace()).env("CNIKIT_AGENT", self.socket());
        command.env("COLUMNS", "120").env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).output().unwrap()
    }

    pub(crate) fn text(&self, words: &str) -> String {
        let output = self.cnikit(words);
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.text(words)).unwrap()
    }
}

fn answer(mut stream: UnixStream, status: &Value, peer: &Value, topology: &Value) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).unwrap();
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let (code, answer) = match head.lines().next().unwrap() {
        "GET /v1/status HTTP/1.0" => ("200 OK", status.clone()),
        "GET /v1/peers HTTP/1.0" => ("200 OK", json!([peer])),
        "GET /v1/topology HTTP/1.0"
        | "GET /v1/topology?pods=2 HTTP/1.0"
        | "GET /v1/topology?pods=0 HTTP/1.0" => ("200 OK", topology.clone()),
        "POST /v1/forget HTTP/1.0" if body == br#"{"node":"n2"}"# => {
            ("200 OK", json!({"node": peer["id"], "name": "n2", "subnets": peer["subnets"]}))
        }
        _ => ("404 Not Found", json!({"error": "no node is called so"})),
    };
    write!(stream, "HTTP/1.0 {code}\r\ncontent-type: application/json\r\n\r\n{answer}").unwrap();
}
