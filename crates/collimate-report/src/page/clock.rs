//! Marks what a second run of the same recipe would not repeat: times, and memory.

/// The piece between marks, by which runs are compared without it.
pub(super) fn clock(html: &str) -> String {
    format!("<!--clock-->{html}<!--/clock-->")
}
