//! A plugin that attaches nothing and says on stderr how it was called. Put it into a chain, or run it by hand:
//!
//! ```sh
//! echo '{"cniVersion": "1.1.0", "name": "blue", "type": "debug"}' |
//!     CNI_COMMAND=ADD CNI_CONTAINERID=a CNI_NETNS=/run/netns/a CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin \
//!     cargo run -q -p cni-spec --example debug
//! ```

use std::process::ExitCode;

use cni_spec::{
    AddResult, Command, Error, Interface, Invocation, SpecVersion,
    plugin::{DelRequest, GcRequest, Plugin, Request, StatusRequest, run},
};

struct Debug;

impl Plugin for Debug {
    fn about(&self) -> &str {
        "CNI plugin debug: says on stderr how it was called"
    }

    fn versions(&self) -> &[SpecVersion] {
        SpecVersion::ALL
    }

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        log(Command::Add, &request.invocation);
        // In a chain, the result so far is passed on. Alone, there is at least an interface to name.
        let alone = || AddResult {
            interfaces: vec![Interface::in_sandbox(
                request.if_name.as_str(),
                request.netns.to_string_lossy(),
            )],
            ..AddResult::default()
        };
        Ok(request.config.prev_result()?.unwrap_or_else(alone))
    }

    fn del(&self, request: &DelRequest) -> Result<(), Error> {
        log(Command::Del, &request.invocation);
        Ok(())
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        log(Command::Check, &request.invocation);
        Ok(())
    }

    fn gc(&self, request: &GcRequest) -> Result<(), Error> {
        log(Command::Gc, &request.invocation);
        request
            .valid_attachments
            .iter()
            .for_each(|id| eprintln!("keep {} of {}", id.if_name, id.container_id));
        Ok(())
    }

    fn status(&self, request: &StatusRequest) -> Result<(), Error> {
        log(Command::Status, &request.invocation);
        Ok(())
    }
}

fn log(command: Command, invocation: &Invocation) {
    eprintln!("{command}");
    for (name, value) in
        invocation.env().iter().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"CNI_"))
    {
        eprintln!("{}={}", name.display(), value.display());
    }
    eprintln!("{}", String::from_utf8_lossy(invocation.stdin()));
}

fn main() -> ExitCode {
    run(&Debug)
}
