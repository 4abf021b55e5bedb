//! `host-local`: addresses from ranges, with leases in files, as the reference's plugin of that name keeps them.

use std::cell::OnceCell;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use cni_spec::plugin::{DelRequest, GcRequest, Request, StatusRequest};
use cni_spec::{AddResult, AttachmentId, Dns, Error, ErrorCode, IpConfig, IpRange, NetworkConfig, Route};
use ipam::{
    AcquireError, BootId, DirStore, Lease, LeaseStore, Owner, Pool, Range, RangeError, RangeSet, Reservation,
    StoreError,
};
use ipnet::IpNet;
use serde::Deserialize;

use super::request::Requested;
use super::{Grant, Hold, Manager};
use crate::resolv_conf;

/// The manager of `"type": "host-local"`, or of a plugin that knows by other ways what there is to give.
pub struct HostLocal {
    source: &'static dyn Source,
    /// Opened by the first `add`; what is granted borrows it.
    store: OnceCell<DirStore>,
}

/// Where host-local's addresses come from.
pub trait Source: Send + Sync {
    /// What attachments of a network are given.
    ///
    /// # Errors
    /// When there is nothing to be given, or it makes no sense.
    fn supply(&self, config: &NetworkConfig) -> Result<Supply, Error>;

    /// The directory that leases are in, of all networks. Also of one whose supply is not known any more.
    ///
    /// # Errors
    /// When the configuration has it wrong.
    fn data_dir(&self, config: &NetworkConfig) -> Result<PathBuf, Error>;
}

/// What attachments of a network are given.
#[derive(Debug, Clone, PartialEq)]
pub struct Supply {
    /// An address of each of its sets.
    pub pool: Pool,
    /// Routes.
    pub routes: Vec<Route>,
    /// DNS settings.
    pub dns: Dns,
}

/// The section `ipam` says it all.
struct Section;

/// The `ipam` section.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    /// The old form: one range, in the section itself.
    #[serde(default)]
    subnet: Option<IpNet>,
    #[serde(default, deserialize_with = "super::empty_as_none")]
    range_start: Option<IpAddr>,
    #[serde(default, deserialize_with = "super::empty_as_none")]
    range_end: Option<IpAddr>,
    #[serde(default, deserialize_with = "super::empty_as_none")]
    gateway: Option<IpAddr>,
    /// One address is taken from each set.
    #[serde(default)]
    ranges: Vec<Vec<IpRange>>,
    #[serde(default)]
    routes: Vec<Route>,
    #[serde(default)]
    resolv_conf: Option<PathBuf>,
}

impl HostLocal {
    /// The word for it in configurations.
    pub const TYPE: &'static str = "host-local";

    /// Addresses from somewhere else than `ipam`, with leases as host-local keeps them.
    pub const fn of(source: &'static dyn Source) -> Self {
        Self { source, store: OnceCell::new() }
    }

    /// The ranges that a configuration gives addresses from.
    ///
    /// # Errors
    /// When they make no sense.
    pub fn pool(config: &NetworkConfig) -> Result<Pool, Error> {
        Config::of(config)?.pool(config)
    }

    /// Where a configuration's leases are: `ipam.dataDir`, or where everybody has them.
    ///
    /// # Errors
    /// When it is no path.
    pub fn data_dir(config: &NetworkConfig) -> Result<PathBuf, Error> {
        let configured = config.section("ipam").get::<PathBuf>("dataDir")?;
        let configured = configured.filter(|dir| !dir.as_os_str().is_empty());
        Ok(configured.unwrap_or_else(|| DirStore::DEFAULT_DATA_DIR.into()))
    }

    /// The network's leases, if there ever were any.
    fn existing_store(&self, config: &NetworkConfig) -> Result<Option<DirStore>, Error> {
        match DirStore::open(&self.source.data_dir(config)?, config.name().as_str(), &boot()?) {
            Ok(store) => Ok(Some(store)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(store_error(error)),
        }
    }
}

impl Default for HostLocal {
    fn default() -> Self {
        Self::of(&Section)
    }
}

impl fmt::Debug for HostLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostLocal").finish_non_exhaustive()
    }
}

impl Source for Section {
    fn supply(&self, config: &NetworkConfig) -> Result<Supply, Error> {
        let section = Config::of(config)?;
        let pool = section.pool(config)?;
        let dns = match &section.resolv_conf {
            Some(path) if !path.as_os_str().is_empty() => resolv_conf::read(path)?,
            _ => Dns::default(),
        };
        Ok(Supply { pool, routes: section.routes, dns })
    }

    fn data_dir(&self, config: &NetworkConfig) -> Result<PathBuf, Error> {
        HostLocal::data_dir(config)
    }
}

impl Supply {
    fn result(self, config: &NetworkConfig, ips: Vec<IpConfig>) -> Result<AddResult, Error> {
        let result = AddResult { ips, routes: self.routes, dns: self.dns, ..AddResult::default() };
        super::fitted(config, result)
    }
}

