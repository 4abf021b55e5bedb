//! `vrf`: the interface belongs to a VRF of the container (virtual routing and forwarding), which is made if it is not
//! there, and goes with the last of its interfaces.

use cni_spec::plugin::DelRequest;
use cni_spec::{Error, ErrorCode, SpecVersion};
use netops::{
    Answer, Kernel, Link, LinkKind, LinkName, LinkState, Master, Place, Plan, Query, Resource, Route, Sysctl,
    SysctlKey, read_links,
};
use plugin_kit::{Addressing, Attach, Attachment, Owner, Remains, Request, kernel_error};
use serde::Deserialize;

/// `main` (`RT_TABLE_MAIN`).
const MAIN: u32 = 254;
/// `RTPROT_KERNEL`: a route that comes with an address.
const KERNEL: u8 = 2;

/// The plugin `vrf`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vrf;

/// The configuration of [`Vrf`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct VrfConfig {
    /// The VRF's interface (`vrfname`).
    pub name: LinkName,
    /// Its routing table (`table`); if absent, the one that it has, or the first that is free.
    pub table: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    vrfname: String,
    table: u32,
}

impl TryFrom<Raw> for VrfConfig {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let name = LinkName::new(&raw.vrfname).map_err(|e| format!("vrfname: {e}"))?;
        Ok(Self { name, table: Some(raw.table).filter(|table| *table != 0) })
    }
}

impl Attach for Vrf {
    type Config = VrfConfig;

    const TYPE: &'static str = "vrf";
    const ABOUT: &'static str =
        concat!("cnikit vrf ", env!("CARGO_PKG_VERSION"), ": interfaces with routing tables of their own");
    const VERSIONS: &'static [SpecVersion] =
        &[SpecVersion::V0_3_1, SpecVersion::V0_4_0, SpecVersion::V1_0_0, SpecVersion::V1_1_0];
    const ADDRESSING: Addressing = Addressing::Inherited;
    const REMAINS: Remains = Remains::Inside;

    fn plan(&self, request: &Request<'_, VrfConfig>, kernel: &mut dyn Kernel) -> Result<Attachment, Error> {
        // From the look at what is free until it is taken.
        kernel.claim(Place::Container).map_err(|e| kernel_error(&e))?;
        let link = &request.names.interface;
        let links = read_links(kernel, Place::Container).map_err(|e| kernel_error(&e))?;
        let found = links.iter().find(|found| found.name == request.config.name);
        let table = match found {
            Some(found) => table_of(found, &request.config)?,
            None => match request.config.table {
                Some(table) => table,
                None => free_table(kernel, &links)?,
            },
        };
        let mut plan = Plan::new();
        if request.addresses.ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
            // On its way into the VRF an interface goes down for a moment, and would lose them.
            let keep = Sysctl::optional(SysctlKey::ipv6(link, "keep_addr_on_down"), 1);
            plan.own(Place::Container, Resource::Sysctl(keep));
        }
        let vrf = Link::new(request.config.name.clone(), LinkKind::Vrf { table });
        if found.is_some() {
            plan.share(Place::Container, Resource::Link(vrf));
        } else {
            plan.own(Place::Container, Resource::Link(Link { up: true, ..vrf }));
        }
        let routes = match master_of(link, &links) {
            None => lost_routes(kernel, link)?,
            Some(master) if master.name == request.config.name => recorded_routes(request),
            Some(other) => return Err(conflict(format!("\"{link}\" belongs to \"{}\" already", other.name))),
        };
        // A gateway is found through the routes without one: they go last, and come first.
        for route in routes.iter().rev().filter(|route| route.scope.is_some()) {
            plan.own(Place::Container, Resource::NoRoute(route.clone()));
        }
        let master = Master { link: link.clone(), master: request.config.name.clone() };
        plan.own(Place::Container, Resource::Master(master))
            .own(Place::Container, Resource::Settled(link.clone()));
        for route in routes {
            plan.own(Place::Container, Resource::Route(Route { table: Some(table), ..route }));
        }
        Ok(Attachment { plan, result: request.previous.clone().unwrap_or_default() })
    }

    fn remnants(&self, call: &DelRequest, owner: &Owner, kernel: &mut dyn Kernel) -> Result<Plan, Error> {
        let links = match read_links(kernel, Place::Container) {
            Ok(links) => links,
            // All of it went with the namespace.
            Err(netops::Error::NoContainer) => return Ok(Plan::new()),
            Err(error) => return Err(kernel_error(&error)),
        };
        let name = owner.link()?;
        let member = links.iter().find(|link| link.name == name);
        let configured = call.config.get::<String>("vrfname").ok().flatten();
        let is_it = |vrf: &&LinkState| match member.and_then(|member| member.master) {
            Some(master) => vrf.index == master,
            None => Some(vrf.name.as_str()) == configured.as_deref(),
        };
        let mut plan = Plan::new();
        let Some(vrf) = links.iter().filter(|link| link.table().is_some()).find(is_it) else {
            return Ok(plan);
        };
        if !links.iter().any(|other| other.master == Some(vrf.index) && other.name != name) {
            let kind = LinkKind::Vrf { table: vrf.table().unwrap_or_default() };
            plan.own(Place::Container, Resource::Link(Link::new(vrf.name.clone(), kind)));
        }
        if member.is_some_and(|member| member.master == Some(vrf.index)) {
            let master = Master { link: name, master: vrf.name.clone() };
            plan.own(Place::Container, Resource::Master(master));
        }
        Ok(plan)
    }

    fn status(&self, _: &VrfConfig, kernel: &mut dyn Kernel) -> Result<(), Error> {
        // Comes with what VRFs are made of.
        let sign = SysctlKey::new("net/ipv4/tcp_l3mdev_accept").map_err(|e| Error::config(e.to_string()))?;
        match kernel.read(Place::Host, &[Query::Sysctl(sign)]).map_err(|e| kernel_error(&e))?.as_slice() {
            [Answer::Sysctl(None)] => Err(Error::new(
                ErrorCode::PLUGIN_NOT_AVAILABLE,
                "this kernel has no VRFs: it needs CONFIG_NET_VRF (module vrf)",
            )),
            _ => Ok(()),
        }
    }
}

