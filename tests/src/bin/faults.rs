//! What is left of plugins' calls when something happens to them, at every system call where it can.
//!
//! ```text
//! cargo build --release -p cnikit --bin cnikit-plugins -p cnikit-tests --bin faults --bin dhcp-under-test
//! target/…/release/faults [OPTIONS] [SCENARIO…]
//!
//!   --only ours|reference     one implementation; else both
//!   --verbs add,add-gone,del,del-gone,gc
//!   --errnos ENOBUFS,EIO,…    only these errors; else all that fit a system call
//!   --errors-per-point N      so many of them at each point, and for each request there
//!   --kinds errors,refusals,deaths
//!   --points FROM-TO          only the points of these numbers
//!   --step N                  only every N-th fault
//!   --jobs N                  so many nodes at once
//!   --json                    the table for programs
//!   --verbose                 each round in which something was left, or went wrong
//! ```
//!
//! Needs root, x86-64, dnsmasq for `dhcp`, and the reference's plugins for the comparison. Everything happens in namespaces of its own. Ends
//! with status 1 if anything of ours was left.

#![allow(clippy::expect_used)] // a tool that cannot run has nothing else to say

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    eprintln!("a system call is made to fail by its registers: this knows x86-64's");
    std::process::exit(2);
}

#[cfg(target_arch = "x86_64")]
fn main() -> std::process::ExitCode {
    tool::main()
}

#[cfg(target_arch = "x86_64")]
mod tool {
    use std::process::ExitCode;
    use std::time::Instant;

    use cnikit_tests::Implementation;
    use cnikit_tests::faults::{Campaign, Fault, Kind, Round, SCENARIOS, Scenario, Tally, Verb};
    use nix::errno::Errno;
    use serde_json::{Value, json};

    struct Options {
        campaign: Campaign,
        scenarios: Vec<&'static Scenario>,
        verbs: Vec<Verb>,
        ours: bool,
        reference: bool,
        json: bool,
        verbose: bool,
    }