impl Manager for HostLocal {
    fn add<'a>(&'a self, call: &'a Request) -> Result<Grant<'a>, Error> {
        let supply = self.source.supply(&call.config)?;
        let data_dir = self.source.data_dir(&call.config)?;
        let store =
            DirStore::create(&data_dir, call.config.name().as_str(), &boot()?).map_err(store_error)?;
        let requested = Requested::of(call)?.addresses();
        let store = self.store.get_or_init(|| store);
        let owner = owner(&call.attachment())?;
        let reservation = ipam::acquire(store, &supply.pool, &owner, &requested).map_err(acquire_error)?;
        let ips = reservation.assigned().iter();
        let ips = ips.map(|ip| IpConfig { gateway: ip.gateway, ..IpConfig::new(ip.address) }).collect();
        let result = supply.result(&call.config, ips)?;
        Ok(Grant::new(result, reservation))
    }

    fn del(&self, call: &DelRequest) -> Result<(), Error> {
        let Some(store) = self.existing_store(&call.config)? else { return Ok(()) };
        // The previous result says where to look; a wrong one costs a look at every lease.
        let previous = call.config.prev_result().ok().flatten().unwrap_or_default();
        let hint: Vec<_> = previous.ips.iter().map(|ip| ip.address.addr()).collect();
        ipam::release(&store, &owner(&call.attachment())?, &hint).map_err(store_error)?;
        Ok(())
    }

    fn check(&self, call: &Request) -> Result<(), Error> {
        let owner = owner(&call.attachment())?;
        let leases = match self.existing_store(&call.config)? {
            Some(store) => ipam::find(&store, &owner).map_err(store_error)?,
            None => Vec::new(),
        };
        if leases.is_empty() {
            return Err(Error::new(
                crate::error::DIFFERS,
                format!("{owner} has no lease in network {}", call.config.name()),
            ));
        }
        Ok(())
    }

    fn gc(&self, call: &GcRequest) -> Result<(), Error> {
        let Some(store) = self.existing_store(&call.config)? else { return Ok(()) };
        // Read once more, after `stale`: it is not locked while the kernel is cleaned up, so that ADDs need not wait for that, and
        // an address may have been given back and taken again meanwhile. What is nobody's goes, too.
        ipam::retain(&store, |lease| is_valid(call, lease)).map_err(store_error)?;
        Ok(())
    }

    fn stale(&self, call: &GcRequest) -> Result<Vec<(AttachmentId, IpAddr)>, Error> {
        let Some(store) = self.existing_store(&call.config)? else { return Ok(Vec::new()) };
        let attachment = |lease: &Lease| {
            let owner = lease.owner()?;
            Some(AttachmentId {
                container_id: owner.container_id().parse().ok()?,
                if_name: owner.interface().parse().ok()?,
            })
        };
        let leases = ipam::leases(&store).map_err(store_error)?;
        let stale = leases.iter().filter(|lease| !is_valid(call, lease));
        Ok(stale.filter_map(|lease| Some((attachment(lease)?, lease.address))).collect())
    }

    fn status(&self, call: &StatusRequest) -> Result<(), Error> {
        let unavailable = |text: String| Error::new(ErrorCode::PLUGIN_NOT_AVAILABLE, text);
        let pool = self.source.supply(&call.config)?.pool;
        let Some(store) = self.existing_store(&call.config)? else { return Ok(()) };
        let usage = ipam::usage(&store, &pool).map_err(store_error)?;
        for (number, set) in usage.iter().enumerate() {
            if set.free() == 0 {
                return Err(unavailable(format!(
                    "network {}: every address of range set {number} is taken",
                    call.config.name()
                )));
            }
        }
        Ok(())
    }

    fn preview(&self, call: &Request) -> Result<AddResult, Error> {
        let supply = self.source.supply(&call.config)?;
        let pool = &supply.pool;
        let requested = Requested::of(call)?.addresses();
        let (mut taken, mut last) = (Vec::new(), vec![None; pool.sets().len()]);
        if let Some(store) = self.existing_store(&call.config)? {
            let mut table = store.lock().map_err(store_error)?;
            taken = table.addresses().map_err(store_error)?;
            taken.sort_unstable();
            last = (0..pool.sets().len()).map(|set| table.last_reserved(set)).collect();
        }
        let mut ips = Vec::new();
        for (number, set) in pool.sets().iter().enumerate() {
            let wanted = requested.iter().copied().find(|ip| set.range_of(*ip).is_some());
            let address = wanted.or_else(|| set.first_free(last[number], &taken));
            ips.extend(address.and_then(|address| ip_config(set, address)));
        }
        supply.result(&call.config, ips)
    }
}

impl Hold for Reservation<'_> {
    fn keep(self: Box<Self>) {
        drop(self.commit());
    }
}

impl Config {
    fn of(config: &NetworkConfig) -> Result<Self, Error> {
        config.section("ipam").parse()?.ok_or_else(|| Error::config("ipam: missing"))
    }

