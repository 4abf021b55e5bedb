//! The rules of queueing disciplines and redirections.

use crate::error::Errno;
use crate::kernel::Created;
use crate::name::LinkName;
use crate::resource::{Discipline, Qdisc, Redirect, TokenBucket};

use super::machine::{Feature, Machine, NamespaceId, Problem};
use super::namespace::{Interface, Namespace};

/// How an interface's packets queue, and where those go that come in by it.
#[derive(Default)]
pub(super) struct Shaping {
    root: Option<TokenBucket>,
    /// The indices of the links that the filters of the discipline for what comes in lead to. A filter stays when its
    /// target goes.
    ingress: Option<Vec<u32>>,
}

/// Adds a queueing discipline, as `RTM_NEWQDISC` with `NLM_F_EXCL`.
pub(super) fn add_qdisc(
    machine: &mut Machine,
    place: NamespaceId,
    wanted: &Qdisc,
) -> Result<Created, Problem> {
    let feature = match wanted.discipline {
        Discipline::TokenBucket(_) => Feature::TokenBucket,
        Discipline::Ingress => Feature::Ingress,
    };
    let known = machine.has(feature);
    let Some(namespace) = machine.namespaces.get_mut(&place) else { return Err(Problem::NoContainer) };
    let link = namespace.link_mut(&wanted.link)?;
    let shaping = &mut link.shaping;
    let taken = match wanted.discipline {
        Discipline::TokenBucket(_) => shaping.root.is_some(),
        Discipline::Ingress => shaping.ingress.is_some(),
    };
    if taken {
        return Err(Problem::Refused(Errno::EEXIST, Some("Exclusivity flag on, cannot modify")));
    }
    if !known {
        return Err(Problem::Refused(Errno::ENOENT, Some("Specified qdisc kind is unknown")));
    }
    // Before it looks at what is wanted of the discipline: who once gave an interface no queue to be without a discipline
    // hardly means it any more (`qdisc_create()`).
    if link.transmit_queue == 0 && link.kind.needs_no_queue() {
        link.transmit_queue = link.kind.transmit_queue();
    }
    match wanted.discipline {
        Discipline::TokenBucket(bucket) if bucket.burst == 0 => {
            return Err(Problem::Refused(Errno::EINVAL, None));
        }
        Discipline::TokenBucket(bucket) => shaping.root = Some(bucket.shown()),
        Discipline::Ingress => shaping.ingress = Some(Vec::new()),
    }
    Ok(Created::New)
}

/// Removes a queueing discipline; whether it was there.
pub(super) fn remove_qdisc(namespace: &mut Namespace, qdisc: &Qdisc) -> bool {
    let Ok(link) = namespace.link_mut(&qdisc.link) else { return false };
    match qdisc.discipline {
        Discipline::TokenBucket(_) => link.shaping.root.take().is_some(),
        Discipline::Ingress => link.shaping.ingress.take().is_some(),
    }
}

/// Adds a filter, as `RTM_NEWTFILTER`.
pub(super) fn add_redirect(
    machine: &mut Machine,
    place: NamespaceId,
    wanted: &Redirect,
) -> Result<Created, Problem> {
    let known = machine.has(Feature::Redirect);
    let Some(namespace) = machine.namespaces.get_mut(&place) else { return Err(Problem::NoContainer) };
    namespace.index(&wanted.from)?;
    let target = namespace.index(&wanted.to)?;
    match &mut namespace.link_mut(&wanted.from)?.shaping.ingress {
        None => Err(Problem::Refused(Errno::EINVAL, Some("Parent Qdisc doesn't exists"))),
        Some(_) if !known => Err(Problem::Refused(Errno::ENOENT, Some("TC classifier not found"))),
        Some(filters) => {
            filters.push(target);
            Ok(Created::New)
        }
    }
}

/// Removes all filters; whether there was one.
pub(super) fn remove_redirects(namespace: &mut Namespace, from: &LinkName) -> bool {
    let Ok(link) = namespace.link_mut(from) else { return false };
    let filters = link.shaping.ingress.as_mut().map(std::mem::take);
    filters.is_some_and(|filters| !filters.is_empty())
}

/// The queueing disciplines of a link.
pub(super) fn qdiscs(namespace: &Namespace, name: &LinkName) -> Vec<Qdisc> {
    let Some(link) = namespace.link(name) else { return Vec::new() };
    let root = link.shaping.root.map(Discipline::TokenBucket);
    let ingress = link.shaping.ingress.as_ref().map(|_| Discipline::Ingress);
    let qdisc = |discipline| Qdisc { link: name.clone(), discipline };
    root.into_iter().chain(ingress).map(qdisc).collect()
}

/// Where packets go that come in by a link.
pub(super) fn redirects(namespace: &Namespace, name: &LinkName) -> Vec<Redirect> {
    let filters = namespace.link(name).and_then(|link| link.shaping.ingress.as_ref());
    let targets = filters.into_iter().flatten().filter_map(|index| namespace.links.get(index));
    targets.map(|target| Redirect { from: name.clone(), to: target.name.clone() }).collect()
}

/// Appends what there is to a line about a link.
pub(super) fn describe(namespace: &Namespace, link: &Interface, line: &mut String) {
    if let Some(TokenBucket { rate, burst, limit }) = link.shaping.root {
        line.push_str(&format!(" tbf rate {rate} burst {burst} limit {limit}"));
    }
    if let Some(targets) = &link.shaping.ingress {
        line.push_str(" ingress");
        for index in targets {
            let target = namespace.links.get(index).map_or("?", |target| target.name.as_str());
            line.push_str(&format!(" redirect \"{target}\""));
        }
    }
}
