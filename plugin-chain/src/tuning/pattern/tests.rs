//! What is found, and what is refused; grep's own engine is asked too.

use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

fn finds(pattern: &str, text: &str) -> bool {
    Pattern::new(pattern).unwrap().is_found_in(text)
}

#[test]
fn what_people_write_means_what_they_mean() {
    for (pattern, found, not_found) in [
        (r"^net\.ipv4\.conf\.IFNAME\..*$", "net.ipv4.conf.IFNAME.arp_filter", "net.ipv6.conf.IFNAME.x"),
        (r"^net\.ipv4\.ip_local_port_range$", "net.ipv4.ip_local_port_range", "net_ipv4.ip_local_port_range"),
        ("net.core.somaxconn", "net.core.somaxconn", "net.core.somaxcon"),
        (
            "^net\\.ipv(4|6)\\.conf\\.[a-z0-9]+\\.(rp_filter|arp_.+)$",
            "net.ipv6.conf.eth0.arp_x",
            "net.ipv4.conf.Eth0.rp_filter",
        ),
        ("tcp_(keepalive_)?time", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_keepalive"),
        ("^[^.]+$", "abc", "a.c"),
        ("^a{2,3}$", "aaa", "aaaa"),
        ("^a{2,}$", "aaaaa", "a"),
        (r"^\w+\d$", "a_1", "a-1"),
        ("^(?:ab|c)+$", "abcab", "abca"),
        ("^[]a-]+$", "a-]", "b"),
        ("^a|b$", "xb", "xbx"),
        ("", "anything", "\u{0}never"),
    ] {
        assert!(finds(pattern, found), "{pattern} {found}");
        assert!(pattern.is_empty() || !finds(pattern, not_found), "{pattern} {not_found}");
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let bad = [
        "(",
        ")",
        "a(b",
        "[",
        "[a",
        "*",
        "+a",
        "a**",
        "a{2}{3}",
        r"\",
        r"\b",
        r"\pL",
        r"\x41",
        r"\1",
        "(?i)a",
        "(?P<n>a)",
        "[[:alpha:]]",
        "[z-a]",
        r"[\W]",
        "a{3,2}",
        "a{1001}",
        "(((a{100}){100}){100})",
    ];
    for pattern in bad {
        assert!(Pattern::new(pattern).is_err(), "{pattern}");
    }
    assert!(Pattern::new(&"(".repeat(100_000)).is_err());
    assert!(Pattern::new(&"a".repeat(100_000)).is_err());
}

#[test]
fn a_text_takes_no_longer_for_a_pattern_that_is_meant_to_take_long() {
    let text = "a".repeat(300);
    assert!(!finds("^(a*)*(a*)*(a*)*b$", &text));
    assert!(finds("^(a|a|a?)+$", &text));
}

/// What grep's own engine says; `None` where there is none.
fn grep(pattern: &str, text: &str) -> Option<bool> {
    let mut grep = Command::new("grep");
    let mut child =
        grep.args(["-qP", "--", pattern]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    std::io::Write::write_all(&mut child.stdin.take()?, text.as_bytes()).ok()?;
    match child.wait().ok()?.code()? {
        0 => Some(true),
        1 => Some(false),
        _ => None,
    }
}

fn patterns() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "a", "b", r"\.", ".", "[ab]", "[^a]", "[a-c.]", r"\w", r"\d", "^", "$", "1", "", "[]a]",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 16, 3, |inner| {
        let counted = (inner.clone(), prop::sample::select(vec!["*", "+", "?", "{2}", "{1,2}", "{0,}"]));
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}{b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}|{b})")),
            counted.prop_map(|(a, sign)| format!("(?:{a}){sign}")),
        ]
    })
}

proptest! {
    // Always the same cases: a difference from `grep` that nobody has met yet does not hold up a change that has nothing to do
    // with it. Who searches for such differences takes other numbers.
    #![proptest_config(ProptestConfig {
        cases: 300,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_finds_what_grep_finds(pattern in patterns(), text in "[ab1.]{0,6}") {
        let ours = Pattern::new(&pattern).map(|pattern| pattern.is_found_in(&text));
        // grep does not look at a last line that is empty and has no end.
        if let Some(theirs) = grep(&pattern, &format!("{text}\n")) {
            prop_assert_eq!(ours, Ok(theirs), "{}", pattern);
        }
    }

    #[test]
    fn any_text_is_a_pattern_or_none(pattern in "\\PC{0,40}", text in "\\PC{0,20}") {
        if let Ok(pattern) = Pattern::new(&pattern) {
            pattern.is_found_in(&text);
        }
    }

    #[test]
    fn a_text_with_its_signs_escaped_is_found_in_itself(text in "[ -~]{0,30}") {
        let escaped: String = text.chars().flat_map(|c| {
            c.is_ascii_punctuation().then_some('\\').into_iter().chain([c])
        }).collect();
        let whole = format!("^{escaped}$");
        prop_assert!(finds(&whole, &text));
    }
}
