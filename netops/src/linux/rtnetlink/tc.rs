//! Traffic control: `RTM_NEWQDISC`, `RTM_NEWTFILTER` and their likes (`linux/pkt_sched.h`, `linux/pkt_cls.h`,
//! `linux/tc_act/tc_mirred.h`). `netlink-packet-route` has no token bucket; all of it is written by number.

use crate::linux::netlink::{Attributes, Datagram, attribute, attributes, get_u32, text};
use crate::resource::{Discipline, TokenBucket};

/// Length of `struct tcmsg`.
const HEADER: usize = 20;
/// Makes a new one, or fails.
const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

/// `TC_H_ROOT`, `TC_H_INGRESS`: where a discipline is.
const AT_ROOT: u32 = 0xffff_ffff;
const AT_INGRESS: u32 = 0xffff_fff1;
/// `1:` and `ffff:`: what disciplines are called.
const ROOT: u32 = 0x0001_0000;
const INGRESS: u32 = 0xffff_0000;
/// Priority 1 and `ETH_P_ALL` in network byte order: `tcm_info` of our filter.
const FILTER: u32 = 1 << 16 | (libc::ETH_P_ALL as u16).to_be() as u32;

/// `TCA_*`.
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
/// `TCA_TBF_*`.
const TBF_PARMS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;
/// Length of `struct tc_tbf_qopt`, and where in it are the rate, the limit and the time that the burst takes.
const TBF_QOPT: usize = 36;
const RATE_AT: usize = 8;
const LIMIT_AT: usize = 24;
const BUFFER_AT: usize = 28;
/// `TCA_U32_*`.
const U32_SEL: u16 = 5;
const U32_ACT: u16 = 7;
/// `struct tc_u32_sel` with one `struct tc_u32_key` that is all zeros, which matches everything: `TC_U32_TERMINAL`, one
/// key.
const MATCH_ALL: [u8; 32] = {
    let mut selector = [0; 32];
    selector[0] = 1;
    selector[2] = 1;
    selector
};
/// `TCA_ACT_KIND`, `TCA_ACT_OPTIONS`, `TCA_MIRRED_PARMS`.
const ACT_KIND: u16 = 1;
const ACT_OPTIONS: u16 = 2;
const MIRRED_PARMS: u16 = 2;
/// Length of `struct tc_mirred`, and where in it are the verdict, what is done, and the interface.
const MIRRED: usize = 28;
const VERDICT_AT: usize = 8;
const ACTION_AT: usize = 20;
const TARGET_AT: usize = 24;
/// `TC_ACT_STOLEN`, `TCA_EGRESS_REDIR`.
const STOLEN: u32 = 4;
const EGRESS_REDIRECT: u32 = 1;

/// Adds a queueing discipline.
pub(in crate::linux) fn create(datagram: &mut Datagram, index: u32, discipline: &Discipline) {
    let (kind, header) = of(index, discipline);
    datagram.push(libc::RTM_NEWQDISC, NEW, &header, |message| {
        message.text(KIND, kind);
        if let Discipline::TokenBucket(bucket) = discipline {
            message.nest(OPTIONS, |options| token_bucket(options, bucket));
        }
    });
}

fn token_bucket(options: &mut Attributes<'_>, bucket: &TokenBucket) {
    let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let ticks = bucket.ticks();
    let mut parms = [0; TBF_QOPT];
    for (at, value) in [(RATE_AT, short(bucket.rate)), (LIMIT_AT, bucket.limit), (BUFFER_AT, short(ticks))] {
        put(&mut parms, at, value);
    }
    options.bytes(TBF_PARMS, &parms);
    if bucket.rate > u64::from(u32::MAX) {
        options.bytes(TBF_RATE64, &bucket.rate.to_ne_bytes());
    }
    // A burst whose ticks the field cannot hold, either for being too many or none at all.
    if ticks == 0 || ticks > u64::from(u32::MAX) {
        options.bytes(TBF_BURST, &bucket.burst.to_ne_bytes());
    }
}

/// Removes a queueing discipline, with what hangs from it.
pub(in crate::linux) fn delete(datagram: &mut Datagram, index: u32, discipline: &Discipline) {
    let (kind, header) = of(index, discipline);
    datagram.push(libc::RTM_DELQDISC, 0, &header, |message| _ = message.text(KIND, kind));
}

