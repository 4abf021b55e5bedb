//! `resolv.conf(5)`, as far as a CNI result can say it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use cni_spec::{Dns, Error};

/// More than any resolver reads; a path in a configuration may lead anywhere.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads name servers, domain, search list and options from a file.
pub(crate) fn read(path: &Path) -> Result<Dns, Error> {
    let failed = |e: io::Error| Error::io(format!("read ipam.resolvConf {}: {e}", path.display()));
    let text = read_file(path).map_err(failed)?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

/// The content of a file that is one: what else a path may lead to, as a pipe, may be waited for for ever.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut words = line.split_whitespace();
        let keyword = words.next();
        let words = words.map(str::to_owned);
        match keyword {
            Some("nameserver") => dns.nameservers.extend(words.take(1)),
            Some("domain") => dns.domain = words.take(1).next(),
            Some("search") => dns.search.extend(words),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_refused_instead_of_waited_for() {
        for path in ["/dev/zero", "/", "/proc/self/fd/.."] {
            assert!(read(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn every_line_that_a_result_has_room_for_is_read() {
        let dns = parse(
            "# c\nnameserver 10.0.0.10\nnameserver fd00::10 x\n;nameserver 1.1.1.1\ndomain a.b\nsearch x y\noptions ndots:5 rotate\nsortlist 1\n",
        );
        assert_eq!(dns.nameservers, ["10.0.0.10", "fd00::10"]);
        assert_eq!(dns.domain.as_deref(), Some("a.b"));
        assert_eq!(
            (dns.search, dns.options),
            (vec!["x".to_owned(), "y".to_owned()], vec!["ndots:5".to_owned(), "rotate".to_owned()])
        );
    }
}
