//! Runs that end before their last step.

use super::Steps;
use crate::control::RunContext;
use crate::error::TrainError;

impl Steps<'_> {
    /// Whether there is another step, and nothing in the evaluations that ends the run.
    pub(super) fn has_steps_left(&self) -> bool {
        self.state.global_step < self.run.counts.total_steps && self.reason_to_end().is_none()
    }

    pub(super) fn reason_to_end(&self) -> Option<String> {
        collimate_best::reason_to_end(self.run.given, &self.state.standing)
    }

    /// Says why a run ends although steps are left, if it does; its last checkpoint stays.
    pub(super) fn end_early(&mut self, context: &mut RunContext<'_>) -> Result<(), TrainError> {
        let (done, all) = (self.state.global_step, self.run.counts.total_steps);
        let Some(reason) = self.reason_to_end().filter(|_| done < all) else { return Ok(()) };
        if self.state.interim {
            self.state.interim = false;
            self.save(context)?;
        }
        context.observer.note(&format!("the run ends after step {done} of {all}: {reason}"));
        Ok(())
    }
}
