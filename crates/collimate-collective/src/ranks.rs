//! The ranks of a run: what they tell each other, and when they stop.

use std::fmt::{self, Display};

use crate::{Collective, CollectiveError, Solo, StopFlag, share};

/// The ranks of a run, of which this process is one. All of them make the same calls in the same order.
#[derive(Clone)]
pub struct Ranks<'a> {
    world: &'a dyn Collective,
    /// Set when this process is asked to stop.
    asked: &'a StopFlag,
    /// Set when any is, on all ranks at the same place.
    agreed: &'a StopFlag,
    /// What work checks that only this rank does. Among several it is never set: the others would go on.
    alone: StopFlag,
}

/// Numbers that this rank has.
#[derive(Debug)]
pub struct OwnNumbers {
    /// By item, in the order of its items.
    pub items: Vec<Vec<f64>>,
    /// What it sends beside its items.
    pub beside: Vec<f64>,
}

/// Numbers that ranks have shared.
#[derive(Debug)]
pub struct SharedNumbers {
    /// By item, whoever owns it.
    pub items: Vec<Vec<f64>>,
    /// What each rank sent beside its items.
    pub beside: Vec<Vec<f64>>,
}

impl fmt::Debug for Ranks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ranks").field("rank", &self.rank()).field("size", &self.size()).finish_non_exhaustive()
    }
}

impl<'a> Ranks<'a> {
    /// A run of one process.
    pub fn solo(stop: &'a StopFlag) -> Self {
        Self { world: &Solo, asked: stop, agreed: stop, alone: stop.clone() }
    }

    /// One of several processes; `agreed` must be fresh.
    pub fn among(world: &'a dyn Collective, asked: &'a StopFlag, agreed: &'a StopFlag) -> Self {
        Self { world, asked, agreed, alone: StopFlag::default() }
    }

