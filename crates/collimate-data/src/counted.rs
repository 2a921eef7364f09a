//! Counts with their nouns, for messages.

/// A count with its noun: `1 row`, `2 rows`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {}", noun_for(count, noun))
}

/// The noun for a count that is written before it in another form, such as with separated thousands: `row`, `rows`.
pub fn noun_for(count: usize, noun: &str) -> String {
    either(count, noun, &format!("{noun}s")).to_owned()
}

/// The first for one, else the second: `was` or `were`.
pub fn either<'a>(count: usize, one: &'a str, several: &'a str) -> &'a str {
    if count == 1 { one } else { several }
}
