//! One outcome for all ranks.

use std::fmt::Display;

use crate::{Collective, CollectiveError};

/// Returns `result`'s value if every rank has one. Otherwise all ranks fail with the message of the first that failed.
///
/// # Errors
///
/// [`CollectiveError::Failed`], the same on all ranks, or that another rank has ended.
pub fn agree<T>(world: &dyn Collective, result: Result<T, impl Display>) -> Result<T, CollectiveError> {
    let (value, mine) = match result {
        Ok(value) => (Some(value), Ok(Vec::new())),
        Err(error) => (None, Err(error.to_string())),
    };
    let shared = share(world, mine)?;
    value.filter(|_| shared.len() == world.size()).ok_or(CollectiveError::Closed)
}

/// As [`agree`], but the first rank that failed keeps its own error.
///
/// # Errors
///
/// This rank's error if it is the first that failed, else [`CollectiveError::Failed`] with that of the first.
pub fn agree_on<T, E: Display + From<CollectiveError>>(world: &dyn Collective, result: Result<T, E>) -> Result<T, E> {
    if world.size() == 1 {
        return result;
    }
    let mine = result.as_ref().map(|_| Vec::new()).map_err(ToString::to_string);
    match share(world, mine) {
        Ok(_) => result,
        Err(CollectiveError::Failed { rank, .. }) if rank == world.rank() => result,
        Err(error) => Err(error.into()),
    }
}

/// Every rank's bytes, in the order of ranks, if all have some. Otherwise all ranks fail with the message of the first that
/// has none.
///
/// # Errors
///
/// [`CollectiveError::Failed`], the same on all ranks, or that another rank has ended.
pub fn share(world: &dyn Collective, mine: Result<Vec<u8>, String>) -> Result<Vec<Vec<u8>>, CollectiveError> {
    let mine = match mine {
        Ok(bytes) => [&[0], bytes.as_slice()].concat(),
        Err(message) => [&[1], message.as_bytes()].concat(),
    };
    let all = world.all_gather(&mine)?.into_iter().enumerate();
    let read = |(rank, mut bytes): (usize, Vec<u8>)| match bytes.first() {
        Some(0) => Ok(bytes.split_off(1)),
        Some(_) => Err(CollectiveError::Failed { rank, message: String::from_utf8_lossy(&bytes[1..]).into_owned() }),
        None => Err(CollectiveError::Closed),
    };
    all.map(read).collect()
}
