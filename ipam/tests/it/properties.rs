//! What holds for every pool and every sequence of operations.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::common::{owner, scratch, store};
use ipam::{
    AcquireError, LeaseStore, MemoryStore, Pool, Range, RangeSet, acquire, find, leases, release, retain,
    usage,
};
use ipnet::IpNet;
use proptest::prelude::*;

/// A subnet of up to 64 addresses, or a huge one, with arbitrary start, end and gateway.
fn any_range() -> impl Strategy<Value = Range> {
    let subnet = prop_oneof![
        3 => (any::<u16>(), 26..=32u8).prop_map(|(net, length)| {
            IpNet::new(IpAddr::V4((u32::from(net) << 8 | 0x0a00_0000).into()), length).unwrap()
        }),
        3 => (any::<u16>(), 122..=128u8).prop_map(|(net, length)| {
            IpNet::new(IpAddr::V6((0xfd00 << 112 | u128::from(net) << 16).into()), length).unwrap()
        }),
        1 => Just("fd01::/64".parse().unwrap()),
        1 => Just("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00/120".parse().unwrap()),
        1 => Just("255.255.255.192/26".parse().unwrap()),
    ];
    let offset = || prop::option::of(0..64u32);
    (subnet, offset(), offset(), offset()).prop_filter_map(
        "contradiction",
        |(subnet, start, end, gateway)| {
            Range::new(subnet, at(subnet, start), at(subnet, end), at(subnet, gateway)).ok()
        },
    )
}

fn at(subnet: IpNet, offset: Option<u32>) -> Option<IpAddr> {
    let offset = offset?;
    match subnet.network() {
        IpAddr::V4(base) => Some(IpAddr::V4(base.to_bits().checked_add(offset)?.into())),
        IpAddr::V6(base) => Some(IpAddr::V6(base.to_bits().checked_add(offset.into())?.into())),
    }
}

fn any_set() -> impl Strategy<Value = RangeSet> {
    prop::collection::vec(any_range(), 1..4).prop_filter_map("no set", |ranges| RangeSet::new(ranges).ok())
}

fn any_pool() -> impl Strategy<Value = Pool> {
    prop::collection::vec(any_set(), 1..3).prop_filter_map("no pool", |sets| Pool::new(sets).ok())
}

/// Whether an address may ever be handed out, said in another way than the library does.
fn is_allowed(pool: &Pool, set: usize, address: IpAddr) -> bool {
    let gateways: Vec<IpAddr> =
        pool.sets().iter().flat_map(RangeSet::ranges).filter_map(Range::gateway).collect();
    pool.sets()[set].ranges().iter().any(|range| {
        let subnet = range.subnet();
        let roomy = subnet.max_prefix_len() - subnet.prefix_len() >= 2;
        subnet.contains(&address)
            && address >= range.first()
            && address <= range.last()
            && !gateways.contains(&address)
            && !(roomy && address == subnet.network())
            && !(roomy && address.is_ipv4() && address == subnet.broadcast())
    })
}

#[derive(Clone, Debug)]
enum Step {
    Acquire { container: u8 },
    Request { container: u8, set: usize, nth: usize },
    Release { container: u8, with_hint: bool },
    Collect { modulus: usize },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<u8>().prop_map(|container| Step::Acquire { container }),
        1 => (any::<u8>(), 0..3usize, 0..70usize)
            .prop_map(|(container, set, nth)| Step::Request { container, set, nth }),
        3 => (any::<u8>(), any::<bool>())
            .prop_map(|(container, with_hint)| Step::Release { container, with_hint }),
        1 => (2..5usize).prop_map(|modulus| Step::Collect { modulus }),
    ]
}

/// What a store must hold, kept in the most simple-minded way.
type Model = BTreeMap<String, Vec<IpAddr>>;

fn free_addresses(pool: &Pool, set: usize, model: &Model) -> usize {
    let taken: BTreeSet<IpAddr> = model.values().flatten().copied().collect();
    pool.sets()[set].candidates(None).take(200).filter(|address| !taken.contains(address)).count()
}

