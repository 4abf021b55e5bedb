//! What concerns a network as a whole: what is attached to it, what is left behind, and whether it can be used.

use std::collections::BTreeSet;

use super::chain::{self, Chain};
use super::lock::{Mode, Which};
use super::record::Content;
use super::{Attachment, CachedAttachment, CachedAttachments, Identity, Progress, Runtime, RuntimeError};
use crate::{
    AttachmentId, Command, Invocation, NetworkList, NetworkName, PluginType, SpecVersion, VersionResult,
};

impl Runtime {
    /// Every attachment in the cache, of all networks, half-made ones included, whichever runtime made them.
    ///
    /// # Errors
    /// The directory cannot be read. If there is none, nothing is attached.
    pub fn attachments(&self) -> Result<CachedAttachments, RuntimeError> {
        Ok(self.cache.list()?)
    }

    /// What the cache holds of one attachment.
    ///
    /// Of a file of the oldest libcni only the result is known.
    ///
    /// # Errors
    /// The file cannot be read. If there is none, or it is broken, the attachment is unknown: `None`.
    pub fn cached(
        &self,
        network: &NetworkName,
        attachment: &Attachment,
    ) -> Result<Option<CachedAttachment>, RuntimeError> {
        Ok(match self.cache.read(network, attachment)? {
            Content::Attachment(cached) if cached.identity() == Identity::new(network, attachment) => {
                Some(*cached)
            }
            Content::BareResult(result) => Some(CachedAttachment {
                network: network.clone(),
                attachment: Attachment::new(attachment.container_id().clone(), attachment.if_name().clone()),
                config: Vec::new(),
                result: Some(result),
                progress: Progress::Complete,
            }),
            Content::Attachment(_) | Content::Nothing | Content::Broken(_) => None,
        })
    }

    /// Removes what belongs to none of the `valid` attachments of a network.
    ///
    /// First `DEL` of every cached attachment of the network that is not valid, each with the configuration and the
    /// parameters that it was made with; then, since 1.1.0, `GC` of every plugin. With no valid attachments
    /// everything is removed: this is what to do after a reboot. Does nothing if the list says `disableGC`.
    ///
    /// The caller must know of every attachment, also of one that is made meanwhile: one that is missing from `valid` loses its
    /// network. Who has to look for them does so in [`gc_of_all_but`](Self::gc_of_all_but).
    ///
    /// # Errors
    /// Everything that failed; the rest was done.
    pub fn gc(&self, list: &NetworkList, valid: &[AttachmentId]) -> Result<(), RuntimeError> {
        self.gc_of_all_but(list, || Ok(valid.to_vec())).map(drop)
    }

    /// As [`gc`](Self::gc), where `valid` finds out which attachments are valid, and is asked when nobody who uses this crate
    /// attaches or detaches anything until the end. Returns what it said.
    ///
    /// # Errors
    /// Those of `valid`, and nothing was done; or everything that failed, and the rest was done.
    pub fn gc_of_all_but<E: From<RuntimeError>>(
        &self,
        list: &NetworkList,
        valid: impl FnOnce() -> Result<Vec<AttachmentId>, E>,
    ) -> Result<Vec<AttachmentId>, E> {
        if list.disable_gc {
            return valid();
        }
        let alone = self.cache.lock_network(&list.name, Which::Any, Mode::Exclusive, self.deadline());
        let _alone = alone.map_err(RuntimeError::from)?;
        let valid = valid()?;
        self.remove_all_but(list, &valid)?;
        Ok(valid)
    }

    fn remove_all_but(&self, list: &NetworkList, valid: &[AttachmentId]) -> Result<(), RuntimeError> {
        let mut failures = match self.cache.list() {
            Ok(cached) => self.del_stale(list, cached.attachments, &valid.iter().collect()),
            Err(error) => vec![error.into()],
        };
        if list.cni_version.knows(Command::Gc) {
            let chain = Chain::of_network(self, list);
            let valid = serde_json::to_value(valid).unwrap_or_default();
            failures.extend(list.plugins.iter().filter_map(|plugin| chain.gc(plugin, &valid).err()));
        }
        RuntimeError::collect(failures)
    }

