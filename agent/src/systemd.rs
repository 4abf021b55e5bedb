//! What is said to the service manager: sd_notify(3) is a datagram.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, if one wants to know.
#[derive(Debug, Clone)]
pub struct ServiceManager {
    socket: SocketAddr,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Of `$NOTIFY_SOCKET`, and `$WATCHDOG_USEC`: how often it wants to hear that the agent is alive, in microseconds.
    ///
    /// # Errors
    /// If it is no address of a socket.
    pub fn new(socket: &OsStr, watchdog: Option<&str>) -> io::Result<Self> {
        let socket = match socket.as_encoded_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(socket),
        }?;
        let watchdog = watchdog.and_then(|text| text.parse().ok()).map(Duration::from_micros);
        Ok(Self { socket, watchdog })
    }

    /// How often to say [`alive`](Self::alive): half of what it waits for, as sd_watchdog_enabled(3) recommends.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|longest| longest / 2).filter(|interval| !interval.is_zero())
    }

    /// The agent serves now, and what `systemctl status` shows.
    pub(crate) fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={}\n", one_line(status)));
    }

    /// What `systemctl status` shows.
    pub(crate) fn status(&self, status: &str) {
        self.say(&format!("STATUS={}\n", one_line(status)));
    }

    /// It reads its files again; [`ready`](Self::ready) says when it has.
    pub(crate) fn reloading(&self) {
        // Type=notify-reload wants to know since when, on the clock that does not jump.
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from);
        let now = now.unwrap_or_default().as_micros();
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={now}\n"));
    }

    /// It ends, because somebody has asked for it.
    pub(crate) fn stopping(&self) {
        self.say("STOPPING=1\n");
    }

    /// It has not got stuck.
    pub(crate) fn alive(&self) {
        self.say("WATCHDOG=1\n");
    }

    fn say(&self, message: &str) {
        // Who does not hear it waits, and says so.
        let _ =
            UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(message.as_bytes(), &self.socket));
    }
}

fn one_line(text: &str) -> String {
    text.replace(|char: char| char.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn it_is_told_at_a_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::new(path.as_os_str(), Some("30000000")).unwrap();
        assert_eq!(manager.interval(), Some(Duration::from_secs(15)));
        manager.ready("held\n10.244.1.0/24");
        assert_eq!(heard(&listener), "READY=1\nSTATUS=held 10.244.1.0/24\n");
        manager.reloading();
        assert!(heard(&listener).starts_with("RELOADING=1\nMONOTONIC_USEC="));
    }

    #[test]
    fn it_is_told_at_an_abstract_address() {
        let name = format!("cnikit-test-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let manager = ServiceManager::new(format!("@{name}").as_ref(), None).unwrap();
        assert_eq!(manager.interval(), None);
        manager.alive();
        assert_eq!(heard(&listener), "WATCHDOG=1\n");
    }
}
