//! What the tests of reading need to know of nf_tables.

use super::message::{self, Transaction};
use super::ruleset::{self, Entry};
use crate::resource::Resource;

/// A transaction that makes some entries and all that they hang from, as bytes.
pub(in crate::linux) fn genuine(resources: &[Resource]) -> Vec<u8> {
    let entries: Vec<_> = resources.iter().filter_map(Entry::of).collect();
    let mut transaction = Transaction::default();
    ruleset::lay_out(&mut transaction, &entries);
    entries.iter().for_each(|entry| entry.add(&mut transaction));
    transaction.bytes()
}

#[test]
fn elements_are_read_as_they_are_written() {
    use crate::linux::netlink::messages;

    let masquerade = crate::Masquerade {
        source: "fd00:10::5".parse().unwrap(),
        within: "fd00:10::/64".parse().unwrap(),
        mark: crate::Mark::new(&"m".repeat(127)).unwrap(),
    };
    let check = crate::SpoofCheck {
        port: crate::LinkName::new("veth012345678ab").unwrap(),
        mac: crate::MacAddr::new([2, 1, 2, 3, 4, 5]),
        mark: crate::Mark::new("m").unwrap(),
    };
    let resources = [Resource::Masquerade(masquerade.clone()), Resource::SpoofCheck(check.clone())];
    let bytes = genuine(&resources);
    let elements: Vec<_> = messages(&bytes).flat_map(|message| message::parse(message.body)).collect();
    let masquerades: Vec<_> = elements.iter().filter_map(ruleset::parse_masquerade).collect();
    let checks: Vec<_> = elements.iter().filter_map(ruleset::parse_spoof_check).collect();
    assert_eq!((masquerades, checks), (vec![masquerade], vec![check.clone()]));
    assert!(elements.iter().any(|element| ruleset::parse_checked(element) == Some(check.mac)));
}
