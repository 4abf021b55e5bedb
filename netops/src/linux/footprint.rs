//! What a process that has come to rest does not need of the machine's memory.

use std::ops::Range;

use super::sys;

/// Gives back to the kernel what this process does not need: free pages of the heap (`malloc_trim(3)`), and the pages of the
/// program that the kernel has mapped along with others, or that only its start needed. Whatever of the program is needed again is
/// mapped again when it is touched, from the page cache, some hundred microseconds in all.
///
/// For a process that works hard for a moment, and then waits for long.
pub fn shrink_footprint() {
    sys::trim_heap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    if let Some(program) = program.to_str() {
        maps.lines().filter_map(|line| constant_pages(line, program)).for_each(sys::forget_pages);
    }
}

/// The addresses of a mapping (a line of `/proc/PID/maps`), if it is of a program's code or constants. What else may not be written
/// to has been: relocations.
fn constant_pages(line: &str, program: &str) -> Option<Range<usize>> {
    let (fields, path) = line.split_once('/')?;
    let mut fields = fields.split_ascii_whitespace();
    let (addresses, access, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let is_constant = access == "r-xp" || access == "r--p" && offset.bytes().all(|digit| digit == b'0');
    let (begin, end) = addresses.split_once('-')?;
    let range = usize::from_str_radix(begin, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
    (is_constant && Some(path) == program.strip_prefix('/')).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_written_to_is_let_go() {
        let of = |line| constant_pages(line, "/opt/a b/agent");
        assert_eq!(
            of("00200000-00504000 r--p 00000000 fe:00 77  /opt/a b/agent"),
            Some(0x20_0000..0x50_4000)
        );
        assert_eq!(
            of("00505000-00eea000 r-xp 00304000 fe:00 77  /opt/a b/agent"),
            Some(0x50_5000..0xee_a000)
        );
        for other in [
            "00eea000-00eee000 r--p 00ce8000 fe:00 77  /opt/a b/agent",
            "00eef000-00ef2000 rw-p 00cec000 fe:00 77  /opt/a b/agent",
            "00505000-00eea000 r-xp 00304000 fe:00 78  /lib/other",
            "18d6d000-18e01000 rw-p 00000000 00:00 0   [heap]",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_process_goes_on_after_it() {
        let text: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
        shrink_footprint();
        assert!(text.iter().enumerate().all(|(number, text)| *text == number.to_string()));
    }
}
