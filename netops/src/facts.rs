//! Facts: what was read, remembered by question; and how a resource compares with them.

mod questions;

use std::collections::{HashMap, HashSet};
use std::fmt;

use ipnet::IpNet;

use crate::error::Error;
use crate::kernel::{Answer, Kernel, LinkState, Query};
use crate::lookup::{NeighbourState, Reachability};
use crate::name::{LinkName, SysctlKey};
use crate::place::Place;
use crate::plan::{Ownership, Step};
use crate::resource::{
    Address, Discipline, Master, NeighbourProxy, OtherAddresses, Parent, PortVlan, Qdisc, Resource, Route,
    RouteTarget, TokenBucket,
};

use questions::{queries, routes_beside};

/// Answers, by place and question.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    answers: HashMap<(Place, Query), Answer>,
}

impl Facts {
    /// Reads what is needed to compare steps with the kernel: each question once, each place in one batch.
    ///
    /// # Errors
    /// As [`Kernel::read`].
    pub fn read<'a>(
        kernel: &mut dyn Kernel,
        steps: impl IntoIterator<Item = &'a Step>,
    ) -> Result<Self, Error> {
        let mut questions: [(Place, Vec<Query>); 2] =
            [(Place::Host, Vec::new()), (Place::Container, Vec::new())];
        let mut asked = HashSet::new();
        for step in steps {
            for (place, query) in queries(step) {
                if asked.insert((place, query.clone())) {
                    questions[usize::from(place == Place::Container)].1.push(query);
                }
            }
        }
        let mut facts = Self::default();
        for (place, queries) in questions {
            if !queries.is_empty() {
                let answers = kernel.read(place, &queries)?;
                facts.answers.extend(queries.into_iter().map(|query| (place, query)).zip(answers));
            }
        }
        Ok(facts)
    }

    /// Takes over newer answers.
    pub(crate) fn absorb(&mut self, newer: Self) {
        self.answers.extend(newer.answers);
    }

    /// An interface, if it was asked for and exists.
    pub fn link(&self, place: Place, name: &LinkName) -> Option<&LinkState> {
        match self.answers.get(&(place, Query::Link(name.clone())))? {
            Answer::Links(links) => links.first(),
            _ => None,
        }
    }

    /// The addresses of an interface, if they were asked for.
    pub fn addresses(&self, place: Place, link: &LinkName) -> &[Address] {
        match self.answers.get(&(place, Query::Addresses(link.clone()))) {
            Some(Answer::Addresses(addresses)) => addresses,
            _ => &[],
        }
    }

    /// A setting's value, if it was asked for and exists.
    pub fn sysctl(&self, place: Place, key: &SysctlKey) -> Option<&str> {
        match self.answers.get(&(place, Query::Sysctl(key.clone())))? {
            Answer::Sysctl(value) => value.as_deref(),
            _ => None,
        }
    }

    /// How a step's resource differs from what is there; empty if it does not.
    pub fn differences(&self, step: &Step) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut differs = |what: Deviation| {
            found.push(Difference { place: step.place, object: step.resource.to_string(), deviation: what });
        };
        let Some(pairs) = self.compare(step) else {
            differs(Deviation::Missing);
            return found;
        };
        for (what, wanted, actual) in pairs {
            if wanted != actual {
                differs(Deviation::Wrong { what, wanted, actual });
            }
        }
        found
    }

    /// The addresses that stand in the way of one that tolerates no others.
    pub fn rivals(&self, place: Place, wanted: &Address) -> Vec<&Address> {
        if wanted.others == OtherAddresses::Welcome {
            return Vec::new();
        }
        let rivals = |other: &&Address| match (other.net, wanted.net) {
            (a, b) if a == b => false,
            (IpNet::V4(_), IpNet::V4(_)) => true,
            // fe80::/64 is every interface's: only what overlaps is a rival.
            (IpNet::V6(a), IpNet::V6(b)) => a.contains(&b.network()) || b.contains(&a.network()),
            _ => false,
        };
        self.addresses(place, &wanted.link).iter().filter(rivals).collect()
    }

    /// Wanted and actual values, or `None` if it is absent.
    fn compare(&self, step: &Step) -> Option<Vec<(&'static str, String, String)>> {
        let Step { place, ownership, ref resource } = *step;
        match resource {
            Resource::Link(wanted) => {
                let actual = self.link(place, &wanted.name)?;
                let mut pairs = vec![("kind", wanted.kind.name().to_owned(), actual.kind.clone())];
                if let Some(mac) = wanted.mac {
                    pairs.push((
                        "MAC address",
                        mac.to_string(),
                        actual.mac.map_or_else(String::new, |m| m.to_string()),
                    ));
                }
                // A shared interface may have been there before: its MTU is its maker's.
                if let Some(mtu) = wanted.mtu
                    && ownership == Ownership::Own
                {
                    pairs.push(("MTU", mtu.to_string(), actual.mtu.to_string()));
                }
                if wanted.up {
                    pairs.push(("state", "up".to_owned(), up_or_down(actual.up)));
                }
                if let Some(master) = &wanted.master {
                    pairs.push(("bridge", master.to_string(), self.master_of(place, actual, master)));
                }
                if let Some(parent) = wanted.kind.parent() {
                    pairs.push(("parent", parent.name.to_string(), self.parent_of(place, actual, parent)));
                }
                let found = |what: &str| actual.properties.iter().find(|(name, _)| *name == what);
                pairs.extend(wanted.kind.properties().into_iter().map(|(what, wanted)| {
                    let actual = found(what).map_or_else(|| "unknown".to_owned(), |(_, value)| value.clone());
                    (what, wanted, actual)
                }));
                Some(pairs)
            }
            Resource::Master(Master { link, master }) => {
                let actual = self.master_of(place, self.link(place, link)?, master);
                Some(vec![("master", master.to_string(), actual)])
            }
            Resource::LinkUp(link) => {
                Some(vec![("state", "up".to_owned(), up_or_down(self.link(place, link)?.up))])
            }
            Resource::LinkDown(link) => Some(match self.link(place, link) {
                Some(link) => vec![("state", "down".to_owned(), up_or_down(link.up))],
                None => Vec::new(),
            }),
            Resource::MovedLink(wanted) => {
                let actual = self.link(place, &wanted.name)?;
                let alias = actual.alias.clone().unwrap_or_else(|| "unknown".to_owned());
                let mac = wanted.mac.map(|mac| {
                    let actual = actual.mac.map_or_else(String::new, |mac| mac.to_string());
                    ("MAC address", mac.to_string(), actual)
                });
                let original = ("original name", wanted.original.to_string(), alias);
                Some([original].into_iter().chain(mac).collect())
            }
            Resource::Promiscuous(link) => Some(vec![(
                "promiscuous",
                "true".to_owned(),
                self.link(place, link)?.promiscuous.to_string(),
            )]),
            Resource::Settings(wanted) => {
                let actual = wanted.as_of(self.link(place, &wanted.link)?);
                let pairs = wanted.properties().into_iter().zip(actual.properties());
                let pair = |((what, wanted), (_, actual)): (_, (_, Option<String>))| {
                    let (what, wanted): (&'static str, Option<String>) = (what, wanted);
                    Some((what, wanted?, actual.unwrap_or_default()))
                };
                Some(pairs.filter_map(pair).collect())
            }
            Resource::FixedMac(link) => {
                let whose = |fixed: bool| if fixed { "its own" } else { "its ports'" }.to_owned();
                Some(vec![("owner", whose(true), whose(self.link(place, link)?.operational))])
            }
            Resource::Port(wanted) => {
                let Some(Answer::Port(Some(actual))) =
                    self.answers.get(&(place, Query::Port(wanted.link.clone())))
                else {
                    return None;
                };
                let mut pairs = vec![
                    ("hairpin mode", wanted.hairpin.to_string(), actual.hairpin.to_string()),
                    ("isolation", wanted.isolated.to_string(), actual.isolated.to_string()),
                ];
                let found = |is: bool, what: &str| if is { what.to_owned() } else { "none".to_owned() };
                for vlan in &wanted.vlans {
                    pairs.push((
                        "VLAN",
                        vlan.to_string(),
                        found(actual.vlans.contains(vlan), &vlan.to_string()),
                    ));
                }
                let default = |vlans: &[PortVlan]| vlans.iter().any(|vlan| vlan.first <= 1);
                if wanted.drop_default_vlan && !default(&wanted.vlans) {
                    pairs.push(("default VLAN", "none".to_owned(), found(default(&actual.vlans), "1")));
                }
                Some(pairs)
            }
            Resource::Address(wanted) => {
                self.addresses(place, &wanted.link).iter().any(|a| a.net == wanted.net).then(Vec::new)
            }
            // Whatever addresses there are is for their own steps to say.
            Resource::Settled(_) => Some(Vec::new()),
            Resource::Route(wanted) => {
                // Several next hops to one destination are several routes: any that matches will do.
                let candidates: Vec<_> =
                    self.routes(place, wanted)?.iter().filter(|route| is_instead(route, wanted)).collect();
                let same = |route: &&&Route| route.gateway() == wanted.gateway();
                let actual = candidates.iter().find(same).or_else(|| candidates.first())?;
                Some(compare_routes(wanted, actual))
            }
            Resource::NoRoute(unwanted) => {
                let is_it =
                    |route: &Route| is_instead(route, unwanted) && route.gateway() == unwanted.gateway();
                let routes = self.routes(place, unwanted)?;
                let actual = if routes.iter().any(is_it) { "there" } else { "none" };
                Some(vec![("route", "none".to_owned(), actual.to_owned())])
            }
            Resource::NextHop(wanted) => {
                let Some(Answer::NextHops(hops)) = self.answers.get(&(place, Query::NextHop(wanted.id)))
                else {
                    return None;
                };
                let actual = hops.first()?;
                Some(vec![
                    ("way", wanted.via.to_string(), actual.via.to_string()),
                    ("protocol", wanted.protocol.to_string(), actual.protocol.to_string()),
                ])
            }
            Resource::Neighbour(wanted) => {
                let query = Query::NeighbourOf(wanted.link.clone(), wanted.address);
                let Some(Answer::Neighbours(neighbours)) = self.answers.get(&(place, query)) else {
                    return None;
                };
                let is_permanent =
                    |neighbour: &&NeighbourState| neighbour.reachability == Reachability::Permanent;
                let actual = neighbours.iter().find(is_permanent)?;
                let mac = actual.mac.map_or_else(String::new, |mac| mac.to_string());
                Some(vec![("MAC address", wanted.mac.to_string(), mac)])
            }
            Resource::Proxy(wanted) => {
                let Some(Answer::Proxies(proxies)) = self.answers.get(&(place, Query::Proxies)) else {
                    return None;
                };
                let same =
                    |proxy: &&NeighbourProxy| proxy.link == wanted.link && proxy.address == wanted.address;
                proxies.iter().find(same).map(|_| Vec::new())
            }
            Resource::Fdb(wanted) => {
                let query = Query::FdbOf(wanted.link.clone(), wanted.mac);
                let Some(Answer::Fdb(entries)) = self.answers.get(&(place, query)) else { return None };
                Some(vec![("machine", wanted.remote.to_string(), entries.first()?.remote.to_string())])
            }
            Resource::Rule(wanted) => {
                let Some(Answer::Rules(rules)) = self.answers.get(&(place, Query::Rules)) else {
                    return None;
                };
                let candidates = || rules.iter().filter(|rule| rule.selector == wanted.selector);
                let actual =
                    candidates().find(|rule| rule.table == wanted.table).or_else(|| candidates().next())?;
                let mut pairs = vec![("table", wanted.table.to_string(), actual.table.to_string())];
                if let (Some(wanted), Some(actual)) = (wanted.priority, actual.priority) {
                    pairs.push(("priority", wanted.to_string(), actual.to_string()));
                }
                Some(pairs)
            }
            Resource::Sysctl(wanted) => match self.answers.get(&(place, Query::Sysctl(wanted.key.clone()))) {
                Some(Answer::Sysctl(Some(actual))) => {
                    Some(vec![("value", wanted.value.clone(), actual.clone())])
                }
                // Also an optional one's: it may come with a link that is about to be made.
                _ => None,
            },
            Resource::Qdisc(wanted) => {
                let Some(Answer::Qdiscs(list)) =
                    self.answers.get(&(place, Query::Qdiscs(wanted.link.clone())))
                else {
                    return None;
                };
                list.iter().find_map(|actual| compare_qdiscs(wanted, actual))
            }
            Resource::Redirect(wanted) => {
                let Some(Answer::Redirects(list)) =
                    self.answers.get(&(place, Query::Redirects(wanted.from.clone())))
                else {
                    return None;
                };
                // Nothing gets past the first.
                Some(vec![("target", wanted.to.to_string(), list.first()?.to.to_string())])
            }
            Resource::Entry(wanted) => {
                let Some(Answer::Entries(list)) = self.answers.get(&(place, Query::Entry(wanted.key())))
                else {
                    return None;
                };
                let actual = list.first()?.properties();
                let pairs = wanted.properties().into_iter().zip(actual);
                Some(pairs.map(|((what, wanted), (_, actual))| (what, wanted, actual)).collect())
            }
            Resource::Foreign(wanted) => {
                let answer = self.answers.get(&(place, Query::Foreign(wanted.clone())));
                (answer == Some(&Answer::Foreign(true))).then(Vec::new)
            }
            Resource::Isolation(wanted) => self.presence(place, Query::Isolation(wanted.clone())),
            Resource::ForwardJump(wanted) => self.presence(place, Query::ForwardJump(wanted.clone())),
            Resource::OverlayRules(wanted) => {
                let Some(Answer::OverlayRules(Some(actual))) =
                    self.answers.get(&(place, Query::OverlayRules))
                else {
                    return None;
                };
                let pairs = wanted.kept().properties().into_iter().zip(actual.kept().properties());
                Some(pairs.map(|((what, wanted), (_, actual))| (what, wanted, actual)).collect())
            }
        }
    }

    /// The routes among which one would be.
    fn routes(&self, place: Place, route: &Route) -> Option<&[Route]> {
        match self.answers.get(&(place, routes_beside(route)))? {
            Answer::Routes(routes) => Some(routes),
            _ => None,
        }
    }

    /// What is there or not, and has no properties.
    fn presence(&self, place: Place, query: Query) -> Option<Vec<(&'static str, String, String)>> {
        matches!(self.answers.get(&(place, query)), Some(Answer::Present(true))).then(Vec::new)
    }

    /// The name of the bridge that an interface is a port of, as far as it is the wanted one or none.
    fn master_of(&self, place: Place, link: &LinkState, wanted: &LinkName) -> String {
        let Some(index) = link.master else { return "none".to_owned() };
        match self.link(place, wanted) {
            Some(master) if master.index == index => wanted.to_string(),
            _ => format!("interface {index}"),
        }
    }

    /// The name of the interface that another is on, as far as it is the wanted one or none.
    fn parent_of(&self, place: Place, link: &LinkState, wanted: &Parent) -> String {
        let Some(index) = link.peer_index else { return "none".to_owned() };
        let here = link.peer_namespace.is_none();
        match self.link(wanted.place, &wanted.name) {
            Some(parent) if parent.index == index && here == (wanted.place == place) => {
                wanted.name.to_string()
            }
            // A macvlan on a macvlan is beside it, on the same parent.
            Some(parent) if parent.kind == link.kind && parent.peer_index == Some(index) => {
                wanted.name.to_string()
            }
            _ => format!("interface {index}"),
        }
    }
}