    /// The ranks themselves.
    pub fn world(&self) -> &'a dyn Collective {
        self.world
    }

    /// This process's number.
    pub fn rank(&self) -> usize {
        self.world.rank()
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.world.size()
    }

    /// Whether this is the rank that writes and reports.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Checked by work between two exchanges.
    pub fn stop_alone(&self) -> &StopFlag {
        &self.alone
    }

    /// How many micro-batches are scored between two exchanges: several a rank, so that they can be dealt out evenly.
    pub fn at_once(&self) -> usize {
        match self.size() {
            1 => 1,
            ranks => 4 * ranks,
        }
    }

    /// What every rank has, by rank. From here on a stop counts for all that any rank was asked for.
    ///
    /// # Errors
    /// A rank has an error: the first of them returns it, and the others say which it was. Or a rank has ended.
    pub fn share<E: Display + From<CollectiveError>>(&self, mine: Result<Vec<u8>, E>) -> Result<Vec<Vec<u8>>, E> {
        if self.size() == 1 {
            return Ok(vec![mine?]);
        }
        let signal = self.asked.requested().map_or(0, |signal| u8::try_from(signal).unwrap_or(u8::MAX));
        let sent = match &mine {
            Ok(bytes) => Ok([&[signal], bytes.as_slice()].concat()),
            Err(error) => Err(error.to_string()),
        };
        let all = match (share(self.world, sent), mine) {
            (Err(CollectiveError::Failed { rank, .. }), Err(own)) if rank == self.rank() => return Err(own),
            (all, _) => all?,
        };
        if let Some(signal) = all.iter().filter_map(|bytes| bytes.first()).max().filter(|signal| **signal > 0) {
            self.agreed.request(usize::from(*signal));
        }
        Ok(all.into_iter().map(|bytes| bytes.get(1..).unwrap_or_default().to_vec()).collect())
    }

    /// The value, if all ranks have one.
    ///
    /// # Errors
    /// As [`Ranks::share`].
    pub fn agree<T, E: Display + From<CollectiveError>>(&self, mine: Result<T, E>) -> Result<T, E> {
        let (value, mine) = match mine {
            Ok(value) => (Some(value), Ok(Vec::new())),
            Err(error) => (None, Err(error)),
        };
        self.share(mine)?;
        value.ok_or_else(|| CollectiveError::Closed.into())
    }

    /// What the first rank decides, which alone has the run's files and the clock that counts.
    ///
    /// # Errors
    /// As [`Ranks::share`].
    pub fn first_says(&self, mine: bool) -> Result<bool, CollectiveError> {
        let all = self.share(Ok(vec![u8::from(mine)]))?;
        Ok(all.first().is_some_and(|bytes| bytes == &[1]))
    }

    /// Numbers of items, `counts()[i]` of them each, which `owners[i]` has.
    ///
    /// # Errors
    /// As [`Ranks::share`], or those of `counts`, which must be the same on all ranks.
    pub fn share_numbers<E: Display + From<CollectiveError>>(
        &self,
        owners: &[usize],
        counts: impl FnOnce() -> Result<Vec<usize>, E>,
        mine: Result<OwnNumbers, E>,
    ) -> Result<SharedNumbers, E> {
        if self.size() == 1 {
            let OwnNumbers { items, beside } = mine?;
            return Ok(SharedNumbers { items, beside: vec![beside] });
        }
        let mine = mine.map(|OwnNumbers { items, beside }| {
            let numbers = items.iter().flatten().chain(&beside);
            numbers.flat_map(|number| number.to_le_bytes()).collect()
        });
        let numbers = |bytes: &Vec<u8>| bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        let mut beside: Vec<Vec<f64>> = self.share(mine)?.iter().map(numbers).collect();
        let mut items = Vec::with_capacity(owners.len());
        for (&rank, expected) in owners.iter().zip(counts()?) {
            let found = beside[rank].len();
            if found < expected {
                return Err(CollectiveError::Length { rank, found, expected }.into());
            }
            let rest = beside[rank].split_off(expected);
            items.push(std::mem::replace(&mut beside[rank], rest));
        }
        Ok(SharedNumbers { items, beside })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Threads;

    /// What each of three ranks returns.
    fn among<T: Send>(asked: Option<usize>, work: impl Fn(&Ranks<'_>) -> T + Sync) -> Vec<T> {
        let all = Threads::run(3, |world| {
            let (flag, agreed) = (StopFlag::default(), StopFlag::default());
            asked.filter(|rank| *rank == world.rank()).iter().for_each(|_| flag.request(15));
            work(&Ranks::among(world, &flag, &agreed))
        });
        all.into_iter().map(|value| value.unwrap()).collect()
    }

    #[test]
    fn items_come_from_their_owners_and_what_is_left_stands_beside() {
        let found = among(None, |ranks| {
            let own = [vec![vec![1.0], vec![2.0, 3.0]], vec![], vec![vec![4.0]]];
            let beside = if ranks.rank() == 2 { vec![-0.5] } else { Vec::new() };
            let mine = OwnNumbers { items: own[ranks.rank()].clone(), beside };
            let counts = || Ok::<_, CollectiveError>(vec![1, 1, 2]);
            let shared = ranks.share_numbers(&[2, 0, 0], counts, Ok(mine)).unwrap();
            (shared.items, shared.beside)
        });
        let items = vec![vec![4.0], vec![1.0], vec![2.0, 3.0]];
        assert!(found.iter().all(|found| *found == (items.clone(), vec![vec![], vec![], vec![-0.5]])), "{found:?}");
    }

    #[test]
    fn the_first_that_fails_keeps_its_error_and_the_others_name_it() {
        let found = among(None, |ranks| {
            let broken = |rank: usize| CollectiveError::NotStarted(format!("fault {rank}"));
            ranks.agree(if ranks.rank() == 0 { Ok(()) } else { Err(broken(ranks.rank())) }).unwrap_err().to_string()
        });
        let own = "MPI did not start: fault 1";
        assert_eq!(found, [format!("rank 1: {own}"), own.to_owned(), format!("rank 1: {own}")]);
    }

    #[test]
    fn a_stop_that_one_rank_is_asked_for_counts_for_all_from_the_next_exchange_on() {
        let found = among(Some(1), |ranks| {
            let before = ranks.agreed.requested();
            let said = ranks.first_says(ranks.rank() == 0).unwrap();
            (before, said, ranks.agreed.requested(), ranks.stop_alone().requested())
        });
        assert_eq!(found, [(None, true, Some(15), None); 3]);
    }
}
