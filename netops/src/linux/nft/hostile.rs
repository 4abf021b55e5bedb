//! What the tests of reading need to know of nf_tables.

use super::message::{self, Transaction};
use super::ruleset;
use crate::entry::Entry;
use crate::resource::Resource;

/// A transaction that makes some entries and all that they hang from, as bytes.
pub(in crate::linux) fn genuine(resources: &[Resource]) -> Vec<u8> {
    let entries: Vec<&Entry> = resources.iter().filter_map(super::entry_of).collect();
    let mut transaction = Transaction::default();
    ruleset::lay_out(&mut transaction, &entries);
    for (set, element) in entries.iter().flat_map(|entry| ruleset::elements(entry)) {
        transaction.add(set, &element);
    }
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
    let forwarded =
        crate::Forwarded { address: "10.22.0.5".parse().unwrap(), mark: crate::Mark::new("m").unwrap() };
    let bytes = genuine(&[masquerade.clone().into(), check.clone().into(), forwarded.clone().into()]);
    let elements: Vec<_> = messages(&bytes).flat_map(|message| message::parse(message.body)).collect();
    for entry in [Entry::Masquerade(masquerade), Entry::SpoofCheck(check), Entry::Forwarded(forwarded)] {
        let kind = entry.key().kind();
        assert!(
            elements.iter().any(|element| ruleset::parse(kind, element).as_ref() == Some(&entry)),
            "{entry}"
        );
    }
}
