//! The settings that an administrator allows: a pattern in each line of a file.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cni_spec::Error;

use super::pattern::Pattern;

/// The longest list that is read.
const LONGEST: u64 = 1024 * 1024;

/// Refuses settings that no pattern is found in. Without a file everything is allowed; with an empty one, nothing.
pub(super) fn check<'a>(path: &Path, keys: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
    let mut keys = keys.into_iter().peekable();
    if keys.peek().is_none() {
        return Ok(());
    }
    let failed = |why: String| Error::io(format!("{}: {why}", path.display()));
    let Some(list) = read(path).map_err(|error| failed(error.to_string()))? else { return Ok(()) };
    let lines = || list.lines().map(str::trim).filter(|line| !line.is_empty());
    for key in keys {
        let mut found = false;
        for line in lines() {
            let pattern = Pattern::new(line).map_err(|why| failed(format!("pattern {line:?}: {why}")))?;
            found |= pattern.is_found_in(key);
            if found {
                break;
            }
        }
        if !found {
            return Err(Error::config(format!(
                "sysctl {key:?} is not among those that {} allows",
                path.display()
            )));
        }
    }
    Ok(())
}

/// The file's text; `None` if there is none. What is no file, as a FIFO, is not waited for.
fn read(path: &Path) -> io::Result<Option<String>> {
    let file: File =
        match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no file"));
    }
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "it is longer than 1 MiB"));
    }
    Ok(Some(text))
}
