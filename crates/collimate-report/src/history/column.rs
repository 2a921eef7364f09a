//! One figure over steps, in bounded memory.

/// The values of one figure.
#[derive(Debug, Clone, Default)]
pub(super) struct Column {
    /// The first and last value, with or without a step.
    ends: Option<(f64, f64)>,
    /// Sum of all values with a step, and their number.
    sum: f64,
    count: usize,
    /// Means of `2^halvings` consecutive points each.
    points: Vec<(f64, f64)>,
    halvings: u32,
    /// Sums of the points that do not make up a mean yet.
    open: (f64, f64),
    num_open: usize,
}

impl Column {
    /// Adds a value; a line that has no `room` left is thinned by half.
    pub(super) fn push(&mut self, step: Option<f64>, value: f64, room: usize) {
        self.ends = Some((self.ends.map_or(value, |ends| ends.0), value));
        let Some(step) = step else { return };
        self.sum += value;
        self.count += 1;
        self.open = (self.open.0 + step, self.open.1 + value);
        self.num_open += 1;
        if self.num_open == 1 << self.halvings {
            self.points.push(self.open_mean());
            (self.open, self.num_open) = ((0.0, 0.0), 0);
        }
        while self.points.len() > room.max(2) {
            self.halve();
        }
    }

    /// Averages neighbors. The last of an odd number waits for the next.
    fn halve(&mut self) {
        if self.points.len() % 2 == 1 {
            let size = (1_usize << self.halvings) as f64;
            let last = self.points.pop().unwrap_or_default();
            self.open = (self.open.0 + last.0 * size, self.open.1 + last.1 * size);
            self.num_open += 1 << self.halvings;
        }
        let mean = |pair: &[(f64, f64)]| (0.5 * (pair[0].0 + pair[1].0), 0.5 * (pair[0].1 + pair[1].1));
        self.points = self.points.chunks_exact(2).map(mean).collect();
        self.halvings += 1;
    }

    fn open_mean(&self) -> (f64, f64) {
        let count = self.num_open as f64;
        (self.open.0 / count, self.open.1 / count)
    }

    /// The line, with what is left over at its end.
    pub(super) fn points(&self) -> Vec<(f64, f64)> {
        let rest = (self.num_open > 0).then(|| self.open_mean());
        self.points.iter().copied().chain(rest).collect()
    }

    pub(super) fn ends(&self) -> Option<(f64, f64)> {
        self.ends
    }

    /// The mean of all values that have a step.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}
