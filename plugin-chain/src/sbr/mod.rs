//! `sbr`: what an interface's addresses send goes out of that interface (source based routing). Each address has a
//! routing table of its own, to which a rule leads; the interface's routes are moved there.

mod config;
mod moves;

use cni_spec::plugin::DelRequest;
use cni_spec::{Error, ErrorCode};
use ipnet::IpNet;
use netops::{Answer, Kernel, LinkName, Place, Plan, Query, Resource, Route, Rule};
use plugin_kit::{Addressing, Attach, Attachment, Owner, Remains, Request, kernel_error};

pub use config::SbrConfig;
use moves::Found;

/// Each route goes to the table of each address whose packets take it, and a plan is in memory as a whole: it has no more than
/// so many.
const MOST: usize = 32 * 1024;

/// The plugin `sbr`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sbr;

impl Attach for Sbr {
    type Config = SbrConfig;

    const TYPE: &'static str = "sbr";
    const ABOUT: &'static str = concat!(
        "cnikit sbr ",
        env!("CARGO_PKG_VERSION"),
        ": what an interface's addresses send goes out of that interface"
    );
    const ADDRESSING: Addressing = Addressing::Inherited;
    const REMAINS: Remains = Remains::Inside;

    fn plan(&self, request: &Request<'_, SbrConfig>, kernel: &mut dyn Kernel) -> Result<Attachment, Error> {
        let result = request.previous.clone().unwrap_or_default();
        if result.ips.is_empty() {
            return Err(Error::config("prevResult.ips: none: sbr needs addresses"));
        }
        let addresses = &request.addresses;
        let mut plan = Plan::new();
        if let Some(table) = request.config.table {
            // Somebody else fills it: the IPAM plugin, with routes that name it.
            for ip in &addresses.ips {
                plan_rule(&mut plan, ip.address.addr().into(), table);
            }
            return Ok(Attachment { plan, result });
        }
        // From the look at what is free until it is taken.
        kernel.claim(Place::Container).map_err(|e| kernel_error(&e))?;
        let found = look(kernel, &request.names.interface).map_err(|e| kernel_error(&e))?;
        let (ips, routes) = (addresses.ips.len(), found.routes.len() + addresses.routes.len());
        if ips.saturating_mul(routes) > MOST {
            return Err(Error::config(format!(
                "prevResult: {ips} addresses and {routes} routes: sbr makes at most {MOST} routes, one of each for each address"
            )));
        }
        let homes = found.homes(addresses);
        for home in &homes {
            plan_rule(&mut plan, home.net.addr().into(), home.table);
        }
        moves::plan(&mut plan, &request.config, &request.names.interface, &homes, &found, addresses);
        Ok(Attachment { plan, result })
    }

    fn remnants(&self, call: &DelRequest, owner: &Owner, kernel: &mut dyn Kernel) -> Result<Plan, Error> {
        let found = match look(kernel, &owner.link()?) {
            Ok(found) => found,
            // The rules went with the namespace. One that cannot be entered still has them.
            Err(netops::Error::NoContainer) => return Ok(Plan::new()),
            Err(error) => return Err(kernel_error(&error)),
        };
        let previous = call.config.prev_result().ok().flatten().unwrap_or_default();
        let fixed = call.config.get::<u32>("table").ok().flatten();
        let rules = found.rules_of(&plugin_kit::own_addresses(&previous, owner), fixed);
        let mut plan = Plan::new();
        // One that was fixed is somebody else's to empty.
        let emptied =
            |route: &&Route| fixed.is_none() && rules.iter().any(|rule| rule.table == route.table());
        for route in found.routes.iter().filter(emptied) {
            plan.own(Place::Container, Resource::Route(route.clone()));
        }
        for rule in &rules {
            plan.own(Place::Container, Resource::Rule(rule.clone()));
        }
        Ok(plan)
    }

    fn status(&self, _: &SbrConfig, kernel: &mut dyn Kernel) -> Result<(), Error> {
        // Every namespace is born with some.
        match kernel.read(Place::Host, &[Query::Rules]).map_err(|e| kernel_error(&e))?.as_slice() {
            [Answer::Rules(rules)] if rules.is_empty() => Err(Error::new(
                ErrorCode::PLUGIN_NOT_AVAILABLE,
                "this kernel has no rules for routing: it needs CONFIG_IP_MULTIPLE_TABLES",
            )),
            _ => Ok(()),
        }
    }
}

fn plan_rule(plan: &mut Plan, from: IpNet, table: u32) {
    plan.own(Place::Container, Resource::Rule(Rule::from(from, table)));
}

/// Looks at what there is in the container.
fn look(kernel: &mut dyn Kernel, link: &LinkName) -> Result<Found, netops::Error> {
    let queries = [Query::Rules, Query::Tables, Query::Routes(link.clone()), Query::Addresses(link.clone())];
    let mut found = Found::default();
    for answer in kernel.read(Place::Container, &queries)? {
        match answer {
            Answer::Rules(rules) => found.rules = rules,
            Answer::Tables(tables) => found.tables = tables,
            Answer::Routes(routes) => found.routes = routes,
            Answer::Addresses(addresses) => found.addresses = addresses,
            _ => {}
        }
    }
    Ok(found)
}
