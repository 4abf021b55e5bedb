//! `static`: the addresses that the configuration or the caller names, and no state at all.

use std::net::IpAddr;

use cni_spec::plugin::{DelRequest, GcRequest, Request, StatusRequest};
use cni_spec::{AddResult, Dns, Error, IpConfig, RequestedIp, Route};
use ipnet::IpNet;
use serde::Deserialize;

use super::request::Requested;
use super::{Grant, Manager};
use crate::attach::previous_result;

/// The manager of `"type": "static"`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Static;

impl Static {
    /// The word for it in configurations.
    pub const TYPE: &'static str = "static";

    fn result(call: &Request) -> Result<AddResult, Error> {
        let config: Config =
            call.config.section("ipam").parse()?.ok_or_else(|| Error::config("ipam: missing"))?;
        let requested = Requested::of(call)?;
        let mut ips: Vec<_> = config.addresses.into_iter().map(Configured::into_ip).collect();
        for ip in &requested.arguments {
            ips.push(IpConfig::new(prefix("CNI_ARGS: IP", ip)?));
        }
        assign_gateways(call, &mut ips)?;
        // Each of these stands for all that was said before it.
        for (at, named) in
            [("args.cni.ips", &requested.configured), ("runtimeConfig.ips", &requested.runtime)]
        {
            if !named.is_empty() {
                ips = named
                    .iter()
                    .map(|ip| Ok(IpConfig::new(prefix(at, ip)?)))
                    .collect::<Result<_, Error>>()?;
            }
        }
        let result = AddResult { ips, routes: config.routes, dns: config.dns, ..AddResult::default() };
        super::fitted(&call.config, result)
    }
}

/// The `ipam` section.
#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    addresses: Vec<Configured>,
    #[serde(default)]
    routes: Vec<Route>,
    #[serde(default)]
    dns: Dns,
}

#[derive(Debug, Deserialize)]
struct Configured {
    address: IpNet,
    #[serde(default, deserialize_with = "super::empty_as_none")]
    gateway: Option<IpAddr>,
}

impl Configured {
    fn into_ip(self) -> IpConfig {
        IpConfig { gateway: self.gateway, ..IpConfig::new(self.address) }
    }
}

impl Manager for Static {
    fn add<'a>(&'a self, call: &'a Request) -> Result<Grant<'a>, Error> {
        Ok(Grant::free(Self::result(call)?))
    }

    fn del(&self, _: &DelRequest) -> Result<(), Error> {
        Ok(())
    }

    fn check(&self, call: &Request) -> Result<(), Error> {
        let previous = previous_result(call, "CHECK needs it")?;
        for ip in Self::result(call)?.ips {
            if !previous.ips.iter().any(|other| other.address == ip.address) {
                return Err(Error::new(
                    crate::error::DIFFERS,
                    format!("the attachment was made without the configured address {}", ip.address),
                ));
            }
        }
        Ok(())
    }

    fn gc(&self, _: &GcRequest) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self, _: &StatusRequest) -> Result<(), Error> {
        Ok(())
    }

    fn preview(&self, call: &Request) -> Result<AddResult, Error> {
        Self::result(call)
    }
}

/// An address with its prefix length, which `static` must be told.
fn prefix(at: &str, ip: &RequestedIp) -> Result<IpNet, Error> {
    let missing = || Error::config(format!("{at}: {} needs a prefix length, as in {}/24", ip.addr, ip.addr));
    IpNet::new(ip.addr, ip.prefix_len.ok_or_else(missing)?)
        .map_err(|e| Error::config(format!("{at}: {ip}: {e}")))
}

/// `GATEWAY` in `CNI_ARGS`: each is the gateway of the addresses whose prefix contains it.
fn assign_gateways(call: &Request, ips: &mut [IpConfig]) -> Result<(), Error> {
    for text in call.args.get("GATEWAY").unwrap_or_default().split(',').filter(|text| !text.is_empty()) {
        let gateway: IpAddr = text
            .trim()
            .parse()
            .map_err(|e| Error::environment(format!("CNI_ARGS: GATEWAY={text:?}: {e}")))?;
        for ip in ips.iter_mut().filter(|ip| ip.address.contains(&gateway)) {
            ip.gateway = Some(gateway);
        }
    }
    Ok(())
}
