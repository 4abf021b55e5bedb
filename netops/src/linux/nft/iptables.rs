//! The way through `iptables`' nf_tables variant: rules in its tables as that program itself writes them, so that it, and
//! all who use it, go on to understand the tables.
//!
//! ```text
//! -A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD
//! -A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN
//! -A CNI-FORWARD -m mark --mark 0x1000/0x1000 -j ACCEPT
//! ```
//!
//! The last is our own. The others are the reference's, which puts its rules for single addresses behind them.

use std::thread;
use std::time::{Duration, Instant};

use super::expression::Verdict;
use super::message::{self, Table};
use super::rule::Rule;
use super::transaction::{Hook, Transaction};
use super::{first_refusal, send};
use crate::error::{Errno, Error, Operation};
use crate::foreign::ForeignChain;
use crate::kernel::Created;
use crate::linux::netlink::Datagram;
use crate::linux::{LinuxKernel, failed, refused};
use crate::place::Place;
use crate::resource::ForwardJump;
use crate::ruleset::{ADMIN_COMMENT, CNI_FORWARD, CNI_FORWARD_COMMENT, FILTER, HOST_FORWARD, PASS};

/// Where `iptables` has its chain `FORWARD` (`NF_IP_PRI_FILTER`).
const HOOK: Hook = Hook { kind: "filter", number: libc::NF_INET_FORWARD, priority: 0 };

/// What the kernel says when nf_tables is not any more as it was looked at (`nfnetlink_rcv_batch()`).
const ERESTART: Errno = Errno::new(85);
/// How long others may change nf_tables between a look and the transaction that follows.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_micros(200);

/// Whether all rules are there.
pub(in crate::linux) fn look(
    kernel: &mut LinuxKernel,
    place: Place,
    jump: &ForwardJump,
    operation: Operation,
) -> Result<bool, Error> {
    Ok(Way::look(kernel, place, jump, operation)?.is_complete())
}

/// Makes what is missing. That it still is missing when it is made is seen to by the kernel: many may try at the same time.
pub(in crate::linux) fn create(
    kernel: &mut LinuxKernel,
    place: Place,
    jump: &ForwardJump,
) -> Result<Created, Error> {
    let object = jump.to_string();
    let refuse = |refusal| Err(refused(Operation::Create, place, &object, refusal));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let generation = generation(kernel, place, jump)?;
        let way = Way::look(kernel, place, jump, Operation::Create)?;
        if way.is_complete() {
            return Ok(Created::Kept);
        }
        let replies = send(kernel, place, way.completion(jump, generation), Operation::Create, &object)?;
        match first_refusal(replies, &[]) {
            Ok(()) => return Ok(Created::New),
            Err((_, refusal)) if refusal.errno == ERESTART && Instant::now() < deadline => {
                thread::sleep(PAUSE);
            }
            Err((_, refusal)) => return refuse(refusal),
        }
    }
}

/// Which rules are there.
struct Way {
    entrance: bool,
    admin: bool,
    pass: bool,
}

impl Way {
    fn look(
        kernel: &mut LinuxKernel,
        place: Place,
        jump: &ForwardJump,
        operation: Operation,
    ) -> Result<Self, Error> {
        let mut rules = |chain| {
            let mut request = Datagram::default();
            message::get_rules(&mut request, &chain_of(jump, chain));
            let socket = kernel.side(place)?.netfilter()?;
            let reply = socket.dump(&mut request);
            let reply = reply.map_err(|failure| failed(operation, place, &jump.to_string(), failure))?;
            reply.accepted().or_else(|refusal| match refusal.errno {
                Errno::ENOENT => Ok(Vec::new()),
                _ => Err(refused(operation, place, &jump.to_string(), refusal)),
            })
        };
        let (forward, cni_forward) = (rules(HOST_FORWARD)?, rules(CNI_FORWARD)?);
        let has =
            |rules: &[Vec<u8>], wanted: &Rule| rules.iter().any(|rule| wanted.is(message::content(rule)));
        Ok(Self {
            entrance: has(&forward, &entrance()),
            admin: has(&cni_forward, &admin(jump)),
            pass: has(&cni_forward, &pass()) || has(&cni_forward, &native_pass()),
        })
    }

