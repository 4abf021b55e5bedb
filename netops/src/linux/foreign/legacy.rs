//! Rules of the older iptables (`ip_tables`), which netlink does not show: a case in which a program is executed, and
//! only if the kernel says that such a table is in use.
//!
//! `iptables-save` says what there is as commands; the same lines with `-D` instead of `-A` take it away, in one
//! `iptables-restore`. So nothing is quoted here that the program itself has not quoted.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::Rule;
use crate::error::{Errno, Error, Operation};
use crate::foreign::{Family, ForeignChain, ForeignRules, WhichRules};
use crate::kernel::Removed;
use crate::linux::netlink::Refusal;
use crate::linux::{LinuxKernel, refused};
use crate::place::Place;

/// Where such programs are, should `PATH` not say so: runtimes give their plugins little of an environment.
const DIRECTORIES: &[&str] = &["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"];
/// How long to wait for others that are changing the rules, in seconds.
pub(in crate::linux) const PATIENCE: &str = "10";

/// Whether some rules are there.
pub(super) fn is_in_force(
    kernel: &mut LinuxKernel,
    place: Place,
    wanted: &ForeignRules,
) -> Result<bool, Error> {
    let Some(text) = saved(kernel, place, &wanted.chain, Operation::Read)? else { return Ok(false) };
    let sites = wanted.sites();
    let exists = declares(&text, &wanted.chain.name);
    Ok(exists && (sites.is_empty() || !lines(&text, wanted).is_empty()))
}

/// A chain's rules.
pub(super) fn rules(
    kernel: &mut LinuxKernel,
    place: Place,
    chain: &ForeignChain,
) -> Result<Vec<Rule>, Error> {
    let text = saved(kernel, place, chain, Operation::Read)?.unwrap_or_default();
    Ok(text.lines().filter_map(|line| parse(line, &chain.name)).collect())
}

/// Removes rules that are there: what is of one table in one go.
pub(super) fn remove(
    kernel: &mut LinuxKernel,
    place: Place,
    wanted: &[&ForeignRules],
) -> Vec<Result<Removed, Error>> {
    let mut outcomes = vec![Ok(Removed::Before); wanted.len()];
    let table = |rules: &ForeignRules| (rules.chain.family, rules.chain.table.clone());
    let tables: BTreeSet<_> = wanted.iter().map(|rules| table(rules)).collect();
    for this in tables {
        let mut here = outcomes.iter_mut().zip(wanted).filter(|(_, rules)| table(rules) == this).peekable();
        let Some(chain) = here.peek().map(|(_, rules)| &rules.chain) else { continue };
        let (text, mut all) = (saved(kernel, place, chain, Operation::Remove), String::new());
        let mut doomed = Vec::new();
        for (outcome, rules) in here {
            match &text {
                Ok(text) => {
                    let commands = commands(text.as_deref(), rules);
                    if !commands.is_empty() {
                        all.push_str(&commands);
                        doomed.push(outcome);
                    }
                }
                Err(error) => *outcome = Err(error.clone()),
            }
        }
        if !doomed.is_empty() {
            let done = restore(kernel, place, chain, &all).map(|()| Removed::Now);
            doomed.into_iter().for_each(|outcome| outcome.clone_from(&done));
        }
    }
    outcomes
}

/// What takes some rules away.
fn commands(text: Option<&str>, rules: &ForeignRules) -> String {
    let text = text.unwrap_or_default();
    let delete = |line: &str| format!("-D{}\n", line.trim_start_matches("-A"));
    let mut commands: String = lines(text, rules).into_iter().map(delete).collect();
    let name = &rules.chain.name;
    if matches!(rules.which, WhichRules::Chain { .. }) && declares(text, name) {
        commands.push_str(&format!("-F {name}\n-X {name}\n"));
    }
    commands
}

/// The lines that add the rules that some rules are or that lead to them.
fn lines<'a>(text: &'a str, rules: &ForeignRules) -> Vec<&'a str> {
    let sites = rules.sites();
    let meant = |line: &&str| {
        sites.iter().any(|site| parse(line, &site.name).is_some_and(|rule| rules.include(&rule)))
    };
    text.lines().filter(meant).collect()
}

fn declares(text: &str, chain: &str) -> bool {
    text.lines().any(|line| line.strip_prefix(':').and_then(|line| line.split(' ').next()) == Some(chain))
}

/// A table as `iptables-save` has it; `None` if it is not in use, or there is no such program: then nobody here has
/// used one.
fn saved(
    kernel: &mut LinuxKernel,
    place: Place,
    chain: &ForeignChain,
    operation: Operation,
) -> Result<Option<String>, Error> {
    let Some(program) = Program::of(chain.family) else { return Ok(None) };
    let side = kernel.side(place)?;
    if !side.within(|| program.is_in_use(&chain.table))? {
        return Ok(None);
    }
    let output = side.within(|| program.run("save", &["-t", &chain.table], ""))?;
    match output {
        Some(output) if output.status.success() => {
            Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
        }
        Some(output) => Err(complaint(operation, place, chain, &output)),
        None => Ok(None),
    }
}

fn restore(
    kernel: &mut LinuxKernel,
    place: Place,
    chain: &ForeignChain,
    commands: &str,
) -> Result<(), Error> {
    let Some(program) = Program::of(chain.family) else { return Ok(()) };
    let text = format!("*{}\n{commands}COMMIT\n", chain.table);
    let side = kernel.side(place)?;
    match side.within(|| program.run("restore", &["--noflush", "-w", PATIENCE], &text))? {
        Some(output) if !output.status.success() => Err(complaint(Operation::Remove, place, chain, &output)),
        _ => Ok(()),
    }
}

