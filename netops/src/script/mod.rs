//! The commands that a person would type to get the same state.
//!
//! ```
//! use netops::{Address, Link, LinkKind, LinkName, Place, Plan, Resource, Script};
//!
//! let bridge = LinkName::new("cni0")?;
//! let mut plan = Plan::new();
//! plan.share(Place::Host, Resource::Link(Link::new(bridge.clone(), LinkKind::Bridge { vlan_filtering: false })))
//!     .share(Place::Host, Resource::Address(Address::new(bridge.clone(), "10.22.0.1/16".parse()?)))
//!     .own(Place::Container, Resource::LinkUp(LinkName::loopback()));
//!
//! let mut script = Script::new("blue");
//! plan.apply(&mut script)?;
//! let commands: Vec<_> = script.commands().iter().map(ToString::to_string).collect();
//! assert_eq!(
//!     commands,
//!     [
//!         "ip link add name cni0 type bridge",
//!         "ip address add 10.22.0.1/16 broadcast + dev cni0",
//!         "ip -n blue link set dev lo up",
//!     ]
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! As text, a script is one for a POSIX shell, with a comment on each step: `cargo run --example explain`.
//!
//! Nothing is looked up: a script starts from a node where nothing exists yet. It needs iproute2, procps' `sysctl`,
//! nftables and, for the host's own packet filter, iptables.

mod comment;
mod foreign;
mod forwarding;
mod link;
mod nft;
mod overlay;
mod port_mapping;
mod shaping;
mod shell;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::Error;
use crate::kernel::{Answer, Created, Edit, Kernel, LinkState, Query, Removed};
use crate::name::LinkName;
use crate::place::Place;
use crate::resource::{Address, IpVersion, Master, Resource, Route, RouteTarget, Rule, Selector, Sysctl};

/// A [`Kernel`] that writes down the commands of `ip`, `bridge`, `tc`, `sysctl`, `nft` and `iptables` for what it is asked
/// for. Its
/// `Display` is a POSIX shell script.
#[derive(Debug, Clone)]
pub struct Script {
    container: Option<String>,
    commands: Vec<Command>,
    /// The routes so far, by namespace.
    routes: Vec<(Option<String>, Route)>,
    /// The prefixes that are on the node's links, by those.
    on_links: Vec<(IpNet, LinkName)>,
}

/// A command, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Command {
    /// What it is for, in a sentence. The same for all commands that one resource takes.
    pub comment: String,
    /// The program.
    pub program: String,
    /// Its arguments, not quoted.
    pub args: Vec<String>,
}

impl Script {
    /// A script for a node and a container, whose namespace has a name (as `ip netns add` gives it; a file in
    /// `/run/netns`) or a path.
    pub fn new(container: &str) -> Self {
        Self { container: Some(container.to_owned()), ..Self::host_only() }
    }

    /// A script for a node only ([`Error::NoContainer`]).
    pub fn host_only() -> Self {
        Self { container: None, commands: Vec::new(), routes: Vec::new(), on_links: Vec::new() }
    }

    /// The commands, in order.
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// The interface that leads to an address of its link.
    fn link_to(&self, address: IpAddr) -> Option<LinkState> {
        let reaches = |(net, _): &&(IpNet, LinkName)| net.contains(&address);
        let (_, link) = self.on_links.iter().filter(reaches).max_by_key(|(net, _)| net.prefix_len())?;
        Some(LinkState::new(0, link.clone(), ""))
    }

    fn remember(&mut self, place: Place, resource: &Resource) {
        match resource {
            Resource::Address(address) if place == Place::Host && address.prefix_route => {
                self.on_links.push((address.net, address.link.clone()));
            }
            Resource::Route(Route {
                destination,
                target: RouteTarget::Link { link, gateway: None, .. },
                ..
            }) if place == Place::Host => self.on_links.push((*destination, link.clone())),
            _ => {}
        }
    }

