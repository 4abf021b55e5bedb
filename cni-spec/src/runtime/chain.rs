//! One walk over the plugins of a list.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;

use super::{Attachment, Runtime, RuntimeError};
use crate::json::Object;
use crate::plugin::Request;
use crate::{
    AddResult, CniArgs, Command, Delegate, Env, Error, Invocation, NetworkConfig, NetworkList, PluginConfig,
    PluginType,
};

/// The plugins of a list, about to be called for one purpose, with the time that is left for it.
pub(super) struct Chain<'a> {
    runtime: &'a Runtime,
    list: &'a NetworkList,
    attachment: Option<&'a Attachment>,
    deadline: Instant,
}

impl<'a> Chain<'a> {
    /// Calls about an attachment.
    pub(super) fn of(
        runtime: &'a Runtime,
        list: &'a NetworkList,
        attachment: &'a Attachment,
        deadline: Instant,
    ) -> Self {
        Self { runtime, list, attachment: Some(attachment), deadline }
    }

    /// Calls about the network as a whole.
    pub(super) fn of_network(runtime: &'a Runtime, list: &'a NetworkList) -> Self {
        Self { runtime, list, attachment: None, deadline: runtime.deadline() }
    }

    /// Makes sure that every plugin is there.
    pub(super) fn find_all(&self, command: Command) -> Result<(), RuntimeError> {
        if self.list.plugins.is_empty() {
            return Err(RuntimeError::NoPlugins(self.list.name.clone()));
        }
        let missing = self.list.plugins.iter().filter_map(|plugin| {
            let found = self.runtime.exec.find(&plugin.plugin_type, &self.runtime.plugin_dirs);
            Some(failure(&plugin.plugin_type, command, found.err()?.into()))
        });
        RuntimeError::collect(missing.collect())
    }

    pub(super) fn add(
        &self,
        plugin: &PluginConfig,
        previous: Option<&AddResult>,
    ) -> Result<AddResult, RuntimeError> {
        self.call(plugin, Command::Add, self.document(plugin, previous), |plugin| plugin.add())
    }

    /// `DEL` of the first `count` plugins, in reverse. Whatever fails, the others are called.
    pub(super) fn del(&self, count: usize, previous: Option<&AddResult>) -> Vec<RuntimeError> {
        let plugins = self.list.plugins.iter().take(count).rev();
        // Plugins of the time before 0.4.0 do not expect a result here.
        let previous = previous.filter(|_| self.list.cni_version.knows(Command::Check));
        let failed = plugins.filter_map(|plugin| {
            self.call(plugin, Command::Del, self.document(plugin, previous), |plugin| plugin.del()).err()
        });
        failed.collect()
    }

    pub(super) fn check(&self, plugin: &PluginConfig, previous: &AddResult) -> Result<(), RuntimeError> {
        self.call(plugin, Command::Check, self.document(plugin, Some(previous)), |plugin| plugin.check())
    }

    pub(super) fn status(&self, plugin: &PluginConfig) -> Result<(), RuntimeError> {
        self.call(plugin, Command::Status, self.document(plugin, None), |plugin| plugin.status())
    }

