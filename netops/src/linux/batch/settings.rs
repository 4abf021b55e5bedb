//! What becomes of links that exist: their settings, whose ports they are, how a bridge treats them.

use super::{Batch, Purpose, Stop};
use crate::error::Operation;
use crate::kernel::Created;
use crate::linux::netlink::Datagram;
use crate::linux::read;
use crate::linux::rtnetlink::link::IpSetting;
use crate::linux::rtnetlink::{link, port};
use crate::name::LinkName;
use crate::resource::{LinkSettings, Master, Port, Resource, Sysctl};

/// The interface whose setting it is, if rtnetlink takes what is set.
pub(in crate::linux) fn ip_setting(sysctl: &Sysctl) -> Option<(LinkName, IpSetting)> {
    let link = sysctl.key.link()?;
    let (version, setting) = sysctl.key.as_str().strip_prefix("net/")?.split_once("/conf/")?;
    let setting = match (version, setting.strip_prefix(link)?, sysctl.value.as_str()) {
        ("ipv4", "/arp_notify", "0") => IpSetting::ArpNotify(false),
        ("ipv4", "/arp_notify", "1") => IpSetting::ArpNotify(true),
        ("ipv6", "/addr_gen_mode", "0") => IpSetting::AddrGenMode(0),
        ("ipv6", "/addr_gen_mode", "1") => IpSetting::AddrGenMode(1),
        _ => return None,
    };
    Some((LinkName::new(link).ok()?, setting))
}

impl Batch<'_> {
    /// Of an interface that was made a moment ago: how it was before matters to nobody, for it goes when this is undone.
    pub(super) fn queue_ip_setting(
        &mut self,
        link: &LinkName,
        setting: IpSetting,
        resource: &Resource,
    ) -> Result<(), Stop> {
        let index = self.index(link, resource)?;
        link::set_ip(&mut self.datagram, index, setting);
        self.expect(Purpose::Set, Created::New);
        Ok(())
    }

    /// Only what is not so already: some drivers restart at every change.
    pub(super) fn queue_settings(&mut self, wanted: &LinkSettings, resource: &Resource) -> Result<(), Stop> {
        let number = self.outcomes.len();
        // Learns whether the link is there.
        let index = self.index(&wanted.link, resource)?;
        // What is queued may change what is asked about.
        self.flush()?;
        let before = read::link(self.kernel, self.place, &wanted.link)?.map(|link| wanted.as_of(&link));
        let before = before.unwrap_or_else(|| LinkSettings::none(wanted.link.clone()));
        let change = wanted.unlike(&before);
        if change.is_none() {
            self.outcomes.push(Ok(Created::Kept));
            return Ok(());
        }
        // From here on the link is not as it was made.
        self.is_fresh(&wanted.link)?;
        link::set(&mut self.datagram, index, &change);
        self.purposes.push(Purpose::Change(number));
        self.outcomes.push(Ok(Created::Changed(Resource::Settings(before))));
        Ok(())
    }

    /// The kernel makes the changes of one message one by one, and those before the one that it refuses stay.
    pub(super) fn change_back(&mut self, number: usize) {
        let before = match self.outcomes.get(number) {
            Some(Ok(Created::Changed(Resource::Settings(before)))) => before.clone(),
            _ => return,
        };
        let index = self.kernel.side(self.place).ok().and_then(|side| side.links.get(&before.link));
        if let Some(index) = index.map(|known| known.index) {
            let mut datagram = Datagram::default();
            link::set(&mut datagram, index, &before);
            // If it will not have that either, there is nothing better to do.
            let object = before.link.to_string();
            let _ = self.kernel.exchange(self.place, &mut datagram, Operation::Create, &object);
        }
    }

    pub(super) fn queue_port(&mut self, port: &Port, resource: &Resource) -> Result<(), Stop> {
        let number = self.outcomes.len();
        let index = self.index(&port.link, resource)?;
        let new = self.is_fresh(&port.link)?;
        let before = if new { None } else { read::port(self.kernel, self.place, &port.link)? };
        let created = match before {
            Some(before) if port::has_all(&before, port) => Created::Kept,
            Some(before) => Created::Changed(Resource::Port(before)),
            None => Created::New,
        };
        if created != Created::Kept {
            let messages = port::set(&mut self.datagram, index, port, new);
            self.purposes.extend(std::iter::repeat_n(Purpose::Make(number), messages));
        }
        self.outcomes.push(Ok(created));
        Ok(())
    }

    pub(super) fn queue_master(&mut self, wanted: &Master, resource: &Resource) -> Result<(), Stop> {
        let master = self.index(&wanted.master, resource)?;
        let index = self.index(&wanted.link, resource)?;
        // What it loses by that is safe only once all before that was done.
        self.flush()?;
        self.is_fresh(&wanted.link)?;
        let before = read::link(self.kernel, self.place, &wanted.link)?.and_then(|link| link.master);
        if before == Some(master) {
            self.outcomes.push(Ok(Created::Kept));
            return Ok(());
        }
        let before = match before {
            Some(before) => read::link_by_index(self.kernel, self.place, before)?,
            None => None,
        };
        let created = before.map_or(Created::New, |before| {
            Created::Changed(Resource::Master(Master { master: before.name, ..wanted.clone() }))
        });
        link::set_master(&mut self.datagram, index, master);
        self.expect(Purpose::Make, created);
        Ok(())
    }
}
