//! The legacy variant of `iptables`, which keeps its rules outside of nf_tables: read through socket options
//! (`linux/netfilter_ipv4/ip_tables.h`), changed by the program, which alone knows how to lock them.
//!
//! A kernel has that variant's table when somebody has used it. Where it holds nothing it stands in nobody's way, and
//! nothing is done about it. The program is executed once, to make what is missing.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Errno;
use crate::kernel::Created;
use crate::linux::foreign::{self, Program};
use crate::linux::netlink::{Refusal, get_u16, get_u32, text};
use crate::linux::sys;
use crate::resource::{ForwardJump, IpVersion};
use crate::ruleset::{ADMIN_COMMENT, CNI_FORWARD, CNI_FORWARD_COMMENT, FILTER, HOST_FORWARD, PASS};

/// What is missing of the way through the calling thread's legacy table, as the commands that make it; `None` if there is
/// no such table, or nothing in it.
pub(super) fn look(jump: &ForwardJump) -> Result<Option<String>, Refusal> {
    // To ask for a table would make one.
    if !Program::of(jump.version.into()).is_some_and(|program| program.is_in_use(FILTER)) {
        return Ok(None);
    }
    let table = Table::read(jump.version)?;
    Ok((!table.is_blank()).then(|| table.missing(jump)))
}

/// Makes what is missing in the calling thread's legacy table; `None` as [`look`].
pub(super) fn create(jump: &ForwardJump) -> Result<Option<Created>, Refusal> {
    match look(jump)? {
        None => return Ok(None),
        Some(missing) if missing.is_empty() => return Ok(Some(Created::Kept)),
        Some(_) => {}
    }
    let _alone = exclude_others();
    for attempts in 1.. {
        let missing = look(jump)?.unwrap_or_default();
        if missing.is_empty() {
            return Ok(Some(Created::Kept));
        }
        match restore(jump.version, &missing) {
            Ok(()) => break,
            // Somebody else may have been quicker: the reference, an administrator.
            Err(_) if attempts < ATTEMPTS => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(Some(Created::New))
}

const ATTEMPTS: usize = 3;

/// Has the program do something, all of it or nothing.
fn restore(version: IpVersion, commands: &str) -> Result<(), Refusal> {
    let complaint = |errno, words| Refusal { errno, detail: Some(words) };
    let text = format!("*{FILTER}\n{commands}COMMIT\n");
    let arguments = ["--noflush", "-w", foreign::PATIENCE];
    match Program::of(version.into()).and_then(|program| program.run("restore", &arguments, &text)) {
        Some(output) if output.status.success() => Ok(()),
        Some(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            Err(complaint(Errno::EINVAL, format!("iptables-legacy: {said}")))
        }
        None => Err(complaint(
            Errno::ENOENT,
            format!("this kernel has {version} rules of iptables' legacy variant: install iptables-legacy"),
        )),
    }
}

/// A table as the kernel has it: entries, one behind another.
struct Table {
    layout: Layout,
    /// Where the rules of `FORWARD` begin, and where its policy is, which is the last of them.
    forward: (usize, usize),
    entries: Vec<u8>,
}

/// Where things are in an entry (`struct ipt_entry`, `struct ip6t_entry`).
#[derive(Clone, Copy)]
struct Layout {
    /// `target_offset`, after which comes `next_offset`; before both is what the packet's header must be like.
    target: usize,
    /// Its length without matches and target.
    head: usize,
}

/// An entry: a rule, or the name of the chain that follows.
struct Entry<'a> {
    at: usize,
    /// It says nothing of a packet's header.
    is_for_all: bool,
    matches: Vec<Extension<'a>>,
    target: Extension<'a>,
}

/// `struct xt_entry_match`, `struct xt_entry_target`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Extension<'a> {
    name: &'a str,
    revision: u8,
    data: &'a [u8],
}

