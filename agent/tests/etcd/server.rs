//! The real server, and an administrator's client of it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server with a directory of its own; killed at the end.
pub struct Server {
    process: Option<Child>,
    directory: tempfile::TempDir,
    port: u16,
    peer_port: u16,
    tls: bool,
}

/// Whether there is one. It is an error if not, unless that was said before.
pub fn installed() -> bool {
    let is_there = |program: &str| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|path| path.join(program).exists())
    };
    let found = is_there("etcd") && is_there("etcdctl");
    let known = std::env::var_os("CNIKIT_WITHOUT_REFERENCE").is_some();
    assert!(
        found || known,
        "etcd or etcdctl is not installed: ./test does that, or set CNIKIT_WITHOUT_REFERENCE=1"
    );
    if !found {
        eprintln!("DID NOT RUN: CNIKIT_WITHOUT_REFERENCE is set, and there is no etcd");
    }
    found
}

impl Server {
    pub fn start() -> Self {
        let mut server = Self::stopped(false);
        server.resume();
        server
    }

    /// One that speaks TLS, and wants certificates of its clients. They are in its directory.
    pub fn with_tls() -> Self {
        let mut server = Self::stopped(true);
        for (name, extension) in [
            ("ca", ""),
            ("server", "subjectAltName=DNS:etcd.test\nextendedKeyUsage=serverAuth,clientAuth"),
            ("client", "extendedKeyUsage=clientAuth"),
            ("named", "extendedKeyUsage=clientAuth"),
        ] {
            server.certificate(name, extension);
        }
        server.resume();
        server
    }

    /// One that has a port, but does not run.
    pub fn stopped(tls: bool) -> Self {
        // Both at once, so that they differ.
        let ports: Vec<TcpListener> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |at: usize| ports[at].local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        Self { process: None, directory, port: port(0), peer_port: port(1), tls }
    }

    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls { "https" } else { "http" }, self.port)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub fn resume(&mut self) {
        let url = self.url();
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(self.file("data"));
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"]);
        if self.tls {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(self.file("ca.pem"));
            command
                .arg("--cert-file")
                .arg(self.file("server.pem"))
                .arg("--key-file")
                .arg(self.file("server.key"));
        }
        let log = std::fs::File::options().create(true).append(true).open(self.file("log")).unwrap();
        command.stdout(Stdio::null()).stderr(log).stdin(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        let began = Instant::now();
        while !self.etcdctl(&["endpoint", "health"]).status.success() {
            let log = std::fs::read_to_string(self.file("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(60), "etcd does not become healthy:\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What an administrator types, who is known to the server.
    pub fn etcdctl(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.url()]);
        if self.tls {
            let path = |name| self.file(name);
            command.arg("--cacert").arg(path("ca.pem")).arg("--cert").arg(path("client.pem"));
            command.arg("--key").arg(path("client.key")).arg("--insecure-skip-tls-verify");
        }
        command.args(arguments).output().unwrap()
    }

    /// The same, and it has to succeed.
    pub fn admin(&self, arguments: &[&str]) -> String {
        let output = self.etcdctl(arguments);
        assert!(
            output.status.success(),
            "etcdctl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The keys below a prefix.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let text = self.admin(&["get", "--prefix", "--keys-only", prefix]);
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Throws away everything but the newest state.
    pub fn compact(&self) {
        let status = self.admin(&["endpoint", "status", "--write-out", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let revision = status[0]["Status"]["header"]["revision"].to_string();
        self.admin(&["compaction", "--physical", &revision]);
    }

    fn certificate(&self, name: &str, extensions: &str) {
        let directory = self.directory.path();
        let openssl =
            |arguments: &[&str]| run(Command::new("openssl").args(arguments).current_dir(directory));
        let (key, pem, request) = (format!("{name}.key"), format!("{name}.pem"), format!("{name}.csr"));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", &key];
        // The gateway takes no client's certificate that has a common name.
        let subject = if name == "client" { "/O=cnikit".to_owned() } else { format!("/CN={name}") };
        if name == "ca" {
            let own = ["req", "-x509", "-days", "1", "-subj", &subject, "-out", &pem];
            return openssl(&[&own[..], &curve].concat());
        }
        openssl(&[&["req", "-subj", &subject, "-out", &request][..], &curve].concat());
        std::fs::write(directory.join("extensions"), extensions).unwrap();
        let signed =
            ["x509", "-req", "-in", &request, "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        openssl(&[&signed[..], &["-days", "1", "-extfile", "extensions", "-out", &pem]].concat());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A file with a text.
pub fn written(path: &Path, text: &str) -> PathBuf {
    std::fs::write(path, text).unwrap();
    path.to_owned()
}
