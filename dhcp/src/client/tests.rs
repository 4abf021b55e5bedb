//! Clients and servers on a virtual clock.

use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use dhcproto::{Decodable, Decoder, Encodable, v4, v6};
use proptest::prelude::*;

use super::*;
use crate::v4::testing::{payload, server_frame};
use crate::v4::{Settings, V4};
use crate::v6::V6;
use crate::wishes::Wishes;

const MAC: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 7]);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(after: u64) -> Time {
    Time::since_boot(seconds(after))
}

/// A server's mood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Grants,
    Refuses,
    IsGone,
}

/// A server that has one address to give.
struct Server {
    mood: Mood,
    last: u8,
    lease: u32,
    /// How many messages of each kind came, by the protocol's number.
    heard: Vec<u8>,
    version: u8,
}

impl Server {
    fn new(version: u8) -> Self {
        Self { mood: Mood::Grants, last: 50, lease: 1000, heard: Vec::new(), version }
    }

    fn answer(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        match self.version {
            4 => self.answer_4(message),
            _ => self.answer_6(message),
        }
    }

    fn answer_4(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let message = v4::Message::decode(&mut Decoder::new(payload(frame))).unwrap();
        let kind = message.opts().msg_type().unwrap();
        self.heard.push(kind.into());
        if self.mood == Mood::IsGone {
            return None;
        }
        let own = Ipv4Addr::new(10, 0, 0, 1);
        let mut answer = v4::Message::default();
        answer.set_opcode(v4::Opcode::BootReply).set_xid(message.xid()).set_chaddr(&MAC.bytes());
        answer.set_yiaddr(Ipv4Addr::new(10, 0, 0, self.last));
        let kind = match (kind, self.mood) {
            (v4::MessageType::Discover, _) => v4::MessageType::Offer,
            (v4::MessageType::Request, Mood::Refuses) => v4::MessageType::Nak,
            (v4::MessageType::Request, _) => v4::MessageType::Ack,
            _ => return None,
        };
        let options = answer.opts_mut();
        options.insert(v4::DhcpOption::MessageType(kind));
        options.insert(v4::DhcpOption::ServerIdentifier(own));
        options.insert(v4::DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
        options.insert(v4::DhcpOption::AddressLeaseTime(self.lease));
        Some(server_frame(own, &answer.to_vec().unwrap()))
    }

    fn answer_6(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let message = v6::Message::decode(&mut Decoder::new(datagram)).unwrap();
        self.heard.push(message.msg_type().into());
        if self.mood == Mood::IsGone {
            return None;
        }
        let kind = match message.msg_type() {
            v6::MessageType::Solicit => v6::MessageType::Advertise,
            _ => v6::MessageType::Reply,
        };
        let Some(v6::DhcpOption::IANA(asked)) = message.opts().get(v6::OptionCode::IANA) else { panic!() };
        let mut granted = v6::DhcpOptions::new();
        if self.mood == Mood::Refuses && kind == v6::MessageType::Reply {
            granted.insert(v6::DhcpOption::StatusCode(v6::StatusCode {
                status: v6::Status::NotOnLink,
                msg: String::new(),
            }));
        } else {
            granted.insert(v6::DhcpOption::IAAddr(v6::IAAddr {
                addr: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, self.last.into()),
                preferred_life: self.lease,
                valid_life: self.lease,
                opts: v6::DhcpOptions::new(),
            }));
        }
        let mut answer = v6::Message::new_with_id(kind, message.xid());
        let options = answer.opts_mut();
        options.insert(message.opts().get(v6::OptionCode::ClientId).unwrap().clone());
        options.insert(v6::DhcpOption::ServerId(vec![0, 3, 0, 1, 9]));
        options.insert(v6::DhcpOption::IANA(v6::IANA { id: asked.id, t1: 0, t2: 0, opts: granted }));
        Some(answer.to_vec().unwrap())
    }
}

/// A client, a server, and the network between them.
struct World {
    client: Client,
    server: Server,
    now: Time,
    random: u32,
    /// Answers under way, the next first.
    network: BinaryHeap<std::cmp::Reverse<(Time, Vec<u8>)>>,
    /// Of so many messages, one is lost, and one comes twice; 0: none.
    lossy: u32,
    /// What the client has said of its lease: an address, or none.
    has: Option<String>,
    events: Vec<String>,
}

