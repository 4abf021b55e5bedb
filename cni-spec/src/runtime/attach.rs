//! `ADD`, `CHECK` and `DEL` of one attachment, and what the cache holds at every instant of them.

use super::cache::Entry;
use super::chain::Chain;
use super::lock::{Mode, Which};
use super::record::Content;
use super::{Attachment, CacheError, CachedAttachment, Identity, Progress, Runtime, RuntimeError};
use crate::json::Object;
use crate::{AddResult, Command, NetworkList, NetworkName, SpecVersion};

impl Runtime {
    /// Attaches a container to a network: `ADD` of every plugin, in order, each with the result of the one before.
    ///
    /// The result is the last plugin's. It is in the cache when this returns; how far the chain got was there all the
    /// while.
    ///
    /// # Errors
    /// - [`RuntimeError::Add`]: a plugin failed, or the cache could not be written on the way. What had been started
    ///   was undone.
    /// - All others (attached already, a plugin is not installed, the cache cannot be used, …): nothing was started.
    pub fn add(&self, list: &NetworkList, attachment: &Attachment) -> Result<AddResult, RuntimeError> {
        let deadline = self.deadline();
        let chain = Chain::of(self, list, attachment, deadline);
        chain.find_all(Command::Add)?;
        let _no_gc = self.cache.lock_network(&list.name, Which::Any, Mode::Shared, deadline)?;
        let mut entry = self.cache.entry(&list.name, attachment, Which::Any, deadline)?;
        refuse_a_second_add(&entry, &list.name, attachment)?;

        let mut cached = CachedAttachment {
            network: list.name.clone(),
            attachment: attachment.clone(),
            config: to_json(list),
            result: None,
            progress: Progress::Partial,
        };
        if let Err(error) = entry.write(&cached, list.cni_version) {
            let _ = entry.forget();
            return Err(error.into());
        }
        for (nth, plugin) in list.plugins.iter().enumerate() {
            let step = chain.add(plugin, cached.result.as_ref()).and_then(|result| {
                cached.result = Some(result);
                if nth + 1 == list.plugins.len() {
                    cached.progress = Progress::Complete;
                }
                Ok(entry.write(&cached, list.cni_version)?)
            });
            if let Err(cause) = step {
                let undo = self.undo(list, attachment, nth + 1, cached, entry);
                return Err(RuntimeError::Add { cause: Box::new(cause), undo });
            }
        }
        Ok(cached.result.unwrap_or_default())
    }

    /// Asks every plugin, in order, whether the attachment is still as `ADD` made it.
    ///
    /// Does nothing if the list says `disableCheck`.
    ///
    /// # Errors
    /// [`RuntimeError::UnknownToVersion`] (before 0.4.0), [`RuntimeError::NotAttached`], or the first plugin that
    /// finds something wrong.
    pub fn check(&self, list: &NetworkList, attachment: &Attachment) -> Result<(), RuntimeError> {
        if !list.cni_version.knows(Command::Check) {
            return Err(RuntimeError::UnknownToVersion {
                command: Command::Check,
                version: list.cni_version,
            });
        }
        if list.disable_check {
            return Ok(());
        }
        let cached = self.cached(&list.name, attachment)?;
        let complete = cached.filter(|cached| cached.progress == Progress::Complete);
        let Some(result) = complete.and_then(|cached| cached.result) else {
            return Err(RuntimeError::NotAttached(Identity::new(&list.name, attachment)));
        };
        let chain = Chain::of(self, list, attachment, self.deadline());
        list.plugins.iter().try_for_each(|plugin| chain.check(plugin, &result))
    }

    /// Does something about an attachment as the cache has it, while nobody who uses this crate adds it, deletes it or
    /// collects garbage. `None` if it is not attached, or not completely.
    ///
    /// (libcni takes no locks: see [`Runtime`].)
    ///
    /// # Errors
    /// When the cache cannot be used, or another operation on the attachment does not end in time.
    pub fn hold<T>(
        &self,
        network: &NetworkName,
        attachment: &Attachment,
        work: impl FnOnce(&CachedAttachment) -> T,
    ) -> Result<Option<T>, RuntimeError> {
        let deadline = self.deadline();
        let locked = self.cache.lock_network(network, Which::Existing, Mode::Shared, deadline);
        let (_no_gc, trouble) = tolerate(locked)?;
        let (entry, more) = tolerate(self.cache.entry(network, attachment, Which::Existing, deadline))?;
        RuntimeError::collect(trouble.into_iter().chain(more).collect())?;
        let Some(entry) = entry else { return Ok(None) };
        match entry.read()? {
            Content::Attachment(cached)
                if is_of(&cached, network, attachment) && cached.progress == Progress::Complete =>
            {
                Ok(Some(work(&cached)))
            }
            _ => Ok(None),
        }
    }

