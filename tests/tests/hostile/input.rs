//! Standard input that is no configuration.

use std::time::{Duration, Instant};

use cnikit_tests::isolated;
use serde_json::json;

use crate::attack::{DECODING, IO, NETNS, VERSION, Victim, at_once, honest};
use crate::bound::small;

#[test]
fn what_is_no_json_object_is_refused() {
    isolated(|| {
        let victim = Victim::new();
        let honest = honest().to_string();
        let with = |inside: &str| honest.replacen('{', &format!("{{{inside},"), 1);
        for (name, stdin) in [
            ("nothing", Vec::new()),
            ("null", b"null".to_vec()),
            ("a list", b"[]".to_vec()),
            ("a number", b"7".to_vec()),
            ("a brace", b"{".to_vec()),
            ("a half", honest.as_bytes()[..honest.len() / 2].to_vec()),
            ("garbage after it", format!("{honest} x").into_bytes()),
            ("two", format!("{honest}{honest}").into_bytes()),
            ("NUL bytes", vec![0; 4096]),
            ("not UTF-8", [&b"{\"name\":\"\xff\xfe\","[..], &honest.as_bytes()[1..]].concat()),
            ("a deep list", vec![b'['; 1_000_000]),
            ("a deep list inside", with(&format!("\"x\":{}", "[".repeat(100_000))).into_bytes()),
            (
                "a deep object inside",
                with(&format!("\"x\":{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000))).into_bytes(),
            ),
            ("a half of a surrogate pair", with(r#""x":"\ud800""#).into_bytes()),
            ("a number without end", with(&format!("\"x\":1e{}", "9".repeat(1000))).into_bytes()),
            ("a key without end", with(&format!("\"{}", "k".repeat(1_000_000))).into_bytes()),
        ] {
            victim.refuses(name, DECODING, &victim.call("ADD").stdin(stdin));
        }
    });
}

#[test]
fn a_hundred_megabytes_are_refused_at_once_and_not_kept() {
    isolated(|| {
        let victim = Victim::new();
        let text = format!("{{\"x\":\"{}\"", "y".repeat(100_000_000));
        for (name, stdin) in [("white space", vec![b' '; 100_000_000]), ("a text", text.into_bytes())] {
            let call = victim.call("ADD").stdin(stdin);
            let started = Instant::now();
            victim.refuses(name, DECODING, &call);
            assert!(started.elapsed() < Duration::from_secs(2), "{name}: took {:?}", started.elapsed());
            small(name, &call);
        }
    });
}

#[test]
fn no_input_makes_a_plugin_large() {
    isolated(|| {
        let victim = Victim::new();
        let with =
            |inside: String| honest().to_string().replacen('{', &format!("{{{inside},"), 1).into_bytes();
        let many = |piece: &str, count| vec![piece; count].join(",");
        for (name, stdin) in [
            ("ten million zeros", with(format!("\"x\":[{}]", many("0", 10_000_000)))),
            ("fifty megabytes of text", with(format!("\"x\":\"{}\"", "y".repeat(50_000_000)))),
            // What follows is no longer than a configuration may be.
            ("zeros", with(format!("\"x\":[{}]", many("0", 2_000_000)))),
            ("objects", with(format!("\"x\":[{}]", many("{\"\":0}", 500_000)))),
            (
                "ranges",
                with(format!(
                    "\"ipam\":{{\"ranges\":[{}]}}",
                    many("[{\"subnet\":\"10.1.0.0/29\"}]", 130_000)
                )),
            ),
            (
                "routes",
                with(format!(
                    "\"prevResult\":{{\"routes\":[{}]}}",
                    many("{\"dst\":\"10.0.0.0/8\"}", 180_000)
                )),
            ),
            ("depth", with(format!("\"x\":{}", "[".repeat(4_000_000)))),
        ] {
            let call = victim.call("ADD").stdin(stdin);
            victim.refuses(name, DECODING, &call);
            small(name, &call);
        }
    });
}

/// What may be that long costs its length, and not much more.
#[test]
fn the_largest_input_that_is_served_does_not_make_a_plugin_large() {
    isolated(|| {
        let victim = Victim::new();
        let gone = || victim.call("ADD").env("CNI_NETNS", "/run/netns/none");
        let with =
            |inside: String| honest().to_string().replacen('{', &format!("{{{inside},"), 1).into_bytes();
        let many = |piece: &str, count| vec![piece; count].join(",");
        // The longest that execve(2) takes is 128 KiB a variable.
        let arguments = |piece: &str| piece.repeat(130_000 / piece.len());
        for (name, call) in [
            ("text", gone().stdin(with(format!("\"x\":\"{}\"", "y".repeat(4_000_000))))),
            ("objects", gone().stdin(with(format!("\"x\":[{}]", many("{\"\":0}", 16_000))))),
            (
                "arguments",
                gone().args(&format!("IgnoreUnknown=1;{}", arguments("K=V;").trim_end_matches(';'))),
            ),
        ] {
            victim.refuses(name, NETNS, &call);
            small(name, &call);
        }
        let ranges = many("[{\"subnet\":\"10.1.0.0/29\"}]", 10_000);
        let ranges = victim.call("ADD").stdin(with(format!("\"runtimeConfig\":{{\"ipRanges\":[{ranges}]}}")));
        at_once("ranges", &ranges).error();
        small("ranges", &ranges);
    });
}

#[test]
fn standard_streams_that_are_none_are_reported() {
    isolated(|| {
        let victim = Victim::new();
        // What pods share stays.
        victim.call("ADD").run().result();
        victim.call("DEL").run().done();
        let before = cnikit_tests::State::of(&victim.node);
        for script in ["exec \"$0\" </", "exec \"$0\" <&-"] {
            let outcome = victim.call("ADD").run_through(&["sh", "-c", script]);
            let code = outcome.error()["code"].as_u64().unwrap();
            assert!([IO, DECODING].contains(&code), "{script}: {outcome}");
            victim.is_as(script, &before);
        }
        // Nobody can be told, but it is no success.
        let nobody = "mkfifo /run/pipe; exec 3<>/run/pipe >/run/pipe 3<&-; exec \"$0\"";
        for script in ["exec \"$0\" >/dev/full", nobody] {
            let outcome = victim.call("ADD").run_through(&["sh", "-c", script]);
            assert_eq!(outcome.status.code(), Some(1), "{script}: {outcome}");
            victim.call("DEL").run().done();
            victim.is_as(script, &before);
        }
        // Nothing that is opened is taken for an output that is closed.
        let closed = ["strace", "-qq", "-o", "/run/census", "sh", "-c", "exec \"$0\" >&-"];
        let outcome = victim.call("ADD").run_through(&closed);
        assert!(outcome.status.success(), "{outcome}");
        let census = victim.node.shell("cat /run/census");
        let first = census.lines().filter(|line| line.starts_with("open") && line.ends_with(" = 1"));
        assert_eq!(
            first.filter(|line| !line.contains("\"/dev/null\"")).collect::<Vec<_>>(),
            Vec::<&str>::new()
        );
        victim.call("DEL").run().done();
        victim.is_as("a closed output", &before);
    });
}

#[test]
fn versions_that_nobody_speaks_are_refused() {
    isolated(|| {
        let victim = Victim::new();
        for version in
            ["9.9.9", "abc", "1", "1.0", "0.4.00", "99999999999999999999.0.0", &"1".repeat(1_000_000)]
        {
            victim.refuses(
                version.get(..9).unwrap_or(version),
                VERSION,
                &victim.with("ADD", json!({"cniVersion": version})),
            );
        }
        victim.refuses("a number", DECODING, &victim.with("ADD", json!({"cniVersion": 1})));
        victim.refuses("a name that is a number", DECODING, &victim.with("ADD", json!({"name": 7})));
        for command in ["GC", "STATUS"] {
            victim.refuses(command, VERSION, &victim.call(command));
        }
        victim.refuses("CHECK", VERSION, &victim.with("CHECK", json!({"cniVersion": "0.3.1"})));
    });
}

#[test]
fn a_question_for_the_version_is_answered_whatever_comes_with_it() {
    isolated(|| {
        let victim = Victim::new();
        for stdin in ["", "garbage", "[[[[", "{\"cniVersion\": 7}", "{\"cniVersion\": \"9.9.9\"}"] {
            let call =
                victim.call("VERSION").stdin(stdin).env("CNI_NETNS", "dummy").env("CNI_CONTAINERID", "../..");
            let answer = at_once(stdin, &call).result();
            assert!(answer["supportedVersions"].as_array().unwrap().contains(&"1.1.0".into()), "{answer}");
        }
    });
}