/// Asks for the disciplines that an interface may have in the two places: two messages. One that is not there is
/// refused.
pub(in crate::linux) fn get(datagram: &mut Datagram, index: u32) {
    for parent in [AT_ROOT, AT_INGRESS] {
        // Older kernels answer whoever listens, and the one who asks only with this flag.
        datagram.push(libc::RTM_GETQDISC, libc::NLM_F_ECHO, &header(index, 0, parent, 0), |_| {});
    }
}

/// A discipline, if it is one of ours.
pub(in crate::linux) fn parse(body: &[u8]) -> Option<Discipline> {
    let details = body.get(HEADER..)?;
    match (text(attribute(details, KIND)?)?, get_u32(body, 12)?) {
        ("ingress", AT_INGRESS) => Some(Discipline::Ingress),
        ("tbf", AT_ROOT) => {
            let options = attribute(details, OPTIONS)?;
            let parms = attribute(options, TBF_PARMS)?;
            let number = |at| get_u32(parms, at);
            let long = attribute(options, TBF_RATE64).and_then(|value| value.try_into().ok());
            let rate = match long {
                Some(bytes) => u64::from_ne_bytes(bytes),
                None => number(RATE_AT)?.into(),
            };
            Some(Discipline::TokenBucket(TokenBucket::of_ticks(rate, number(BUFFER_AT)?, number(LIMIT_AT)?)))
        }
        _ => None,
    }
}

/// Adds a filter by which everything that comes in goes to another interface.
pub(in crate::linux) fn redirect(datagram: &mut Datagram, index: u32, target: u32) {
    let mut parms = [0; MIRRED];
    for (at, value) in [(VERDICT_AT, STOLEN), (ACTION_AT, EGRESS_REDIRECT), (TARGET_AT, target)] {
        put(&mut parms, at, value);
    }
    datagram.push(libc::RTM_NEWTFILTER, NEW, &header(index, 0, INGRESS, FILTER), |message| {
        message.text(KIND, "u32").nest(OPTIONS, |options| {
            let action = |action: &mut Attributes<'_>| {
                action.text(ACT_KIND, "mirred");
                action.nest(ACT_OPTIONS, |options| _ = options.bytes(MIRRED_PARMS, &parms));
            };
            // The number of an action is its place among those of the filter.
            options.nest(U32_ACT, |actions| _ = actions.nest(1, action));
            options.bytes(U32_SEL, &MATCH_ALL);
        });
    });
}

/// Removes the filters of a redirection's priority and kind.
pub(in crate::linux) fn delete_redirects(datagram: &mut Datagram, index: u32) {
    let header = header(index, 0, INGRESS, FILTER);
    datagram.push(libc::RTM_DELTFILTER, 0, &header, |message| _ = message.text(KIND, "u32"));
}

/// Asks for the filters of what comes in by an interface.
pub(in crate::linux) fn get_redirects(datagram: &mut Datagram, index: u32) {
    datagram.push(libc::RTM_GETTFILTER, 0, &header(index, 0, INGRESS, 0), |_| {});
}

/// The index of the interface that a filter sends everything to, if it is such a filter.
pub(in crate::linux) fn parse_redirect(body: &[u8]) -> Option<u32> {
    let details = body.get(HEADER..)?;
    if text(attribute(details, KIND)?) != Some("u32") {
        return None;
    }
    let options = attribute(details, OPTIONS)?;
    let everything = attribute(options, U32_SEL)?;
    // One key whose mask is empty.
    if everything.get(2) != Some(&1) || get_u32(everything, 16) != Some(0) {
        return None;
    }
    attributes(attribute(options, U32_ACT)?).find_map(|(_, action)| {
        let is_mirred = attribute(action, ACT_KIND).and_then(text) == Some("mirred");
        let parms = attribute(attribute(action, ACT_OPTIONS)?, MIRRED_PARMS)?;
        let redirects = get_u32(parms, ACTION_AT) == Some(EGRESS_REDIRECT);
        get_u32(parms, TARGET_AT).filter(|target| is_mirred && redirects && *target != 0)
    })
}

/// The kernel's word for a discipline, and the header of messages about it.
fn of(index: u32, discipline: &Discipline) -> (&'static str, [u8; HEADER]) {
    match discipline {
        Discipline::TokenBucket(_) => ("tbf", header(index, ROOT, AT_ROOT, 0)),
        Discipline::Ingress => ("ingress", header(index, INGRESS, AT_INGRESS, 0)),
    }
}

fn header(index: u32, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    for (at, value) in [(4, index), (8, handle), (12, parent), (16, info)] {
        put(&mut header, at, value);
    }
    header
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_ne_bytes());
    }
}
