//! What a session holds from one call to the next: the load of its experts, and its shards among several ranks.

use collimate_backend::FusedOps;
use collimate_collective::Collective;
use collimate_model::RouterLoad;

use crate::session::BackendSession;
use crate::sharded::{Among, Sharded};

impl<B: FusedOps> BackendSession<B> {
    /// The parts that work among ranks.
    pub(crate) fn among<'a>(&'a mut self, world: &'a dyn Collective) -> Among<'a, B> {
        let sharded = self.sharded.get_or_insert_with(|| Sharded::new(&self.model, world.size()));
        Among { model: &mut self.model, optimizer: &mut self.optimizer, sharded, world }
    }

    pub(crate) fn add_load(&mut self, more: Option<&RouterLoad>) {
        match (&mut self.router_load, more) {
            (Some(load), Some(more)) => load.add(more),
            (load @ None, more) => *load = more.cloned(),
            (Some(_), None) => {}
        }
    }
}
