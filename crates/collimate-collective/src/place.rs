//! Which rank a launcher says that this process is.

use crate::CollectiveError;

/// The variables of one launcher: what it is called, rank and size.
const LAUNCHERS: [(&str, &str, &str); 4] = [
    ("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("mpiexec", "PMI_RANK", "PMI_SIZE"),
    // A batch script of Slurm's, outside srun, has SLURM_PROCID and SLURM_NTASKS too, but no tasks of a step.
    ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ("torchrun", "RANK", "WORLD_SIZE"),
];

/// Which rank of how many a launcher started this process as. It is known before MPI starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// What started it.
    pub launcher: &'static str,
    /// This process's number, from 0.
    pub rank: usize,
    /// How many processes were started.
    pub size: usize,
}

impl Place {
    /// What the environment says; nothing if no launcher started this process.
    ///
    /// # Errors
    ///
    /// If a launcher's variables are not numbers, or the rank is not below the size.
    pub fn from_environment() -> Result<Option<Self>, CollectiveError> {
        Self::read(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// What the variables say that `lookup` returns. Of several launchers the innermost counts, which has both variables.
    fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, CollectiveError> {
        for (launcher, rank_name, size_name) in LAUNCHERS {
            let (Some(rank_value), Some(size_value)) = (lookup(rank_name), lookup(size_name)) else { continue };
            let size = number(size_name, &size_value)?;
            let rank = number(rank_name, &rank_value)?;
            if rank >= size {
                return Err(CollectiveError::Variable {
                    variable: rank_name,
                    value: rank_value,
                    expected: format!("a number below {size_name}, which is {size}"),
                });
            }
            return Ok(Some(Self { launcher, rank, size }));
        }
        Ok(None)
    }
}

fn number(variable: &'static str, value: &str) -> Result<usize, CollectiveError> {
    value.trim().parse().map_err(|_| CollectiveError::Variable {
        variable,
        value: value.to_owned(),
        expected: "a whole number".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Place>, CollectiveError> {
        Place::read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn each_launcher_is_recognized_by_its_variables() {
        for (launcher, rank, size) in LAUNCHERS {
            assert_eq!(read(&[(rank, "2"), (size, "4")]), Ok(Some(Place { launcher, rank: 2, size: 4 })));
        }
    }

    #[test]
    fn no_launcher_and_a_batch_script_are_one_process() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")]), Ok(None));
    }

    #[test]
    fn a_broken_variable_is_named() {
        let not_a_number = read(&[("RANK", "first"), ("WORLD_SIZE", "2")]).unwrap_err().to_string();
        assert_eq!(not_a_number, "environment variable RANK is \"first\", expected a whole number");
        let too_high = read(&[("PMI_RANK", "2"), ("PMI_SIZE", "2")]).unwrap_err().to_string();
        assert_eq!(too_high, "environment variable PMI_RANK is \"2\", expected a number below PMI_SIZE, which is 2");
    }
}
