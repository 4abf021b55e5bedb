//! What a cluster's first machine runs: etcd, kube-apiserver and kube-controller-manager, here on the switch of a lab.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cnikit_tests::Node;
use serde_json::{Value, json};

use crate::common::Families;

/// Where agents find the API.
pub(super) const HOST: &str = "192.168.1.1";
pub(super) const PORT: u16 = 6443;
/// Where an administrator finds it, when agents must not.
const OTHER_PORT: u16 = 7443;
/// Starting a server takes some seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The servers, ended when this is dropped.
pub(super) struct ControlPlane<'a> {
    switch: &'a Node,
    programs: PathBuf,
    directory: tempfile::TempDir,
    families: Families,
    watch_cache: WatchCache,
    port: u16,
    etcd: Option<Daemon>,
    api: Option<Daemon>,
    controllers: Option<Daemon>,
}

/// Whether the API server remembers what happened to Nodes, or each watch is one of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatchCache {
    Usual,
    NoneForNodes,
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the API server noted of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Noted {
    pub(super) verb: String,
    /// `nodes`, `nodes/status`.
    pub(super) resource: String,
    pub(super) code: u64,
}

impl<'a> ControlPlane<'a> {
    /// etcd and the API server run when this returns; nobody gives out subnets yet.
    pub(super) fn start(switch: &'a Node, families: Families, watch_cache: WatchCache) -> Self {
        let programs = std::env::var_os("CNIKIT_KUBERNETES")
            .expect("CNIKIT_KUBERNETES names the directory of kube-apiserver: run deploy/real-kubernetes");
        switch.shell(&format!(
            "ip link set lo up
             ip addr add {HOST}/24 dev segment; ip addr add fd01::1/64 dev segment nodad"
        ));
        let mut plane = Self {
            switch,
            programs: programs.into(),
            directory: tempfile::tempdir().unwrap(),
            families,
            watch_cache,
            port: PORT,
            etcd: None,
            api: None,
            controllers: None,
        };
        plane.write_keys();
        plane.start_etcd();
        plane.start_api();
        plane
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Keys and certificates, the administrator's kubeconfig, and what the server shall note.
    fn write_keys(&self) {
        fs::write(
            self.file("server.cnf"),
            format!(
                "subjectAltName=IP:{HOST},IP:fd01::1,IP:127.0.0.1,DNS:kubernetes.default.svc\n\
                 extendedKeyUsage=serverAuth"
            ),
        )
        .unwrap();
        fs::write(self.file("admin.cnf"), "extendedKeyUsage=clientAuth").unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        let signed = |name: &str, subject: &str| {
            format!(
                "openssl req -subj {subject} {key} -keyout {name}.key -out {name}.csr
                 openssl x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
                     -extfile {name}.cnf -out {name}.crt\n"
            )
        };
        self.switch.shell(&format!(
            "exec 2>&1; cd {}
             openssl req -x509 -days 2 -subj /CN=kubernetes {key} -keyout ca.key -out ca.crt
             openssl genrsa -out accounts.key 2048\n{}{}",
            self.directory.path().display(),
            signed("server", "/CN=kube-apiserver"),
            signed("admin", "/O=system:masters/CN=admin"),
        ));
        let account = "system:serviceaccount:kube-system:cnikit";
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [{ "level": "Metadata", "users": [account] }, { "level": "None" }],
        });
        fs::write(self.file("audit-policy"), policy.to_string()).unwrap();
        self.write_kubeconfig();
    }

    fn write_kubeconfig(&self) {
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{ "name": "lab", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port),
                "certificate-authority": self.file("ca.crt"),
            }}],
            "users": [{ "name": "admin", "user": {
                "client-certificate": self.file("admin.crt"), "client-key": self.file("admin.key"),
            }}],
            "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "admin" } }],
        });
        fs::write(self.file("kubeconfig"), kubeconfig.to_string()).unwrap();
    }

    fn spawn(&self, mut command: Command, name: &str) -> Daemon {
        let log = File::options().create(true).append(true).open(self.file(&format!("{name}.log"))).unwrap();
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Daemon(self.switch.inside(move || command.spawn().unwrap()))
    }

    fn start_etcd(&mut self) {
        let mut etcd = Command::new("etcd");
        etcd.args(["--data-dir", "etcd", "--log-level", "error"]);
        self.etcd = Some(self.spawn(etcd, "etcd"));
    }

    fn start_api(&mut self) {
        let mut api = Command::new(self.programs.join("kube-apiserver"));
        api.args(["--etcd-servers", "http://127.0.0.1:2379", "--authorization-mode", "Node,RBAC"])
            .args(["--bind-address", "::", "--advertise-address", HOST])
            .args(["--secure-port", &self.port.to_string()])
            .args(["--client-ca-file", "ca.crt"])
            .args(["--tls-cert-file", "server.crt", "--tls-private-key-file", "server.key"])
            .args(["--service-account-issuer", "https://kubernetes.default.svc"])
            .args(["--service-account-key-file", "accounts.key"])
            .args(["--service-account-signing-key-file", "accounts.key"])
            .args(["--audit-policy-file", "audit-policy", "--audit-log-path", "audit.log"])
            .args(self.of_families());
        if self.watch_cache == WatchCache::NoneForNodes {
            api.args(["--watch-cache-sizes", "nodes#0"]);
        }
        self.api = Some(self.spawn(api, "api"));
        self.wait("the API server is ready", |plane| {
            plane.kubectl(&["get", "--raw", "/readyz"], "").status.success()
        });
    }

    /// The controllers, of which one gives out subnets and another creates a DaemonSet's pods.
    pub(super) fn start_controllers(&mut self) {
        let cluster = match self.families {
            Families::V4 => "10.244.0.0/16",
            Families::V6 => "fd00:244::/48",
            Families::Both => "10.244.0.0/16,fd00:244::/48",
        };
        let mut controllers = Command::new(self.programs.join("kube-controller-manager"));
        controllers
            .args(["--kubeconfig", "kubeconfig", "--leader-elect=false", "--use-service-account-credentials"])
            .args(["--allocate-node-cidrs", "--cluster-cidr", cluster, "--configure-cloud-routes=false"])
            .args(["--root-ca-file", "ca.crt", "--service-account-private-key-file", "accounts.key"])
            .args(["--port", "0", "--secure-port", "0"])
            .args(self.of_families());
        self.controllers = Some(self.spawn(controllers, "controllers"));
    }

    fn of_families(&self) -> Vec<&'static str> {
        let services = "--service-cluster-ip-range";
        match self.families {
            Families::V4 => vec![services, "10.96.0.0/16"],
            Families::V6 => vec![services, "fd00:96::/112"],
            // Of 1.20, where it was new.
            Families::Both => {
                vec!["--feature-gates", "IPv6DualStack=true", services, "10.96.0.0/16,fd00:96::/112"]
            }
        }
    }

    /// The API server crashes, and with it what talks to it.
    pub(super) fn kill_api(&mut self) {
        self.controllers = None;
        self.api = None;
    }

    /// The API server runs again.
    pub(super) fn resume_api(&mut self) {
        self.start_api();
    }

    /// While no agent reaches the API, an administrator does something; then all but the newest state is forgotten. The
    /// API server must not be running.
    pub(super) fn meanwhile(&mut self, work: impl FnOnce(&mut Self)) {
        assert!(self.api.is_none(), "the API server is running");
        self.port = OTHER_PORT;
        self.write_kubeconfig();
        self.start_api();
        work(self);
        self.kill_api();
        self.compact();
        self.port = PORT;
        self.write_kubeconfig();
    }

    /// etcd throws away everything but the newest state.
    fn compact(&self) {
        let etcdctl = |arguments: &str| {
            self.switch.shell(&format!("ETCDCTL_API=3 etcdctl --endpoints http://127.0.0.1:2379 {arguments}"))
        };
        let status: Value = serde_json::from_str(&etcdctl("endpoint status --write-out json")).unwrap();
        etcdctl(&format!("compaction --physical {}", status[0]["Status"]["header"]["revision"]));
    }

    /// etcd is brought back to the state that it had when something began, as from a backup. The API server must not be
    /// running at the end.
    pub(super) fn restored_after(&mut self, work: impl FnOnce(&mut Self)) {
        let etcdctl = format!(
            "cd {}; ETCDCTL_API=3 etcdctl --endpoints http://127.0.0.1:2379 snapshot",
            self.directory.path().display()
        );
        self.switch.shell(&format!("{etcdctl} save backup 2>&1"));
        work(self);
        assert!(self.api.is_none(), "the API server is running");
        self.etcd = None;
        self.switch.shell(&format!("rm -r {}", self.file("etcd").display()));
        self.switch.shell(&format!("{etcdctl} restore backup --data-dir etcd 2>&1"));
        self.start_etcd();
    }

    /// Something else than Nodes is written so often that versions of before are small numbers.
    pub(super) fn write_much(&self) {
        self.switch.shell(
            "curl --silent --fail --output /dev/null --data '{\"key\":\"eA==\",\"value\":\"eA==\"}' \
                 'http://127.0.0.1:2379/v3/kv/put?[1-3000]'",
        );
    }

    /// What an administrator types.
    pub(super) fn kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let mut kubectl = Command::new(self.programs.join("kubectl"));
        kubectl
            .args(["--kubeconfig".as_ref(), self.file("kubeconfig").as_os_str()])
            .args(["--request-timeout", "20s"])
            .args(arguments)
            .env("HOME", self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.switch.inside(move || {
            let mut child = kubectl.spawn().unwrap();
            // Who does not read does not want it.
            let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
            child.wait_with_output().unwrap()
        })
    }

    /// The same, and it has to succeed.
    pub(super) fn admin(&self, arguments: &[&str], input: &str) -> String {
        let output = self.kubectl(arguments, input);
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.said()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// An object as it is now: `get("node/n1")`.
    pub(super) fn get(&self, what: &str) -> Value {
        serde_json::from_str(
            &self.admin(&["--namespace", "kube-system", "get", what, "--output", "json"], ""),
        )
        .unwrap()
    }

    /// What is given to clusters, given to this one; what was said to it.
    pub(super) fn apply(&self, manifest: &Path, options: &[&str]) -> String {
        self.admin(&[&["apply", "--filename", manifest.to_str().unwrap()], options].concat(), "")
    }

    /// A token of the agents' service account, as a kubelet puts it into a pod.
    pub(super) fn token(&self) -> String {
        let path = "/api/v1/namespaces/kube-system/serviceaccounts/cnikit/token";
        let wanted = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        let answer = self.admin(&["create", "--raw", path, "--filename", "-"], &wanted.to_string());
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    pub(super) fn authority(&self) -> String {
        fs::read_to_string(self.file("ca.crt")).unwrap()
    }

    /// What a kubelet does first: there is a Node.
    pub(super) fn register(&self, name: &str) {
        let metadata = json!({ "name": name, "labels": { "kubernetes.io/os": "linux" } });
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": metadata });
        self.admin(&["create", "--filename", "-"], &node.to_string());
    }

    /// Many requests: method, path and body of each.
    pub(super) fn request_all(&self, requests: impl Iterator<Item = (&'static str, String, Value)>) {
        let path = self.file("body");
        let mut batch = String::new();
        for (n, (method, resource, body)) in requests.enumerate() {
            let path = path.with_extension(n.to_string());
            fs::write(&path, body.to_string()).unwrap();
            if n > 0 {
                batch.push_str("next\n");
            }
            let kind = if method == "PATCH" { "merge-patch+json" } else { "json" };
            batch.push_str(&format!(
                "url = https://127.0.0.1:{PORT}/api/v1/{resource}\ncacert = {ca}\ncert = {cert}\nkey = {key}\nfail\n\
                 output = /dev/null\nrequest = {method}\nheader = \"Content-Type: application/{kind}\"\ndata = @{body}\n",
                ca = self.file("ca.crt").display(),
                cert = self.file("admin.crt").display(),
                key = self.file("admin.key").display(),
                body = path.display(),
            ));
        }
        fs::write(self.file("batch"), batch).unwrap();
        self.switch.shell(&format!("curl --silent --show-error --config {}", self.file("batch").display()));
    }

    /// What a kubelet does from then on: its Node is ready.
    pub(super) fn heartbeat(&self, name: &str) {
        let now = self.switch.shell("date --utc +%Y-%m-%dT%H:%M:%SZ");
        let condition = json!({
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
            "lastHeartbeatTime": now.trim(), "lastTransitionTime": now.trim(),
        });
        let patch = json!({ "status": { "conditions": [condition] } });
        self.switch.shell(&format!(
            "curl --silent --show-error --fail --output /dev/null --cacert {ca} --cert {cert} --key {key} --request PATCH \
                 --header 'Content-Type: application/merge-patch+json' --data '{patch}' \
                 https://127.0.0.1:{PORT}/api/v1/nodes/{name}/status",
            ca = self.file("ca.crt").display(),
            cert = self.file("admin.crt").display(),
            key = self.file("admin.key").display(),
        ));
    }

    /// What the API server noted of agents' requests.
    pub(super) fn noted(&self) -> Vec<Noted> {
        let log = fs::read_to_string(self.file("audit.log")).unwrap_or_default();
        let noted = |line: &str| {
            let event: Value = serde_json::from_str(line).ok()?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let object = &event["objectRef"];
            let resource = match object["subresource"].as_str() {
                Some(part) => format!("{}/{part}", text(&object["resource"])),
                None => text(&object["resource"]),
            };
            let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
            Some(Noted { verb: text(&event["verb"]), resource, code })
        };
        log.lines().filter_map(noted).collect()
    }

    /// Waits until something is so.
    pub(super) fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "{what}: not so\n{}", self.said());
            sleep(Duration::from_millis(100));
        }
    }

    /// The end of what each server said.
    pub(super) fn said(&self) -> String {
        let end = |name: &str| {
            let log = fs::read_to_string(self.file(&format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(15)..].join("\n"))
        };
        ["etcd", "api", "controllers"].map(end).concat()
    }
}