impl Table {
    fn read(version: IpVersion) -> Result<Self, Refusal> {
        let (family, level) = match version {
            IpVersion::V4 => (libc::AF_INET, libc::SOL_IP),
            IpVersion::V6 => (libc::AF_INET6, libc::SOL_IPV6),
        };
        let number = |info: &[u8], at| get_u32(info, at).unwrap_or_default() as usize;
        // It may change between the two questions.
        for _ in 0..CHANGES {
            let mut info = [0; INFO];
            name_into(&mut info);
            sys::xtables(family, level, IPT_SO_GET_INFO, &mut info)?;
            let size = number(&info, INFO_SIZE);
            let mut entries = vec![0; ENTRIES.next_multiple_of(align_of::<u64>()) + size];
            name_into(&mut entries);
            if let Some(place) = entries.get_mut(NAME..NAME + 4) {
                place.copy_from_slice(&(size as u32).to_ne_bytes());
            }
            match sys::xtables(family, level, IPT_SO_GET_ENTRIES, &mut entries) {
                Err(nix::errno::Errno::EAGAIN) => {}
                Err(errno) => return Err(errno.into()),
                Ok(()) => {
                    entries.drain(..entries.len() - size);
                    let forward =
                        (number(&info, INFO_HOOKS + FORWARD), number(&info, INFO_UNDERFLOWS + FORWARD));
                    return Ok(Self { layout: Layout::of(version), forward, entries });
                }
            }
        }
        Err(nix::errno::Errno::EAGAIN.into())
    }

    /// Whether it holds nothing but chains without rules that let everything pass.
    fn is_blank(&self) -> bool {
        let is_end = |entry: &Entry<'_>| matches!(entry.target.verdict(), Some(ACCEPT | RETURN));
        self.entries().iter().all(|entry| entry.target.name == ERROR || is_end(entry))
    }

    /// The commands that make what is missing.
    fn missing(&self, jump: &ForwardJump) -> String {
        let entries = self.entries();
        let (first, last) = self.forward;
        let forward: Vec<_> = entries.iter().filter(|entry| (first..=last).contains(&entry.at)).collect();
        let admin = jump.admin_chain.as_str();
        let (cni_forward, admin_rules) = (chain(&entries, CNI_FORWARD), chain(&entries, admin));
        let rules = cni_forward.as_deref().unwrap_or_default();
        let jumps = |from: &[&Entry<'_>], comment: &str, to: Option<&[&Entry<'_>]>| {
            let start = to.and_then(|rules| i32::try_from(rules.first()?.at).ok());
            let is_jump = |rule: &&Entry<'_>| {
                start.is_some()
                    && rule.target.verdict() == start
                    && rule.is_only("comment", 0, comment.as_bytes())
            };
            from.iter().any(is_jump)
        };
        // struct xt_mark_mtinfo1: mark, mask, whether it is inverted.
        let marked = [PASS.to_ne_bytes(), PASS.to_ne_bytes(), [0; 4]].concat();
        let passes =
            |rule: &&Entry<'_>| rule.target.verdict() == Some(ACCEPT) && rule.is_only("mark", 1, &marked);

        let mut commands = String::new();
        let mut need = |is_there: bool, command: String| {
            if !is_there {
                commands.push_str(&command);
                commands.push('\n');
            }
        };
        let commented = |comment: &str, to: &str| format!("-m comment --comment \"{comment}\" -j {to}");
        need(cni_forward.is_some(), format!("-N {CNI_FORWARD}"));
        need(admin_rules.is_some(), format!("-N {admin}"));
        need(
            rules.iter().any(passes),
            format!("-A {CNI_FORWARD} -m mark --mark {PASS:#x}/{PASS:#x} -j ACCEPT"),
        );
        need(
            jumps(rules, ADMIN_COMMENT, admin_rules.as_deref()),
            format!("-I {CNI_FORWARD} {}", commented(ADMIN_COMMENT, admin)),
        );
        need(
            jumps(&forward, CNI_FORWARD_COMMENT, cni_forward.as_deref()),
            format!("-I {HOST_FORWARD} {}", commented(CNI_FORWARD_COMMENT, CNI_FORWARD)),
        );
        commands
    }

    /// The entries, as far as they make sense.
    fn entries(&self) -> Vec<Entry<'_>> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some((entry, length)) =
            self.entries.get(at..).and_then(|bytes| self.layout.entry(at, bytes))
        {
            found.push(entry);
            at += length;
        }
        found
    }
}

