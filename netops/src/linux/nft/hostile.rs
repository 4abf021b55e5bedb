//! What the tests of reading need to know of nf_tables.

use super::transaction::Transaction;
use super::{element, ruleset};
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
    let mapping = crate::PortMapping {
        port: crate::HostPort {
            transport: crate::Transport::Udp,
            address: "[2001:db8::1]:53".parse().unwrap(),
            spare: true,
        },
        to: "[fd00:10::5]:5353".parse().unwrap(),
        masquerade: Some(crate::PortMasquerade { from: "::/0".parse().unwrap(), bit: 31 }),
        conditions: vec![crate::Condition {
            what: crate::Aspect::Interface(crate::LinkName::new("eth0.1-a_b").unwrap()),
            inverted: true,
        }],
        mark: crate::Mark::new("m").unwrap(),
    };
    let entries = [
        Entry::Masquerade(masquerade),
        Entry::PortMapping(mapping),
        Entry::SpoofCheck(check),
        Entry::Forwarded(forwarded),
    ];
    let bytes = genuine(&entries.clone().map(Resource::Entry));
    let mut elements: Vec<_> = messages(&bytes).flat_map(|message| element::parse(message.body)).collect();
    // Where a port leads is said beside it.
    let at = elements.iter().position(|element| element.value.is_some()).unwrap();
    let beside = elements.remove(at);
    elements[at - 1] = elements[at - 1].clone().and(beside);
    for entry in entries {
        let kind = entry.key().kind();
        assert!(
            elements.iter().any(|element| ruleset::parse(kind, element).as_ref() == Some(&entry)),
            "{entry}"
        );
    }
}
