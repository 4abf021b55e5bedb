//! What a plugin would do, or would have done, without a command of the specification: told, or made again.

use cni_spec::Error;
use cni_spec::plugin::{self, Plugin};
use netops::Kernel;

use crate::attach::{Attach, Attachment, Kit, override_dns, previous_result};
use crate::error::kernel_error;
use crate::kernels::{Kernels, Purpose};
use crate::owner::Owner;
use crate::repair::{self, Repair, RepairMode};

/// A plugin that can say what it would do, and make again what was lost.
pub trait Explain: Plugin {
    /// The plan of an `ADD`, with the addresses that it would get now, and nothing done.
    ///
    /// # Errors
    /// As an `ADD`'s, as far as they can be foreseen.
    fn explain(&self, call: &plugin::Request, kernel: &mut dyn Kernel) -> Result<Attachment, Error>;

    /// Makes again what others have taken from an attachment that is there: entries of nf_tables, settings of the node.
    /// Its interfaces, addresses and routes it leaves as they are. The call is as `CHECK` gets it; without a namespace,
    /// the host's end of the cable says whether the attachment is there.
    ///
    /// # Errors
    /// When it cannot be known what there should be, or what there is. That something could not be made is in
    /// [`Repair::failed`].
    fn repair(&self, call: &plugin::Request, mode: RepairMode) -> Result<Repair, Error>;
}

impl<P: Attach, K: Kernels> Explain for Kit<P, K> {
    fn explain(&self, call: &plugin::Request, kernel: &mut dyn Kernel) -> Result<Attachment, Error> {
        let owner = Owner::of(call);
        let config = call.config.parse()?;
        let mut request = self.request(call, owner, config)?;
        if let Some(manager) = self.plugin.manager(&call.config)? {
            request.addresses = manager.preview(call)?;
            if !manager.needs_interface() {
                request.names = request.names.addressed(&request.owner, &request.addresses);
            }
        }
        let mut attachment = self.plugin.plan(&request, kernel)?;
        override_dns::<P>(call.config.dns()?, &mut attachment.result);
        Ok(attachment)
    }

    fn repair(&self, call: &plugin::Request, mode: RepairMode) -> Result<Repair, Error> {
        let previous = previous_result(call, "repair needs it")?;
        let request = self.request_about(call, Owner::of(call), call.config.parse()?, previous)?;
        let container = Some(call.netns.as_path()).filter(|path| !path.as_os_str().is_empty());
        let opened = self.kernels.open(container, Purpose::Attach);
        let mut kernel = opened.map_err(|e| kernel_error(&e))?;
        let plan = self.plugin.plan(&request, &mut *kernel)?.plan;
        repair::repair(&plan, &request, &mut *kernel, mode)
    }
}