/// The rules of a chain of a user's, its end included; `None` if there is no such chain.
fn chain<'a, 'b>(entries: &'a [Entry<'b>], name: &str) -> Option<Vec<&'a Entry<'b>>> {
    let is_head = |entry: &Entry<'_>| entry.target.name == ERROR;
    let is_its_head = |entry: &Entry<'_>| is_head(entry) && text(entry.target.data) == Some(name);
    let head = entries.iter().position(is_its_head)?;
    Some(entries.iter().skip(head + 1).take_while(|entry| !is_head(entry)).collect())
}

impl Layout {
    fn of(version: IpVersion) -> Self {
        let counters = |after: usize| after.next_multiple_of(align_of::<u64>());
        match version {
            IpVersion::V4 => Self { target: 88, head: counters(96) + 16 },
            IpVersion::V6 => Self { target: 140, head: counters(148) + 16 },
        }
    }

    /// The entry that some bytes begin with, and how long it is.
    fn entry(self, at: usize, bytes: &[u8]) -> Option<(Entry<'_>, usize)> {
        let target = usize::from(get_u16(bytes, self.target)?);
        let length = usize::from(get_u16(bytes, self.target + 2)?);
        let header = bytes.get(..self.target - 4)?;
        let (target, _) = Extension::parse(bytes.get(target..length)?)?;
        let mut rest = bytes.get(self.head..usize::from(get_u16(bytes, self.target)?))?;
        let mut matches = Vec::new();
        while !rest.is_empty() {
            let (extension, length) = Extension::parse(rest)?;
            matches.push(extension);
            rest = rest.get(length..)?;
        }
        let is_for_all = header.iter().all(|byte| *byte == 0);
        Some((Entry { at, is_for_all, matches, target }, length))
    }
}

impl Entry<'_> {
    /// Whether it has one condition, that of one extension, which says this, filled up with zeros.
    fn is_only(&self, name: &str, revision: u8, data: &[u8]) -> bool {
        let [only] = self.matches.as_slice() else { return false };
        let (said, rest) = only.data.split_at(data.len().min(only.data.len()));
        self.is_for_all
            && (only.name, only.revision) == (name, revision)
            && said == data
            && rest.iter().all(|byte| *byte == 0)
    }
}

impl<'a> Extension<'a> {
    fn parse(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let length = usize::from(get_u16(bytes, 0)?);
        let name = text(bytes.get(2..31)?)?;
        Some((Self { name, revision: *bytes.get(31)?, data: bytes.get(SHORTEST..length)? }, length))
    }

    /// What the target without a name does: less than zero is a verdict, else the place of a chain's first rule.
    fn verdict(&self) -> Option<i32> {
        get_u32(self.data, 0).filter(|_| self.name.is_empty()).map(|verdict| verdict as i32)
    }
}

/// Writes the table's name to the beginning of a structure.
fn name_into(structure: &mut [u8]) {
    structure.iter_mut().zip(FILTER.bytes()).for_each(|(place, byte)| *place = byte);
}

/// Whoever else of us is about to change the table waits, until this value is dropped. A name among the namespace's
/// abstract sockets is had by one at a time. Nobody is waited for for long: anyone could hold it.
fn exclude_others() -> Option<UnixDatagram> {
    let address = SocketAddr::from_abstract_name(b"cnikit iptables-legacy").ok()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixDatagram::bind_addr(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(PAUSE);
            }
            outcome => return outcome.ok(),
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);

