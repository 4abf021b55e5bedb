//! Plugins: what they ask for, and what they are answered.

use std::io;
use std::thread;
use std::time::Duration;

use cni_spec::{AddResult, CniArgs, Error, ErrorCode, NetworkConfig, SpecVersion};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;
use plugin_kit::ipam::dhcp::protocol::{Answer, Call, Subject};
use plugin_kit::kernel_error;

use super::{Daemon, log, now, prefixed, random};
use crate::attachment::Attachment;
use crate::connection::{Connection, Turn};
use crate::container::Container;
use crate::key::Key;
use crate::wishes::Wishes;

impl Daemon {
    pub(super) fn accept(&mut self) {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                // Too many open files, most likely: some will be closed; whoever waits goes on waiting.
                log(format_args!("accept: {error}"));
                thread::sleep(Duration::from_millis(50));
                return;
            }
        };
        // The socket is root's alone; so are those who could have got hold of it before it was.
        let own = geteuid().as_raw();
        if !getsockopt(&stream, PeerCredentials).is_ok_and(|peer| peer.uid() == own || peer.uid() == 0) {
            return;
        }
        if let Ok(connection) = Connection::new(stream, now()) {
            self.connected += 1;
            self.connections.insert(self.connected, connection);
        }
    }

    pub(super) fn serve(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match connection.turn() {
            Turn::Pending => {}
            Turn::Called(call) => self.call(id, &call),
            Turn::Over => {
                self.connections.remove(&id);
            }
            Turn::Broken(at_stake) => {
                self.connections.remove(&id);
                self.abandon(at_stake);
            }
        }
    }

    pub(super) fn lose_patience(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        match connection.waits_for().cloned() {
            Some(key) => {
                let complaints = self.attachments.get(&key).map(Attachment::complaints).unwrap_or_default();
                let text = match complaints.first() {
                    Some(complaint) => (*complaint).to_owned(),
                    None => format!("none answered in {} s", self.settings.resend_timeout.as_secs()),
                };
                let error = Error::new(
                    ErrorCode::TRY_AGAIN_LATER,
                    format!("no DHCP server grants an address: {text}"),
                );
                self.refuse(id, &key, &error);
            }
            None => {
                let at_stake = self.connections.remove(&id).and_then(Connection::give_up);
                self.abandon(at_stake);
            }
        }
    }

    /// Gives back what a plugin did not live to hear of.
    fn abandon(&mut self, at_stake: Option<Key>) {
        if let Some(key) = at_stake {
            log(format_args!("{key}: the plugin is gone before it was answered"));
            self.end(&key);
        }
    }

    pub(super) fn answer(
        &mut self,
        id: u64,
        outcome: Result<Option<AddResult>, Error>,
        at_stake: Option<Key>,
    ) {
        let answer = match outcome {
            Ok(result) => {
                Answer::Result(result.map(|result| result.to_value(SpecVersion::LATEST)).unwrap_or_default())
            }
            Err(error) => Answer::Error(error),
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.answer(&answer, at_stake, now());
            self.serve(id);
        }
    }

    fn call(&mut self, id: u64, call: &Call) {
        let outcome = match call {
            Call::Add(subject) => match self.add(id, subject) {
                Ok(None) => return,
                outcome => outcome,
            },
            Call::Check(subject) => self.check(subject).map(|()| None),
            Call::Del(subject) => self.del(subject).map(|()| None),
            Call::Gc { config } => self.gc(config).map(|()| None),
            Call::Status => Ok(None),
        };
        self.answer(id, outcome, None);
    }

    //-------------------------------------------------------------------------------------------------------- commands

    /// Begins to acquire; there is an answer at once only if everything is there already.
    fn add(&mut self, id: u64, subject: &Subject) -> Result<Option<AddResult>, Error> {
        let config = subject.config()?;
        let wishes = Wishes::of(&config, &CniArgs::parse(&subject.args))?;
        let key = key(&config, subject);
        let netns = subject.netns.as_deref().ok_or_else(|| Error::environment("CNI_NETNS: missing"))?;
        let netns = prefixed(&self.settings.host_prefix, netns);
        if self.connections.values().any(|connection| connection.waits_for() == Some(&key)) {
            return Err(Error::new(
                ErrorCode::TRY_AGAIN_LATER,
                format!("another ADD of {key} is waiting for a server"),
            ));
        }
        let (container, present) =
            Container::find(&netns, key.interface.as_str()).map_err(|error| kernel_error(&error))?;
        if let Some(attachment) = self.attachments.get(&key)
            && attachment.is_for(&container, &wishes)
            && attachment.is_complete()
        {
            return Ok(Some(attachment.result()));
        }
        // The same names, but another interface: what the old one had is nobody's.
        self.end(&key);
        let now = now();
        let behaviour = self.behaviour();
        let mut attachment = Attachment::new(
            key.clone(),
            container,
            &present,
            wishes,
            behaviour,
            now,
            &mut random(&self.random),
        );
        let progress = attachment.on_time(now, &mut random(&self.random));
        self.attachments.insert(key.clone(), attachment);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.wait(key.clone(), now + self.settings.resend_timeout);
        }
        log(format_args!("{key}: asking for addresses"));
        self.follow(&key, progress);
        Ok(None)
    }

    fn check(&self, subject: &Subject) -> Result<(), Error> {
        let config = subject.config()?;
        let key = key(&config, subject);
        let differs = |text: String| Err(Error::new(plugin_kit::error::DIFFERS, text));
        let Some(attachment) = self.attachments.get(&key).filter(|attachment| attachment.is_complete())
        else {
            return differs(format!("{key} has no lease, or not all"));
        };
        let Some(previous) = config.prev_result()? else { return Ok(()) };
        for lease in attachment.leases() {
            if !previous.ips.iter().any(|ip| ip.address == lease.address) {
                return differs(format!("{key} has {} now, which is not what it was given", lease.address));
            }
        }
        Ok(())
    }

    pub(super) fn del(&mut self, subject: &Subject) -> Result<(), Error> {
        let key = key(&subject.config()?, subject);
        let waiting = self.connections.iter().find(|(_, c)| c.waits_for() == Some(&key)).map(|(id, _)| *id);
        if let Some(id) = waiting {
            self.refuse(id, &key, &Error::new(ErrorCode::TRY_AGAIN_LATER, "a DEL came in between"));
        }
        self.end(&key);
        Ok(())
    }

    fn gc(&mut self, config: &serde_json::Map<String, serde_json::Value>) -> Result<(), Error> {
        let config = NetworkConfig::from_document(config.clone())?;
        let valid = config.valid_attachments()?;
        let stale: Vec<_> = self
            .attachments
            .keys()
            .filter(|key| key.network == *config.name() && !key.is_among(&valid))
            .cloned()
            .collect();
        stale.iter().for_each(|key| self.end(key));
        Ok(())
    }
}

fn key(config: &NetworkConfig, subject: &Subject) -> Key {
    Key {
        network: config.name().clone(),
        container: subject.container_id.clone(),
        interface: subject.if_name.clone(),
    }
}
