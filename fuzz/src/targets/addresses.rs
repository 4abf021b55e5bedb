//! Leases, ranges, and who gets which address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipam::{
    AcquireError, Holder, MemoryStore, Owner, Pool, Range, RangeSet, acquire, find, leases as list, release,
    retain, usage,
};

use super::text;

/// The content of a lease file.
pub(crate) fn lease(data: &[u8]) {
    match Holder::parse(data) {
        Holder::Attachment(owner) => {
            let written = format!("{}\r\n{}", owner.container_id(), owner.interface());
            assert_eq!(Holder::parse(written.as_bytes()), Holder::Attachment(owner));
        }
        Holder::Container(id) => assert_eq!(Holder::parse(id.as_bytes()), Holder::Container(id)),
        _ => {}
    }
}

/// Ranges: `SUBNET START END GATEWAY BEGINNING` on a line, `-` where there is none; an empty line begins the next set.
pub(crate) fn pool(data: &[u8]) {
    let text = text(data);
    let sets = text.split("\n\n").map(|set| RangeSet::new(set.lines().filter_map(range).collect()));
    let Ok(pool) = Pool::new(sets.filter_map(Result::ok).collect()) else { return };
    for set in pool.sets() {
        let some: Vec<IpAddr> = set.candidates(None).take(40).collect();
        assert_eq!(some.len() as u128, set.capacity().min(40));
        for (number, address) in some.iter().enumerate() {
            assert!(set.range_of(*address).is_some_and(|range| range.contains(*address)));
            assert!(!set.is_gateway(*address));
            assert!(!some[..number].contains(address));
            let mut taken = some[..number].to_vec();
            taken.sort_unstable();
            assert_eq!(set.first_free(None, &taken), Some(*address));
        }
        let last = some.last().copied();
        let after: Vec<IpAddr> = set.candidates(last).take(40).collect();
        assert_eq!(after.len(), some.len());
        assert_eq!(set.first_free(last, &[]), after.first().copied());
    }
}

fn range(line: &str) -> Option<Range> {
    let mut words = line.split(' ');
    let subnet = words.next()?.parse().ok()?;
    let mut address = || words.next().filter(|word| *word != "-").map(str::parse::<IpAddr>).transpose();
    let (start, end, gateway) = (address().ok()?, address().ok()?, address().ok()?);
    let beginning = address().ok()?;
    let mut range = Range::new(subnet, start, end, gateway).ok()?;
    if let Some(beginning) = beginning {
        range = range.beginning_at(beginning).ok()?;
    }
    assert!(range.first() <= range.last() && range.subnet().contains(&range.last()));
    Some(range)
}

/// Which pools [`leases`] knows.
const POOLS: [&[&[&str]]; 4] = [
    &[&["10.0.0.0/29"]],
    &[&["10.0.0.0/30", "10.0.1.0/30"], &["fd00::/125"]],
    &[&["10.0.0.7/32"]],
    &[&["10.0.0.0/28 10.0.0.3 10.0.0.9 10.0.0.5"]],
];

/// A sequence of operations, compared with the most simple-minded store. The first byte chooses a pool; then two bytes are
/// one operation, and a container with something more.
pub(crate) fn leases(data: &[u8]) {
    let Some((&chosen, operations)) = data.split_first() else { return };
    let sets = POOLS[usize::from(chosen) % POOLS.len()].iter();
    let sets =
        sets.filter_map(|ranges| RangeSet::new(ranges.iter().filter_map(|line| range(line)).collect()).ok());
    let Ok(pool) = Pool::new(sets.collect()) else { unreachable!("a good pool") };
    let store = MemoryStore::new();
    let mut model: BTreeMap<u8, Vec<IpAddr>> = BTreeMap::new();

    for operation in operations.chunks_exact(2) {
        let (container, more) = (operation[1] % 16, usize::from(operation[1] / 16));
        match operation[0] % 5 {
            0 | 1 => take(&store, &pool, container, &[], &mut model),
            2 => {
                let requested = pool.sets()[more % pool.sets().len()].candidates(None).nth(more);
                take(&store, &pool, container, requested.as_slice(), &mut model);
            }
            3 => {
                let mut expected = model.remove(&container).unwrap_or_default();
                let hint = if more % 2 == 0 { expected.clone() } else { Vec::new() };
                let Ok(mut freed) = release(&store, &owner(container), &hint) else {
                    unreachable!("in memory")
                };
                expected.sort_unstable();
                freed.sort_unstable();
                assert_eq!(freed, expected);
            }
            _ => {
                let keep = |id: &str| !id.ends_with(char::from(b'0' + more as u8 % 10));
                let kept =
                    retain(&store, |lease| lease.owner().is_some_and(|owner| keep(owner.container_id())));
                let before = model.values().map(Vec::len).sum::<usize>();
                model.retain(|container, _| keep(owner(*container).container_id()));
                let after = model.values().map(Vec::len).sum::<usize>();
                assert!(kept.is_ok_and(|removed| removed.len() == before - after));
            }
        }
    }

    let held: usize = list(&store).map_or(0, |leases| leases.len());
    assert_eq!(held, model.values().map(Vec::len).sum::<usize>());
    for (container, addresses) in &model {
        let found = find(&store, &owner(*container)).unwrap_or_default();
        assert!(
            found.len() == addresses.len() && found.iter().all(|lease| addresses.contains(&lease.address))
        );
    }
    let used = usage(&store, &pool).unwrap_or_default();
    assert!(used.len() == pool.sets().len() && used.iter().all(|set| set.used == model.len() as u128));
}

fn take(
    store: &MemoryStore,
    pool: &Pool,
    container: u8,
    requested: &[IpAddr],
    model: &mut BTreeMap<u8, Vec<IpAddr>>,
) {
    let taken = |address: &IpAddr| model.values().flatten().any(|other| other == address);
    match acquire(store, pool, &owner(container), requested) {
        Ok(reservation) => {
            let assigned = reservation.commit();
            let addresses: Vec<IpAddr> = assigned.iter().map(|assigned| assigned.address.addr()).collect();
            assert!(!model.contains_key(&container) && !addresses.iter().any(taken));
            assert!(addresses.len() == pool.sets().len() && requested.iter().all(|a| addresses.contains(a)));
            assert!(
                addresses
                    .iter()
                    .zip(pool.sets())
                    .all(|(a, set)| set.range_of(*a).is_some() && !set.is_gateway(*a))
            );
            model.insert(container, addresses);
        }
        Err(AcquireError::Duplicate { .. }) => assert!(model.contains_key(&container)),
        Err(AcquireError::Exhausted { set, .. }) => {
            assert!(pool.sets()[set].candidates(None).all(|a| taken(&a)))
        }
        Err(AcquireError::Taken { address, .. }) => assert!(taken(&address)),
        Err(error) => unreachable!("{error}"),
    }
}

fn owner(container: u8) -> Owner {
    match Owner::new(&format!("pod{container}"), "eth0") {
        Ok(owner) => owner,
        Err(error) => unreachable!("{error}"),
    }
}