/// `struct ipt_getinfo`: name, hooks that are there, where the rules of each begin, where their policies are, how many
/// entries there are, and how many bytes these have.
const INFO: usize = 84;
const NAME: usize = 32;
const INFO_HOOKS: usize = 36;
const INFO_UNDERFLOWS: usize = 56;
const INFO_SIZE: usize = 80;
/// `FORWARD` among the hooks.
const FORWARD: usize = 4 * libc::NF_INET_FORWARD as usize;
/// `struct ipt_get_entries`: name, size, and then entries, which begin where a number of 64 bits may.
const ENTRIES: usize = 36;
const IPT_SO_GET_INFO: i32 = 64;
const IPT_SO_GET_ENTRIES: i32 = 65;
/// How often a table may change while it is being read.
const CHANGES: usize = 8;
/// No extension is shorter, and so no entry is (`struct xt_entry_target`).
const SHORTEST: usize = 32;
/// The target of an entry that is no rule but a chain's name.
const ERROR: &str = "ERROR";
/// `-NF_ACCEPT - 1`, and `XT_RETURN`, which a user's chain ends with.
const ACCEPT: i32 = -2;
const RETURN: i32 = -5;

/// Reads bytes as if they were a table's.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::linux) fn read_as_table(bytes: &[u8]) {
    for version in [IpVersion::V4, IpVersion::V6] {
        let (layout, entries) = (Layout::of(version), bytes.to_vec());
        let table = Table { layout, forward: (0, bytes.len()), entries };
        assert!(table.entries().len() <= bytes.len() / SHORTEST);
        if let Ok(admin_chain) = crate::name::ChainName::new("CNI-ADMIN") {
            let _ = (table.is_blank(), table.missing(&ForwardJump { version, admin_chain }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An entry of IPv4 with a target.
    fn entry(name: &str, data: &[u8]) -> Vec<u8> {
        let layout = Layout::of(IpVersion::V4);
        let mut target = vec![0; 32];
        target.extend(data);
        target.resize(target.len().next_multiple_of(8), 0);
        let length = target.len() as u16;
        target[..2].copy_from_slice(&length.to_ne_bytes());
        target[2..2 + name.len()].copy_from_slice(name.as_bytes());
        let mut entry = vec![0; layout.head];
        let ends = [layout.head as u16, layout.head as u16 + length];
        for (end, at) in ends.into_iter().zip([layout.target, layout.target + 2]) {
            entry[at..at + 2].copy_from_slice(&end.to_ne_bytes());
        }
        entry.extend(target);
        entry
    }

    fn table(entries: &[Vec<u8>]) -> Table {
        Table { layout: Layout::of(IpVersion::V4), forward: (0, 0), entries: entries.concat() }
    }

    #[test]
    fn a_table_that_lets_everything_pass_is_blank() {
        let [accept, drop] = [ACCEPT, -1].map(|verdict| entry("", &verdict.to_ne_bytes()));
        let end = entry(ERROR, b"ERROR");
        assert!(table(&[accept.clone(), accept.clone(), end.clone()]).is_blank());
        assert!(!table(&[accept, drop, end]).is_blank());
    }

    #[test]
    fn a_chain_is_from_its_head_to_the_next() {
        let [accept, end] = [ACCEPT, RETURN].map(|verdict| entry("", &verdict.to_ne_bytes()));
        let (a, b) = (entry(ERROR, b"A"), entry(ERROR, b"B"));
        let table = table(&[accept.clone(), a, accept, end.clone(), b, end, entry(ERROR, b"ERROR")]);
        let entries = table.entries();
        let length = |name| chain(&entries, name).map(|rules| rules.len());
        assert_eq!([length("A"), length("B"), length("C")], [Some(2), Some(1), None]);
    }

    proptest! {
        #[test]
        fn a_damaged_table_can_be_read(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let verdict = |verdict: i32| entry("", &verdict.to_ne_bytes());
            let mut bytes = [verdict(ACCEPT), entry(ERROR, b"A"), verdict(RETURN)].concat();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            read_as_table(&bytes);
        }
    }
}
