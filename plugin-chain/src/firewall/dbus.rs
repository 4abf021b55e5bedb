//! As much of D-Bus as it takes to call a few methods and to hear what came of it (D-Bus specification 0.41): all calls
//! are written at once, behind the greeting, and then the answers are read.
//!
//! Reading never panics, whatever the bytes: an answer that makes no sense is `InvalidData`.

use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A method of an object, and its arguments, which are all text.
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) arguments: &'a [&'a str],
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was done; the first number of what came of it, which is the answer to a question for yes or no.
    Done(Option<u32>),
    /// It was not: the error's name, and its text.
    Failed { name: String, text: String },
}

/// How long a bus is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// No answer here is longer by far.
const LONGEST: usize = 64 * 1024;
/// A bus says a name or two unasked.
const MOST_OTHERS: usize = 100;

/// Calls methods, in order, and waits for all answers. Nobody is started to answer.
pub(super) fn call(bus: &Path, calls: &[Call<'_>]) -> io::Result<Vec<Answer>> {
    let mut stream = UnixStream::connect(bus)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let hello = Call {
        destination: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member: "Hello",
        arguments: &[],
    };
    let mut request = greeting()?;
    for (serial, call) in [&hello].into_iter().chain(calls).enumerate() {
        request.extend(message(serial as u32 + 1, call));
    }
    stream.write_all(&request)?;

    hear(&mut io::BufReader::new(stream), calls.len())
}

/// What the bus says: that we are welcome, and then an answer to the greeting and to each call, in any order.
fn hear(stream: &mut impl BufRead, calls: usize) -> io::Result<Vec<Answer>> {
    expect_ok(stream)?;
    let mut answers: Vec<Option<Answer>> = vec![None; calls + 1];
    let mut others = 0;
    while answers.iter().any(Option::is_none) {
        let (serial, answer) = receive(stream)?;
        let place = serial.and_then(|serial| answers.get_mut((serial as usize).checked_sub(1)?));
        match (place, answer) {
            (Some(place @ None), Some(answer)) => *place = Some(answer),
            _ if others < MOST_OTHERS => others += 1,
            // Each message that comes in time would be waited for, without an end.
            _ => return Err(io::Error::new(io::ErrorKind::TimedOut, "the bus says other things only")),
        }
    }
    let mut answers = answers.into_iter().flatten();
    match answers.next() {
        Some(Answer::Done(_)) => Ok(answers.collect()),
        refused => Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{refused:?}"))),
    }
}

/// Who we are, which the socket itself proves (`EXTERNAL`): the user's number, digit by digit in hexadecimal.
fn greeting() -> io::Result<Vec<u8>> {
    let user = std::fs::metadata("/proc/self")?.uid().to_string();
    let digits: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("\0AUTH EXTERNAL {digits}\r\nBEGIN\r\n").into_bytes())
}

fn expect_ok(stream: &mut impl BufRead) -> io::Result<()> {
    let mut line = Vec::new();
    stream.take(1024).read_until(b'\n', &mut line)?;
    if line.starts_with(b"OK ") {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, String::from_utf8_lossy(&line).trim().to_owned()))
}

const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
/// `NO_AUTO_START`.
const FLAGS: u8 = 2;
/// What a header's fields are.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// A call as bytes, little-endian.
fn message(serial: u32, call: &Call<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    call.arguments.iter().for_each(|argument| text(&mut body, argument));
    let mut fields = Vec::new();
    for (field, kind, value) in [
        (PATH, b'o', call.path),
        (INTERFACE, b's', call.interface),
        (MEMBER, b's', call.member),
        (DESTINATION, b's', call.destination),
    ] {
        pad(&mut fields, 8);
        fields.extend([field, 1, kind, 0]);
        text(&mut fields, value);
    }
    if !call.arguments.is_empty() {
        pad(&mut fields, 8);
        fields.extend([SIGNATURE, 1, b'g', 0, call.arguments.len() as u8]);
        fields.extend(call.arguments.iter().map(|_| b's'));
        fields.push(0);
    }
    let mut message = vec![b'l', 1, FLAGS, 1];
    for number in [body.len() as u32, serial, fields.len() as u32] {
        message.extend(number.to_le_bytes());
    }
    message.extend(fields);
    pad(&mut message, 8);
    message.extend(body);
    message
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    pad(bytes, 4);
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.bytes());
    bytes.push(0);
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

