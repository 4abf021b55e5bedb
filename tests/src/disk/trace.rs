//! Lines of `strace -f -y`, as system calls with arguments.

use std::collections::HashMap;
use std::path::PathBuf;

/// What must be asked of `strace(1)`: threads and children, the path of each descriptor, whole contents.
pub(super) const STRACE: [&str; 9] =
    ["strace", "-f", "-qq", "-y", "-s", "1048576", "-e", "trace=%file,%desc,sendto", "-o"];

/// A system call that succeeded.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) thread: String,
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    pub(super) result: usize,
}

/// The system calls that succeeded, in the order in which they ended.
pub(super) fn successes(trace: &str) -> Vec<Done> {
    let mut begun = HashMap::new();
    let mut done = Vec::new();
    for line in trace.lines() {
        let Some((thread, what)) = line.split_once(' ') else { continue };
        let what = what.trim_start();
        if let Some(beginning) = what.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, beginning.to_owned());
        } else if let Some(end) = what.strip_prefix("<... ") {
            let Some((_, end)) = end.split_once(" resumed>") else { continue };
            let Some(beginning) = begun.remove(thread) else { continue };
            done.extend(success(thread, &format!("{beginning}{end}")));
        } else {
            done.extend(success(thread, what));
        }
    }
    done
}

fn success(thread: &str, call: &str) -> Option<Done> {
    let (name, rest) = call.split_once('(')?;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return None;
    }
    let (arguments, rest) = arguments(rest)?;
    let result = rest.trim_start().strip_prefix('=')?.trim_start();
    let digits = result.find(|next: char| !next.is_ascii_digit()).unwrap_or(result.len());
    // An error is -1.
    let result = result.get(..digits)?.parse().ok()?;
    Some(Done { thread: thread.to_owned(), name: name.to_owned(), arguments, result })
}

/// The arguments up to the closing parenthesis, and what follows it.
fn arguments(text: &str) -> Option<(Vec<String>, &str)> {
    let mut found = vec![String::new()];
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, next) in text.char_indices() {
        if !quoted && depth == 0 && next == ')' {
            let found = found.into_iter().map(|argument| argument.trim().to_owned()).collect();
            return Some((found, &text[at + 1..]));
        }
        if !quoted && depth == 0 && next == ',' {
            found.push(String::new());
            continue;
        }
        match next {
            '"' if !escaped => quoted = !quoted,
            '{' | '[' | '<' | '(' if !quoted => depth += 1,
            '}' | ']' | '>' | ')' if !quoted => depth -= 1,
            _ => {}
        }
        escaped = quoted && next == '\\' && !escaped;
        found.last_mut()?.push(next);
    }
    None
}

impl Done {
    fn argument(&self, at: usize) -> &str {
        self.arguments.get(at).map_or("", String::as_str)
    }

    pub(super) fn says(&self, at: usize, flag: &str) -> bool {
        self.argument(at).split('|').any(|said| said == flag)
    }

    pub(super) fn number(&self, at: usize) -> usize {
        self.argument(at).parse().unwrap_or_else(|_| panic!("no number: {self:?}"))
    }

    /// The file behind a descriptor.
    pub(super) fn descriptor(&self, at: usize) -> PathBuf {
        let text = self.argument(at);
        let path = text.split_once('<').and_then(|(_, path)| path.rsplit_once('>'));
        path.map_or_else(PathBuf::new, |(path, _)| path.into())
    }

    /// A string.
    pub(super) fn bytes(&self, at: usize) -> Vec<u8> {
        let text = self.argument(at);
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        unescaped(inner.unwrap_or_else(|| panic!("no whole string: {self:?}")).as_bytes())
    }

    /// A path.
    pub(super) fn path(&self, at: usize) -> PathBuf {
        String::from_utf8(self.bytes(at)).unwrap().into()
    }

    /// Whether it sends a JSON object to somebody.
    pub(super) fn says_something(&self) -> bool {
        matches!(self.name.as_str(), "write" | "sendto")
            && self.argument(0).contains("<socket:")
            && self.argument(1).starts_with(r#""{\""#)
    }

    /// A path that a descriptor stands before.
    pub(super) fn path_at(&self, at: usize) -> PathBuf {
        self.descriptor(at).join(self.path(at + 1))
    }
}

/// A string as C has it, with octal numbers.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, more @ ..] = rest {
        rest = more;
        let ([escape, more @ ..], b'\\') = (more, *first) else {
            bytes.push(*first);
            continue;
        };
        rest = more;
        bytes.push(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            b'f' => 0x0c,
            b'0'..=b'7' => {
                let mut value = u32::from(escape - b'0');
                for _ in 0..2 {
                    let [digit @ b'0'..=b'7', more @ ..] = rest else { break };
                    value = value * 8 + u32::from(digit - b'0');
                    rest = more;
                }
                u8::try_from(value).unwrap()
            }
            other => *other,
        });
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_another_thread_interrupts_is_one_call() {
        let trace = "7 write(3</a/b>, \"x,\\\")\\r\\0011\", 7 <unfinished ...>\n8 fsync(4</a>) = 0\n\
                     7 <... write resumed>) = 7\n7 mkdir(\"/a\", 0755) = -1 EEXIST (File exists)\n";
        let done = successes(trace);
        let names: Vec<_> = done.iter().map(|done| done.name.as_str()).collect();
        assert_eq!(names, ["fsync", "write"]);
        assert_eq!(done[1].bytes(1), b"x,\")\r\x011");
        assert_eq!(done[1].descriptor(0), PathBuf::from("/a/b"));
        assert_eq!(done[1].number(2), 7);
    }
}
