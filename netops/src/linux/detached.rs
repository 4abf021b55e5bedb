//! Links removed by somebody else (`sys/orphan.rs`).
//!
//! `RTM_DELLINK` returns some 20 ms after the link is gone, with its addresses and routes: it waits for the kernel's
//! readers (`rcu_barrier()` in `netdev_run_todo()`). Nobody needs that, so somebody else does that waiting, and this thread
//! goes on when the link is gone: after a millisecond.
//!
//! The last `close` of an nf_tables socket waits some 10 ms if what was deleted is not destroyed yet (`synchronize_rcu()`,
//! by way of the release notifier `nft_rcv_nl_event()`), and meanwhile keeps every other transaction in the namespace
//! waiting: it holds `commit_mutex`. A kernel worker destroys without that, as soon as it can. So somebody else keeps the
//! socket until it has.

use std::io::pipe;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::netlink::{Datagram, Socket};
use super::rtnetlink::link;
use super::{LinuxKernel, Side, read, sys};
use crate::error::Error;
use crate::name::LinkName;
use crate::place::Place;

/// How long an nf_tables socket is kept after a deletion: some grace periods of RCU.
pub(super) const KEPT: Duration = Duration::from_millis(100);
/// How often to look.
const PAUSE: Duration = Duration::from_micros(50);
/// When something must be wrong.
const PATIENCE: Duration = Duration::from_secs(2);

/// A link that was there a moment ago.
pub(super) type Present<'a> = (&'a LinkName, u32);

/// Removes links that are there, as far as that works in this way; returns those that are still there.
pub(super) fn remove<'a>(
    kernel: &mut LinuxKernel,
    place: Place,
    links: Vec<Present<'a>>,
) -> Result<Vec<Present<'a>>, Error> {
    let mut left = links;
    let mut request = Datagram::default();
    left.iter().for_each(|(name, _)| link::delete(&mut request, name));
    let Ok((done, working)) = pipe() else { return Ok(left) };
    let side = kernel.side(place)?;
    let netfilter =
        side.netfilter.as_ref().filter(|_| side.slow_to_close).map(|socket| (socket.as_fd(), KEPT));
    let Some(socket) = side.route.as_mut() else { return Ok(left) };
    if socket.send_detached(&mut request, &[working.as_fd()], netfilter).is_err() {
        return Ok(left);
    }
    drop(working);
    side.slow_to_close = false;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The other end of the pipe is closed when the request has been dealt with: then there is a last look.
        let mut ends = [PollFd::new(done.as_fd(), PollFlags::empty())];
        let running = !matches!(ppoll(&mut ends, Some(TimeSpec::from_duration(PAUSE)), None), Ok(1..));
        left.retain(|link| is_there(socket, link));
        if left.is_empty() || !running || Instant::now() > deadline {
            return Ok(left);
        }
    }
}

/// Leaves to somebody else to close an nf_tables socket that something was deleted through.
pub(super) fn close(side: &Side) {
    if let (true, Some(socket)) = (side.slow_to_close, &side.netfilter) {
        // Should that not work, this thread does it, and takes its time.
        let _ = sys::leave_to_an_orphan(&[], None, Some((socket.as_fd(), KEPT)));
    }
}

/// Those of some links that are there.
pub(super) fn present<'a>(
    kernel: &mut LinuxKernel,
    place: Place,
    links: Vec<&'a LinkName>,
) -> Result<Vec<Present<'a>>, Error> {
    let indices = read::indices(kernel, place, &links)?;
    Ok(links.into_iter().filter_map(|name| Some((name, (*indices.get(name)?)?))).collect())
}

/// Whether a link is still there. Its name and its index go when all that packets see has gone, and whoever would change something
/// waits for the rest. To ask rtnetlink would be to wait for it, too; and to ask by name would have the kernel execute `modprobe`
/// in the end, for there might be a module for an interface of that name.
fn is_there(socket: &Socket, (name, index): &Present<'_>) -> bool {
    sys::has_name(socket, *index, name.as_str()).unwrap_or(true)
}