    fn is_complete(&self) -> bool {
        self.entrance && self.admin && self.pass
    }

    /// What makes it complete, unless anything has changed. Tables and chains that are there stay as they are.
    fn completion(&self, jump: &ForwardJump, generation: u32) -> Transaction {
        let table = table(jump);
        let mut transaction = Transaction::since(generation);
        transaction.table(table);
        transaction.chain(table, HOST_FORWARD, Some(HOOK));
        transaction.chain(table, CNI_FORWARD, None);
        transaction.chain(table, jump.admin_chain.as_str(), None);
        if !self.pass {
            transaction.rule(table, CNI_FORWARD, &pass());
        }
        if !self.admin {
            transaction.first_rule(table, CNI_FORWARD, &admin(jump));
        }
        if !self.entrance {
            transaction.first_rule(table, HOST_FORWARD, &entrance());
        }
        transaction
    }
}

/// Reads bytes as if they were a rule.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::linux) fn read_as_rule(body: &[u8]) {
    for rule in [entrance(), pass(), native_pass()] {
        let _ = rule.is(message::content(body));
    }
}

fn entrance() -> Rule {
    commented(CNI_FORWARD_COMMENT).counter().verdict(Verdict::Jump(CNI_FORWARD.to_owned()))
}

fn admin(jump: &ForwardJump) -> Rule {
    commented(ADMIN_COMMENT).counter().verdict(Verdict::Jump(jump.admin_chain.to_string()))
}

/// As every version of `iptables` understands it. Since 1.8.8 it writes [`native_pass`]; earlier ones take that for a rule
/// without a condition.
fn pass() -> Rule {
    // struct xt_mark_mtinfo1: mark, mask, whether it is inverted.
    let info = [PASS.to_ne_bytes(), PASS.to_ne_bytes(), [0; 4]].concat();
    Rule::default().extension("mark", 1, info).counter().verdict(Verdict::Accept)
}

/// As newer versions write it: what becomes of the other when they restore what they have saved.
fn native_pass() -> Rule {
    Rule::default().with_mark(PASS).counter().verdict(Verdict::Accept)
}

/// `-m comment --comment TEXT`.
fn commented(text: &str) -> Rule {
    // struct xt_comment_info.
    let mut info = [0; 256];
    info.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte);
    Rule::default().extension("comment", 0, info.into())
}

/// The chain that all that is forwarded goes through; where it is, this variant is in use.
pub(in crate::linux) fn entry(jump: &ForwardJump) -> ForeignChain {
    chain_of(jump, HOST_FORWARD)
}

fn chain_of(jump: &ForwardJump, name: &str) -> ForeignChain {
    ForeignChain::new(jump.version.into(), FILTER, name)
}

fn table(jump: &ForwardJump) -> Table {
    Table { family: jump.version.number(), name: FILTER }
}

/// How often nf_tables has changed.
fn generation(kernel: &mut LinuxKernel, place: Place, jump: &ForwardJump) -> Result<u32, Error> {
    let (operation, object) = (Operation::Create, jump.to_string());
    let mut request = Datagram::default();
    message::get_generation(&mut request);
    let replies = kernel.side(place)?.netfilter()?.exchange(&mut request);
    let replies = replies.map_err(|failure| failed(operation, place, &object, failure))?;
    let answers = replies.into_iter().next().unwrap_or_default().accepted();
    let answers = answers.map_err(|refusal| refused(operation, place, &object, refusal))?;
    answers.first().and_then(|body| message::generation(body)).ok_or_else(|| Error::Garbled {
        operation,
        reason: "nf_tables does not say how often it has changed".to_owned(),
    })
}