    /// The ranges: the runtime's first, then the old form's, then the rest.
    fn pool(&self, config: &NetworkConfig) -> Result<Pool, Error> {
        let mut sets = Vec::new();
        for (number, set) in config.runtime_config().ip_ranges()?.iter().enumerate() {
            sets.push(range_set(&format!("runtimeConfig.ipRanges[{number}]"), set)?);
        }
        if let Some(subnet) = self.subnet {
            let (range_start, range_end, gateway) = (self.range_start, self.range_end, self.gateway);
            sets.push(range_set("ipam", &[IpRange { subnet, range_start, range_end, gateway }])?);
        }
        for (number, set) in self.ranges.iter().enumerate() {
            sets.push(range_set(&format!("ipam.ranges[{number}]"), set)?);
        }
        if sets.is_empty() {
            return Err(Error::config("ipam: no ranges: host-local needs a subnet, or ranges"));
        }
        Pool::new(sets).map_err(|e| Error::config(format!("ipam.ranges: {e}")))
    }
}

/// An address as a set would give it.
fn ip_config(set: &RangeSet, address: IpAddr) -> Option<IpConfig> {
    let range = set.range_of(address)?;
    let net = IpNet::new(address, range.subnet().prefix_len()).ok()?;
    Some(IpConfig { gateway: range.gateway(), ..IpConfig::new(net) })
}

/// A set. A range with nothing to give, as one that is its gateway alone, is passed over where there are others, as the
/// reference passes over its addresses.
fn range_set(at: &str, ranges: &[IpRange]) -> Result<RangeSet, Error> {
    let (mut giving, mut nothing) = (Vec::new(), None);
    for (number, range) in ranges.iter().enumerate() {
        let IpRange { subnet, range_start, range_end, gateway } = *range;
        let error = |e| Error::config(format!("{at}[{number}]: {e}"));
        match Range::new(subnet, range_start, range_end, gateway) {
            Ok(range) => giving.push(range),
            Err(e @ RangeError::Empty { .. }) => nothing = nothing.or_else(|| Some(error(e))),
            Err(e) => return Err(error(e)),
        }
    }
    match nothing {
        Some(nothing) if giving.is_empty() => Err(nothing),
        _ => RangeSet::new(giving).map_err(|e| Error::config(format!("{at}: {e}"))),
    }
}

fn boot() -> Result<BootId, Error> {
    BootId::current().map_err(|e| Error::io(format!("read the boot ID: {e}")))
}

/// Whether a lease is a valid attachment's.
fn is_valid(call: &GcRequest, lease: &Lease) -> bool {
    call.valid_attachments.iter().any(|valid| owner(valid).is_ok_and(|owner| lease.is_held_by(&owner)))
}

fn owner(attachment: &AttachmentId) -> Result<Owner, Error> {
    Owner::new(attachment.container_id.as_str(), attachment.if_name.as_str())
        .map_err(|e| Error::environment(e.to_string()))
}

fn store_error(error: StoreError) -> Error {
    Error::io(error.to_string())
}

fn acquire_error(error: AcquireError) -> Error {
    let text = error.to_string();
    match error {
        AcquireError::Exhausted { .. } => Error::new(ErrorCode::TRY_AGAIN_LATER, text),
        AcquireError::NotInPool { .. } | AcquireError::Gateway { .. } | AcquireError::TwoOfOneSet { .. } => {
            Error::config(text)
        }
        AcquireError::Store(error) => store_error(error),
        _ => Error::new(crate::error::CONFLICT, text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ranges(ranges: Value) -> Result<Pool, Error> {
        let config = json!({
            "cniVersion": "1.0.0", "name": "net", "type": "some", "ipam": {"type": "host-local", "ranges": ranges},
        });
        HostLocal::pool(&NetworkConfig::from_json(config.to_string().as_bytes())?)
    }

    fn gateway_alone(common: &str) -> Value {
        let gateway = format!("{common}1");
        json!({"subnet": format!("{common}0/24"), "rangeStart": gateway, "rangeEnd": gateway})
    }

    #[test]
    fn a_range_with_nothing_to_give_is_passed_over_beside_others() {
        let some = json!({"subnet": "10.6.0.0/30"});
        for set in [
            json!([gateway_alone("10.5.0."), some]),
            json!([some, gateway_alone("10.5.0.")]),
            json!([gateway_alone("10.5.0."), some, gateway_alone("10.7.0.")]),
            json!([{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.255"}, some]),
        ] {
            let pool = ranges(json!([set])).unwrap();
            assert_eq!(pool.sets()[0].to_string(), "10.6.0.1-10.6.0.2", "{set}");
        }
    }

    #[test]
    fn a_set_with_nothing_to_give_is_refused_and_the_range_named() {
        let error = ranges(json!([[gateway_alone("10.5.0."), gateway_alone("10.7.0.")]])).unwrap_err();
        assert!(error.msg().contains("ipam.ranges[0][0]"), "{error}");
        let error = ranges(json!([[{"subnet": "10.6.0.0/30"}], [gateway_alone("10.5.0.")]])).unwrap_err();
        assert!(error.msg().contains("ipam.ranges[1][0]"), "{error}");
        // What is wrong in another way is not passed over.
        let outside = json!({"subnet": "10.5.0.0/24", "rangeStart": "10.9.0.1"});
        assert!(ranges(json!([[{"subnet": "10.6.0.0/30"}, outside]])).is_err());
    }
}
