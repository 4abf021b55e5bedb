//! What Prometheus reads (text format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::time::Duration;

use overlay::SubnetState;
use overlay::report::Way;

use crate::known::{Known, counts};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All of it.
pub(super) fn render(known: &Known) -> String {
    let mut page = Page::default();
    let (view, ways) = (known.view.borrow().clone(), known.ways.borrow().clone());
    page.gauge("cnikit_info", "Always 1; which agent this is.");
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("store", known.store.kind)];
    page.value("cnikit_info", &labels, 1);

    let counts = counts(&view.topology, &known.id);
    page.gauge("cnikit_peers", "Other nodes, by how they are.");
    for (state, count) in [
        ("alive", counts.alive),
        ("suspect", counts.suspect),
        ("down", counts.down),
        ("unknown", counts.unknown),
    ] {
        page.value("cnikit_peers", &[("state", state)], count);
    }

    let mut by_way = BTreeMap::from([("vxlan", 0), ("route", 0), ("router", 0), ("none", 0)]);
    for path in ways.paths.values() {
        let way = match path.way {
            Way::Vxlan { .. } => "vxlan",
            Way::Route { .. } => "route",
            Way::Router { .. } => "router",
            Way::None => "none",
        };
        *by_way.entry(way).or_default() += 1;
    }
    page.gauge("cnikit_peers_by_way", "Other nodes, by what packets to their pods do.");
    for (way, count) in by_way {
        page.value("cnikit_peers_by_way", &[("way", way)], count);
    }

    page.gauge("cnikit_pods", "Interfaces of pods on this node.");
    page.value("cnikit_pods", &[], known.local.borrow().pods.len());

    page.gauge("cnikit_subnets", "Subnets of this node, by how far they are its own.");
    for (word, state) in
        [("tentative", SubnetState::Tentative), ("held", SubnetState::Held), ("lost", SubnetState::Lost)]
    {
        let count = view.subnets.iter().filter(|subnet| subnet.state == state).count();
        page.value("cnikit_subnets", &[("state", word)], count);
    }

    page.gauge(
        "cnikit_conflicts",
        "What several nodes have and only one can: subnets, addresses, names, machine ids, MAC addresses.",
    );
    page.value("cnikit_conflicts", &[], view.topology.conflicts().len());

    page.gauge("cnikit_store_cut_off", "Whether the store is out of reach.");
    page.value("cnikit_store_cut_off", &[], u8::from(view.cut_off.is_some()));

    let traffic = &known.traffic;
    for (name, help, received, sent) in [
        (
            "cnikit_gossip_datagrams_total",
            "Datagrams between agents, by direction.",
            &traffic.received,
            &traffic.sent,
        ),
        (
            "cnikit_gossip_bytes_total",
            "Bytes between agents, by direction.",
            &traffic.received_bytes,
            &traffic.sent_bytes,
        ),
    ] {
        page.counter(name, help);
        page.value(name, &[("direction", "in")], received.get());
        page.value(name, &[("direction", "out")], sent.get());
    }
    page.counter("cnikit_gossip_refused_total", "What was not sealed with the cluster's key, or not new.");
    page.value("cnikit_gossip_refused_total", &[], traffic.refused.get());
    page.counter("cnikit_gossip_exchanges_total", "Streams that this agent began.");
    page.value("cnikit_gossip_exchanges_total", &[], traffic.exchanges.get());

    let kernel = &known.kernel;
    page.counter("cnikit_reconciles_total", "How often the kernel was brought to what is known.");
    page.value("cnikit_reconciles_total", &[], kernel.rounds.get());
    page.counter("cnikit_reconcile_seconds_total", "How long that took.");
    let microseconds = Duration::from_micros(kernel.microseconds.get());
    page.value("cnikit_reconcile_seconds_total", &[], microseconds.as_secs_f64());
    page.counter("cnikit_repairs_total", "How often others had changed what the kernel must hold.");
    page.value("cnikit_repairs_total", &[], kernel.repairs.get());
    page.counter("cnikit_reconcile_refusals_total", "How often the kernel did not take something.");
    page.value("cnikit_reconcile_refusals_total", &[], kernel.refusals.get());

    page.gauge("cnikit_ready", "Whether pods can be attached.");
    page.value("cnikit_ready", &[], u8::from(known.unready().is_none()));

    page.gauge("cnikit_uptime_seconds", "Since the agent was started.");
    page.value("cnikit_uptime_seconds", &[], known.started.elapsed().as_secs());

    if let Some(bytes) = resident_memory() {
        page.gauge("process_resident_memory_bytes", "Resident memory size in bytes.");
        page.value("process_resident_memory_bytes", &[], bytes);
    }
    page.0
}

/// `VmRSS` of proc(5), in bytes.
fn resident_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn gauge(&mut self, name: &str, help: &str) {
        self.head(name, "gauge", help);
    }

    fn counter(&mut self, name: &str, help: &str) {
        self.head(name, "counter", help);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Labels' values are words of ours: there is nothing to escape in them.
    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}
