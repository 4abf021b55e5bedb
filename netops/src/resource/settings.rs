//! Settings of interfaces.

use crate::kernel::LinkState;
use crate::name::{LinkName, MacAddr};

/// Settings of an interface that may have existed before (`RTM_SETLINK`). What is absent is left as it is; what was there
/// before comes back with [`Created::Changed`](crate::Created::Changed). Nothing to remove.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LinkSettings {
    /// The interface.
    pub link: LinkName,
    /// MAC address. One that is up takes another only if its driver does so (`IFF_LIVE_ADDR_CHANGE`; a veth does).
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Promiscuous mode (`IFF_PROMISC`).
    pub promiscuous: Option<bool>,
    /// Every multicast frame is taken (`IFF_ALLMULTI`).
    pub all_multicast: Option<bool>,
    /// The transmit queue's length in packets (`IFLA_TXQLEN`).
    pub transmit_queue: Option<u32>,
}

impl LinkSettings {
    /// No settings at all.
    pub fn none(link: LinkName) -> Self {
        Self { link, mac: None, mtu: None, promiscuous: None, all_multicast: None, transmit_queue: None }
    }

    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Self::none(self.link.clone())
    }

    /// How an interface is, in what these settings say.
    pub fn as_of(&self, state: &LinkState) -> Self {
        Self {
            link: self.link.clone(),
            mac: self.mac.and(state.mac),
            mtu: self.mtu.map(|_| state.mtu),
            promiscuous: self.promiscuous.map(|_| state.promiscuous),
            all_multicast: self.all_multicast.map(|_| state.all_multicast),
            transmit_queue: self.transmit_queue.map(|_| state.transmit_queue),
        }
    }

    /// What differs from other settings.
    pub(crate) fn unlike(&self, other: &Self) -> Self {
        fn unlike<T: PartialEq>(this: Option<T>, other: Option<T>) -> Option<T> {
            if this == other { None } else { this }
        }
        Self {
            link: self.link.clone(),
            mac: unlike(self.mac, other.mac),
            mtu: unlike(self.mtu, other.mtu),
            promiscuous: unlike(self.promiscuous, other.promiscuous),
            all_multicast: unlike(self.all_multicast, other.all_multicast),
            transmit_queue: unlike(self.transmit_queue, other.transmit_queue),
        }
    }

    /// What they say, by name.
    pub(crate) fn properties(&self) -> [(&'static str, Option<String>); 5] {
        fn text(value: Option<impl ToString>) -> Option<String> {
            value.map(|value| value.to_string())
        }
        [
            ("MAC address", text(self.mac)),
            ("MTU", text(self.mtu)),
            ("promiscuous", text(self.promiscuous)),
            ("all-multicast", text(self.all_multicast)),
            ("transmit queue length", text(self.transmit_queue)),
        ]
    }
}
