//! The daemon: one thread that waits for plugins, servers, time and signals.

mod serve;
mod settings;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, process};

use cni_spec::{Error, ErrorCode};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::time::{ClockId, clock_gettime};
use plugin_kit::files::{self, Durability};
use plugin_kit::ipam::dhcp::protocol::{self, Call};

use crate::attachment::{Attachment, Behaviour, Progress};
use crate::connection::Connection;
use crate::key::Key;
use crate::listen;
use crate::store::Store;
use crate::time::Time;
use crate::v4;
use crate::wishes::Family;
use settings::failed;
pub use settings::{DEFAULT_STATE_DIR, DaemonError, Settings};

/// A daemon that keeps leases.
pub struct Daemon {
    settings: Settings,
    store: Store,
    listener: UnixListener,
    signals: SignalFd,
    random: File,
    attachments: BTreeMap<Key, Attachment>,
    connections: BTreeMap<u64, Connection>,
    connected: u64,
}

/// What something that was waited for is.
enum Source {
    Signal,
    Listener,
    Connection(u64),
    Server(Key, Family),
}

/// More plugins at once than a node starts pods. Others wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 512;

impl Daemon {
    /// Takes over what an earlier process has left, and listens.
    ///
    /// # Errors
    /// When it cannot, or another one does.
    pub fn start(settings: Settings) -> Result<Self, DaemonError> {
        let socket = prefixed(&settings.host_prefix, &settings.socket);
        let at = |what: &str, path: &Path| format!("{what} {}", path.display());
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        let signals = mask
            .thread_block()
            .and_then(|()| SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK))
            .map_err(|errno| failed("wait for signals", errno.into()))?;
        // A socket for each exchange and each plugin: as many as may be.
        if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
        }
        let random = File::open("/dev/urandom").map_err(|e| failed("open /dev/urandom", e))?;
        let store = Store::open(&settings.state_dir)
            .map_err(|e| failed(&at("use the leases in", &settings.state_dir), e))?;
        let listener = listen::listen(&socket).map_err(|e| failed(&at("listen at", &socket), e))?;
        let notes = protocol::notes(&socket);
        files::make_directory(&notes, 0o700).map_err(|e| failed(&at("make", &notes), e))?;
        if let Some(path) = &settings.pid_file {
            let written = match path.is_absolute() {
                true => files::replace(path, process::id().to_string().as_bytes(), 0o644, Durability::Memory),
                false => Err(io::Error::other("it must be an absolute path")),
            };
            written.map_err(|e| failed(&at("write", path), e))?;
        }
        let mut daemon = Self {
            settings,
            store,
            listener,
            signals,
            random,
            attachments: BTreeMap::new(),
            connections: BTreeMap::new(),
            connected: 0,
        };
        daemon.adopt()?;
        daemon.read_notes(&notes);
        listen::notify_ready();
        Ok(daemon)
    }

    /// Serves until a signal ends it (`SIGTERM`, `SIGINT`). Leases are kept.
    ///
    /// # Errors
    /// When it cannot go on.
    pub fn run(mut self) -> Result<(), DaemonError> {
        loop {
            let ready = self.wait().map_err(|e| failed("wait", e))?;
            for source in ready {
                match source {
                    Source::Signal => return self.stop(),
                    Source::Listener => self.accept(),
                    Source::Connection(id) => self.serve(id),
                    Source::Server(key, family) => self.listen_to_server(&key, family),
                }
            }
            self.let_time_pass();
        }
    }

    fn stop(self) -> Result<(), DaemonError> {
        let socket = prefixed(&self.settings.host_prefix, &self.settings.socket);
        for path in [Some(&socket), self.settings.pid_file.as_ref()].into_iter().flatten() {
            // What stays is replaced by the next one.
            let _ = fs::remove_file(path);
        }
        log(format_args!("stopped; {} attachments keep their leases", self.attachments.len()));
        Ok(())
    }

    //-------------------------------------------------------------------------------------------------------- starting

    /// Goes on with the leases of an earlier process.
    fn adopt(&mut self) -> Result<(), DaemonError> {
        let found = self.store.load().map_err(|e| failed("read the leases", e))?;
        found.complaints.iter().for_each(log);
        if found.outlived > 0 {
            log(format_args!("{} attachments ended with the machine's last boot", found.outlived));
        }
        let now = now();
        for record in found.records {
            let key = record.key.clone();
            let behaviour = self.behaviour();
            let adopted = Attachment::adopt(record, behaviour, now, &mut random(&self.random));
            match adopted {
                Ok(Some(attachment)) => {
                    log(format_args!("{key}: adopted"));
                    self.attachments.insert(key.clone(), attachment);
                    self.settle(&key);
                }
                Ok(None) => {
                    log(format_args!("{key}: the interface is gone; its leases will expire"));
                    self.forget(&key);
                }
                // Nothing is known to be over: the record stays for the next start.
                Err(error) => log(format_args!("{key}: {error}")),
            }
        }
        Ok(())
    }

    /// Does what plugins could not tell anybody while no daemon ran.
    fn read_notes(&mut self, directory: &Path) {
        let Ok(entries) = fs::read_dir(directory) else { return };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let unfinished = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if unfinished {
                continue;
            }
            let note = files::read(&path, protocol::MAX_BYTES as u64).ok();
            let call = note.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let Some(Call::Del(subject)) = call
                && let Err(error) = self.del(&subject)
            {
                log(format_args!("{}: {error}", path.display()));
            }
            let _ = fs::remove_file(&path);
        }
    }

    //--------------------------------------------------------------------------------------------------------- waiting

    /// Waits for something to happen, or for something to be due.
    fn wait(&self) -> io::Result<Vec<Source>> {
        let mut sources = vec![Source::Signal];
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if self.connections.len() < MAX_CONNECTIONS {
            sources.push(Source::Listener);
            polled.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        }
        for (id, connection) in &self.connections {
            let flags = if connection.wants_to_write() { PollFlags::POLLOUT } else { PollFlags::POLLIN };
            sources.push(Source::Connection(*id));
            polled.push(PollFd::new(connection.as_fd(), flags));
        }
        for (key, attachment) in &self.attachments {
            for (family, socket) in attachment.sockets() {
                sources.push(Source::Server(key.clone(), family));
                polled.push(PollFd::new(socket, PollFlags::POLLIN));
            }
        }
        let due = self.attachments.values().map(Attachment::next_timeout);
        let due = due.chain(self.connections.values().map(Connection::deadline)).min();
        // Rounded up, so as not to come too early again and again. `poll` does not count a machine's sleep, leases do.
        let wait = due.unwrap_or(Time::NEVER).since(now()).as_millis() + 1;
        let wait = u16::try_from(wait).unwrap_or(u16::MAX);
        match poll(&mut polled, PollTimeout::from(wait)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = polled.iter().map(|fd| fd.any().unwrap_or(false));
        Ok(sources.into_iter().zip(ready).filter_map(|(source, ready)| ready.then_some(source)).collect())
    }

    fn let_time_pass(&mut self) {
        let now = now();
        let late: Vec<_> =
            self.connections.iter().filter(|(_, c)| c.deadline() <= now).map(|(id, _)| *id).collect();
        for id in late {
            self.lose_patience(id);
        }
        let due: Vec<_> = self
            .attachments
            .iter()
            .filter(|(_, attachment)| attachment.next_timeout() <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            let Some(attachment) = self.attachments.get_mut(&key) else { continue };
            let progress = attachment.on_time(now, &mut random(&self.random));
            self.follow(&key, progress);
        }
    }

    fn listen_to_server(&mut self, key: &Key, family: Family) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let progress = attachment.on_readable(family, now(), &mut random(&self.random));
        self.follow(key, progress);
    }

    //-------------------------------------------------------------------------------------------------------- following

    /// Draws the consequences of what happened to an attachment.
    fn follow(&mut self, key: &Key, progress: Progress) {
        progress.news.iter().for_each(|news| log(format_args!("{key}: {news}")));
        let waiting = self.connections.iter().find(|(_, c)| c.waits_for() == Some(key)).map(|(id, _)| *id);
        match waiting {
            Some(id) if progress.gone => {
                let error = Error::new(ErrorCode::INVALID_NETNS, "the container's interface is gone");
                self.refuse(id, key, &error);
            }
            Some(id) if progress.changed => self.try_complete(id, key),
            Some(_) => {}
            None if progress.gone => {
                log(format_args!("{key}: the interface is gone; its leases will expire"));
                self.forget(key);
            }
            None if progress.changed => self.settle(key),
            None => {}
        }
    }

    /// Writes down what an attachment has and makes its interface so, in an order that a crash can interrupt.
    fn settle(&mut self, key: &Key) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let written = self.store.put(&attachment.record());
        let news = attachment.configure();
        let again = if news.is_empty() { Ok(()) } else { self.store.put(&attachment.record()) };
        news.iter().for_each(|news| log(format_args!("{key}: {news}")));
        if let Err(error) = written.and(again) {
            log(format_args!("{key}: the leases cannot be written down: {error}"));
        }
    }

    /// Answers an `ADD`, if everything that it asked for is there.
    fn try_complete(&mut self, id: u64, key: &Key) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        if !attachment.is_complete() {
            return;
        }
        attachment.hand_over();
        let result = attachment.result();
        match self.store.put(&attachment.record()) {
            Ok(()) => self.answer(id, Ok(Some(result)), Some(key.clone())),
            Err(error) => {
                self.refuse(id, key, &Error::io(format!("write the lease down: {error}")));
            }
        }
    }

    /// Fails an `ADD`, and gives back what it has got.
    fn refuse(&mut self, id: u64, key: &Key, error: &Error) {
        self.end(key);
        self.answer(id, Err(error.clone()), None);
    }

    /// Ends an attachment: nothing of it is left.
    fn end(&mut self, key: &Key) {
        if let Some(attachment) = self.attachments.remove(key) {
            let news = attachment.end(&mut random(&self.random));
            news.iter().for_each(|news| log(format_args!("{key}: {news}")));
            self.forget(key);
        }
    }

    fn forget(&mut self, key: &Key) {
        self.attachments.remove(key);
        if let Err(error) = self.store.remove(key) {
            log(format_args!("{key}: remove the record: {error}"));
        }
    }

    fn behaviour(&self) -> Behaviour {
        let Settings { broadcast, resend_max, timeout, .. } = self.settings;
        Behaviour { v4: v4::Settings { broadcast, resend_max }, timeout }
    }
}

/// A path below another root. Prefixes are texts, to the reference and to its users.
fn prefixed(prefix: &Path, path: &Path) -> PathBuf {
    let mut whole = prefix.as_os_str().to_owned();
    whole.push(path);
    whole.into()
}

fn now() -> Time {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    Time::since_boot(time.unwrap_or_default())
}

/// The kernel's random numbers.
fn random(mut file: &File) -> impl FnMut() -> u32 + use<'_> {
    move || {
        let mut bytes = [0; 4];
        // It never fails once it is open.
        let _ = file.read_exact(&mut bytes);
        u32::from_ne_bytes(bytes)
    }
}

fn log(text: impl fmt::Display) {
    eprintln!("{text}");
}