/// The next message: which call it answers, if it does, and how.
fn receive(stream: &mut impl Read) -> io::Result<(Option<u32>, Option<Answer>)> {
    let nonsense = || io::Error::new(io::ErrorKind::InvalidData, "a message of the bus makes no sense");
    let mut header = [0; 16];
    stream.read_exact(&mut header)?;
    let [order, kind, ..] = header;
    let big = order == b'B';
    let number = |at| Parts { bytes: &header, at, big }.number().unwrap_or_default() as usize;
    let (body, fields) = (number(4), number(12));
    if body > LONGEST || fields > LONGEST {
        return Err(nonsense());
    }
    let mut rest = vec![0; fields.next_multiple_of(8) + body];
    stream.read_exact(&mut rest)?;
    let (head, body) = rest.split_at(fields.next_multiple_of(8));
    let (mut serial, mut name) = (None, String::new());
    let mut parts = Parts { bytes: head.get(..fields).unwrap_or_default(), at: 0, big };
    while let Some((field, value)) = parts.field() {
        match (field, value) {
            (REPLY_SERIAL, Value::Number(number)) => serial = Some(number),
            (ERROR_NAME, Value::Text(text)) => name = text,
            _ => {}
        }
    }
    let answer = match kind {
        METHOD_RETURN => Some(Answer::Done(Parts { bytes: body, at: 0, big }.number())),
        ERROR => {
            let text = Parts { bytes: body, at: 0, big }.text().unwrap_or_default();
            Some(Answer::Failed { name, text })
        }
        // Signals, which the bus sends unasked.
        _ => None,
    };
    Ok((serial, answer))
}

/// Something that is read part by part.
struct Parts<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

enum Value {
    Number(u32),
    Text(String),
}

impl<'a> Parts<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.at = self.at.next_multiple_of(4);
        let bytes = self.take(4)?.try_into().ok()?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        self.short_text(length)
    }

    fn short_text(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Some(text)
    }

    /// A header's field: its number, and a variant.
    fn field(&mut self) -> Option<(u8, Value)> {
        self.at = self.at.next_multiple_of(8);
        let [field, 1, kind, 0] = *self.take(4)? else { return None };
        let value = match kind {
            b'u' => Value::Number(self.number()?),
            b's' | b'o' => Value::Text(self.text()?),
            b'g' => {
                let [length] = *self.take(1)? else { return None };
                Value::Text(self.short_text(usize::from(length))?)
            }
            _ => return None,
        };
        Some((field, value))
    }
}

