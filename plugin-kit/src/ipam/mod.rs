//! Addresses for an attachment: our own managers in process, any other as the specification says, by executing it.
//!
//! [`manager`] reads the `ipam` section of a configuration and chooses; what it returns is asked for addresses
//! ([`Manager::add`]) and told of their end ([`Manager::del`]).

pub mod dhcp;
mod foreign;
mod host_local;
mod request;
mod static_addresses;

pub use dhcp::Dhcp;
pub use host_local::{HostLocal, Source, Supply};
pub use static_addresses::Static;

use std::net::IpAddr;

use cni_spec::plugin::{DelRequest, GcRequest, Request, StatusRequest};
use cni_spec::{AddResult, AttachmentId, Error, NetworkConfig, SpecVersion};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use foreign::Foreign;

/// Manages the addresses of a network: one of the specification's IPAM plugins, in whatever form.
pub trait Manager {
    /// Takes addresses. They are the attachment's for good once the grant is [kept](Grant::keep), and given back if
    /// it is dropped.
    ///
    /// # Errors
    /// When there are none to be had: nothing is taken then.
    fn add<'a>(&'a self, call: &'a Request) -> Result<Grant<'a>, Error>;

    /// Gives back whatever an attachment has; fine if it has nothing.
    ///
    /// # Errors
    /// When something could not be given back.
    fn del(&self, call: &DelRequest) -> Result<(), Error>;

    /// Says whether an attachment still has what it was given.
    ///
    /// # Errors
    /// When it has not.
    fn check(&self, call: &Request) -> Result<(), Error>;

    /// Gives back what belongs to no valid attachment.
    ///
    /// # Errors
    /// When something could not be given back.
    fn gc(&self, call: &GcRequest) -> Result<(), Error>;

    /// The addresses that `gc` would give back, and whose they are, as far as the manager can tell.
    ///
    /// # Errors
    /// When it could not look.
    fn stale(&self, call: &GcRequest) -> Result<Vec<(AttachmentId, IpAddr)>, Error> {
        let _ = call;
        Ok(Vec::new())
    }

    /// Says whether an `add` could be served now.
    ///
    /// # Errors
    /// When it could not: [`cni_spec::ErrorCode::PLUGIN_NOT_AVAILABLE`].
    fn status(&self, call: &StatusRequest) -> Result<(), Error>;

    /// Whether the interface must be there, and up, before addresses can be asked for.
    fn needs_interface(&self) -> bool {
        false
    }

    /// Whether the interface must still be there for addresses to be given back: `del`, `gc` and the end of a grant come before
    /// it is removed then, else after, so that nobody else gets an address that something still has.
    fn releases_through_interface(&self) -> bool {
        false
    }

    /// What `add` would give, without taking it.
    ///
    /// # Errors
    /// As [`Self::add`], or where the manager cannot say.
    fn preview(&self, call: &Request) -> Result<AddResult, Error>;
}

/// The manager that a configuration asks for; `None` if it asks for none (`"ipam": {}`).
///
/// # Errors
/// When `ipam.type` is not a name.
pub fn manager(config: &NetworkConfig) -> Result<Option<Box<dyn Manager>>, Error> {
    let Some(kind) = config.ipam_type()? else { return Ok(None) };
    Ok(Some(match kind.as_str() {
        Dhcp::TYPE => Box::new(Dhcp),
        HostLocal::TYPE => Box::new(HostLocal::default()),
        Static::TYPE => Box::new(Static),
        _ => Box::new(Foreign::new(kind)),
    }))
}

/// Addresses that were taken, and are given back unless they are kept.
#[must_use = "dropping a grant gives its addresses back"]
pub struct Grant<'a> {
    result: AddResult,
    hold: Option<Box<dyn Hold + 'a>>,
}

/// What stands behind a grant. Dropping it without [`Hold::keep`] gives everything back.
trait Hold {
    /// Makes it last.
    fn keep(self: Box<Self>);
}

impl<'a> Grant<'a> {
    fn new(result: AddResult, hold: impl Hold + 'a) -> Self {
        Self { result, hold: Some(Box::new(hold)) }
    }

    /// A grant of what nobody has to give back.
    pub(crate) fn free(result: AddResult) -> Self {
        Self { result, hold: None }
    }

    /// The grant, if there is an address in it: an IPAM plugin that gives none was not told which.
    pub(crate) fn not_empty(self) -> Result<Self, Error> {
        match self.result.ips.is_empty() {
            true => Err(Error::config("ipam: no address is configured, and none was asked for")),
            false => Ok(self),
        }
    }

    /// The addresses, routes and DNS settings.
    pub fn result(&self) -> &AddResult {
        &self.result
    }

    /// Makes the addresses the attachment's, until its DEL.
    #[must_use = "the attachment's result is to have the addresses"]
    pub fn keep(self) -> AddResult {
        if let Some(hold) = self.hold {
            hold.keep();
        }
        self.result
    }
}

/// A result as a configuration's version has room for it. Before 0.3.0 there is one address per family, and routes are that
/// address's: those of a family without one do not get through, with an IPAM plugin that is executed.
pub(crate) fn fitted(config: &NetworkConfig, mut result: AddResult) -> Result<AddResult, Error> {
    if config.cni_version() >= SpecVersion::V0_3_0 {
        return Ok(result);
    }
    let [v4, v6] =
        [true, false].map(|v4| result.ips.iter().filter(|ip| ip.address.addr().is_ipv4() == v4).count());
    if v4 > 1 || v6 > 1 {
        return Err(Error::config(format!(
            "cniVersion {} has room for one address per family: use 0.3.0 or later",
            config.cni_version()
        )));
    }
    result.routes.retain(|route| if route.dst.addr().is_ipv4() { v4 == 1 } else { v6 == 1 });
    Ok(result)
}

/// An address; to the reference `""` is none.
fn empty_as_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}
