//! Joins the other ranks of the run, if there are any.

use std::sync::Arc;

use crate::{Collective, CollectiveError, Place, Solo};

/// Joins the ranks that a launcher started with this process; [`Solo`] if it was started alone.
///
/// # Errors
///
/// If several processes were started and this program was built without the feature `mpi` (each would believe that it is
/// alone and write to the same folder), or if MPI does not see the ranks that the launcher started.
pub fn start() -> Result<Arc<dyn Collective>, CollectiveError> {
    match Place::from_environment()? {
        Some(place) if place.size > 1 => join(place),
        _ => Ok(Arc::new(Solo)),
    }
}

#[cfg(feature = "mpi")]
fn join(place: Place) -> Result<Arc<dyn Collective>, CollectiveError> {
    Ok(Arc::new(crate::Mpi::start(place)?))
}

#[cfg(not(feature = "mpi"))]
fn join(place: Place) -> Result<Arc<dyn Collective>, CollectiveError> {
    Err(CollectiveError::WithoutMpi { launcher: place.launcher, rank: place.rank, size: place.size })
}
