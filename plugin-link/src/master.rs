//! The interface that a macvlan, an ipvlan or a VLAN is on: `master`.

use cni_spec::{Error, ErrorCode};
use netops::{Kernel, LinkName, LinkState, Parent, Place, Plan, Resource, Sysctl, SysctlKey};
use plugin_kit::{Request, kernel_error};

/// Where it is, and what it is called; the default route's if it is not said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// Its name (`master`).
    pub name: Option<LinkName>,
    /// The container's namespace if `linkInContainer`, else the host's.
    pub place: Place,
}

impl Master {
    pub(crate) fn new(name: &str, link_in_container: bool) -> Result<Self, String> {
        let name = match name {
            "" => None,
            name => Some(LinkName::new(name).map_err(|e| format!("master: {e}"))?),
        };
        Ok(Self { name, place: if link_in_container { Place::Container } else { Place::Host } })
    }

    /// Finds it, and what there is to know of it; a kernel that knows of nothing (a script) knows of no state.
    pub(crate) fn find<C>(
        &self,
        request: &Request<'_, C>,
        kernel: &mut dyn Kernel,
    ) -> Result<(Parent, Option<LinkState>), Error> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => self.of_existing(request, kernel)?.map_or_else(|| self.default(kernel), Ok)?,
        };
        let state = netops::read_link(kernel, self.place, &name).map_err(|e| kernel_error(&e))?;
        Ok((Parent { place: self.place, name }, state))
    }

    /// An attachment stays on what it was made on, wherever the default route leads meanwhile.
    fn of_existing<C>(
        &self,
        request: &Request<'_, C>,
        kernel: &mut dyn Kernel,
    ) -> Result<Option<LinkName>, Error> {
        let (interface, sandbox) = (&request.names.interface, request.sandbox());
        let mut made = request.previous.iter().flat_map(|result| &result.interfaces);
        if !made.any(|i| i.name == interface.as_str() && i.sandbox.as_deref() == Some(&sandbox)) {
            return Ok(None);
        }
        let link = netops::read_link(kernel, Place::Container, interface).map_err(|e| kernel_error(&e))?;
        let links = netops::read_links(kernel, self.place).map_err(|e| kernel_error(&e))?;
        let index = link.and_then(|link| link.peer_index);
        Ok(links.into_iter().find(|link| Some(link.index) == index).map(|link| link.name))
    }

    fn default(&self, kernel: &mut dyn Kernel) -> Result<LinkName, Error> {
        let found = netops::read_default_link(kernel, self.place).map_err(|e| kernel_error(&e))?;
        found.ok_or_else(|| {
            let place = self.place;
            Error::config(format!("master: missing, and the {place} has no default route to take one from"))
        })
    }

    /// Whether it is there. One in a container cannot be looked for before there is one.
    pub(crate) fn status(&self, kernel: &mut dyn Kernel) -> Result<(), Error> {
        let missing = |text| Err(Error::new(ErrorCode::PLUGIN_NOT_AVAILABLE, text));
        match (&self.name, self.place) {
            (_, Place::Container) => Ok(()),
            (None, _) => match self.default(kernel) {
                Err(error) => missing(error.msg().to_owned()),
                Ok(_) => Ok(()),
            },
            (Some(name), place) => match netops::read_link(kernel, place, name) {
                Ok(Some(_)) => Ok(()),
                Ok(None) => missing(format!("master: there is no interface \"{name}\"")),
                Err(error) => Err(kernel_error(&error)),
            },
        }
    }
}

/// An MTU must not be greater than what it is on lets through.
pub(crate) fn must_fit(mtu: Option<u32>, parent: &Parent, state: Option<&LinkState>) -> Result<(), Error> {
    match (mtu, state) {
        (Some(mtu), Some(state)) if mtu > state.mtu => Err(Error::config(format!(
            "mtu is {mtu}: \"{}\" has {}, and no more can pass",
            parent.name, state.mtu
        ))),
        _ => Ok(()),
    }
}

/// Neighbours are told of IPv6 addresses too as the interface goes up.
pub(crate) fn announce(plan: &mut Plan, link: &LinkName) {
    let setting = Sysctl::optional(SysctlKey::ipv6(link, "ndisc_notify"), 1);
    plan.own(Place::Container, Resource::Sysctl(setting));
}