/// Reads bytes as what a bus says, and as words that it is told. Not part of the API.
///
/// # Panics
/// If that goes wrong.
#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(not(feature = "fuzzing"), allow(unreachable_pub))] // exported with that feature only
pub fn read_as_bus(bytes: &[u8]) {
    for calls in 0..3 {
        if let Ok(answers) = hear(&mut &*bytes, calls) {
            assert_eq!(answers.len(), calls);
        }
    }
    let mut rest = bytes;
    while !rest.is_empty() && receive(&mut rest).is_ok() {}

    let words = String::from_utf8_lossy(bytes);
    let words: Vec<_> = words.split('\n').take(usize::from(u8::MAX)).collect();
    let path = words.first().copied().unwrap_or_default();
    let call = Call { destination: "a.b", path, interface: "a.b", member: "C", arguments: &words };
    let told = message(7, &call);
    let number = |at| Parts { bytes: &told, at, big: false }.number().unwrap_or_default() as usize;
    let (body, fields) = (number(4), number(12));
    let mut head = Parts { bytes: &told[16..16 + fields], at: 0, big: false };
    let is_path = |value| matches!(value, Some((PATH, Value::Text(text))) if text == path);
    assert!(is_path(head.field()), "{path:?} comes first, as it was");
    let mut arguments = Parts { bytes: &told[told.len() - body..], at: 0, big: false };
    for word in words {
        assert_eq!(arguments.text().as_deref(), Some(word));
    }
    assert_eq!(arguments.at, body, "and no more than that");
    if body <= LONGEST && fields <= LONGEST {
        let mut rest = told.as_slice();
        // A call is no answer.
        assert!(matches!(receive(&mut rest), Ok((None, None))));
        assert!(rest.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A bus that says something, whatever it is asked.
    fn heard(said: &[u8]) -> io::Result<Vec<Answer>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bus");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.write_all(said);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            });
            let calls =
                [Call { destination: "a.b", path: "/c", interface: "a.b", member: "D", arguments: &["e"] }];
            call(&path, &calls)
        })
    }

    fn reply(kind: u8, to: u32, name: &str, said: &str) -> Vec<u8> {
        let mut fields = vec![REPLY_SERIAL, 1, b'u', 0];
        fields.extend(to.to_le_bytes());
        if !name.is_empty() {
            fields.extend([ERROR_NAME, 1, b's', 0]);
            text(&mut fields, name);
        }
        let mut body = Vec::new();
        text(&mut body, said);
        let mut message = vec![b'l', kind, 0, 1];
        for number in [body.len() as u32, 7, fields.len() as u32] {
            message.extend(number.to_le_bytes());
        }
        message.extend(fields);
        pad(&mut message, 8);
        message.extend(body);
        message
    }

    #[test]
    fn answers_are_heard_in_any_order_and_among_others() {
        let signal = reply(4, 2, "", "NameAcquired");
        let failed = reply(ERROR, 2, "a.b.Exception", "ZONE_ALREADY_SET: x");
        let said = [b"OK 0123\r\n".to_vec(), signal, failed, reply(METHOD_RETURN, 1, "", ":1.5")].concat();
        let name = "a.b.Exception".to_owned();
        assert_eq!(heard(&said).unwrap(), [Answer::Failed { name, text: "ZONE_ALREADY_SET: x".to_owned() }]);
    }

    #[test]
    fn a_yes_and_a_no_are_told_apart() {
        for said in [0, 1] {
            let mut answer = reply(METHOD_RETURN, 2, "", "");
            // The text's place is taken by a number.
            let body = answer.len() - 5;
            answer[body..body + 4].copy_from_slice(&u32::to_le_bytes(said));
            let said_so = [b"OK 0123\r\n".to_vec(), reply(METHOD_RETURN, 1, "", ":1.5"), answer].concat();
            assert_eq!(heard(&said_so).unwrap(), [Answer::Done(Some(said))]);
        }
    }

    #[test]
    fn who_is_turned_away_is_told_so() {
        let error = heard(b"REJECTED EXTERNAL\r\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(heard(b"OK 0123\r\n").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_bus_that_never_comes_to_the_answer_is_not_waited_for() {
        let signal = reply(4, 9, "", "PropertiesChanged");
        let said = [b"OK 0123\r\n".to_vec(), signal.repeat(MOST_OTHERS + 1)].concat();
        assert_eq!(heard(&said).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_can_be_heard(bytes in proptest::collection::vec(any::<u8>(), 0..200), number in 0..60_usize) {
            read_as_bus(&bytes);
            let mut damaged = reply(ERROR, 2, "a.b.Exception", "text");
            if let (Some(place), Some(byte)) = (damaged.get_mut(number), bytes.first()) {
                *place = *byte;
            }
            read_as_bus(&damaged);
        }
    }
}
