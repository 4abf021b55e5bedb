//! What a linker says of where it has put what.

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

    /// A linker script that puts the sections of some functions together, in the order of these.
    pub(crate) fn script(&self, functions: &[u64]) -> String {
        let mut script = String::from(HEAD);
        let mut named = BTreeSet::new();
        for function in functions {
            let section = self.sections.range(..=function).next_back();
            let Some((_, section)) = section.filter(|(_, section)| *function < section.end) else { continue };
            if let Some(pattern) = section.pattern().filter(|pattern| !named.contains(pattern)) {
                let _ = writeln!(script, "    {pattern}");
                named.insert(pattern);
            }
        }
        script.push_str(TAIL);
        script
    }
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
    /// is not from a library, unless it is where a program begins: it has its place.
    fn pattern(&self) -> Option<String> {
        const BEGIN: &str = "crt1.o";
        if self.file.contains(".rcgu.o") || self.file.contains(".rlib(") {
            return Some(format!("*({})", without_hashes(&self.name)));
        }
        if self.file.ends_with(&format!("/{BEGIN}")) {
            return Some(format!("*{BEGIN}({})", self.name));
        }
        let (library, member) = self.file.strip_suffix(')')?.rsplit_once('(')?;
        let library = library.rsplit('/').next()?;
        Some(format!("*{library}:{member}({})", self.name))
    }
}

/// Without what another compiler, or another place of the sources, makes different: of each crate `Cs…_`, its hash; of each
/// `B…_`, which stands for a part of the name, where that part is. (Rust's names of version 0, of which types are a part: those that
/// it had before call all kinds of a generic function by one name, half of which nobody executes.)
fn without_hashes(name: &str) -> String {
    let mut short = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find(['B', 'C']) {
        let (before, tag) = rest.split_at(at);
        let head = if tag.starts_with("Cs") { 2 } else { 1 };
        let digits = tag[head..].bytes().take_while(u8::is_ascii_alphanumeric).count();
        let ends = tag[head + digits..].starts_with('_');
        short.push_str(before);
        short.push_str(&tag[..head]);
        rest = &tag[head..];
        // Of a name that merely has such a letter in it, a part is left open as well: it matches itself.
        if ends && (head == 2 || tag.starts_with('B')) {
            short.push('*');
            rest = &rest[digits..];
        }
    }
    short.push_str(rest);
    if let Some(at) = instantiating_crate(&short) {
        short.replace_range(at.., "*");
    }
    short
}

/// Where a name tells, at its end, for which crate a generic function was made: of several that are the same, any may stay.
fn instantiating_crate(name: &str) -> Option<usize> {
    const CRATE: &str = "Cs*_";
    let at = name.rfind(CRATE)?;
    let rest = &name[at + CRATE.len()..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let length: usize = rest[..digits].parse().ok()?;
    (rest.len() == digits + length).then_some(at)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_outlives_hashes_and_places() {
        let name = ".text._RINvNtCs3qVZfxBSLn4_4core3ptr9drop_glueNtNtCs1aQx_6netops4name8LinkNameEBY_";
        let other = ".text._RINvNtCsgOv9hWBl0Yd_4core3ptr9drop_glueNtNtCsfQ3_6netops4name8LinkNameEB10_";
        let pattern = ".text._RINvNtCs*_4core3ptr9drop_glueNtNtCs*_6netops4name8LinkNameEB*_";
        assert_eq!(without_hashes(name), pattern);
        assert_eq!(without_hashes(other), pattern);
        let made_for = ".text._RINvNtCs3qVZfxBSLn4_4core3ptr13drop_in_placeNtB2_3FooECs9_13plugin_bridge";
        assert_eq!(without_hashes(made_for), ".text._RINvNtCs*_4core3ptr13drop_in_placeNtB*_3FooE*");
        assert_eq!(without_hashes(".text.unlikely.memcpy"), ".text.unlikely.memcpy");
        assert_eq!(
            without_hashes(".text._RNvCs1_7___rustc12___rust_alloc"),
            ".text._RNvCs*_7___rustc12___rust_alloc"
        );
    }

    #[test]
    fn sections_stand_in_the_order_of_their_functions() {
        let file = "/deps/plugins.rcgu.o:(.text.";
        let lines: String = ["one", "two", "none", "three"]
            .iter()
            .enumerate()
            .map(|(n, name)| format!("{:x} {:x} 10 16 {file}{name})\n", n * 16, n * 16))
            .collect();
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("map");
        std::fs::write(&path, lines).expect("a map");
        let script = Map::read(&path).script(&[52, 16, 8, 48, 0, 64]);
        let order: Vec<_> = script.lines().filter_map(|line| line.trim().strip_prefix("*(.text.")).collect();
        assert_eq!(order, ["three)", "two)", "one)"]);
    }
}
