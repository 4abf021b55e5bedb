//! `host-device`: an interface of the node's becomes a container's, and the node's again afterwards.

use cni_spec::plugin::DelRequest;
use cni_spec::{Error, Interface};
use netops::{Kernel, LinkName, LinkState, MovedLink, Place, Plan, Resource};
use plugin_kit::{Addressing, Attach, Attachment, DuplicateDetection, Owner, Remains, Request, kernel_error};

pub use crate::device::HostDeviceConfig;
use crate::device::Sysfs;
use crate::inside::Inside;

/// The plugin `host-device`.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostDevice {
    sysfs: Sysfs,
}

impl HostDevice {
    /// The plugin on the machine that it runs on.
    pub const fn new() -> Self {
        Self { sysfs: Sysfs::new("/sys") }
    }

    /// The plugin with what the kernel says of devices somewhere else than in `/sys`.
    pub const fn with_sysfs(path: &'static str) -> Self {
        Self { sysfs: Sysfs::new(path) }
    }
}

impl Attach for HostDevice {
    type Config = HostDeviceConfig;

    const TYPE: &'static str = "host-device";
    const ABOUT: &'static str = concat!(
        "cnikit host-device ",
        env!("CARGO_PKG_VERSION"),
        ": an interface of the node's for a container"
    );
    const ADDRESSING: Addressing = Addressing::Optional;
    const REMAINS: Remains = Remains::Inside;

    fn plan(
        &self,
        request: &Request<'_, HostDeviceConfig>,
        kernel: &mut dyn Kernel,
    ) -> Result<Attachment, Error> {
        let asked = request.call.config.runtime_config().device_id()?;
        let device = self.sysfs.device(&request.config, asked.as_deref())?;
        if let Some(address) = self.sysfs.in_user_space(&request.config, asked.as_deref()) {
            return Ok(left_alone(request, address));
        }
        let interface = &request.names.interface;
        let mut making = Plan::new();
        let there = lent(interface, kernel)?;
        let (original, state) = match there {
            Some((original, state)) => (original, Some(state)),
            None => match self.sysfs.find(&device, kernel)? {
                Some(state) => {
                    // If the attachment fails it goes back, and up again.
                    if state.up {
                        making.own(Place::Host, Resource::LinkDown(state.name.clone()));
                    }
                    (state.name.clone(), Some(state))
                }
                // A script knows of no interfaces.
                None => (device.name()?, None),
            },
        };
        making.own(
            Place::Container,
            Resource::MovedLink(MovedLink {
                name: interface.clone(),
                from: Place::Host,
                original,
                mac: recorded_mac(request),
            }),
        );
        let inside = Inside {
            making,
            addresses: request.addresses.clone(),
            detection: DuplicateDetection::Usual,
            mac: state.as_ref().and_then(|state| state.mac),
            mtu: state.map(|state| state.mtu),
        };
        Ok(inside.attachment(request))
    }

    fn remnants(&self, call: &DelRequest, owner: &Owner, kernel: &mut dyn Kernel) -> Result<Plan, Error> {
        let mut plan = Plan::new();
        let name = owner.link()?;
        let runtime = call.config.runtime_config().device_id().ok().flatten();
        let config = call.config.parse::<HostDeviceConfig>().unwrap_or_default();
        if self.sysfs.in_user_space(&config, runtime.as_deref()).is_some() {
            return Ok(plan);
        }
        let Some((original, _)) = lent(&name, kernel)? else { return Ok(plan) };
        // Another network's interface of the same name is why this one's ADD failed.
        if config.device.is_none_or(|device| device == original) {
            let moved = MovedLink { name, from: Place::Host, original, mac: None };
            plan.own(Place::Container, Resource::MovedLink(moved));
        }
        Ok(plan)
    }
}

/// The interface of a name in the container, and its name on the node, if it is the node's.
fn lent(name: &LinkName, kernel: &mut dyn Kernel) -> Result<Option<(LinkName, LinkState)>, Error> {
    let link = match netops::read_link(kernel, Place::Container, name) {
        Ok(link) => link,
        Err(netops::Error::NoContainer) => None,
        Err(error) => return Err(kernel_error(&error)),
    };
    // What others make has no alias, or one that is no name.
    Ok(link.and_then(|link| Some((LinkName::new(link.alias.as_deref()?).ok()?, link))))
}

/// The MAC address that a previous result has for the attachment's interface.
fn recorded_mac(request: &Request<'_, HostDeviceConfig>) -> Option<netops::MacAddr> {
    let (name, sandbox) = (request.names.interface.as_str(), request.sandbox());
    let mut interfaces = request.previous.iter().flat_map(|result| &result.interfaces);
    let ours = interfaces.find(|i| i.name == name && i.sandbox.as_deref() == Some(&sandbox))?;
    ours.mac.as_deref()?.parse().ok()
}

/// A device that a driver in user space has (DPDK): it has no interface, and the container gets at it by other means.
fn left_alone(request: &Request<'_, HostDeviceConfig>, address: String) -> Attachment {
    let mut result = request.addresses.clone();
    result.interfaces = vec![Interface {
        pci_id: Some(address),
        ..Interface::in_sandbox(request.names.interface.to_string(), request.sandbox())
    }];
    request.assign_addresses(&mut result);
    Attachment { plan: Plan::new(), result }
}