impl World {
    fn new(version: u8) -> Self {
        let identity = Identity { name: "c1/lan/eth0".to_owned(), mac: MAC };
        let settings = Settings { broadcast: false, resend_max: seconds(62) };
        let dialect: Box<dyn Dialect> = match version {
            4 => Box::new(V4::new(identity, Wishes::default(), settings)),
            _ => Box::new(V6::new(&identity, Wishes::default())),
        };
        let client = Client::new(dialect, seconds(10), at(100), &mut || 77);
        Self {
            client,
            server: Server::new(version),
            now: at(100),
            random: 1,
            network: BinaryHeap::new(),
            lossy: 0,
            has: None,
            events: Vec::new(),
        }
    }

    fn dice(&mut self) -> u32 {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.random >> 8
    }

    /// How many copies of a message arrive.
    fn copies(&mut self) -> u32 {
        match self.lossy {
            0 => 1,
            _ => match self.dice() % self.lossy {
                0 => 0,
                1 => 2,
                _ => 1,
            },
        }
    }

    fn follow(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Send(message) => {
                    for _ in 0..self.copies() {
                        let Some(answer) = self.server.answer(&message) else { continue };
                        for _ in 0..self.copies() {
                            let delay = Duration::from_millis(u64::from(self.dice() % 50));
                            self.network.push(std::cmp::Reverse((self.now + delay, answer.clone())));
                        }
                    }
                }
                Event::Held(lease) => {
                    assert!(lease.expires_at > self.now && lease.renew_at <= lease.rebind_at);
                    let address = lease.address.addr().to_string();
                    if self.has.as_ref() != Some(&address) {
                        self.events.push(address.clone());
                    }
                    self.has = Some(address);
                }
                Event::Lost { lease, .. } => {
                    assert_eq!(self.has, Some(lease.address.addr().to_string()));
                    self.events.push("lost".to_owned());
                    self.has = None;
                }
            }
        }
    }

    /// Lets time pass: everything that is due happens when it is.
    fn run_until(&mut self, end: Time) {
        loop {
            let arrival = self.network.peek().map_or(Time::NEVER, |next| next.0.0);
            let next = arrival.min(self.client.next_timeout()).max(self.now);
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            let mut dice = self.random;
            let mut random = || {
                dice = dice.wrapping_mul(1_103_515_245).wrapping_add(12345);
                dice
            };
            let events = if arrival <= next {
                let (_, datagram) = self.network.pop().unwrap().0;
                self.client.on_datagram(&datagram, self.now, &mut random)
            } else {
                let events = self.client.on_time(self.now, &mut random);
                assert!(
                    self.client.next_timeout() > self.now,
                    "time must pass before it is the client's turn again"
                );
                events
            };
            self.random = dice;
            self.follow(events);
            // What an interface has must never outlast its lease.
            assert_eq!(self.has.is_some(), self.client.lease().is_some());
            assert!(self.client.lease().is_none_or(|lease| lease.expires_at > self.now) || arrival <= next);
        }
    }
}

const BOTH: [u8; 2] = [4, 6];

#[test]
fn an_address_is_kept_as_long_as_there_is_a_server() {
    for version in BOTH {
        let mut world = World::new(version);
        world.run_until(at(100 + 86_400));
        assert_eq!(world.events.len(), 1, "version {version}");
        // Seek and request; then a renewal each half of a lease, and never a rebinding.
        let renewals = world.server.heard.len() - 2;
        assert!((170..=175).contains(&renewals), "version {version}: {renewals} renewals");
    }
}

#[test]
fn an_address_is_held_within_a_second_or_two() {
    for (version, most) in [(4, 1), (6, 2)] {
        let mut world = World::new(version);
        world.run_until(at(100 + most));
        assert_eq!(world.events.len(), 1, "version {version}");
    }
}

#[test]
fn without_a_server_the_address_is_lost_when_its_time_is_over_and_found_again_when_it_is_back() {
    for version in BOTH {
        let mut world = World::new(version);
        world.run_until(at(200));
        world.server.mood = Mood::IsGone;
        world.server.heard.clear();
        world.run_until(at(1100));
        assert_eq!(world.events.len(), 1, "version {version}: not yet");
        let heard = world.server.heard.len();
        assert!((6..=30).contains(&heard), "version {version}: {heard} messages from T1 to the end");
        world.run_until(at(1110));
        assert_eq!(world.events[1..], ["lost"], "version {version}");
        // A day without a server: less than a message in half a minute.
        world.server.heard.clear();
        world.run_until(at(1110 + 86_400));
        assert!(world.server.heard.len() < 2880, "version {version}: {}", world.server.heard.len());
        world.server.mood = Mood::Grants;
        world.run_until(at(1110 + 86_400 + 4200));
        assert_eq!(world.events.len(), 3, "version {version}");
        assert_eq!(world.events[0], world.events[2]);
    }
}