    fn create_one(&mut self, place: Place, resource: &Resource) -> Result<(), Error> {
        let mut step = Step::new(self, place, comment::of(place, resource))?;
        match resource {
            Resource::Link(link) => step.add_link(link)?,
            Resource::LinkUp(link) => step.ip(["link", "set", "dev", link.as_str(), "up"]),
            Resource::Master(Master { link, master }) => {
                step.ip(["link", "set", "dev", link.as_str(), "master", master.as_str()]);
            }
            Resource::LinkDown(link) => step.ip(["link", "set", "dev", link.as_str(), "down"]),
            Resource::MovedLink(moved) => step.bring(moved),
            Resource::Promiscuous(link) => step.ip(["link", "set", "dev", link.as_str(), "promisc", "on"]),
            Resource::Settings(settings) => step.set_link(settings),
            // A script makes the bridge itself, with an address.
            Resource::FixedMac(_) => {}
            Resource::Port(port) => step.set_port(port),
            Resource::Address(address) => step.add_address(address),
            Resource::Settled(link) => step.wait_for_addresses(link.as_str()),
            Resource::Route(route) => step.add_route(route),
            Resource::NoRoute(route) => step.route("delete", route),
            Resource::NextHop(hop) => step.next_hop("add", hop),
            Resource::Neighbour(neighbour) => step.neighbour("add", neighbour),
            Resource::Proxy(proxy) => step.proxy("replace", proxy),
            Resource::Fdb(entry) => step.fdb("add", entry),
            Resource::Rule(rule) => step.rule("add", rule),
            Resource::Sysctl(sysctl) => step.set_sysctl(sysctl),
            Resource::Qdisc(qdisc) => step.add_qdisc(qdisc),
            Resource::Redirect(redirect) => step.add_redirect(redirect),
            Resource::Entry(entry) => step.add_entry(entry)?,
            Resource::Foreign(rules) => return Err(step.refuse_foreign(rules)),
            Resource::Isolation(isolation) => step.isolate(isolation)?,
            Resource::ForwardJump(jump) => step.make_way(jump),
            Resource::OverlayRules(wanted) => step.overlay_rules(wanted),
        }
        self.remember(place, resource);
        Ok(())
    }

    fn remove_one(&mut self, place: Place, resource: &Resource) -> Result<(), Error> {
        let mut step = Step::new(self, place, comment::of_removal(place, resource))?;
        match resource {
            Resource::Link(link) => step.ip(["link", "delete", "dev", link.name.as_str()]),
            Resource::LinkUp(link) => step.ip(["link", "set", "dev", link.as_str(), "down"]),
            Resource::Master(master) => step.ip(["link", "set", "dev", master.link.as_str(), "nomaster"]),
            Resource::MovedLink(moved) => step.take_back(moved),
            Resource::Promiscuous(link) => step.ip(["link", "set", "dev", link.as_str(), "promisc", "off"]),
            Resource::Address(address) => {
                step.ip(["address", "delete", &address.net.to_string(), "dev", address.link.as_str()]);
            }
            Resource::Route(route) => step.route("delete", route),
            Resource::NextHop(hop) => step.remove_next_hop(hop),
            Resource::Neighbour(neighbour) => step.remove_neighbour(neighbour),
            Resource::Proxy(proxy) => step.remove_proxy(proxy),
            Resource::Fdb(entry) => step.remove_fdb(entry),
            Resource::OverlayRules(_) => step.remove_overlay_rules(),
            Resource::Qdisc(qdisc) => step.remove_qdisc(qdisc),
            Resource::Redirect(redirect) => step.remove_redirect(redirect),
            Resource::Rule(rule) => step.rule("delete", rule),
            Resource::Entry(entry) => step.remove_entry(entry)?,
            Resource::Foreign(rules) => step.remove_foreign(rules),
            Resource::Isolation(isolation) => step.end_isolation(isolation)?,
            Resource::Settings(_)
            | Resource::LinkDown(_)
            | Resource::FixedMac(_)
            | Resource::NoRoute(_)
            | Resource::Port(_)
            | Resource::Settled(_)
            | Resource::Sysctl(_)
            | Resource::ForwardJump(_) => {}
        }
        Ok(())
    }
}

impl Kernel for Script {
    /// Nothing is there, but for what the script itself leads to. (A sysctl has no value: unlike any that is wanted.)
    fn read(&mut self, _: Place, queries: &[Query]) -> Result<Vec<Answer>, Error> {
        let nothing = |query: &Query| match query {
            Query::LinkTo(address) => Answer::Links(self.link_to(*address).into_iter().collect()),
            Query::Link(_) | Query::Links | Query::Peer(_) => Answer::Links(Vec::new()),
            Query::Port(_) => Answer::Port(None),
            Query::Addresses(_) | Query::PeerAddresses(_) => Answer::Addresses(Vec::new()),
            Query::Routes(_) | Query::DefaultRoutes | Query::RoutesOf { .. } => Answer::Routes(Vec::new()),
            Query::RouteTo(_) => Answer::Way(None),
            Query::NextHop(_) | Query::NextHops(_) => Answer::NextHops(Vec::new()),
            Query::NeighbourOf(..) | Query::NeighboursOn(_) => Answer::Neighbours(Vec::new()),
            Query::Proxies => Answer::Proxies(Vec::new()),
            Query::FdbOf(..) | Query::FdbOn(_) => Answer::Fdb(Vec::new()),
            Query::OverlayRules => Answer::OverlayRules(None),
            Query::Rules => Answer::Rules(Vec::new()),
            Query::Tables => Answer::Tables(Vec::new()),
            Query::Sysctl(_) => Answer::Sysctl(Some(String::new())),
            Query::Qdiscs(_) => Answer::Qdiscs(Vec::new()),
            Query::Redirects(_) => Answer::Redirects(Vec::new()),
            Query::Entry(_) | Query::Entries(_) => Answer::Entries(Vec::new()),
            Query::Foreign(_) => Answer::Foreign(false),
            Query::Comments(_) => Answer::Comments(Vec::new()),
            Query::Droppers => Answer::Chains(Vec::new()),
            Query::Carrier(_) | Query::Isolation(_) | Query::ForwardJump(_) => Answer::Present(false),
        };
        Ok(queries.iter().map(nothing).collect())
    }

