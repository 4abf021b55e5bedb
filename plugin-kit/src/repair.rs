//! What was lost of attachments that are there: `nft flush ruleset`, a firewall's reload and `sysctl` take it, and
//! no runtime notices.

use cni_spec::Error;
use netops::{ApplyError, Errno, Kernel, Place, Plan, Resource, Step, read_link};

use crate::adoption;
use crate::detach;
use crate::error::kernel_error;
use crate::request::Request;

/// Whether to do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairMode {
    /// What is missing is made.
    Make,
    /// What is missing is told.
    Look,
}

/// What was found and done about an attachment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Repair {
    /// What was missing, and has been made; or would be. As [`Resource`]'s `Display` has it.
    pub made: Vec<String>,
    /// What was as it should be.
    pub fine: Vec<String>,
    /// What is missing still, and why.
    pub failed: Vec<Error>,
    /// The attachment is not there, or went meanwhile: none of its entries was left.
    pub gone: bool,
}

/// Looks up everything that others can take from an attachment, and makes what is missing.
pub(crate) fn repair<C>(
    plan: &Plan,
    request: &Request<'_, C>,
    kernel: &mut dyn Kernel,
    mode: RepairMode,
) -> Result<Repair, Error> {
    let mut repair = Repair::default();
    if !is_there(request, kernel)? {
        return Ok(Repair { gone: true, failed: clean_up(plan, kernel, mode), ..repair });
    }
    for step in plan.only(can_be_lost).steps() {
        let object = step.resource.to_string();
        let alone = plan.only(|other| other == step);
        let differs = !alone.check(kernel).map_err(|e| kernel_error(&e))?.is_empty();
        if !differs || adoption::is_served(&step.resource, &request.owner, kernel)? {
            repair.fine.push(object);
            continue;
        }
        let outcome = if mode == RepairMode::Make { make(step, kernel) } else { Ok(()) };
        match outcome {
            Ok(()) => repair.made.push(object),
            Err(error) => repair.failed.push(error),
        }
    }
    // A DEL may have begun after we had looked, and not have found what we made.
    if !is_there(request, kernel)? {
        return Ok(Repair { gone: true, failed: clean_up(plan, kernel, mode), ..Repair::default() });
    }
    Ok(repair)
}

/// Removes the entries of an attachment that is gone, which bear its mark. Returns what could not be removed.
fn clean_up(plan: &Plan, kernel: &mut dyn Kernel, mode: RepairMode) -> Vec<Error> {
    match mode {
        RepairMode::Make => {
            let entries = plan.only(|step| matches!(step.resource, Resource::Entry(_)));
            entries.remove(kernel).iter().map(kernel_error).collect()
        }
        RepairMode::Look => Vec::new(),
    }
}

/// Whether something is not bound to an interface of the attachment's, so that it can go without it.
fn can_be_lost(step: &Step) -> bool {
    let is_setting = matches!(step.resource, Resource::Sysctl(_));
    step.place == Place::Host && (is_setting || adoption::is_filter(&step.resource))
}

/// Makes one thing, as something that somebody else may be making too.
fn make(step: &Step, kernel: &mut dyn Kernel) -> Result<(), Error> {
    let mut plan = Plan::new();
    plan.share(step.place, step.resource.clone());
    let failure = |error: &ApplyError| kernel_error(&error.cause);
    match plan.apply(kernel) {
        Ok(_) => Ok(()),
        Err(error) if error.cause.errno() == Some(Errno::EEXIST) => {
            match detach::remove_abandoned(&plan, kernel)? {
                true => plan.apply(kernel).map(|_| ()).map_err(|error| failure(&error)),
                false => Err(failure(&error)),
            }
        }
        Err(error) => Err(failure(&error)),
    }
}

/// Whether the attachment is there: its interface in the container or, where no container was given, the other end.
fn is_there<C>(request: &Request<'_, C>, kernel: &mut dyn Kernel) -> Result<bool, Error> {
    let (place, name) = match request.call.netns.as_os_str().is_empty() {
        true => (Place::Host, &request.names.host_interface),
        false => (Place::Container, &request.names.interface),
    };
    Ok(read_link(kernel, place, name).map_err(|e| kernel_error(&e))?.is_some())
}
