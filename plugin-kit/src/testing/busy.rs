//! A node with many pods, as far as a plugin can tell.

#![allow(clippy::panic)] // what fails here is a test

use std::path::Path;

use netops::{Answer, Created, Error, Kernel, Place, Query, Removed, Resource};

use super::MemoryNode;
use crate::kernels::{Kernels, Purpose};

/// A node that answers no question about all there is: neither `ADD` nor `DEL` of an attachment may cost what others have.
pub struct Busy<'a>(pub &'a MemoryNode);

impl Kernels for Busy<'_> {
    fn open(&self, container: Option<&Path>, purpose: Purpose) -> Result<Box<dyn Kernel + '_>, Error> {
        Ok(Box::new(Process(self.0.open(container, purpose)?)))
    }
}

struct Process<'a>(Box<dyn Kernel + 'a>);

impl Kernel for Process<'_> {
    fn read(&mut self, place: Place, queries: &[Query]) -> Result<Vec<Answer>, Error> {
        let list = queries.iter().find(|query| matches!(query, Query::Links | Query::Entries(_)));
        assert_eq!(list, None, "asked in the {place}'s namespace");
        self.0.read(place, queries)
    }

    fn create(&mut self, place: Place, resources: &[&Resource]) -> Vec<Result<Created, Error>> {
        self.0.create(place, resources)
    }

    fn remove(&mut self, place: Place, resources: &[&Resource]) -> Vec<Result<Removed, Error>> {
        self.0.remove(place, resources)
    }
}