/// Wanted and actual values of one kind of queueing discipline.
fn compare_qdiscs(wanted: &Qdisc, actual: &Qdisc) -> Option<Vec<(&'static str, String, String)>> {
    let bytes = |bucket: &TokenBucket| format!("{} bytes", bucket.burst);
    match (&wanted.discipline, &actual.discipline) {
        (Discipline::TokenBucket(wanted), Discipline::TokenBucket(actual)) => {
            // The kernel shows it less precisely than it is told.
            let burst = if wanted.may_have_burst_of(actual) { bytes(wanted) } else { bytes(actual) };
            Some(vec![
                ("rate", format!("{} bytes/s", wanted.rate), format!("{} bytes/s", actual.rate)),
                ("burst", bytes(wanted), burst),
                ("limit", format!("{} bytes", wanted.limit), format!("{} bytes", actual.limit)),
            ])
        }
        (Discipline::Ingress, Discipline::Ingress) => Some(Vec::new()),
        _ => None,
    }
}

/// Wanted and actual ways of routes to the same destination.
fn compare_routes(wanted: &Route, actual: &Route) -> Vec<(&'static str, String, String)> {
    let show =
        |gateway: Option<std::net::IpAddr>| gateway.map_or_else(|| "none".to_owned(), |g| g.to_string());
    match (&wanted.target, &actual.target) {
        (RouteTarget::Link { .. }, RouteTarget::Link { .. }) => {
            vec![("gateway", show(wanted.gateway()), show(actual.gateway()))]
        }
        (wanted, actual) => vec![("way", wanted.to_string(), actual.to_string())],
    }
}

/// Whether a route is to where another leads, in its table and with its metric, be it by way of another gateway.
fn is_instead(route: &Route, wanted: &Route) -> bool {
    route.destination == wanted.destination
        && route.table() == wanted.table()
        && wanted.metric.is_none_or(|_| route.metric() == wanted.metric())
}

fn up_or_down(up: bool) -> String {
    if up { "up" } else { "down" }.to_owned()
}

/// One way in which the kernel is not as a plan has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub place: Place,
    /// What, as [`Resource`]'s `Display` has it.
    pub object: String,
    /// How.
    pub deviation: Deviation,
}

/// How something differs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deviation {
    /// It is not there.
    Missing,
    /// It is there with another value.
    Wrong {
        /// Which of its properties.
        what: &'static str,
        /// As planned.
        wanted: String,
        /// As it is.
        actual: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, object, .. } = self;
        match &self.deviation {
            Deviation::Missing => write!(f, "{object} is missing in the {place}'s namespace"),
            Deviation::Wrong { what, wanted, actual } => {
                write!(f, "{object} in the {place}'s namespace: {what} is {actual}, not {wanted}")
            }
        }
    }
}