/// The table of a VRF that is there already.
fn table_of(found: &LinkState, config: &VrfConfig) -> Result<u32, Error> {
    let name = &config.name;
    match (found.table(), config.table) {
        (None, _) => {
            let kind = if found.kind.is_empty() { "interface that is not virtual" } else { &found.kind };
            Err(conflict(format!("vrfname: \"{name}\" is there already, and no VRF: it is a {kind}")))
        }
        (Some(actual), Some(wanted)) if actual != wanted => {
            Err(conflict(format!("table: VRF \"{name}\" is there already with table {actual}, not {wanted}")))
        }
        (Some(actual), _) => Ok(actual),
    }
}

/// The first table that nobody uses.
fn free_table(kernel: &mut dyn Kernel, links: &[LinkState]) -> Result<u32, Error> {
    let mut taken = Vec::new();
    taken.extend(links.iter().filter_map(LinkState::table));
    for answer in kernel.read(Place::Container, &[Query::Tables]).map_err(|e| kernel_error(&e))? {
        if let Answer::Tables(tables) = answer {
            taken.extend(tables);
        }
    }
    let free = (1..=u32::MAX).find(|table| !taken.contains(table));
    free.ok_or_else(|| conflict("every routing table is taken".to_owned()))
}

/// Whose an interface is.
fn master_of<'a>(link: &LinkName, links: &'a [LinkState]) -> Option<&'a LinkState> {
    let master = links.iter().find(|other| other.name == *link)?.master?;
    links.iter().find(|link| link.index == master)
}

/// The routes that an attachment in its VRF must have there.
fn recorded_routes(request: &Request<'_, VrfConfig>) -> Vec<Route> {
    let mut plan = Plan::new();
    plugin_kit::plan_routes(&mut plan, &request.names.interface, &request.addresses);
    let routes = plan.steps().iter().filter_map(|step| match &step.resource {
        Resource::Route(route) if route.table() == MAIN => Some(Route { scope: None, ..route.clone() }),
        _ => None,
    });
    routes.collect()
}

fn conflict(text: String) -> Error {
    Error::new(plugin_kit::error::CONFLICT, text)
}

/// The routes that an interface loses on its way into a VRF, and that do not come back with its addresses.
fn lost_routes(kernel: &mut dyn Kernel, link: &LinkName) -> Result<Vec<Route>, Error> {
    let answers =
        kernel.read(Place::Container, &[Query::Routes(link.clone())]).map_err(|e| kernel_error(&e))?;
    let routes = answers.into_iter().flat_map(|answer| match answer {
        Answer::Routes(routes) => routes,
        _ => Vec::new(),
    });
    let mut lost: Vec<_> =
        routes.filter(|route| route.table() == MAIN && route.protocol != Some(KERNEL)).collect();
    lost.sort_by_key(|route| route.gateway().is_some());
    Ok(lost)
}
