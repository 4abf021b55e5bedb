//! Netfilter rules of other programs', wherever they are: in nf_tables, which netlink shows whoever wrote them, or in
//! the older `ip_tables`, whose own program is asked for them, and changes them (`legacy.rs`).

mod legacy;

use std::net::IpAddr;

pub(super) use legacy::{PATIENCE, Program};

use super::netlink::Refusal;
use super::{LinuxKernel, nft, refused};
use crate::error::{Errno, Error, Operation};
use crate::foreign::{ForeignChain, ForeignRules, WhichRules};
use crate::kernel::Removed;
use crate::place::Place;
use crate::resource::Resource;

/// How often to look again for rules of which some went as they were to be deleted.
const ATTEMPTS: usize = 4;

/// What tells a rule from others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) comment: Option<String>,
    /// The chain that it jumps to.
    pub(super) jump: Option<String>,
    /// The source or destination address that it accepts.
    pub(super) accepted: Option<IpAddr>,
}

impl ForeignRules {
    /// Whether a rule in one of the [sites](Self::sites) is meant.
    fn include(&self, rule: &Rule) -> bool {
        match &self.which {
            WhichRules::Chain { .. } => rule.jump.as_ref() == Some(&self.chain.name),
            WhichRules::Address(address) => rule.accepted.as_ref() == Some(address),
            comment => comment.has_comment(rule.comment.as_deref()),
        }
    }
}

/// The error for making rules as if one were another program.
pub(super) fn is_not_made(place: Place, run: &[&Resource]) -> Error {
    let object = run.first().map(ToString::to_string).unwrap_or_default();
    let refusal = Refusal {
        errno: Errno::EOPNOTSUPP,
        detail: Some("rules of other programs are not made, only removed".to_owned()),
    };
    refused(Operation::Create, place, &object, refusal)
}

/// Whether some rules are there; a chain, that something jumps to it.
pub(super) fn is_in_force(
    kernel: &mut LinuxKernel,
    place: Place,
    wanted: &ForeignRules,
) -> Result<bool, Error> {
    let found = nft::foreign::exist(kernel, place, &[&wanted.chain], Operation::Read)?;
    if found.contains(&true) {
        let sites = wanted.sites();
        if sites.is_empty() || !find(kernel, place, wanted)?.is_empty() {
            return Ok(true);
        }
    }
    legacy::is_in_force(kernel, place, wanted)
}

/// The comments of a chain's rules.
pub(super) fn comments(
    kernel: &mut LinuxKernel,
    place: Place,
    chain: &ForeignChain,
) -> Result<Vec<String>, Error> {
    let rules = nft::foreign::rules(kernel, place, chain)?.into_iter().map(|(_, rule)| rule);
    let rules: Vec<_> = rules.chain(legacy::rules(kernel, place, chain)?).collect();
    Ok(rules.into_iter().filter_map(|rule| rule.comment).collect())
}

/// Removes rules that are there. Where there are none, that is one datagram and a look for `ip_tables`.
pub(super) fn remove(
    kernel: &mut LinuxKernel,
    place: Place,
    run: &[&Resource],
) -> Vec<Result<Removed, Error>> {
    let wanted: Vec<_> = run.iter().filter_map(|resource| rules_of(resource)).collect();
    let chains: Vec<_> = wanted.iter().map(|rules| &rules.chain).collect();
    let found = match nft::foreign::exist(kernel, place, &chains, Operation::Remove) {
        Ok(found) => found,
        Err(error) => return vec![Err(error); run.len()],
    };
    let mut outcomes = Vec::with_capacity(run.len());
    for (rules, is_there) in wanted.iter().zip(found) {
        outcomes.push(if is_there { remove_one(kernel, place, rules) } else { Ok(Removed::Before) });
    }
    for (outcome, legacy) in outcomes.iter_mut().zip(legacy::remove(kernel, place, &wanted)) {
        match legacy {
            Ok(Removed::Before) => {}
            other if outcome.is_ok() => *outcome = other,
            _ => {}
        }
    }
    outcomes
}

fn remove_one(kernel: &mut LinuxKernel, place: Place, rules: &ForeignRules) -> Result<Removed, Error> {
    let object = rules.to_string();
    let whole = matches!(rules.which, WhichRules::Chain { .. });
    for _ in 0..ATTEMPTS {
        let there =
            whole && nft::foreign::exist(kernel, place, &[&rules.chain], Operation::Remove)? == [true];
        let found = find(kernel, place, rules)?;
        if found.is_empty() && !there {
            return Ok(Removed::Before);
        }
        if nft::foreign::delete(kernel, place, &found, there.then_some(&rules.chain), &object)? {
            return Ok(Removed::Now);
        }
    }
    Err(Error::TimedOut { operation: Operation::Remove, object })
}

/// The rules, by chain and handle, that some rules are or that lead to them.
fn find(
    kernel: &mut LinuxKernel,
    place: Place,
    wanted: &ForeignRules,
) -> Result<Vec<(ForeignChain, u64)>, Error> {
    let mut found = Vec::new();
    for site in wanted.sites() {
        let rules = nft::foreign::rules(kernel, place, &site)?;
        let meant = rules.into_iter().filter(|(_, rule)| wanted.include(rule));
        found.extend(meant.map(|(handle, _)| (site.clone(), handle)));
    }
    Ok(found)
}

fn rules_of(resource: &Resource) -> Option<&ForeignRules> {
    match resource {
        Resource::Foreign(rules) => Some(rules),
        _ => None,
    }
}
