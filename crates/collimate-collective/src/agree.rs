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
        Ok(value) => (Some(value), vec![0]),
        Err(error) => (None, [&[1], error.to_string().as_bytes()].concat()),
    };
    let all = world.all_gather(&mine)?;
    let failed = all.iter().enumerate().find_map(|(rank, bytes)| match bytes.split_first() {
        Some((1, message)) => {
            Some(CollectiveError::Failed { rank, message: String::from_utf8_lossy(message).into_owned() })
        }
        _ => None,
    });
    match (failed, value) {
        (None, Some(value)) => Ok(value),
        (Some(error), _) => Err(error),
        (None, None) => Err(CollectiveError::Closed),
    }
}
