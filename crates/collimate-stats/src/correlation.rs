//! Pearson correlation in a single pass.

/// Co-moments of pairs (x, y), updated by Welford's method, which stays accurate at large means.
#[derive(Debug, Clone, Copy, Default)]
pub struct Correlation {
    num: f64,
    mean_x: f64,
    mean_y: f64,
    squares_x: f64,
    squares_y: f64,
    products: f64,
}

impl Correlation {
    /// Adds a pair.
    pub fn add(&mut self, x: f64, y: f64) {
        self.num += 1.0;
        let (dx, dy) = (x - self.mean_x, y - self.mean_y);
        self.mean_x += dx / self.num;
        self.mean_y += dy / self.num;
        self.squares_x += dx * (x - self.mean_x);
        self.squares_y += dy * (y - self.mean_y);
        self.products += dx * (y - self.mean_y);
    }

    /// Adds another sample's deviations from its own means rather than the common ones.
    pub(crate) fn pool(&mut self, other: &Self) {
        self.num += other.num;
        self.squares_x += other.squares_x;
        self.squares_y += other.squares_y;
        self.products += other.products;
    }

    /// The correlation so far; `None` if either variable is constant.
    pub fn pearson(&self) -> Option<f64> {
        let scale = self.squares_x.sqrt() * self.squares_y.sqrt();
        (scale > 0.0).then(|| self.products / scale)
    }

    pub(crate) fn mean_x(&self) -> Option<f64> {
        (self.num > 0.0).then_some(self.mean_x)
    }

    pub(crate) fn deviation_x(&self) -> Option<f64> {
        (self.num > 0.0).then(|| (self.squares_x / self.num).sqrt())
    }
}
