//! What happened, for people: chapters that are read from top to bottom.

use std::time::Duration;

use overlay::report::Way;
use overlay::{Liveness, Mode};

use super::super::prose::{Prose, count, milliseconds};
use super::super::seclusion::Rights;
use super::drawing;
use super::matrix;
use super::report::{Attached, Capture, Cut, Deleted, Joined, Ping, Reached, Report, Seen, Setting};
use crate::failure::Failure;
use crate::output::{Cell, Column, Table, Tone};

/// Rows of a table that show all there is to learn.
const ENOUGH: usize = 12;

/// So many ways of a node are shown one by one.
const FEW: usize = 4;

/// Tells the story as it happens.
pub(super) struct Teller<'a>(pub(super) Prose<'a>);

impl Teller<'_> {
    /// Before anything is there.
    pub(super) fn scene(&mut self, setting: &Setting) -> Result<(), Failure> {
        let whose = match setting.rights {
            Rights::Root => "",
            Rights::UserNamespace => {
                " You are not root: it happens in a user namespace, in which this process is."
            }
        };
        let nodes = count(setting.nodes.len(), "node");
        self.0.heading(&format!("cnikit demo: {nodes}, one pod network"), None)?;
        self.0.words(&format!(
            "Everything below happens in namespaces of this process and its children. Nothing else on this machine is \
             touched, and nothing is left when it ends.{whose}"
        ))
    }

    /// Chapter 1.
    pub(super) fn joined(
        &mut self,
        setting: &Setting,
        joined: &[Joined],
        took: Duration,
    ) -> Result<(), Failure> {
        self.0.heading("1. Nodes on a segment, and an agent on each", Some(took))?;
        self.0.words(
            "Each node is a network namespace with a cable to one segment. `cnikit agent` runs in each: the agents know \
             one address to begin with and a key, find one another by gossip, and agree on who has which part of \
             10.244.0.0/16. Then each makes the way to every other node's pods.",
        )?;
        self.0.line("")?;
        let mut table = Table::new([
            Column::whole("NODE"),
            Column::whole("ADDRESS"),
            Column::whole("SUBNET"),
            Column::number("READY"),
            Column::whole("WAYS TO OTHERS"),
            Column::number("MTU"),
        ]);
        for node in joined.iter().take(ENOUGH) {
            let subnets = node.subnets.iter().map(ToString::to_string);
            let subnets = if node.is_router { vec!["passes on".to_owned()] } else { subnets.collect() };
            table.row([
                Cell::new(Tone::Heading, &node.node),
                Cell::from(node.address.to_string()),
                Cell::lines(Tone::Plain, subnets),
                Cell::from(milliseconds(node.ready)),
                Cell::lines(Tone::Plain, ways(&node.ways)),
                Cell::lines(Tone::Plain, mtus(&node.ways)),
            ]);
        }
        self.0.table(&table)?;
        self.more(joined.len().saturating_sub(ENOUGH), "node")?;
        self.0.line("")?;
        self.0.words(match setting.mode {
            Mode::Auto => {
                "Mode auto: a node on the same segment is reached by a plain route, once a probe with pods' addresses \
                 has come back that way; any other through a tunnel."
            }
            Mode::Vxlan => "Mode vxlan: what is for another node's pods goes through a tunnel, on whatever segment it is.",
            Mode::Route => "Mode route: what is for another node's pods goes to that node as it is.",
            Mode::Router => {
                "Mode router: nodes send everything to one node more, which has no pods and knows where each subnet is."
            }
        })
    }

    /// Chapter 2.
    pub(super) fn attached(
        &mut self,
        joined: &[Joined],
        pods: &[Attached],
        known: Duration,
    ) -> Result<(), Failure> {
        self.0.heading("2. ADD: pods", Some(pods.iter().map(|pod| pod.took).sum()))?;
        let slowest = pods.iter().map(|pod| pod.took).max().unwrap_or_default();
        self.0.words(&format!(
            "The runtime of each node has the plugin `overlay` attach {}: it takes an address of the node's subnet, from \
             what the agent has written down, and asks nobody. The slowest ADD took {}. {} later every agent knew every \
             pod by name.",
            count(pods.len(), "pod"),
            milliseconds(slowest),
            milliseconds(known)
        ))?;
        self.0.line("")?;
        if !self.0.quiet {
            let (width, charset, style) = (self.0.width(), self.0.charset, self.0.output.style());
            self.0.output.line(drawing::network(joined, pods, width, charset, style))?;
        }
        Ok(())
    }

    /// Chapter 3.
    pub(super) fn pings(&mut self, pods: &[Attached], pings: &[Ping], took: Duration) -> Result<(), Failure> {
        self.0.heading("3. Does everybody reach everybody?", Some(took))?;
        self.0.words(
            "Every pod asks every other for an echo (ICMP), and that one looks who asks. Times are those of the fastest of \
             a few answers; the very first takes longer, for nobody knows the other's hardware address yet.",
        )?;
        self.0.line("")?;
        self.0.table(&matrix::table(pods, pings, self.0.charset))?;
        self.0.line("")?;
        let good = pings.iter().filter(|ping| ping.is_good()).count();
        if good == pings.len() {
            self.0.words(&format!(
                "All {good} pairs: answered, and each was seen by the pod's own address. There is no NAT between pods."
            ))?;
        } else {
            self.0.words(&format!("{good} of {} pairs are as they should be.", pings.len()))?;
        }
        self.failures(pings)
    }

    /// Chapter 4.
    pub(super) fn capture(
        &mut self,
        capture: Option<&Capture>,
        probe: Option<&Capture>,
    ) -> Result<(), Failure> {
        self.0.heading("4. On the wire", None)?;
        let Some(capture) = capture else {
            return self.0.words("No packet was caught: something is wrong.");
        };
        let how = if capture.is_wrapped() {
            "It is wrapped: to the segment it is a datagram from one node to the other, and what pods say to one another is \
             inside."
        } else {
            "It is not wrapped: the segment sees pods' own addresses, and the frame goes to the next node's hardware \
             address."
        };
        self.0.words(&format!(
            "One echo request from {} to {}, {} bytes, caught on the cable of {}. {how}",
            capture.from, capture.to, capture.bytes, capture.node
        ))?;
        self.picture(capture, "from pod to pod")?;
        let Some(probe) = probe else { return Ok(()) };
        self.0.line("")?;
        self.0.words(&format!(
            "It was wrapped as long as nobody knew that it need not be. This is how the agent of {} tried the tunnel to {}: {} \
             bytes, which to the segment are a datagram from one node to the other.",
            probe.from, probe.to, probe.bytes
        ))?;
        self.picture(probe, "from bridge to bridge, as pods' packets go")
    }

    fn picture(&mut self, capture: &Capture, within: &str) -> Result<(), Failure> {
        self.0.line("")?;
        if !self.0.quiet {
            let picture = drawing::packet(capture, within, self.0.charset, self.0.output.style());
            self.0.output.line(picture)?;
        }
        Ok(())
    }

    /// Chapter 5.
    pub(super) fn cut(&mut self, cut: Option<&Cut>, took: Duration) -> Result<(), Failure> {
        let Some(cut) = cut else { return Ok(()) };
        let Cut { node, seen, meanwhile, attached, back, new_pod, healed } = cut;
        self.0.heading(&format!("5. {node} is cut off, and comes back"), Some(took))?;
        self.0.words(&format!(
            "Its cable is pulled. {}. Routes to it stay: it may be back at once.",
            noticed(seen)
        ))?;
        let good = meanwhile.iter().filter(|ping| ping.is_good()).count();
        self.0.words(&format!(
            "Meanwhile, of {} pairs of pods with no cut between them, {good} talked. {}",
            meanwhile.len(),
            match attached {
                Some(pod) => format!("{} was attached on {node} all the same, in {}.", pod.pod, milliseconds(pod.took)),
                None => format!("On {node} no pod could be attached."),
            }
        ))?;
        let told = |time: &Option<Duration>| time.map_or_else(|| "never".to_owned(), seconds);
        self.0.words(&format!(
            "Its cable is plugged in. A pod there answered every other node after {}, the new one after {}, and all agents \
             saw one another again after {}.",
            told(back),
            told(new_pod),
            told(healed)
        ))?;
        self.failures(meanwhile)
    }

    /// Chapter 6.
    pub(super) fn without_agents(&mut self, pings: &[Ping]) -> Result<(), Failure> {
        self.0.heading("6. Every agent is killed", None)?;
        let good = pings.iter().filter(|ping| ping.is_good()).count();
        let slowest = pings.iter().filter_map(|ping| ping.first).max().unwrap_or_default();
        self.0.words(&format!(
            "The way of a packet is the kernel's: {good} of {} pairs of pods on different nodes still talk, and none of their \
             first answers took longer than {}.",
            pings.len(),
            milliseconds(slowest)
        ))?;
        self.failures(pings)
    }

    /// Between the chapters, for those who want to look around.
    pub(super) fn kept(&mut self, setting: &Setting, pods: &[Attached]) -> Result<(), Failure> {
        self.0.heading("All of this is yours until you press Enter", None)?;
        self.0.words("To look around, in another terminal:")?;
        self.0.line("")?;
        let pid = setting.pid;
        let enter = match setting.rights {
            Rights::Root => "sudo nsenter".to_owned(),
            Rights::UserNamespace => format!("nsenter --target {pid} --user --preserve-credentials"),
        };
        self.0.line(format_args!("    {enter} --net=/proc/{pid}/ns/net    # the segment"))?;
        for place in &setting.nodes {
            self.0.line(format_args!("    {enter} --net={}    # {}", place.netns, place.node))?;
        }
        for pod in pods {
            self.0.line(format_args!("    {enter} --net={}    # {}", pod.netns, pod.pod))?;
        }
        self.0.output.flush()
    }

    /// Chapter 7.
    pub(super) fn deleted(&mut self, deleted: &Deleted) -> Result<(), Failure> {
        self.0.heading("7. DEL: nothing is left", Some(deleted.took))?;
        let pods = capitalised(&count(deleted.pods, "pod"));
        if deleted.left.is_empty() {
            return self.0.words(&format!(
                "{pods} are detached, without an agent. Looked for were interfaces in the pods, cables on the nodes and \
                 results in the runtimes' caches: none is left."
            ));
        }
        self.0.words(&format!("{pods} are detached. Left are: {}.", deleted.left.join(", ")))
    }

    /// The end.
    pub(super) fn verdict(&mut self, report: &Report) -> Result<(), Failure> {
        self.0.line("")?;
        if self.0.quiet {
            return Ok(());
        }
        let took = seconds(report.took);
        let style = self.0.output.style();
        if report.is_good() {
            self.0.output.line(style.paint(Tone::Good, &format!("Everything worked, in {took}.")))?;
            self.0.words(
                "Next: `cnikit demo --mode vxlan` sends all of it through tunnels, `--keep` lets you look around in here, \
                 `--nodes 1` shows what a runtime and its plugins say to one another.",
            )
        } else {
            self.0.output.line(style.paint(Tone::Bad, &format!("Not everything worked ({took}): see above.")))
        }
    }

    fn failures(&mut self, pings: &[Ping]) -> Result<(), Failure> {
        for ping in pings.iter().filter(|ping| !ping.is_good()).take(ENOUGH) {
            let why = match (&ping.error, ping.then, ping.seen_as) {
                (Some(error), ..) => error.clone(),
                (None, None, _) => format!("{} to {}: no answer", ping.from, ping.to),
                (None, Some(_), Some(seen)) => format!("{} to {}: seen as {seen}", ping.from, ping.to),
                (None, Some(_), None) => format!("{} to {}: not seen there", ping.from, ping.to),
            };
            self.0.words(&why)?;
        }
        Ok(())
    }

    fn more(&mut self, hidden: usize, what: &str) -> Result<(), Failure> {
        self.0.more(hidden, what)
    }
}

