//! What each node says of itself, told to all of them by gossip. No I/O, no clock, no threads; random numbers from a seed.
//!
//! Each node writes keys and values of its own, and reads everybody's. There is no leader and no quorum: a node is always
//! able to write, and what it wrote is everywhere as soon as links allow. Who is there is found out on the way. What a node
//! wrote stays when it is down, until somebody has it [forgotten](Gossip::forget).
//!
//! ```text
//! Gossip        a node of the cluster: the caller moves its bytes and tells it the time
//! seal          what goes over the network, under the cluster's key
//!
//! replica       one node's writes, in the order of their versions                       scuttlebutt
//! node          what is known of one
//! nodes         all of them, and hashes of how much is known of them           roster     whose turn it is
//! rumour        news go to some at once, and on with every probe                        epidemic
//! repair        what news have missed: hashes, then positions, then what is lacking     anti-entropy
//! exchange      all at once, by stream
//! consent       whether everybody has heard something, and has nothing against it
//! probe         who is there                                                            SWIM, Lifeguard
//! own           what others say of this node that it did not
//! ledger        what all nodes of one process have written: for simulations
//! message       the parts of a datagram         wire        their bytes
//! ```
//!
//! A caller does the same after each call: it seals and sends what [`Gossip::transmit`] has, opens a stream if
//! [`Gossip::wants_exchange`] says so, looks at [`Gossip::event`], and sleeps until [`Gossip::timeout`] or the next datagram.
//!
//! ```
//! use std::time::Duration;
//! use gossip::{Config, Event, Gossip};
//!
//! let now = Duration::from_secs(1);
//! let at = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
//! let mut one = Gossip::new([1; 16], 1, vec![at(1)], Config::default(), 11, now);
//! let mut two = Gossip::new([2; 16], 1, vec![at(2)], Config::default(), 22, now);
//! one.set(now, "name", b"one")?;
//! two.join(now, &[at(1)]);
//!
//! // The network: all that one sends arrives at the other.
//! loop {
//!     if let Some(datagram) = two.transmit() {
//!         one.receive(now, at(2), &datagram.payload);
//!     } else if let Some(datagram) = one.transmit() {
//!         two.receive(now, at(1), &datagram.payload);
//!     } else {
//!         break;
//!     }
//! }
//! assert_eq!(two.get(&[1; 16], "name"), Some(&b"one"[..]));
//! assert_eq!(two.event(), Some(Event::Joined { id: [1; 16] }));
//! # Ok::<(), gossip::TooLarge>(())
//! ```

mod config;
mod consent;
mod exchange;
mod gossip;
mod ledger;
mod letters;
mod message;
mod node;
mod nodes;
mod own;
mod probe;
mod random;
mod receive;
mod repair;
mod replica;
mod roster;
mod rumour;
pub mod seal;
mod twin;
mod wire;

pub use config::Config;
pub use gossip::{Event, Gossip, Liveness, Member, TooLarge, Transmit};
pub use ledger::{Ledger, Said};
pub use random::Random;
pub use replica::{MAX_ENTRY, MAX_KEY, Position};
pub use wire::Garbled;

/// Time since any start, by a clock that never goes back.
pub type Time = std::time::Duration;

/// Which node: 16 random bytes that it keeps for ever.
pub type PeerId = [u8; 16];
