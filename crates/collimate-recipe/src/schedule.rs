//! The learning rate of each step, as transformers' schedules compute it.

use std::f64::consts::PI;

use serde::Serialize;

/// Shape of the learning rate after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Half a cosine down to zero.
    Cosine,
    /// A straight line down to zero.
    Linear,
    /// The base rate from the first step, without warm-up.
    Constant,
    /// The base rate after warm-up.
    ConstantWithWarmup,
}

impl ScheduleKind {
    /// The kind with this name in recipes.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "cosine" => Self::Cosine,
            "linear" => Self::Linear,
            "constant" => Self::Constant,
            "constant_with_warmup" => Self::ConstantWithWarmup,
            _ => return None,
        })
    }

    /// Its name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Linear => "linear",
            Self::Constant => "constant",
            Self::ConstantWithWarmup => "constant_with_warmup",
        }
    }
}

/// The learning rate as a function of the step.
///
/// Source: `get_scheduler` of transformers (`optimization.py`), which defines the same four names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    kind: ScheduleKind,
    base_lr: f64,
    warmup_steps: usize,
    total_steps: usize,
}

impl Schedule {
    /// A schedule that rises to `base_lr` over `warmup_steps` and ends after `total_steps`.
    pub fn new(kind: ScheduleKind, base_lr: f64, warmup_steps: usize, total_steps: usize) -> Self {
        Self { kind, base_lr, warmup_steps, total_steps }
    }

    /// The learning rate of a step, counted from 0; with warm-up the first is 0.
    pub fn lr(&self, step: usize) -> f64 {
        self.base_lr * self.factor(step)
    }

    fn factor(&self, step: usize) -> f64 {
        if self.kind == ScheduleKind::Constant {
            return 1.0;
        }
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps as f64;
        }
        let decay_steps = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        match self.kind {
            ScheduleKind::Constant | ScheduleKind::ConstantWithWarmup => 1.0,
            ScheduleKind::Linear => self.total_steps.saturating_sub(step) as f64 / decay_steps,
            ScheduleKind::Cosine => {
                // Clamped: beyond the end the cosine would rise again.
                let progress = ((step - self.warmup_steps) as f64 / decay_steps).min(1.0);
                0.5 * (1.0 + (PI * progress).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(ScheduleKind::Cosine, 0, 0.0)]
    #[case(ScheduleKind::Cosine, 1, 6.0 / 3.0)]
    #[case(ScheduleKind::Cosine, 3, 6.0)]
    #[case(ScheduleKind::Cosine, 6, 6.0 * 0.5 * (1.0 + (PI * 3.0 / 9.0).cos()))]
    #[case(ScheduleKind::Cosine, 12, 0.0)]
    #[case(ScheduleKind::Cosine, 20, 0.0)]
    #[case(ScheduleKind::Linear, 2, 6.0 * 2.0 / 3.0)]
    #[case(ScheduleKind::Linear, 5, 6.0 * 7.0 / 9.0)]
    #[case(ScheduleKind::Linear, 20, 0.0)]
    #[case(ScheduleKind::Constant, 0, 6.0)]
    #[case(ScheduleKind::ConstantWithWarmup, 1, 6.0 / 3.0)]
    #[case(ScheduleKind::ConstantWithWarmup, 11, 6.0)]
    fn the_formulas(#[case] kind: ScheduleKind, #[case] step: usize, #[case] expected: f64) {
        assert!((Schedule::new(kind, 6.0, 3, 12).lr(step) - expected).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn the_rate_stays_between_zero_and_its_base(warmup in 0usize..20, total in 0usize..40, step in 0usize..80) {
            for kind in ["cosine", "linear", "constant", "constant_with_warmup"] {
                let kind = ScheduleKind::from_name(kind).expect("a known name");
                let rate = Schedule::new(kind, 1.0, warmup, total).lr(step);
                prop_assert!((0.0..=1.0).contains(&rate), "{kind:?} {rate}");
            }
        }
    }
}