/// Who saw it how; of many, the slowest.
fn noticed(seen: &[Seen]) -> String {
    let told = |seen: &Seen| format!("{} saw it {} after {}", seen.by, seen.liveness, seconds(seen.after));
    if seen.len() <= FEW {
        return seen.iter().map(told).collect::<Vec<_>>().join(", ");
    }
    let alive = seen.iter().filter(|seen| seen.liveness == Liveness::Alive).count();
    let slowest = seen.iter().map(|seen| seen.after).max().unwrap_or_default();
    format!("{} of {} others noticed within {}", seen.len() - alive, seen.len(), seconds(slowest))
}

/// `n2 route`; of many ways, how many there are of each kind.
fn ways(ways: &[Reached]) -> Vec<String> {
    if ways.len() <= FEW {
        return ways.iter().map(|reached| format!("{} {}", reached.node, kind(reached.path.way))).collect();
    }
    let kinds = ["route", "tunnel", "router", "none"];
    let number = |which: &str| ways.iter().filter(|reached| kind(reached.path.way) == which).count();
    kinds
        .into_iter()
        .map(|which| (number(which), which))
        .filter(|(number, _)| *number > 0)
        .map(told)
        .collect()
}

fn told((number, kind): (usize, &str)) -> String {
    format!("{number} by {kind}")
}

/// The MTU of each way; of many, the smallest.
fn mtus(ways: &[Reached]) -> Vec<String> {
    let mtus = ways.iter().map(|reached| reached.path.mtu);
    if ways.len() <= FEW {
        return mtus.map(|mtu| mtu.to_string()).collect();
    }
    mtus.min().into_iter().map(|mtu| mtu.to_string()).collect()
}

const fn kind(way: Way) -> &'static str {
    match way {
        Way::Vxlan { .. } => "tunnel",
        Way::Route { .. } => "route",
        Way::Router { .. } => "router",
        Way::None => "none",
    }
}

fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(1) { milliseconds(time) } else { format!("{:.1} s", time.as_secs_f64()) }
}

/// As a sentence begins.
fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