fn complaint(operation: Operation, place: Place, chain: &ForeignChain, output: &Output) -> Error {
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    let refusal = Refusal { errno: Errno::EINVAL, detail: Some(format!("iptables-legacy: {said}")) };
    refused(operation, place, &format!("rules of table {} {}", chain.family, chain.table), refusal)
}

/// The programs of one version of IP.
#[derive(Debug, Clone, Copy)]
pub(in crate::linux) struct Program {
    name: &'static str,
    /// The tables that something has made, a name a line: those of the calling thread's namespace.
    names: &'static str,
}

impl Program {
    pub(in crate::linux) fn of(family: Family) -> Option<Self> {
        match family {
            Family::Ipv4 => Some(Self { name: "iptables", names: "/proc/thread-self/net/ip_tables_names" }),
            Family::Ipv6 => Some(Self { name: "ip6tables", names: "/proc/thread-self/net/ip6_tables_names" }),
            Family::Inet | Family::Bridge => None,
        }
    }

    /// Whether something has made a table.
    pub(in crate::linux) fn is_in_use(self, table: &str) -> bool {
        fs::read_to_string(self.names).is_ok_and(|names| names.lines().any(|name| name == table))
    }

    /// Runs one of the programs to its end, if there is one: under its own name, or under the one that it had before
    /// there was another variant, if it is not that.
    pub(in crate::linux) fn run(self, what: &str, arguments: &[&str], input: &str) -> Option<Output> {
        let plain = || locate(&format!("{}-{what}", self.name)).filter(|program| is_legacy(program));
        let program = locate(&format!("{}-legacy-{what}", self.name)).or_else(plain)?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not want to hear says why.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output().ok()
    }
}

/// Whether a program that may be of either variant is of this one.
fn is_legacy(program: &Path) -> bool {
    let said = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    said.is_ok_and(|said| {
        said.status.success() && !String::from_utf8_lossy(&said.stdout).contains("nf_tables")
    })
}

fn locate(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(DIRECTORIES.iter().map(PathBuf::from));
    directories.map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// What tells a rule from others, if a line adds one to a chain.
fn parse(line: &str, chain: &str) -> Option<Rule> {
    let words = words(line.strip_prefix("-A ")?);
    let (first, options) = words.split_first()?;
    if first != chain {
        return None;
    }
    let value = |option: &str| {
        let at = options.iter().position(|word| word == option)?;
        // `!` before an option turns it round.
        let negated =
            at.checked_sub(1).and_then(|before| options.get(before)).is_some_and(|word| word == "!");
        options.get(at + 1).filter(|_| !negated)
    };
    let target = value("-j").cloned();
    let address = value("-s").or_else(|| value("-d")).and_then(|net| host(net));
    let accepted = address.filter(|_| target.as_deref() == Some("ACCEPT"));
    Some(Rule { comment: value("--comment").cloned(), jump: target, accepted })
}

/// The address of a prefix that is one address.
fn host(net: &str) -> Option<IpAddr> {
    let net: ipnet::IpNet = net.parse().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

/// The words of a line, of which some are in double quotes, with backslashes before what means something there.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let (mut quoted, mut characters) = (false, line.chars());
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(characters.next()),
            ' ' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = r#"*nat
:POSTROUTING ACCEPT [0:0]
:CNI-0123 - [0:0]
-A POSTROUTING -s 10.1.0.5/32 -m comment --comment "name: \"blue net\" id: \"c\\1\"" -j CNI-0123
-A POSTROUTING -s 10.1.0.6/32 -j CNI-01234
-A CNI-0123 -d 10.1.0.0/16 -m comment --comment plain -j ACCEPT
-A CNI-0123 ! -d 224.0.0.0/4 -j MASQUERADE
-A CNI-0123 -s 10.1.0.7/32 -j ACCEPT
COMMIT
"#;

    fn chain(name: &str) -> ForeignChain {
        ForeignChain::new(Family::Ipv4, "nat", name)
    }

    #[test]
    fn a_chain_goes_with_what_jumps_to_it_and_nothing_else() {
        let rules = chain("CNI-0123").called_from(&["POSTROUTING"]);
        let line = SAVED.lines().nth(3).unwrap();
        assert_eq!(lines(SAVED, &rules), [line]);
        let deletion = line.replacen("-A", "-D", 1);
        assert_eq!(commands(Some(SAVED), &rules), format!("{deletion}\n-F CNI-0123\n-X CNI-0123\n"));
        assert_eq!(commands(Some(SAVED), &chain("CNI-012").called_from(&["POSTROUTING"])), "");
        assert_eq!(commands(None, &rules), "");
    }

    #[test]
    fn comments_and_addresses_are_read_as_they_were_meant() {
        let comment = parse(SAVED.lines().nth(3).unwrap(), "POSTROUTING").unwrap().comment;
        assert_eq!(comment.as_deref(), Some(r#"name: "blue net" id: "c\1""#));
        let about = |address: &str| lines(SAVED, &chain("CNI-0123").about(address.parse().unwrap())).len();
        assert_eq!([about("10.1.0.7"), about("10.1.0.0"), about("224.0.0.0")], [1, 0, 0]);
        assert_eq!(lines(SAVED, &chain("CNI-0123").commented("plain")).len(), 1);
    }
}