    pub(super) fn gc(&self, plugin: &PluginConfig, valid: &Value) -> Result<(), RuntimeError> {
        let mut document = self.document(plugin, None);
        // An edition of the specification had the second name, and plugins were written for it.
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            document.insert(key.to_owned(), valid.clone());
        }
        self.call(plugin, Command::Gc, document, |plugin| plugin.gc())
    }

    fn call<T>(
        &self,
        plugin: &PluginConfig,
        command: Command,
        stdin: Object,
        execute: impl FnOnce(&Delegate<'_>) -> Result<T, Error>,
    ) -> Result<T, RuntimeError> {
        if Instant::now() >= self.deadline {
            return Err(RuntimeError::NoTimeLeft { plugin: plugin.plugin_type.clone(), command });
        }
        self.invocation(stdin)
            .delegate(self.runtime.exec.as_ref(), &plugin.plugin_type)
            .and_then(|found| execute(&found))
            .map_err(|error| failure(&plugin.plugin_type, command, error))
    }

    fn invocation(&self, stdin: Object) -> Invocation {
        let stdin = Value::Object(stdin).to_string().into_bytes();
        Invocation::new(environment(self.runtime, self.attachment), stdin, self.list.cni_version)
    }

    /// What a plugin gets on stdin (CNI specification, section 3, "Deriving execution configuration").
    fn document(&self, plugin: &PluginConfig, previous: Option<&AddResult>) -> Object {
        let version = self.list.cni_version;
        let mut document = plugin.document.clone();
        document.insert("name".to_owned(), self.list.name.as_str().into());
        document.insert("cniVersion".to_owned(), version.as_str().into());
        if let Some(previous) = previous {
            document.insert("prevResult".to_owned(), previous.to_value(version));
        }
        let offered = self.attachment.into_iter().flat_map(Attachment::capability_args);
        let wanted: Object = offered
            .filter(|(capability, _)| plugin.wants(capability))
            .map(|(capability, value)| (capability.clone(), value.clone()))
            .collect();
        if !wanted.is_empty() {
            document.insert("runtimeConfig".to_owned(), wanted.into());
        }
        document
    }
}

impl Runtime {
    /// What [`add`](Self::add) would execute a plugin of the list with, for those who want to know without executing
    /// anything. `previous` is the result of the plugins before it.
    pub fn invocation(
        &self,
        list: &NetworkList,
        plugin: &PluginConfig,
        attachment: &Attachment,
        previous: Option<&AddResult>,
    ) -> Invocation {
        let chain = Chain::of(self, list, attachment, self.deadline());
        chain.invocation(chain.document(plugin, previous))
    }

    /// The same for a plugin that is part of the caller's program: what it is called with, without being executed.
    ///
    /// # Errors
    /// When the configuration makes no sense.
    pub fn request(
        &self,
        list: &NetworkList,
        plugin: &PluginConfig,
        attachment: &Attachment,
        previous: Option<&AddResult>,
    ) -> Result<Request, Error> {
        let invocation = self.invocation(list, plugin, attachment, previous);
        let args = CniArgs::parse(&invocation.env().get("CNI_ARGS").unwrap_or_default().to_string_lossy());
        Ok(Request {
            container_id: attachment.container_id().clone(),
            netns: attachment.netns().unwrap_or_default().into(),
            if_name: attachment.if_name().clone(),
            args,
            config: NetworkConfig::from_json(invocation.stdin())?,
            invocation,
        })
    }
}

/// Every variable of the protocol is set in every call, empty ones too, so that none is inherited from ours.
pub(super) fn environment(runtime: &Runtime, attachment: Option<&Attachment>) -> Env {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let args: Vec<String> = attachment
        .into_iter()
        .flat_map(Attachment::args)
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    runtime
        .env
        .clone()
        .with("CNI_CONTAINERID", text(attachment.map(|attachment| attachment.container_id().as_str())))
        .with("CNI_NETNS", text(attachment.and_then(Attachment::netns)))
        .with("CNI_IFNAME", text(attachment.map(|attachment| attachment.if_name().as_str())))
        .with("CNI_ARGS", args.join(";"))
        .with("CNI_PATH", join_paths(&runtime.plugin_dirs))
}

pub(super) fn failure(plugin: &PluginType, command: Command, error: Error) -> RuntimeError {
    RuntimeError::Plugin { plugin: plugin.clone(), command, error }
}

fn join_paths(dirs: &[PathBuf]) -> OsString {
    let mut joined = OsString::new();
    for (nth, dir) in dirs.iter().enumerate() {
        joined.push(if nth == 0 { "" } else { ":" });
        joined.push(dir);
    }
    joined
}
