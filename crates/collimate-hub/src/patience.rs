//! How often a question or a download is tried again, and how long in all.

use std::time::Duration;

/// Bytes after which a download counts as going on. Fewer could come one by one for ever.
const GAIN_BYTES: u64 = 1 << 20;
/// Bytes after which more time may be lost: a network that brought so much comes back.
const MANY_BYTES: u64 = 16 << 20;

/// Decides after each failure whether to try again. Only time that was lost counts: waits in which nothing arrived.
#[derive(Debug)]
pub(crate) struct Patience {
    /// The longest wait for an answer or a byte.
    timeout: Duration,
    /// Time that may be lost since the last gain.
    limit: Duration,
    lost: Duration,
    failures: u32,
    most_failures: u32,
    /// Bytes at the beginning.
    first: u64,
    /// Bytes at the last gain.
    mark: u64,
}

impl Patience {
    /// For a question, whose answer is short.
    pub(crate) fn for_question(timeout: Duration) -> Self {
        Self {
            timeout,
            limit: timeout.mul_f64(1.5),
            lost: Duration::ZERO,
            failures: 0,
            most_failures: 3,
            first: 0,
            mark: 0,
        }
    }

    /// For a file of which `done` bytes are there.
    pub(crate) fn for_file(timeout: Duration, done: u64) -> Self {
        Self { most_failures: 8, first: done, mark: done, ..Self::for_question(timeout) }
    }

    /// The longest wait of the next attempt.
    pub(crate) fn next_timeout(&self) -> Duration {
        let left = self.limit.saturating_sub(self.lost).max(self.timeout.mul_f64(0.1));
        self.timeout.min(left)
    }

    /// An attempt failed after a wait of `waited` in vain, with `done` bytes there. Returns how long to wait before the
    /// next one, or `None` to give up. `asked` is how long the server asks to wait.
    pub(crate) fn failed(&mut self, waited: Duration, done: u64, asked: Option<Duration>) -> Option<Duration> {
        if done >= self.mark.saturating_add(GAIN_BYTES) {
            (self.mark, self.lost, self.failures) = (done, Duration::ZERO, 0);
            if done - self.first.min(done) >= MANY_BYTES {
                self.limit = self.timeout.mul_f64(4.5);
            }
        }
        self.failures += 1;
        self.lost += waited;
        // Half a second at first where a timeout is ten, and doubled each time.
        let pause = self.timeout.mul_f64(0.05 * f64::from(1_u32 << (self.failures - 1).min(4)));
        let pause = asked.unwrap_or(pause).max(pause);
        let goes_on = self.failures < self.most_failures && self.lost + pause < self.limit;
        self.lost += pause;
        goes_on.then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn half_seconds(count: u32) -> Duration {
        Duration::from_millis(500) * count
    }

    #[test]
    fn a_silent_hub_is_asked_twice_within_fifteen_seconds() {
        let mut patience = Patience::for_question(TEN);
        assert_eq!(patience.next_timeout(), TEN);
        assert_eq!(patience.failed(TEN, 0, None), Some(half_seconds(1)));
        assert_eq!(patience.next_timeout(), half_seconds(9));
        assert_eq!(patience.failed(half_seconds(9), 0, None), None);
    }

    #[test]
    fn a_refused_connection_is_tried_three_times() {
        let mut patience = Patience::for_question(TEN);
        let waits = [(); 3].map(|()| patience.failed(Duration::ZERO, 0, None));
        assert_eq!(waits, [Some(half_seconds(1)), Some(half_seconds(2)), None]);
    }

    #[test]
    fn a_download_that_went_on_is_tried_again_for_longer() {
        let mut patience = Patience::for_file(TEN, 0);
        let mut waited = Duration::ZERO;
        while let Some(pause) = patience.failed(patience.next_timeout(), MANY_BYTES, None) {
            waited += TEN + pause;
        }
        assert!(waited > Duration::from_secs(25) && waited < Duration::from_secs(45), "{waited:?}");
        // A further gain begins anew.
        assert_eq!(patience.failed(TEN, MANY_BYTES + GAIN_BYTES, None), Some(half_seconds(1)));
    }

    #[test]
    fn a_byte_at_a_time_is_no_gain() {
        let mut patience = Patience::for_file(TEN, 0);
        let attempts = (1..).take_while(|&done| patience.failed(Duration::ZERO, done, None).is_some()).count();
        assert_eq!(attempts, 4, "pauses of 0.5, 1, 2 and 4 s, and the next would pass 15 s");
    }

    #[test]
    fn a_server_that_asks_for_too_long_a_wait_is_given_up() {
        let mut patience = Patience::for_question(TEN);
        assert_eq!(patience.failed(Duration::ZERO, 0, Some(half_seconds(4))), Some(half_seconds(4)));
        assert_eq!(patience.failed(Duration::ZERO, 0, Some(Duration::from_secs(60))), None);
    }
}