    fn del_stale(
        &self,
        list: &NetworkList,
        cached: Vec<CachedAttachment>,
        valid: &BTreeSet<&AttachmentId>,
    ) -> Vec<RuntimeError> {
        let of_network = cached.into_iter().filter(|cached| cached.network == list.name);
        let stale = of_network.filter(|cached| !valid.contains(&cached.attachment.id()));
        let failed = stale.filter_map(|stale| {
            // Without its own configuration (another program's file) the current one is the best guess.
            let own =
                stale.network_list().ok().filter(|own| own.name == list.name && !own.plugins.is_empty());
            let attachment = without_recycled_netns(&stale.attachment);
            let failures = self.del_without_gc_lock(own.as_ref().unwrap_or(list), &attachment);
            let cause = failures.and_then(RuntimeError::collect).err()?;
            Some(RuntimeError::Stale { who: stale.identity(), cause: Box::new(cause) })
        });
        failed.collect()
    }

    /// Asks every plugin whether an `ADD` could succeed now. Lists older than 1.1.0 are not asked: they are ready.
    ///
    /// # Errors
    /// The first plugin that is not ready; its code says how bad it is
    /// ([`ErrorCode::PLUGIN_NOT_AVAILABLE`](crate::ErrorCode::PLUGIN_NOT_AVAILABLE),
    /// [`ErrorCode::LIMITED_CONNECTIVITY`](crate::ErrorCode::LIMITED_CONNECTIVITY)).
    pub fn status(&self, list: &NetworkList) -> Result<(), RuntimeError> {
        if !list.cni_version.knows(Command::Status) {
            return Ok(());
        }
        let chain = Chain::of_network(self, list);
        list.plugins.iter().try_for_each(|plugin| chain.status(plugin))
    }

    /// Makes sure that every plugin is installed and speaks the list's version, and returns the capabilities that the
    /// list asks for.
    ///
    /// # Errors
    /// Everything that is wrong: [`RuntimeError::NoPlugins`], [`RuntimeError::Plugin`],
    /// [`RuntimeError::Unsupported`].
    pub fn validate(&self, list: &NetworkList) -> Result<BTreeSet<String>, RuntimeError> {
        if list.plugins.is_empty() {
            return Err(RuntimeError::NoPlugins(list.name.clone()));
        }
        let types: BTreeSet<&PluginType> = list.plugins.iter().map(|plugin| &plugin.plugin_type).collect();
        let failures = types.into_iter().filter_map(|plugin| match self.versions(plugin) {
            Ok(versions) if versions.supports(list.cni_version) => None,
            Ok(versions) => Some(RuntimeError::Unsupported {
                plugin: plugin.clone(),
                version: list.cni_version,
                supported: versions.supported_versions,
            }),
            Err(error) => Some(error),
        });
        RuntimeError::collect(failures.collect())?;
        let capabilities = list.plugins.iter().flat_map(|plugin| &plugin.capabilities);
        Ok(capabilities.filter(|(_, wanted)| **wanted).map(|(name, _)| name.clone()).collect())
    }

    /// Asks a plugin which versions it speaks (`VERSION`).
    ///
    /// # Errors
    /// [`RuntimeError::Plugin`].
    pub fn versions(&self, plugin: &PluginType) -> Result<VersionResult, RuntimeError> {
        // As libcni sends them: plugins exist that want these variables for every command.
        let env = chain::environment(self, None).with("CNI_NETNS", "dummy").with("CNI_IFNAME", "dummy");
        let version = SpecVersion::LATEST;
        let stdin = serde_json::json!({"cniVersion": version}).to_string().into_bytes();
        let answer = Invocation::new(env, stdin, version)
            .delegate(self.exec.as_ref(), plugin)
            .and_then(|found| found.version());
        match answer {
            // What a plugin says that is older than the command: it speaks 0.1.0.
            Err(error) if error.msg().starts_with("unknown CNI_COMMAND") => {
                Ok(VersionResult::new(SpecVersion::V0_1_0, &[SpecVersion::V0_1_0]))
            }
            answer => answer.map_err(|error| chain::failure(plugin, Command::Version, error)),
        }
    }
}

/// A namespace that was given as `/proc/PID/ns/net` may be another container's by now: process IDs are used again.
/// The process of an attachment that nobody knows has ended, so there is nothing in there to be lost.
fn without_recycled_netns(attachment: &Attachment) -> Attachment {
    match attachment.netns() {
        Some(path) if path.starts_with("/proc/") => attachment.clone().with_netns(""),
        _ => attachment.clone(),
    }
}
