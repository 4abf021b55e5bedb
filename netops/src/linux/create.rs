//! [`Kernel::create`](crate::Kernel::create): as few datagrams as the order allows.

use std::thread;
use std::time::{Duration, Instant};

use super::batch::{self, Batch};
use super::netlink::Refusal;
use super::rtnetlink::address::Detection;
use super::{LinuxKernel, foreign, forward_jump, nft, read, refused, sysctl};
use crate::error::{Errno, Error, Operation};
use crate::kernel::Created;
use crate::name::LinkName;
use crate::place::Place;
use crate::resource::Resource;

pub(super) fn create(
    kernel: &mut LinuxKernel,
    place: Place,
    resources: &[&Resource],
) -> Vec<Result<Created, Error>> {
    let mut outcomes = Vec::with_capacity(resources.len());
    let at_hand = |(n, resource): (usize, &&Resource)| {
        Means::at_hand(kernel, place, resource, resources.get(..n).unwrap_or_default())
    };
    let means: Vec<_> = resources.iter().enumerate().map(at_hand).collect();
    let mut rest = resources;
    for same in means.chunk_by(|a, b| a == b) {
        let Some((run, after)) = rest.split_at_checked(same.len()) else { break };
        rest = after;
        outcomes.extend(match same.first() {
            Some(Means::File) => write_sysctls(kernel, place, run),
            Some(Means::Rtnetlink) => Batch::new(kernel, place, run).run(),
            Some(Means::Patience) => wait(kernel, place, run),
            Some(Means::Nftables) => nft::create(kernel, place, run),
            Some(Means::Netfilter) => vec![Err(foreign::is_not_made(place, run))],
            Some(Means::Ruleset) => set_up(kernel, place, run),
            None => Vec::new(),
        });
        if outcomes.iter().any(Result::is_err) {
            break;
        }
    }
    outcomes
}

/// How the kernel is asked for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    Rtnetlink,
    Nftables,
    Netfilter,
    /// What is set up once and for all: each by transactions of its own.
    Ruleset,
    File,
    Patience,
}

impl Means {
    /// What there is besides, for an interface that was made a moment ago, or will be by what comes before: each file below
    /// `/proc/sys` in a namespace that nobody has looked into costs 20 µs, and more with every namespace that somebody has
    /// (`proc_sys_compare()` goes through all of them: 1 ms with a thousand).
    fn at_hand(kernel: &mut LinuxKernel, place: Place, resource: &Resource, before: &[&Resource]) -> Self {
        let Resource::Sysctl(sysctl) = resource else { return Self::of(resource) };
        let Some((link, _)) = batch::ip_setting(sysctl) else { return Self::File };
        let known = kernel.side(place).ok().and_then(|side| side.links.get(&link));
        let makes = |resource: &&Resource| match resource {
            Resource::Link(made) => made.ends(place).any(|end| end == (place, &link)),
            _ => false,
        };
        if known.is_some_and(|known| known.fresh) || before.iter().any(makes) {
            Self::Rtnetlink
        } else {
            Self::File
        }
    }

    pub(super) fn of(resource: &Resource) -> Self {
        match resource {
            Resource::Sysctl(_) => Self::File,
            Resource::Settled(_) => Self::Patience,
            Resource::Entry(_) => Self::Nftables,
            Resource::Foreign(_) => Self::Netfilter,
            Resource::Isolation(_) | Resource::ForwardJump(_) | Resource::OverlayRules(_) => Self::Ruleset,
            Resource::Link(_)
            | Resource::LinkUp(_)
            | Resource::LinkDown(_)
            | Resource::MovedLink(_)
            | Resource::Promiscuous(_)
            | Resource::Settings(_)
            | Resource::FixedMac(_)
            | Resource::Port(_)
            | Resource::Master(_)
            | Resource::Address(_)
            | Resource::Route(_)
            | Resource::NoRoute(_)
            | Resource::NextHop(_)
            | Resource::Neighbour(_)
            | Resource::Proxy(_)
            | Resource::Fdb(_)
            | Resource::Rule(_)
            | Resource::Qdisc(_)
            | Resource::Redirect(_) => Self::Rtnetlink,
        }
    }
}

/// Writes consecutive sysctls, up to the first failure, with the namespace entered once.
pub(super) fn write_sysctls(
    kernel: &mut LinuxKernel,
    place: Place,
    run: &[&Resource],
) -> Vec<Result<Created, Error>> {
    let write_all = || {
        let mut outcomes = Vec::with_capacity(run.len());
        for resource in run {
            let Resource::Sysctl(sysctl) = resource else { continue };
            let outcome = sysctl::write(sysctl)
                .map_err(|refusal| refused(Operation::Create, place, &resource.to_string(), refusal));
            let failed = outcome.is_err();
            outcomes.push(outcome);
            if failed {
                break;
            }
        }
        outcomes
    };
    kernel.side(place).and_then(|side| side.within(write_all)).unwrap_or_else(|error| vec![Err(error)])
}

/// Sets up rules that are not of single attachments, up to the first failure.
fn set_up(kernel: &mut LinuxKernel, place: Place, run: &[&Resource]) -> Vec<Result<Created, Error>> {
    let mut outcomes = Vec::with_capacity(run.len());
    for resource in run {
        let outcome = match resource {
            Resource::Isolation(isolation) => nft::isolation::create(kernel, place, isolation),
            Resource::ForwardJump(jump) => forward_jump::create(kernel, place, jump),
            Resource::OverlayRules(wanted) => nft::overlay::create(kernel, place, wanted),
            _ => continue,
        };
        let failed = outcome.is_err();
        outcomes.push(outcome);
        if failed {
            break;
        }
    }
    outcomes
}

/// Duplicate address detection takes a second and a bit, longer if it is told to repeat its question.
const PATIENCE: Duration = Duration::from_secs(10);
/// Without detection it is a matter of the kernel's getting round to it.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// Waits until the addresses of interfaces are usable.
fn wait(kernel: &mut LinuxKernel, place: Place, run: &[&Resource]) -> Vec<Result<Created, Error>> {
    let mut outcomes = Vec::with_capacity(run.len());
    for resource in run {
        let Resource::Settled(name) = resource else { continue };
        let outcome = wait_for(kernel, place, name, resource);
        let failed = outcome.is_err();
        outcomes.push(outcome);
        if failed {
            break;
        }
    }
    outcomes
}

fn wait_for(
    kernel: &mut LinuxKernel,
    place: Place,
    name: &LinkName,
    resource: &Resource,
) -> Result<Created, Error> {
    let refuse = |errno, detail| {
        let refusal = Refusal { errno, detail: Some(detail) };
        Err(refused(Operation::Create, place, &resource.to_string(), refusal))
    };
    let deadline = Instant::now() + PATIENCE;
    let mut created = Created::Kept;
    let mut pause = FIRST_PAUSE;
    loop {
        match read::detection(kernel, place, name)? {
            None => return refuse(Errno::ENODEV, format!("there is no interface \"{name}\"")),
            Some(Detection::Over) => return Ok(created),
            Some(Detection::Found(address)) => {
                let detail = format!("{address} is in use on another machine (duplicate address detection)");
                return refuse(Errno::EADDRINUSE, detail);
            }
            Some(Detection::Running) if Instant::now() >= deadline => {
                return Err(Error::TimedOut { operation: Operation::Create, object: resource.to_string() });
            }
            Some(Detection::Running) => thread::sleep(pause),
        }
        created = Created::New;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}