    pub(super) fn main() -> ExitCode {
        let options = options(std::env::args().skip(1));
        let implementations =
            [options.ours.then(ours), options.reference.then(Implementation::reference).flatten()];
        if !options.json {
            println!("{:53} {:^41}   {:^41}", "", "cnikit", "reference");
            let columns = "rounds  failed    said  before   after   !";
            println!("{:12} {:31} {:8} {columns}   {columns}", "", "", "");
        }
        let mut clean = true;
        for scenario in &options.scenarios {
            for verb in options.verbs.iter().copied().filter(|verb| scenario.has(*verb)) {
                let tallies = implementations.each_ref().map(|plugins| {
                    let plugins = plugins.as_ref().filter(|plugins| knows(plugins, scenario, verb))?;
                    Some(run(&options, scenario, plugins, verb))
                });
                clean &= tallies[0].as_ref().is_none_or(|tallies| tallies.iter().all(is_clean));
                print(&options, scenario, verb, &tallies);
            }
        }
        if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn run(options: &Options, scenario: &Scenario, plugins: &Implementation, verb: Verb) -> [Tally; 3] {
        let began = Instant::now();
        let tell = |number: usize, fault: Fault, round: &Round| {
            if options.verbose {
                eprintln!("{} {} {number} {}: {round}", scenario.name, verb.name(), fault.name());
            }
        };
        let tallies = options.campaign.run(scenario, plugins, verb, &tell);
        if options.verbose {
            eprintln!("{} {}: {:.1} s", scenario.name, verb.name(), began.elapsed().as_secs_f64());
        }
        tallies
    }

    fn print(options: &Options, scenario: &Scenario, verb: Verb, tallies: &[Option<[Tally; 3]>; 2]) {
        if options.json {
            let both = |tallies: &Option<[Tally; 3]>| {
                tallies
                    .as_ref()
                    .map(|tallies| Kind::ALL.map(|kind| (kind.name(), tallies[kind as usize].json())))
                    .map(|tallies| {
                        Value::Object(
                            tallies.map(|(name, tally)| (name.to_owned(), tally)).into_iter().collect(),
                        )
                    })
            };
            let line = json!({
                "scenario": scenario.name, "verb": verb.name(),
                "ours": both(&tallies[0]), "reference": both(&tallies[1]),
            });
            return println!("{line}");
        }
        for kind in Kind::ALL {
            let what = kind.name();
            let columns = tallies.each_ref().map(|tallies| match tallies {
                Some(tallies) if tallies[kind as usize].rounds > 0 => {
                    columns(&tallies[kind as usize], kind == Kind::Death)
                }
                _ => format!("{:41}", ""),
            });
            println!("{:12} {:31} {what:8} {}   {}", scenario.name, verb.name(), columns[0], columns[1]);
        }
    }

    /// What is the last column's: everything that must never be.
    fn columns(tally: &Tally, killed: bool) -> String {
        let Tally { rounds, failed, reported, before, after, others, troubles, hung, .. } = tally;
        let never = others + troubles + hung;
        let reported = if killed { "–".to_owned() } else { reported.to_string() };
        let before = if killed && *before == 0 { "–".to_owned() } else { before.to_string() };
        format!("{rounds:6} {failed:7} {reported:>7} {before:>7} {after:7} {never:3}")
    }

    fn is_clean(tally: &Tally) -> bool {
        let Tally { failed, reported, before, after, others, troubles, hung, .. } = tally;
        failed == reported && [before, after, others, troubles, hung].into_iter().all(|count| *count == 0)
    }

    /// Debian's reference does not know GC.
    fn knows(plugins: &Implementation, scenario: &Scenario, verb: Verb) -> bool {
        matches!(plugins, Implementation::Ours(_)) || (scenario.in_reference && verb != Verb::Gc)
    }

    /// The plugins that were built beside this program.
    fn ours() -> Implementation {
        let own = std::env::current_exe().expect("a path of one's own").with_file_name("cnikit-plugins");
        assert!(
            own.exists(),
            "{} is missing: cargo build --release -p cnikit --bin cnikit-plugins",
            own.display()
        );
        Implementation::Ours(own)
    }

    fn options(mut arguments: impl Iterator<Item = String>) -> Options {
        let mut options = Options {
            campaign: Campaign::default(),
            scenarios: Vec::new(),
            verbs: Verb::ALL.to_vec(),
            ours: true,
            reference: true,
            json: false,
            verbose: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().unwrap_or_else(|| refuse(&format!("{argument} wants a value")));
            match argument.as_str() {
                "--only" => match value().as_str() {
                    "ours" => options.reference = false,
                    "reference" => options.ours = false,
                    other => refuse(&format!("--only {other}: neither ours nor reference")),
                },
                "--verbs" => options.verbs = value().split(',').map(verb).collect(),
                "--errnos" => options.campaign.errnos = Some(value().split(',').map(errno).collect()),
                "--errors-per-point" => options.campaign.errors_per_point = number(&value()),
                "--kinds" => options.campaign.kinds = value().split(',').map(kind).collect(),
                "--points" => {
                    let value = value();
                    let (from, to) = value.split_once('-').unwrap_or((&value, &value));
                    options.campaign.points = number(from)..=number(to);
                }
                "--step" => options.campaign.step = number(&value()).max(1),
                "--jobs" => options.campaign.jobs = number(&value()).max(1),
                "--json" => options.json = true,
                "--verbose" => options.verbose = true,
                name => match Scenario::find(name) {
                    Some(scenario) => options.scenarios.push(scenario),
                    None => refuse(&format!("{name}: no such option or scenario")),
                },
            }
        }
        if options.scenarios.is_empty() {
            options.scenarios = SCENARIOS.iter().collect();
        }
        options
    }

    fn verb(name: &str) -> Verb {
        match name {
            "add" => Verb::Add,
            "add-gone" => Verb::AddThenGone,
            "del" => Verb::Del,
            "del-gone" => Verb::DelWhenGone,
            "gc" => Verb::Gc,
            other => refuse(&format!("{other}: no such verb")),
        }
    }

    fn kind(name: &str) -> Kind {
        let known = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        known.unwrap_or_else(|| refuse(&format!("{name}: neither errors nor refusals nor deaths")))
    }

    fn errno(name: &str) -> Errno {
        let known = (1..=133).map(Errno::from_raw).find(|errno| format!("{errno:?}") == name);
        known.unwrap_or_else(|| refuse(&format!("{name}: no such error")))
    }

    fn number(text: &str) -> usize {
        text.parse().unwrap_or_else(|_| refuse(&format!("{text}: not a number")))
    }

    fn refuse(why: &str) -> ! {
        eprintln!("{why}; the options stand at the top of tests/src/bin/faults.rs");
        std::process::exit(2);
    }
}
