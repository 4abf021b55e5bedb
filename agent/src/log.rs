//! What the agent says on stderr: what changed, and why. It is silent when nothing does.
//!
//! A process has one log, so this is the one thing in the agent that is global. Before [`init`] it is text, from
//! [`Level::Info`] on.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much something matters.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema, ValueEnum,
)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something works worse than it could, or may stop working.
    Warning,
    /// Something has changed.
    #[default]
    Info,
    /// What the agent does about it, step by step.
    Debug,
}

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Format {
    /// `2026-11-25T22:00:00Z info    subnet 10.244.7.0/24 is held`
    #[default]
    Text,
    /// `<6>subnet 10.244.7.0/24 is held`: for systemd's journal, which knows the time and shows the priority.
    Journal,
    /// `{"time":"2026-11-25T22:00:00Z","level":"info","message":"subnet 10.244.7.0/24 is held"}`
    Json,
}

/// Says how to write from now on.
pub fn init(format: Format, level: Level) {
    let mut log = lock();
    log.format = format;
    log.level = level;
}

/// Something does not work.
pub fn error(message: impl fmt::Display) {
    say(Level::Error, &message);
}

/// Something works worse than it could, or may stop working.
pub fn warning(message: impl fmt::Display) {
    say(Level::Warning, &message);
}

/// Something has changed.
pub fn info(message: impl fmt::Display) {
    say(Level::Info, &message);
}

/// What the agent does, step by step. The closure is called only if somebody wants to know.
pub fn debug<T: fmt::Display>(message: impl FnOnce() -> T) {
    if lock().level >= Level::Debug {
        say(Level::Debug, &message());
    }
}

fn say(level: Level, message: &dyn fmt::Display) {
    let mut log = lock();
    if level > log.level {
        return;
    }
    let Some(line) = log.line(level, &message.to_string(), Instant::now(), SystemTime::now()) else { return };
    // If nobody reads it, there is nobody to tell.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

static LOG: Mutex<Log> = Mutex::new(Log::new());

fn lock() -> std::sync::MutexGuard<'static, Log> {
    LOG.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// How long the same complaint is not repeated.
const QUIET: Duration = Duration::from_secs(60);
/// How many different complaints are remembered for that.
const REMEMBERED: usize = 64;

struct Log {
    format: Format,
    level: Level,
    complaints: VecDeque<Complaint>,
}

/// An error or a warning that was said lately.
struct Complaint {
    message: String,
    said: Instant,
    since: u32,
}

impl Log {
    const fn new() -> Self {
        Self { format: Format::Text, level: Level::Info, complaints: VecDeque::new() }
    }

    /// The line to write, unless it was written a moment ago.
    fn line(&mut self, level: Level, message: &str, now: Instant, time: SystemTime) -> Option<String> {
        let repeated = if level <= Level::Warning { self.repeated(message, now)? } else { 0 };
        let again = match repeated {
            0 => String::new(),
            times => format!(" ({times} times more since it was said last)"),
        };
        let time = Timestamp(time);
        // A line is one line, whatever a peer has put into it.
        let one_line = || message.replace(|char: char| char.is_control(), " ");
        Some(match self.format {
            Format::Text => format!("{time} {:<7} {}{again}\n", level.word(), one_line()),
            Format::Journal => format!("<{}>{}{again}\n", level.priority(), one_line()),
            Format::Json => {
                let message = format!("{message}{again}");
                let line =
                    serde_json::json!({ "time": time.to_string(), "level": level, "message": message });
                format!("{line}\n")
            }
        })
    }

    /// How often a complaint was kept back since it was said last; `None` if it is to be kept back now.
    fn repeated(&mut self, message: &str, now: Instant) -> Option<u32> {
        if let Some(at) = self.complaints.iter().position(|complaint| complaint.message == message) {
            let complaint = self.complaints.get_mut(at)?;
            if now.saturating_duration_since(complaint.said) < QUIET {
                complaint.since = complaint.since.saturating_add(1);
                return None;
            }
            complaint.said = now;
            return Some(std::mem::take(&mut complaint.since));
        }
        if self.complaints.len() == REMEMBERED {
            self.complaints.pop_front();
        }
        self.complaints.push_back(Complaint { message: message.to_owned(), said: now, since: 0 });
        Some(0)
    }
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// syslog(3)'s number.
    fn priority(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warning => 4,
            Self::Info => 6,
            Self::Debug => 7,
        }
    }
}

/// RFC 3339, in UTC, to the second.
struct Timestamp(SystemTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Year, month and day of a number of days since 1970-01-01. Years are taken to begin in March, so that the leap day is a
/// year's last; 400 of them have 146097 days.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn times_are_those_of_date() {
        // `date -u -d @N +%FT%TZ`
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_644_000, "2026-11-25T22:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp(at(seconds)).to_string(), text);
        }
    }

    #[test]
    fn a_line_is_one_line() {
        let mut log = Log::new();
        let line = log.line(Level::Info, "a\nb", Instant::now(), at(0));
        assert_eq!(line.as_deref(), Some("1970-01-01T00:00:00Z info    a b\n"));
        log.format = Format::Json;
        let line = log.line(Level::Error, "a\n\"b\"", Instant::now(), at(0)).unwrap();
        assert_eq!(line.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], "a\n\"b\"");
        assert_eq!(value["level"], "error");
    }

    #[test]
    fn a_complaint_is_not_repeated_within_a_minute() {
        let mut log = Log::new();
        let start = Instant::now();
        let mut said = |message, seconds| {
            log.line(Level::Warning, message, start + Duration::from_secs(seconds), at(0)).is_some()
        };
        assert!(said("a", 0));
        assert!(!said("a", 1) && !said("a", 59));
        assert!(said("b", 59));
        assert!(said("a", 61));
        let line = log.line(Level::Warning, "b", start + Duration::from_secs(200), at(0)).unwrap();
        assert!(!line.contains("more"), "{line}");
        for _ in 0..3 {
            log.line(Level::Warning, "b", start + Duration::from_secs(201), at(0));
        }
        let line = log.line(Level::Warning, "b", start + Duration::from_secs(300), at(0)).unwrap();
        assert!(line.ends_with("b (3 times more since it was said last)\n"), "{line}");
    }
}