    fn create(&mut self, place: Place, resources: &[&Resource]) -> Vec<Result<Created, Error>> {
        resources.iter().map(|resource| self.create_one(place, resource).map(|()| Created::New)).collect()
    }

    fn edit(&mut self, place: Place, edits: &[Edit<'_>]) -> Vec<Result<(), Error>> {
        let mut write = |edit: Edit<'_>| {
            let resource = edit.resource();
            let comment = match edit {
                Edit::Make(_) | Edit::Replace(_) => comment::of(place, resource),
                Edit::Remove(_) => comment::of_removal(place, resource),
            };
            Step::new(self, place, comment).map(|mut step| step.edit(edit))
        };
        edits.iter().map(|edit| write(*edit)).collect()
    }

    fn remove(&mut self, place: Place, resources: &[&Resource]) -> Vec<Result<Removed, Error>> {
        if place == Place::Container && self.container.is_none() {
            return vec![Ok(Removed::Before); resources.len()];
        }
        resources.iter().map(|resource| self.remove_one(place, resource).map(|()| Removed::Now)).collect()
    }
}

/// A shell script: comments say what each command is for.
impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("#!/bin/sh\nset -e\n")?;
        for step in self.commands.chunk_by(|a, b| a.comment == b.comment) {
            if let Some(command) = step.first() {
                write!(f, "\n# {}\n", command.comment)?;
            }
            step.iter().try_for_each(|command| writeln!(f, "{command}"))?;
        }
        Ok(())
    }
}

/// A line of shell, quoted where it has to be.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shell::quote(&self.program))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", shell::quote(arg)))
    }
}

/// The commands for one resource in the making.
struct Step<'a> {
    script: &'a mut Script,
    /// The namespace to do it in, by name or path; `None` for the host's.
    namespace: Option<String>,
    comment: String,
}

impl<'a> Step<'a> {
    fn new(script: &'a mut Script, place: Place, comment: String) -> Result<Self, Error> {
        let namespace = match place {
            Place::Host => None,
            Place::Container => Some(script.container.clone().ok_or(Error::NoContainer)?),
        };
        // A comment ends with its line, and a hostile name must not end it earlier.
        let comment = comment.replace(char::is_control, " ");
        Ok(Self { script, namespace, comment })
    }

    fn push<S: Into<String>>(&mut self, program: &str, args: impl IntoIterator<Item = S>) {
        self.script.commands.push(Command {
            comment: self.comment.clone(),
            program: program.to_owned(),
            args: args.into_iter().map(Into::into).collect(),
        });
    }

    /// A command of a program that takes a namespace by name: `ip -n NAME`, `bridge -n NAME`.
    fn in_namespace<S: Into<String>>(&mut self, program: &str, args: impl IntoIterator<Item = S>) {
        match self.namespace.clone() {
            Some(name) if !is_path(&name) => {
                let namespace = ["-n".to_owned(), name].into_iter();
                self.push(program, namespace.chain(args.into_iter().map(Into::into)).collect::<Vec<_>>());
            }
            _ => self.run(program, args),
        }
    }

    fn ip<S: Into<String>>(&mut self, args: impl IntoIterator<Item = S>) {
        self.in_namespace("ip", args);
    }

    /// A command of a program that must be brought into the namespace.
    fn run<S: Into<String>>(&mut self, program: &str, args: impl IntoIterator<Item = S>) {
        let mut words = self.entrance();
        words.push(program.to_owned());
        words.extend(args.into_iter().map(Into::into));
        let program = words.remove(0);
        self.push(&program, words);
    }

    /// The words before a command that bring it into the namespace.
    fn entrance(&self) -> Vec<String> {
        match &self.namespace {
            None => Vec::new(),
            Some(path) if is_path(path) => vec!["nsenter".to_owned(), format!("--net={path}")],
            Some(name) => ["ip", "netns", "exec", name].map(str::to_owned).into(),
        }
    }

