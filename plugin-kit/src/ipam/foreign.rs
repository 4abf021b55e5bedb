//! Any other IPAM plugin: executed, as the specification says (section 4, "Plugin Delegation").

use cni_spec::plugin::{DelRequest, GcRequest, Request, StatusRequest};
use cni_spec::{AddResult, Delegate, Error, Invocation, PluginType, ProcessExec};

use super::{Grant, Hold, Manager};

/// A plugin found in `CNI_PATH`.
#[derive(Debug)]
pub(super) struct Foreign {
    kind: PluginType,
    exec: ProcessExec,
}

impl Foreign {
    pub(super) fn new(kind: PluginType) -> Self {
        Self { kind, exec: ProcessExec::default() }
    }

    fn delegate<'a>(&'a self, invocation: &'a Invocation) -> Result<Delegate<'a>, Error> {
        invocation.delegate(&self.exec, &self.kind)
    }
}

impl Manager for Foreign {
    fn add<'a>(&'a self, call: &'a Request) -> Result<Grant<'a>, Error> {
        // An ADD that failed may have taken something all the same.
        let delegate = self.delegate(&call.invocation)?;
        let result = delegate.add_or_undo()?;
        Ok(Grant::new(result, Granted { delegate, kept: false }))
    }

    fn del(&self, call: &DelRequest) -> Result<(), Error> {
        self.delegate(&call.invocation)?.del()
    }

    fn check(&self, call: &Request) -> Result<(), Error> {
        self.delegate(&call.invocation)?.check()
    }

    fn gc(&self, call: &GcRequest) -> Result<(), Error> {
        self.delegate(&call.invocation)?.gc()
    }

    fn status(&self, call: &StatusRequest) -> Result<(), Error> {
        self.delegate(&call.invocation)?.status()
    }

    /// It may be a DHCP client, which asks through the interface that the answer is for.
    fn needs_interface(&self) -> bool {
        true
    }

    fn preview(&self, _: &Request) -> Result<AddResult, Error> {
        Err(Error::config(format!(
            "which addresses the IPAM plugin {} would give cannot be known without taking them",
            self.kind
        )))
    }
}

/// What a foreign plugin gave; its own DEL takes it back.
struct Granted<'a> {
    delegate: Delegate<'a>,
    kept: bool,
}

impl Hold for Granted<'_> {
    fn keep(mut self: Box<Self>) {
        self.kept = true;
    }
}

impl Drop for Granted<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // The ADD fails with its own error; the runtime's DEL tries this once more, and reports.
            let _ = self.delegate.del();
        }
    }
}
