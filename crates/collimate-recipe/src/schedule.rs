//! The learning rate of each step, as transformers' schedules compute it.

mod arguments;
mod kind;
#[cfg(test)]
mod tests;

use std::f64::consts::PI;

pub use arguments::ScheduleArguments;
use arguments::{CURVES, POLYNOMIAL_END};
pub use kind::ScheduleKind;

/// The learning rate as a function of the step.
///
/// Source: `get_scheduler` of transformers (`optimization.py`), which defines the same names and arguments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    shape: Shape,
    base_lr: f64,
    warmup_steps: usize,
    total_steps: usize,
}

/// A kind of schedule with its arguments.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Constant,
    ConstantWithWarmup,
    Linear,
    Cosine {
        cycles: f64,
        floor: f64,
    },
    /// As `Cosine`, one step ahead; `first` is the factor of the first step of the warm-up.
    CosineAhead {
        cycles: f64,
        floor: f64,
        first: Option<f64>,
    },
    Restarts {
        cycles: f64,
    },
    Polynomial {
        floor: f64,
        power: f64,
    },
    InverseSqrt {
        timescale: f64,
    },
    Stable {
        rise: Curve,
        steps: f64,
        decay: Curve,
        decay_steps: f64,
        floor: f64,
        cycles: f64,
    },
}

/// How a factor goes from 1 to 0.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Curve {
    Linear,
    Cosine,
    Root,
}

impl Curve {
    /// The curve with a name of [`CURVES`].
    fn from_name(name: &str) -> Self {
        match CURVES.iter().position(|known| *known == name) {
            Some(1) => Self::Cosine,
            Some(2) => Self::Root,
            _ => Self::Linear,
        }
    }
}

impl Schedule {
    /// A schedule that rises to `base_lr` over `warmup_steps` and ends after `total_steps`, with the kind's own arguments.
    pub fn new(kind: ScheduleKind, base_lr: f64, warmup_steps: usize, total_steps: usize) -> Self {
        let unchanged = Self { shape: Shape::Constant, base_lr, warmup_steps, total_steps };
        unchanged.with_arguments(kind, &ScheduleArguments::default())
    }

    /// The same with arguments, which must be valid for the kind.
    pub fn with_arguments(self, kind: ScheduleKind, arguments: &ScheduleArguments) -> Self {
        let number = |name: &str, default: f64| arguments.number(name).unwrap_or(default);
        let curve = |name: &str, default: &str| Curve::from_name(arguments.text(name).unwrap_or(default));
        let floor =
            || arguments.number("min_lr").map_or_else(|| number("min_lr_rate", 0.0), |rate| rate / self.base_lr);
        let shape = match kind {
            ScheduleKind::Constant => Shape::Constant,
            ScheduleKind::ConstantWithWarmup => Shape::ConstantWithWarmup,
            ScheduleKind::Linear => Shape::Linear,
            ScheduleKind::Cosine => Shape::Cosine { cycles: number("num_cycles", 0.5), floor: 0.0 },
            ScheduleKind::CosineWithMinLr => Shape::Cosine { cycles: number("num_cycles", 0.5), floor: floor() },
            ScheduleKind::CosineWarmupWithMinLr => Shape::CosineAhead {
                cycles: number("num_cycles", 0.5),
                floor: floor(),
                first: arguments.number("warmup_lr_rate"),
            },
            ScheduleKind::CosineWithRestarts => Shape::Restarts { cycles: number("num_cycles", 1.0) },
            ScheduleKind::Polynomial => {
                let floor = number("lr_end", POLYNOMIAL_END) / self.base_lr;
                Shape::Polynomial { floor, power: number("power", 1.0) }
            }
            ScheduleKind::InverseSqrt => {
                let timescale = if self.warmup_steps == 0 { 10_000.0 } else { self.warmup_steps as f64 };
                Shape::InverseSqrt { timescale: number("timescale", timescale) }
            }
            ScheduleKind::WarmupStableDecay => {
                let decay_steps = number("num_decay_steps", 0.0);
                let rest = self.total_steps as f64 - self.warmup_steps as f64 - decay_steps;
                Shape::Stable {
                    rise: curve("warmup_type", "linear"),
                    steps: number("num_stable_steps", rest),
                    decay: curve("decay_type", "cosine"),
                    decay_steps,
                    floor: number("min_lr_ratio", 0.0),
                    cycles: number("num_cycles", 0.5),
                }
            }
        };
        Self { shape, ..self }
    }

    /// The learning rate of a step, counted from 0; with warm-up the first is 0 in most schedules.
    pub fn lr(&self, step: usize) -> f64 {
        self.base_lr * self.factor(step)
    }

    fn factor(&self, step: usize) -> f64 {
        if self.shape == Shape::Constant {
            return 1.0;
        }
        if step < self.warmup_steps {
            return self.warm_up(step as f64 / self.warmup_steps as f64, step);
        }
        let steps = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let past = (step - self.warmup_steps) as f64;
        // Clamped: beyond the end a cosine would rise again.
        let progress = (past / steps).min(1.0);
        match self.shape {
            Shape::Constant | Shape::ConstantWithWarmup => 1.0,
            Shape::Linear => self.total_steps.saturating_sub(step) as f64 / steps,
            Shape::Cosine { cycles, floor } => above(floor, wave(cycles, progress)),
            Shape::CosineAhead { cycles, floor, .. } => above(floor, wave(cycles, ((past + 1.0) / steps).min(1.0))),
            Shape::Restarts { .. } if progress >= 1.0 => 0.0,
            Shape::Restarts { cycles } => 0.5 * (1.0 + (PI * (cycles * progress).fract()).cos()),
            Shape::Polynomial { floor, power } => above(floor, (1.0 - progress).powf(power)),
            Shape::InverseSqrt { timescale } => {
                1.0 / ((step as f64 + timescale - self.warmup_steps as f64) / timescale).sqrt()
            }
            Shape::Stable { steps, decay, decay_steps, floor, cycles, .. } => {
                if past < steps {
                    return 1.0;
                }
                if past >= steps + decay_steps {
                    return floor;
                }
                let progress = (past - steps) / decay_steps.max(1.0);
                let factor = match decay {
                    Curve::Linear => 1.0 - progress,
                    Curve::Cosine => wave(cycles, progress),
                    Curve::Root => 1.0 - progress.sqrt(),
                };
                above(floor, factor)
            }
        }
    }

    /// The factor of a warm-up step; `progress` is the share of the warm-up that is over.
    fn warm_up(&self, progress: f64, step: usize) -> f64 {
        let steps = self.warmup_steps as f64;
        match self.shape {
            Shape::CosineAhead { first: None, .. } => (step as f64 + 1.0) / steps,
            Shape::CosineAhead { first: Some(first), .. } => {
                first + (1.0 - first) * step as f64 / (steps - 1.0).max(1.0)
            }
            Shape::Stable { rise, floor, .. } => above(
                floor,
                match rise {
                    Curve::Linear => progress,
                    Curve::Cosine => 0.5 * (1.0 - (PI * progress).cos()),
                    Curve::Root => 1.0 - (1.0 - progress).sqrt(),
                },
            ),
            _ => progress,
        }
    }
}

/// A cosine of `cycles` whole waves from 1.
fn wave(cycles: f64, progress: f64) -> f64 {
    0.5 * (1.0 + (PI * cycles * 2.0 * progress).cos())
}

/// A factor in [0, 1] as one in [`floor`, 1], never below zero.
fn above(floor: f64, factor: f64) -> f64 {
    (factor * (1.0 - floor) + floor).max(0.0)
}
