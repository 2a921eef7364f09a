//! Medians, and formatting of numbers.

/// The median; NaN for an empty slice.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Smallest and largest.
pub fn range(values: &[f64]) -> (f64, f64) {
    let fold = |start, pick: fn(f64, f64) -> f64| values.iter().copied().fold(start, pick);
    (fold(f64::INFINITY, f64::min), fold(f64::NEG_INFINITY, f64::max))
}

/// Bytes as GB with one or two digits.
pub fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

/// A table that is readable as text and as Markdown: columns as wide as needed, the first one left-aligned.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count(), 3]).max().unwrap_or(3)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| match i {
            0 => format!(" {cell:<width$} |"),
            _ => format!(" {cell:>width$} |"),
        });
        format!("|{}\n", cells.collect::<String>())
    };
    let rules = widths.iter().enumerate().map(|(i, &width)| match i {
        0 => format!("-{}-|", "-".repeat(width)),
        _ => format!("-{}:|", "-".repeat(width)),
    });
    let header: Vec<String> = header.iter().map(ToString::to_string).collect();
    let body: String = rows.iter().map(|row| line(row)).collect();
    format!("{}|{}\n{body}", line(&header), rules.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), (2.0 + 3.0) / 2.0);
        assert!(median(&[]).is_nan());
        assert_eq!(range(&[3.0, 1.0, 2.0]), (1.0, 3.0));
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [vec!["a".to_owned(), "1.5".to_owned()], vec!["long name".to_owned(), "12.25".to_owned()]];
        let expected = "| work      |     s |\n|-----------|------:|\n| a         |   1.5 |\n| long name | 12.25 |\n";
        assert_eq!(table(&["work", "s"], &rows), expected);
    }
}
