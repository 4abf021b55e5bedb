//! What a linker says of where it has put what.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// The code in an executable: sections of object files, and the functions in them, by address.
#[derive(Debug, Default)]
pub(crate) struct Map {
    sections: BTreeMap<u64, Section>,
    functions: BTreeSet<u64>,
}

#[derive(Debug)]
struct Section {
    end: u64,
    file: String,
    name: String,
}

impl Map {
    /// Reads a map of `lld`'s: address, load address, size and alignment, then an output section, an input section as
    /// `FILE:(NAME)`, or a symbol.
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("the map");
        let mut map = Self::default();
        let mut end = 0;
        for line in text.lines() {
            let Some((start, size, what)) = fields(line) else { continue };
            match what.strip_suffix(')').and_then(|what| what.rsplit_once(":(")) {
                Some((file, name)) if name.starts_with(".text") => {
                    end = start + size;
                    let section = Section { end, file: file.to_owned(), name: name.to_owned() };
                    map.sections.insert(start, section);
                    map.functions.insert(start);
                }
                Some(_) => end = 0,
                None if start < end => drop(map.functions.insert(start)),
                None => {}
            }
        }
        assert!(!map.sections.is_empty(), "{}: not a map of lld's", path.display());
        map
    }

    /// Where functions begin.
    pub(crate) fn functions(&self) -> &BTreeSet<u64> {
        &self.functions
    }

    /// A linker script that puts the sections of some functions together, by how many plugins execute them: what all have in
    /// common comes first; of that, what is executed in its whole, before what has other kinds that are not.
    pub(crate) fn script(&self, functions: &BTreeMap<u64, u32>) -> String {
        let mut patterns: BTreeMap<String, Share> = BTreeMap::new();
        for (start, section) in &self.sections {
            let Some(pattern) = section.pattern() else { continue };
            let share = patterns.entry(pattern).or_default();
            share.kinds += 1;
            if let Some(plugins) = functions.range(start..&section.end).map(|(_, plugins)| *plugins).max() {
                share.plugins = share.plugins.max(plugins);
                share.executed += 1;
            }
        }
        let mut patterns: Vec<_> = patterns.into_iter().filter(|(_, share)| share.executed > 0).collect();
        patterns.sort_by_key(|(_, share)| (Reverse(share.plugins), share.kinds - share.executed));
        let mut script = String::from(HEAD);
        for (pattern, _) in patterns {
            let _ = writeln!(script, "    {pattern}");
        }
        script.push_str(TAIL);
        script
    }
}

/// What a pattern names.
#[derive(Debug, Default)]
struct Share {
    /// How many plugins execute one of its kinds, at the most.
    plugins: u32,
    /// Sections that it names.
    kinds: usize,
    /// Those that somebody executes.
    executed: usize,
}

fn fields(line: &str) -> Option<(u64, u64, &str)> {
    let mut rest = line;
    let mut next = || {
        let (field, after) = rest.trim_start().split_once(' ')?;
        rest = after;
        Some(field)
    };
    let (start, _, size, _) = (next()?, next()?, next()?, next()?);
    let number = |field| u64::from_str_radix(field, 16).ok();
    Some((number(start)?, number(size)?, rest.trim()))
}

impl Section {
    /// What names it in the next build as well, whatever has become of the hashes of compilers and crates. None of a file that
    /// is not from a library: it has its place.
    fn pattern(&self) -> Option<String> {
        if self.file.contains(".rcgu.o") || self.file.contains(".rlib(") {
            return Some(format!("*({})", without_hashes(&self.name)));
        }
        let (library, member) = self.file.strip_suffix(')')?.rsplit_once('(')?;
        let library = library.rsplit('/').next()?;
        Some(format!("*{library}:{member}({})", self.name))
    }
}

/// `…17h0123456789abcdefE`, and `Cs…_` before each crate's name.
fn without_hashes(name: &str) -> String {
    const LEGACY: &str = "17h";
    let is_hash = |rest: &str| rest.bytes().take(16).filter(u8::is_ascii_hexdigit).count() == 16;
    let legacy = name.match_indices(LEGACY).find(|(at, _)| is_hash(&name[at + LEGACY.len()..]));
    if let Some((at, _)) = legacy {
        return format!("{}{LEGACY}*", &name[..at]);
    }
    let mut parts = name.split("Cs");
    let mut short = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let after =
            part.split_once('_').filter(|(hash, _)| hash.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let _ = match after {
            Some((_, after)) => write!(short, "Cs*_{after}"),
            None => write!(short, "Cs{part}"),
        };
    }
    short
}

const HEAD: &str = "\
/* Made by `layout` (tests/src/bin/layout): what build.rs tells of. */
SECTIONS
{
  .text.hot :
  {
";

const TAIL: &str = "  }
}
INSERT BEFORE .text;
";
