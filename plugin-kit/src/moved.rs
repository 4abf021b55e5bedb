//! Routes of an attachment that a plugin behind it in the list has moved.

use cni_spec::AddResult;
use ipnet::IpNet;
use netops::{Answer, Kernel, Place, Plan, Query, Resource, Route, Rule, Selector};

/// What `sbr` does: those routes of a plan that are in another table now, to which a rule leads from one of the
/// attachment's addresses. What the pod sends from there finds them.
pub(crate) fn routes_moved(
    plan: &Plan,
    attachment: &AddResult,
    kernel: &mut dyn Kernel,
) -> Result<Plan, netops::Error> {
    let in_main = |resource: &Resource| match resource {
        Resource::Route(route) if route.table.is_none() => route.link().cloned(),
        _ => None,
    };
    let mut links: Vec<_> = plan
        .steps()
        .iter()
        .filter(|step| step.place == Place::Container)
        .filter_map(|step| in_main(&step.resource))
        .collect();
    links.dedup();
    let queries: Vec<_> = std::iter::once(Query::Rules).chain(links.into_iter().map(Query::Routes)).collect();
    let (mut rules, mut routes) = (Vec::new(), Vec::new());
    for answer in kernel.read(Place::Container, &queries)? {
        match answer {
            Answer::Rules(found) => rules = found,
            Answer::Routes(found) => routes.extend(found),
            _ => {}
        }
    }
    let is_own = |source: &IpNet| {
        let host = source.prefix_len() == source.max_prefix_len();
        host && attachment.ips.iter().any(|ip| source.addr() == ip.address.addr())
    };
    let leads_to = |table| {
        let leads = |rule: &Rule| {
            rule.table == table && matches!(&rule.selector, Selector::From(source) if is_own(source))
        };
        rules.iter().any(leads)
    };
    let is_moved = |wanted: &Route| {
        let same =
            |route: &&Route| route.destination == wanted.destination && route.gateway() == wanted.gateway();
        routes.iter().filter(same).any(|route| leads_to(route.table()))
    };
    Ok(plan.only(|step| {
        let route = match &step.resource {
            Resource::Route(route) if route.table.is_none() => route,
            _ => return false,
        };
        step.place == Place::Container && is_moved(route)
    }))
}