    /// Detaches a container from a network: `DEL` of every plugin, in reverse, with the cached result.
    ///
    /// It may be called as often as wanted, for what was never attached, and for what is only half there. Neither
    /// the namespace nor a cache entry need exist any more. Every plugin is called, whatever the others say.
    ///
    /// To detach with the configuration and the parameters of the `ADD`, whatever has become of the files since, take
    /// both from [`attachments`](Self::attachments).
    ///
    /// # Errors
    /// Everything that failed. The attachment stays in the cache then; call again. If another operation on the
    /// attachment does not end in time ([`RuntimeError::is_temporary`]), nothing was started.
    pub fn del(&self, list: &NetworkList, attachment: &Attachment) -> Result<(), RuntimeError> {
        let deadline = self.deadline();
        let network = self.cache.lock_network(&list.name, Which::Existing, Mode::Shared, deadline);
        let (_no_gc, trouble) = tolerate(network)?;
        let failures = self.del_without_gc_lock(list, attachment)?;
        RuntimeError::collect(trouble.into_iter().chain(failures).collect())
    }

    /// `DEL` by one who keeps garbage collection away, or is it. An error: nothing was started.
    pub(super) fn del_without_gc_lock(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
    ) -> Result<Vec<RuntimeError>, RuntimeError> {
        let deadline = self.deadline();
        let (entry, trouble) = tolerate(self.cache.entry(&list.name, attachment, Which::Existing, deadline))?;
        let mut failures: Vec<RuntimeError> = trouble.into_iter().collect();

        // Whatever is wrong with the entry, the plugins must be called: a container that cannot be deleted because
        // its cache is broken is stuck for ever.
        let content = entry.as_ref().and_then(|entry| entry.read().ok()).unwrap_or(Content::Nothing);
        let (entry, known, result) = match content {
            // Another attachment's, whose names join to the same file name.
            Content::Attachment(cached) if !is_of(&cached, &list.name, attachment) => (None, None, None),
            Content::Attachment(cached) => {
                let result = cached.result.clone();
                (entry, Some(*cached), result)
            }
            Content::BareResult(result) => (entry, None, Some(result)),
            Content::Nothing | Content::Broken(_) => (entry, None, None),
        };
        let chain = Chain::of(self, list, attachment, deadline);
        failures.extend(chain.del(list.plugins.len(), result.as_ref()));
        if let Some(entry) = entry {
            failures.extend(settle(entry, known, list.cni_version, &failures).err());
        }
        Ok(failures)
    }

    /// `DEL` of the first `started` plugins of an `ADD` that failed, with time of its own: what is left of the
    /// `ADD`'s may be nothing.
    fn undo(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        started: usize,
        cached: CachedAttachment,
        entry: Entry,
    ) -> Vec<RuntimeError> {
        let chain = Chain::of(self, list, attachment, self.deadline());
        let mut failures = chain.del(started, cached.result.as_ref());
        failures.extend(settle(entry, Some(cached), list.cni_version, &failures).err());
        failures
    }
}

/// Forgets an attachment that is gone; one that is half gone stays, for the next `DEL` or `GC`.
fn settle(
    mut entry: Entry,
    known: Option<CachedAttachment>,
    version: SpecVersion,
    failures: &[RuntimeError],
) -> Result<(), RuntimeError> {
    match known {
        _ if failures.is_empty() => entry.forget()?,
        Some(cached) => entry.write(&CachedAttachment { progress: Progress::Partial, ..cached }, version)?,
        None => {}
    }
    Ok(())
}

fn refuse_a_second_add(
    entry: &Entry,
    network: &NetworkName,
    attachment: &Attachment,
) -> Result<(), RuntimeError> {
    match entry.read()? {
        Content::Nothing | Content::Broken(_) => Ok(()),
        Content::Attachment(other) if !is_of(&other, network, attachment) => {
            Err(RuntimeError::NameTaken { path: entry.path().to_owned(), owner: other.identity() })
        }
        Content::Attachment(_) | Content::BareResult(_) => {
            Err(RuntimeError::AlreadyAttached(Identity::new(network, attachment)))
        }
    }
}

fn is_of(cached: &CachedAttachment, network: &NetworkName, attachment: &Attachment) -> bool {
    cached.network == *network && cached.attachment.id() == attachment.id()
}

/// For `DEL`, which goes on without a cache: what there is, and what to complain about afterwards. Only when somebody
/// else is at work on the same attachment it must not go on.
fn tolerate<T>(found: Result<T, CacheError>) -> Result<(Option<T>, Option<RuntimeError>), RuntimeError> {
    match found {
        Ok(found) => Ok((Some(found), None)),
        Err(error) if error.is_busy() => Err(error.into()),
        Err(error) if error.is_absence() => Ok((None, None)),
        Err(error) => Ok((None, Some(error.into()))),
    }
}

/// The list as it is used: with the plugins of its sibling folder, which are not in its document.
fn to_json(list: &NetworkList) -> Vec<u8> {
    let mut document: Object = list.document.clone();
    let plugins: Vec<_> = list.plugins.iter().map(|plugin| plugin.document.clone().into()).collect();
    document.insert("plugins".to_owned(), serde_json::Value::Array(plugins));
    serde_json::Value::Object(document).to_string().into_bytes()
}
