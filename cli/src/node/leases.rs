//! host-local's leases: who has which address, and how full the ranges are.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use ipam::{BootId, DirStore, Lease, Range, RangeSet, StoreError};
use serde::{Serialize, Serializer};

use super::networks::Networks;

/// The leases of a network.
#[derive(Debug)]
pub(crate) struct Store {
    /// The network.
    pub(crate) network: String,
    /// The directory that the network's is in.
    pub(crate) data_dir: PathBuf,
    /// Its leases, by address.
    pub(crate) leases: Vec<Lease>,
}

impl Store {
    /// Every store in some data directories; directories that do not exist have none.
    pub(crate) fn all(data_dirs: &BTreeSet<PathBuf>) -> Result<Vec<Self>, StoreError> {
        let boot = boot()?;
        let mut stores = Vec::new();
        for data_dir in data_dirs {
            for network in DirStore::networks(data_dir)? {
                let leases = match DirStore::open(data_dir, &network, &boot) {
                    Ok(store) => ipam::leases(&store)?,
                    // Removed since the directory was read.
                    Err(error) if error.is_not_found() => continue,
                    Err(error) => return Err(error),
                };
                stores.push(Self { network, data_dir: data_dir.clone(), leases });
            }
        }
        Ok(stores)
    }

    /// The lease of an address.
    pub(crate) fn lease_of(&self, address: IpAddr) -> Option<&Lease> {
        let found = self.leases.binary_search_by_key(&address, |lease| lease.address);
        found.ok().and_then(|index| self.leases.get(index))
    }

    /// The store itself, to be changed.
    pub(crate) fn open(&self) -> Result<DirStore, StoreError> {
        DirStore::open(&self.data_dir, &self.network, &boot()?)
    }

    /// How full the network's range sets are; none if nothing is known of its configuration.
    pub(crate) fn usage(&self, networks: &Networks) -> Vec<Usage> {
        let pool = networks.pool(&self.network);
        let sets = pool.iter().flat_map(|pool| pool.sets());
        sets.map(|set| Usage::of(set, &self.leases)).collect()
    }
}

fn boot() -> Result<BootId, StoreError> {
    let path = "/proc/sys/kernel/random/boot_id";
    BootId::current().map_err(|source| StoreError::Io { operation: "read", path: path.into(), source })
}

/// How full a range set is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Usage {
    /// Its ranges: a subnet if it is all of one, else `FIRST-LAST`.
    pub(crate) ranges: Vec<String>,
    /// How many addresses are taken.
    pub(crate) used: usize,
    /// How many there are. A text in JSON, whose numbers end long before IPv6's.
    #[serde(serialize_with = "as_text")]
    pub(crate) total: u128,
}

impl Usage {
    fn of(set: &RangeSet, leases: &[Lease]) -> Self {
        let used = leases.iter().filter(|lease| set.range_of(lease.address).is_some()).count();
        Self { ranges: set.ranges().iter().map(describe).collect(), used, total: set.capacity() }
    }
}

fn describe(range: &Range) -> String {
    let whole = Range::new(range.subnet(), None, None, None);
    let is_whole = |whole: Range| (whole.first(), whole.last()) == (range.first(), range.last());
    if whole.is_ok_and(is_whole) { range.subnet().to_string() } else { range.to_string() }
}

fn as_text<S: Serializer>(number: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

#[cfg(test)]
mod tests {
    use cni_spec::NetworkList;
    use ipam::{Owner, Pool};

    use super::*;

    fn network(ranges: &str) -> Networks {
        let text = format!(
            r#"{{"cniVersion":"1.0.0","name":"net","plugins":[{{"type":"ptp","ipam":{{"type":"host-local","ranges":{ranges}}}}}]}}"#
        );
        Networks::of([NetworkList::from_json(text.as_bytes()).unwrap()])
    }

    #[test]
    fn usage_counts_the_leases_of_each_set() {
        let data_dir = tempfile::tempdir().unwrap();
        let networks = network(
            r#"[[{"subnet":"10.1.0.0/29"}],[{"subnet":"10.2.0.0/24","rangeStart":"10.2.0.9","rangeEnd":"10.2.0.12"}]]"#,
        );
        let pool: Pool = networks.pool("net").unwrap();
        let store = DirStore::create(data_dir.path(), "net", &boot().unwrap()).unwrap();
        for container in ["a", "b"] {
            let owner = Owner::new(container, "eth0").unwrap();
            drop(ipam::acquire(&store, &pool, &owner, &[]).unwrap().commit());
        }
        let stores = Store::all(&BTreeSet::from([data_dir.path().to_owned()])).unwrap();
        assert_eq!(stores.len(), 1);
        assert_eq!(stores[0].leases.len(), 4);
        let usage = stores[0].usage(&networks);
        let expected = [
            Usage { ranges: vec!["10.1.0.0/29".to_owned()], used: 2, total: 5 },
            Usage { ranges: vec!["10.2.0.9-10.2.0.12".to_owned()], used: 2, total: 4 },
        ];
        assert_eq!(usage, expected);
        assert_eq!(serde_json::to_value(&usage[0]).unwrap()["total"], "5");
    }

    #[test]
    fn a_network_that_nobody_knows_has_leases_but_no_ranges() {
        let data_dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(data_dir.path().join("other")).unwrap();
        std::fs::write(data_dir.path().join("other/10.0.0.2"), "c1\r\neth0").unwrap();
        let stores = Store::all(&BTreeSet::from([data_dir.path().to_owned()])).unwrap();
        assert_eq!((stores[0].leases.len(), stores[0].usage(&network("[]")).len()), (1, 0));
    }

    #[test]
    fn an_overlays_leases_are_where_host_locals_are_and_its_subnets_are_its_agents() {
        let (data_dir, agent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let node = r#"{"node":"n","bridge":"b","mtu":1450,"cluster":["10.244.0.0/16"],
            "subnets":[{"subnet":"10.244.3.0/29","gateway":"10.244.3.1","first":"10.244.3.5"}]}"#;
        std::fs::write(agent.path().join("net.json"), node).unwrap();
        let list = serde_json::json!({"cniVersion": "1.0.0", "name": "net", "plugins": [
            {"type": "overlay", "agentDirectory": agent.path(), "dataDir": data_dir.path()}]});
        let networks = Networks::of([NetworkList::from_json(list.to_string().as_bytes()).unwrap()]);
        assert_eq!(networks.data_dirs(), BTreeSet::from([data_dir.path().to_owned()]));
        let store = DirStore::create(data_dir.path(), "net", &boot().unwrap()).unwrap();
        let (pool, owner) = (networks.pool("net").unwrap(), Owner::new("a", "eth0").unwrap());
        drop(ipam::acquire(&store, &pool, &owner, &[]).unwrap().commit());
        let stores = Store::all(&networks.data_dirs()).unwrap();
        let expected = [Usage { ranges: vec!["10.244.3.0/29".to_owned()], used: 1, total: 5 }];
        assert_eq!(stores[0].usage(&networks), expected);
    }

    #[test]
    fn no_directory_is_no_leases() {
        assert!(Store::all(&BTreeSet::from(["/nonexistent".into()])).unwrap().is_empty());
    }
}