#[test]
fn a_server_that_refuses_takes_the_address_away_at_once_and_is_not_stormed() {
    for version in BOTH {
        let mut world = World::new(version);
        world.run_until(at(300));
        world.server.mood = Mood::Refuses;
        world.server.heard.clear();
        // T1 is after 500 s.
        world.run_until(at(620));
        assert_eq!(world.events[1..], ["lost"], "version {version}");
        assert!(world.server.heard.len() < 150, "version {version}: {}", world.server.heard.len());
        world.server.mood = Mood::Grants;
        world.server.last = 51;
        world.run_until(at(700));
        assert!(world.events[2].ends_with(['1', '3']), "{:?}", world.events);
    }
}

#[test]
fn another_address_at_a_renewal_takes_the_place_of_the_first() {
    for version in BOTH {
        let mut world = World::new(version);
        world.run_until(at(300));
        world.server.last = 60;
        world.run_until(at(700));
        assert_eq!(world.events.len(), 2, "version {version}: {:?}", world.events);
        assert!(!world.events.contains(&"lost".to_owned()));
    }
}

#[test]
fn a_client_that_resumes_renews_when_it_would_have() {
    for version in BOTH {
        let mut world = World::new(version);
        world.run_until(at(200));
        let lease = world.client.lease().unwrap().clone();
        for resumed_at in [300, 650, 1000, 5000] {
            let mut later = World::new(version);
            later.client = later.client.resume(lease.clone());
            later.has = Some(lease.address.addr().to_string());
            later.now = at(resumed_at);
            later.run_until(at(resumed_at + 5));
            let said = (resumed_at > 600, resumed_at > 1100);
            assert_eq!(!later.server.heard.is_empty(), said.0, "version {version} at {resumed_at}");
            assert_eq!(
                later.events.contains(&"lost".to_owned()),
                said.1,
                "version {version} at {resumed_at}"
            );
            assert_eq!(later.has, Some(lease.address.addr().to_string()));
        }
    }
}

#[test]
fn a_released_lease_is_named_in_the_message() {
    for version in BOTH {
        let mut world = World::new(version);
        world.run_until(at(200));
        let message = world.client.release(&mut || 5).unwrap();
        assert!(world.server.answer(&message).is_none() || version == 6);
        assert_eq!(world.server.heard.last(), Some(if version == 4 { &7 } else { &8 }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is lost, doubled or late, the client has what the server gave, and nothing for longer than that; and once
    /// the network is well, it has an address.
    #[test]
    fn no_lease_outlives_its_time_on_a_bad_network(
        version in prop_oneof![Just(4_u8), Just(6)],
        random in any::<u32>(),
        lossy in 2_u32..8,
        lease in prop_oneof![0_u32..30, 30_u32..5000, Just(u32::MAX)],
        moods in prop::collection::vec((prop_oneof![Just(Mood::Grants), Just(Mood::Refuses), Just(Mood::IsGone)], 1_u64..3000), 1..8),
    ) {
        let mut world = World::new(version);
        (world.random, world.lossy, world.server.lease) = (random, lossy, lease);
        let mut now = 100;
        for (mood, time) in moods {
            world.server.mood = mood;
            world.server.last = world.server.last.wrapping_add(1).max(2);
            now += time;
            world.run_until(at(now));
        }
        (world.lossy, world.server.mood) = (0, Mood::Grants);
        // The longest wait of version 6 is an hour.
        world.run_until(at(now + 4000));
        // One of a second is over when it could be renewed.
        prop_assert!(world.has.is_some() || lease < 2);
    }

    /// Garbage does nothing.
    #[test]
    fn what_is_no_answer_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..600), version in prop_oneof![Just(4_u8), Just(6)]) {
        let mut world = World::new(version);
        world.server.mood = Mood::IsGone;
        world.run_until(at(101));
        prop_assert_eq!(world.client.on_datagram(&bytes, world.now, &mut || 3), Vec::new());
    }
}
