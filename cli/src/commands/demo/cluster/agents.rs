//! The agents: this very program, a process on each node.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use overlay::report::{Map, Status};
use overlay::{Liveness, Mode};

use super::world::{INTERFACE, NETWORK, Node, World};
use crate::agent_socket::{AgentSocket, OthersPods};
use crate::exit::Exit;
use crate::failure::Failure;

/// This program, whatever has become of its file.
const OURSELVES: &str = "/proc/self/exe";
/// How long an agent may take to get a subnet, and to hear of all others.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const MOMENT: Duration = Duration::from_millis(20);
/// Lines of an agent's log that say why it failed.
const LAST_LINES: usize = 5;

/// The agents, in the order of the nodes. They end with this value, and with this process, however that ends.
pub(super) struct Agents {
    children: Vec<Child>,
    started: Instant,
    asked: Vec<Asked>,
}

/// An agent, as it is asked.
pub(super) struct Asked {
    pub(super) node: String,
    pub(super) socket: AgentSocket,
    log: PathBuf,
}

impl Agents {
    /// Starts one on every node.
    pub(super) fn start(world: &World, mode: Mode) -> Result<Self, Failure> {
        let key = world.dir.join("key");
        write_key(&key)?;
        let mut agents = Self { children: Vec::new(), started: Instant::now(), asked: Vec::new() };
        let seed = world.nodes.first().map(|node| node.address.to_string()).unwrap_or_default();
        for node in &world.nodes {
            let log = world.dir.join(format!("{}.log", node.name));
            agents.children.push(start(node, mode, &seed, &key, &log)?);
            let socket = AgentSocket::at(node.run_dir.join("agent.sock"));
            agents.asked.push(Asked { node: node.name.clone(), socket, log });
        }
        Ok(agents)
    }

    /// Each agent, in the order of the nodes.
    pub(super) fn all(&self) -> &[Asked] {
        &self.asked
    }

    /// Waits until every node has a subnet, but for a router. Returns when each had, and how it is.
    pub(super) fn until_ready(&mut self) -> Result<Vec<(Duration, Status)>, Failure> {
        let mut ready: Vec<Option<(Duration, Status)>> = self.asked.iter().map(|_| None).collect();
        while let Some(late) = ready.iter().position(Option::is_none) {
            self.look_after(late, "waiting for a subnet")?;
            for (asked, ready) in self.asked.iter().zip(&mut ready).filter(|(_, ready)| ready.is_none()) {
                *ready = asked
                    .socket
                    .status()
                    .ok()
                    .filter(|status| status.ready)
                    .map(|s| (self.started.elapsed(), s));
            }
            sleep(MOMENT);
        }
        Ok(ready.into_iter().flatten().collect())
    }

    /// Waits until every agent knows, or has known, what somebody wishes. Returns that.
    pub(super) fn until_known(
        &mut self,
        what: &str,
        is_so: impl Fn(&Map) -> bool,
    ) -> Result<Vec<Map>, Failure> {
        self.started = Instant::now();
        let mut known: Vec<Option<Map>> = self.asked.iter().map(|_| None).collect();
        while let Some(late) = known.iter().position(Option::is_none) {
            self.look_after(late, what)?;
            for (asked, known) in self.asked.iter().zip(&mut known).filter(|(_, known)| known.is_none()) {
                *known = asked.socket.topology(OthersPods::Wanted).ok().filter(&is_so);
            }
            sleep(MOMENT);
        }
        Ok(known.into_iter().flatten().collect())
    }

    /// Kills them all, as a crash would.
    pub(super) fn kill(&mut self) {
        for child in &mut self.children {
            // One that has ended already is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.clear();
    }

    /// Fails if an agent has ended, or one takes too long.
    fn look_after(&mut self, late: usize, what: &str) -> Result<(), Failure> {
        for (child, asked) in self.children.iter_mut().zip(&self.asked) {
            if let Ok(Some(status)) = child.try_wait() {
                let why = format!("the agent of {} has ended ({status})", asked.node);
                return Err(Failure::new(Exit::Failed, why).advise(last_lines(&asked.log)));
            }
        }
        match self.asked.get(late).filter(|_| self.started.elapsed() > PATIENCE) {
            None => Ok(()),
            Some(Asked { node, log, .. }) => {
                let why = format!("the agent of {node} takes longer than {} s: {what}", PATIENCE.as_secs());
                Err(Failure::new(Exit::TryAgain, why).advise(last_lines(log)))
            }
        }
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether an agent sees all others, and knows a way to each that has pods.
pub(super) fn sees_all(map: &Map, nodes: usize) -> bool {
    map.nodes.len() == nodes
        && map.nodes.iter().all(|node| match &node.path {
            None => true,
            Some(path) => node.liveness == Liveness::Alive && path.way != overlay::report::Way::None,
        })
}

fn start(node: &Node, mode: Mode, seed: &str, key: &Path, log: &Path) -> Result<Child, Failure> {
    let failed = |what: &str, error: std::io::Error| {
        Failure::new(Exit::Failed, format!("{what} the agent of {}: {error}", node.name))
    };
    let log = File::create(log).map_err(|error| failed("write the log of", error))?;
    let mut command = Command::new(OURSELVES);
    command
        .arg("agent")
        .args(["--network", NETWORK, "--node-name", &node.name, "--mode", mode.as_str()])
        .args(["--role", if node.is_router { "router" } else { "worker" }])
        .args(["--store", "gossip", "--gossip-seeds", seed, "--gossip-key-file"])
        .arg(key)
        .args(["--underlay-interface", INTERFACE])
        .arg("--health-enabled=false");
    for (flag, directory) in [
        ("--state-dir", &node.state_dir),
        ("--run-dir", &node.run_dir),
        ("--cni-data-dir", &node.data_dir),
        ("--cni-cache-dir", &node.cache_dir),
    ] {
        command.arg(flag).arg(directory);
    }
    command
        // What a person has set for an agent of this machine is not for these.
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    node.namespace.spawn(&mut command)?.map_err(|error| failed("start", error))
}

/// A key of this demo's own.
fn write_key(path: &Path) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Exit::Failed, format!("write {}: {error}", path.display()));
    let mut key = [0; 32];
    std::io::Read::read_exact(&mut File::open("/dev/urandom").map_err(failed)?, &mut key).map_err(failed)?;
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(format!("{text}\n").as_bytes())).map_err(failed)
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
    if last.is_empty() { "its log is empty".to_owned() } else { format!("its log says: {}", last.join("; ")) }
}
