//! The rules of the routing policy.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::Errno;
use crate::kernel::Created;
use crate::resource::{IpVersion, MAIN_TABLE, Rule, Selector};

use super::machine::Problem;
use super::refused;
use super::routes::Family;

/// `RT_TABLE_DEFAULT` and `RT_TABLE_LOCAL`.
const DEFAULT_TABLE: u32 = 253;
pub(super) const LOCAL_TABLE: u32 = 255;

/// The rules that a namespace is born with (`fib_default_rules_init()`, `fib6_rules_net_init()`), both families' in one
/// list, each in order.
pub(super) fn at_birth(ipv6: bool) -> Vec<Rule> {
    let rule = |from, table, priority| Rule { priority: Some(priority), ..Rule::from(from, table) };
    let (v4, v6) = (IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default()));
    let mut rules =
        vec![rule(v4, LOCAL_TABLE, 0), rule(v4, MAIN_TABLE, 32766), rule(v4, DEFAULT_TABLE, 32767)];
    if ipv6 {
        rules.extend([rule(v6, LOCAL_TABLE, 0), rule(v6, MAIN_TABLE, 32766)]);
    }
    rules
}

/// Adds a rule, unless it is there.
pub(super) fn add(rules: &mut Vec<Rule>, wanted: &Rule) -> Result<Created, Problem> {
    let version = wanted.selector.version();
    let own = || rules.iter().filter(|rule| rule.selector.version() == version);
    if own().any(|rule| is(rule, wanted)) {
        return Ok(Created::Kept);
    }
    if own().next().is_none() {
        return Err(Problem::Refused(Errno::new(libc::EAFNOSUPPORT), None));
    }
    if wanted.table == 0 {
        return Err(refused(Errno::EINVAL, "Invalid table"));
    }
    // fib_default_rule_pref(): before the second, if there is room.
    let second = own().nth(1).and_then(|rule| rule.priority).unwrap_or_default();
    let priority = wanted.priority.unwrap_or_else(|| second.saturating_sub(1));
    let rule = Rule { selector: wanted.selector.kept(), table: wanted.table, priority: Some(priority) };
    // One that names no source is the same as any other's (`rule_exists()`).
    let mut by_source = own().filter(|other| matches!(other.selector, Selector::From(_)));
    if by_source.any(|other| is_selected(other, &rule)) {
        return Err(Problem::Refused(Errno::EEXIST, None));
    }
    let later = |other: &Rule| other.selector.version() == version && other.priority > rule.priority;
    let at = rules.iter().position(later).unwrap_or_else(|| {
        let last = rules.iter().rposition(|other| other.selector.version() == version);
        last.map_or(rules.len(), |last| last + 1)
    });
    rules.insert(at, rule);
    Ok(Created::New)
}

/// Removes the first rule that has all that is said. Whether there was one.
pub(super) fn remove(rules: &mut Vec<Rule>, unwanted: &Rule) -> bool {
    match rules.iter().position(|rule| is_selected(rule, unwanted)) {
        Some(at) => {
            rules.remove(at);
            true
        }
        None => false,
    }
}

/// Takes a family's rules away.
pub(super) fn clear(rules: &mut Vec<Rule>, family: Family) {
    let version = match family {
        Family::V4 => IpVersion::V4,
        Family::V6 => IpVersion::V6,
    };
    rules.retain(|rule| rule.selector.version() != version);
}

/// Whether a rule is one of those that are meant. Who names no source means any.
fn is_selected(rule: &Rule, meant: &Rule) -> bool {
    let any_source = matches!(meant.selector, Selector::From(from) if from.prefix_len() == 0)
        && rule.selector.version() == meant.selector.version();
    is(rule, meant) || (any_source && is(&Rule { selector: meant.selector, ..rule.clone() }, meant))
}

fn is(rule: &Rule, wanted: &Rule) -> bool {
    (rule.selector, rule.table) == (wanted.selector.kept(), wanted.table)
        && wanted.priority.is_none_or(|priority| rule.priority == Some(priority))
}