fn follow(store: &dyn LeaseStore, pool: &Pool, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Acquire { container } => {
                take(store, pool, &format!("pod{}", container % 80), None, &mut model)?;
            }
            Step::Request { container, set, nth } => {
                let set = &pool.sets()[set % pool.sets().len()];
                let requested =
                    set.candidates(None).nth(nth).unwrap_or_else(|| set.ranges()[0].subnet().network());
                take(store, pool, &format!("pod{}", container % 80), Some(requested), &mut model)?;
            }
            Step::Release { container, with_hint } => {
                let container = format!("pod{}", container % 80);
                let mut expected = model.remove(&container).unwrap_or_default();
                let hint = if with_hint { expected.clone() } else { Vec::new() };
                let mut freed = release(store, &owner(&container), &hint).unwrap();
                freed.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(freed, expected);
            }
            Step::Collect { modulus } => {
                let keep = |container: &str| !container.len().is_multiple_of(modulus);
                let removed = retain(store, |lease| keep(lease.owner().unwrap().container_id())).unwrap();
                let before: usize = model.values().map(Vec::len).sum();
                model.retain(|container, _| keep(container));
                prop_assert_eq!(removed.len(), before - model.values().map(Vec::len).sum::<usize>());
            }
        }
    }

    let held: BTreeMap<IpAddr, String> = leases(store)
        .unwrap()
        .into_iter()
        .map(|lease| (lease.address, lease.owner().unwrap().container_id().to_owned()))
        .collect();
    let expected: BTreeMap<IpAddr, String> = model
        .iter()
        .flat_map(|(container, addresses)| addresses.iter().map(|address| (*address, container.clone())))
        .collect();
    prop_assert_eq!(held, expected);
    for (container, addresses) in &model {
        prop_assert_eq!(find(store, &owner(container)).unwrap().len(), addresses.len());
    }
    for (index, set) in usage(store, pool).unwrap().into_iter().enumerate() {
        prop_assert_eq!(set.used + set.free(), set.total);
        prop_assert_eq!(
            set.used,
            model.values().map(|addresses| u128::from(addresses.get(index).is_some())).sum()
        );
    }
    Ok(())
}

fn take(
    store: &dyn LeaseStore,
    pool: &Pool,
    container: &str,
    requested: Option<IpAddr>,
    model: &mut Model,
) -> Result<(), TestCaseError> {
    let taken: BTreeSet<IpAddr> = model.values().flatten().copied().collect();
    match acquire(store, pool, &owner(container), requested.as_slice()) {
        Ok(reservation) => {
            prop_assert!(!model.contains_key(container), "{} has got a second address", container);
            let assigned = reservation.commit();
            prop_assert_eq!(assigned.len(), pool.sets().len());
            for (index, assigned) in assigned.iter().enumerate() {
                let address = assigned.address.addr();
                prop_assert_eq!(assigned.set, index);
                prop_assert!(is_allowed(pool, index, address), "{} is not to be handed out", address);
                prop_assert!(!taken.contains(&address), "{} is two containers'", address);
            }
            let addresses: Vec<IpAddr> = assigned.iter().map(|assigned| assigned.address.addr()).collect();
            prop_assert!(requested.is_none_or(|requested| addresses.contains(&requested)));
            model.insert(container.to_owned(), addresses);
        }
        Err(AcquireError::Duplicate { .. }) => prop_assert!(model.contains_key(container)),
        Err(AcquireError::Exhausted { set, .. }) => prop_assert_eq!(free_addresses(pool, set, model), 0),
        Err(AcquireError::Taken { address, .. }) => prop_assert!(taken.contains(&address)),
        Err(AcquireError::NotInPool { address } | AcquireError::Gateway { address }) => {
            prop_assert!((0..pool.sets().len()).all(|set| !is_allowed(pool, set, address)));
        }
        Err(other) => prop_assert!(false, "{}", other),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_store_in_memory_keeps_its_promises(pool in any_pool(), steps in prop::collection::vec(any_step(), 1..120)) {
        follow(&MemoryStore::new(), &pool, steps)?;
    }

    #[test]
    fn the_first_free_address_is_the_first_candidate_that_is_free(
        set in any_set(),
        offsets in prop::collection::btree_set(0..80usize, 0..80),
        last in prop::option::of(0..80usize),
    ) {
        let nth = |n: usize| set.candidates(None).nth(n);
        let taken: BTreeSet<IpAddr> = offsets.into_iter().filter_map(nth).collect();
        let last = last.and_then(nth);
        let expected = set.candidates(last).take(100).find(|address| !taken.contains(address));
        let taken: Vec<IpAddr> = taken.into_iter().collect();
        prop_assert_eq!(set.first_free(last, &taken), expected);
    }

    #[test]
    fn candidates_are_every_address_once_and_the_last_one_last(set in any_set(), last in prop::option::of(0..80usize)) {
        prop_assume!(set.capacity() < 1000);
        let all: BTreeSet<IpAddr> = set.candidates(None).collect();
        prop_assert_eq!(all.len() as u128, set.capacity());
        let last = last.and_then(|n| set.candidates(None).nth(n));
        let order: Vec<IpAddr> = set.candidates(last).collect();
        prop_assert_eq!(order.len(), all.len());
        prop_assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), all);
        if last.is_some() {
            prop_assert_eq!(order.last().copied(), last);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_directory_keeps_its_promises(pool in any_pool(), steps in prop::collection::vec(any_step(), 1..120)) {
        let data_dir = scratch();
        follow(&store(data_dir.path()), &pool, steps)?;
    }
}