    fn add_address(&mut self, address: &Address) {
        let mut args = vec!["address".to_owned(), "add".to_owned(), address.net.to_string()];
        let mut word = |word: &str| args.push(word.to_owned());
        if address.broadcast().is_some() {
            word("broadcast");
            word("+");
        }
        word("dev");
        word(address.link.as_str());
        if address.net.addr().is_ipv6() && !address.detect_duplicates {
            word("nodad");
        }
        if !address.prefix_route {
            word("noprefixroute");
        }
        self.ip(args);
    }

    fn wait_for_addresses(&mut self, link: &str) {
        let entrance = self.entrance().into_iter().map(|word| format!("{} ", shell::quote(&word)));
        let link = shell::quote(link);
        let tentative = format!("{}ip -6 address show dev {link} tentative", entrance.collect::<String>());
        let wait = format!("while {tentative} | grep -q inet6; do sleep 0.05; done");
        self.push("timeout", ["10", "sh", "-c", wait.as_str()]);
    }

    /// `prepend` puts a second route beside the first, which `add` refuses: it is `NLM_F_CREATE` without `NLM_F_EXCL`.
    fn add_route(&mut self, route: &Route) {
        let key = |route: &Route| (route.destination.trunc(), route.metric, route.table);
        let comes_second = self
            .script
            .routes
            .iter()
            .any(|(namespace, other)| *namespace == self.namespace && key(other) == key(route));
        self.script.routes.push((self.namespace.clone(), route.clone()));
        self.route(if comes_second { "prepend" } else { "add" }, route);
    }

    fn route(&mut self, verb: &str, route: &Route) {
        let mut args = Vec::new();
        let mut word = |word: &str| args.push(word.to_owned());
        // `default` alone would be IPv4's.
        if route.destination.addr().is_ipv6() {
            word("-6");
        }
        word("route");
        word(verb);
        match route.target {
            RouteTarget::Blackhole => word("blackhole"),
            RouteTarget::Unreachable => word("unreachable"),
            RouteTarget::Link { .. } | RouteTarget::NextHop(_) => {}
        }
        if route.destination.prefix_len() == 0 {
            word("default");
        } else {
            word(&route.destination.trunc().to_string());
        }
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                word(name);
                word(&value);
            }
        };
        if let RouteTarget::NextHop(id) = route.target {
            option("nhid", Some(id.to_string()));
        }
        option("via", route.gateway().map(|gateway| gateway.to_string()));
        option("src", route.source.map(|source| source.to_string()));
        option("dev", route.link().map(ToString::to_string));
        option("metric", route.metric.map(|metric| metric.to_string()));
        option("table", route.table.map(|table| table.to_string()));
        option("protocol", route.protocol.map(|maker| maker.to_string()));
        option("scope", route.scope.map(|scope| scope.to_string()));
        option("mtu", route.mtu.map(|mtu| mtu.to_string()));
        option("advmss", route.advmss.map(|advmss| advmss.to_string()));
        if matches!(route.target, RouteTarget::Link { onlink: true, .. }) {
            word("onlink");
        }
        self.ip(args);
    }

    fn rule(&mut self, verb: &str, rule: &Rule) {
        let family: &[&str] = if rule.selector.version() == IpVersion::V6 { &["-6"] } else { &[] };
        let selector = match rule.selector {
            Selector::From(from) if from.prefix_len() == 0 => ["from", "all"].map(str::to_owned),
            Selector::From(from) => ["from".to_owned(), from.trunc().to_string()],
            Selector::Mark { mark, mask, .. } => ["fwmark".to_owned(), format!("{mark:#x}/{mask:#x}")],
        };
        let mut args: Vec<_> = family.iter().map(|word| (*word).to_owned()).collect();
        args.extend(["rule", verb].map(str::to_owned));
        args.extend(selector);
        args.extend(["table".to_owned(), rule.table.to_string()]);
        if let Some(priority) = rule.priority {
            args.extend(["priority".to_owned(), priority.to_string()]);
        }
        self.ip(args);
    }

    fn set_sysctl(&mut self, sysctl: &Sysctl) {
        // -e: that there is no such setting is no error.
        let options = if sysctl.optional { ["-e", "-w"].as_slice() } else { ["-w"].as_slice() };
        let path = sysctl.key.as_str();
        // sysctl takes dots for slashes and slashes for slashes, unless the first that it meets is a dot.
        let key = if path.contains('.') { path.to_owned() } else { path.replace('/', ".") };
        let setting = format!("{key}={}", sysctl.value);
        self.run(
            "sysctl",
            options.iter().copied().chain([setting.as_str()]).map(str::to_owned).collect::<Vec<_>>(),
        );
    }
}

/// Whether a namespace is called by its path: `ip` takes it by name only.
fn is_path(namespace: &str) -> bool {
    namespace.contains('/')
}
