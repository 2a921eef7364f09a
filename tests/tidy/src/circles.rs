//! Import cycles between files: strongly connected components.

use std::collections::BTreeSet;

use crate::imports::Edges;

/// Every cycle, as the files in it. A file that uses only itself is not a cycle.
pub(crate) fn circles(num_files: usize, edges: &Edges) -> Vec<Vec<usize>> {
    let reaches: Vec<BTreeSet<usize>> = (0..num_files).map(|start| reachable(start, edges)).collect();
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for start in 0..num_files {
        let circle: Vec<usize> =
            reaches[start].iter().copied().filter(|&other| reaches[other].contains(&start)).collect();
        if circle.len() > 1 && seen.insert(circle.clone()) {
            circles.push(circle);
        }
    }
    circles
}

/// All files reachable from one in at least one step.
fn reachable(start: usize, edges: &Edges) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut next = vec![start];
    while let Some(file) = next.pop() {
        for (_, target) in edges.keys().filter(|(source, _)| *source == file) {
            if reached.insert(*target) {
                next.push(*target);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(pairs: &[(usize, usize)]) -> Edges {
        pairs.iter().map(|pair| (*pair, BTreeSet::new())).collect()
    }

    #[test]
    fn a_circle_may_have_any_length() {
        assert_eq!(circles(4, &edges(&[(0, 1), (1, 2), (2, 0), (2, 3)])), [vec![0, 1, 2]]);
        assert_eq!(circles(4, &edges(&[(0, 1), (1, 0), (2, 3), (3, 2), (1, 2)])), [vec![0, 1], vec![2, 3]]);
    }

    #[test]
    fn a_chain_is_no_circle() {
        assert!(circles(4, &edges(&[(0, 1), (0, 2), (1, 2), (2, 3)])).is_empty());
    }
}
