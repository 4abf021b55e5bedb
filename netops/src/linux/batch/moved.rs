//! Links that are brought from another namespace.

use std::os::fd::AsFd;

use super::{Batch, Purpose, Stop};
use crate::error::{Error, Operation};
use crate::kernel::Created;
use crate::linux::netlink::Datagram;
use crate::linux::rtnetlink::link::{self, Flag};
use crate::linux::{read, refused};
use crate::name::LinkName;
use crate::resource::{MovedLink, Resource};

impl Batch<'_> {
    /// Switches a link off, if there is one.
    pub(super) fn queue_down(&mut self, name: &LinkName) -> Result<(), Stop> {
        self.flush()?;
        match read::link(self.kernel, self.place, name)? {
            Some(link) if link.up => {
                link::set_flag(&mut self.datagram, name, Flag::Up, false);
                self.expect(Purpose::Make, Created::Changed(Resource::LinkUp(name.clone())));
            }
            _ => self.outcomes.push(Ok(Created::Kept)),
        }
        Ok(())
    }

    /// Told where the link comes from, and at once.
    pub(super) fn queue_moved(&mut self, moved: &MovedLink, resource: &Resource) -> Result<(), Stop> {
        self.flush()?;
        let (place, object) = (self.place, resource.to_string());
        let refuse = |refusal| Err(Stop::Here(refused(Operation::Create, place, &object, refusal)));
        // The kernel moves it first and names it then: what could stand in the way is looked for before.
        if read::link(self.kernel, self.place, &moved.name)?.is_some() {
            return refuse(nix::errno::Errno::EEXIST.into());
        }
        let Some(link) = read::link(self.kernel, moved.from, &moved.original)? else {
            let text =
                format!("there is no interface \"{}\" in the {}'s namespace", moved.original, moved.from);
            return Err(self.missing(text, resource));
        };
        let mut request = Datagram::default();
        let here = self.kernel.side(self.place)?.namespace()?.as_fd();
        link::move_to(&mut request, link.index, here, &moved.name, moved.original.as_str());
        let replies = self.kernel.exchange(moved.from, &mut request, Operation::Create, &object);
        self.kernel.forget_links();
        match replies?.pop().unwrap_or_default().refusal {
            None => self.outcomes.push(Ok(Created::New)),
            Some(refusal) => {
                self.bring_home(moved)?;
                return refuse(refusal);
            }
        }
        Ok(())
    }

    /// Takes a link back that has come here and could not get its name.
    fn bring_home(&mut self, moved: &MovedLink) -> Result<(), Error> {
        if read::link(self.kernel, moved.from, &moved.original)?.is_some() {
            return Ok(());
        }
        let Some(stray) = read::link(self.kernel, self.place, &moved.original)? else { return Ok(()) };
        let mut request = Datagram::default();
        let home = self.kernel.side(moved.from)?.namespace()?.as_fd();
        link::move_to(&mut request, stray.index, home, &moved.original, "");
        self.kernel.exchange(self.place, &mut request, Operation::Create, moved.original.as_str())?;
        self.kernel.forget_links();
        Ok(())
    }
}
