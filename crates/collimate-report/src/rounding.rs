//! What rounding the final weights takes of what was learned.
//!
//! Training updates float32 weights, and every figure of a run is measured with them. A change smaller than half the distance
//! of two numbers of the storage dtype is lost when they are rounded to it, so a model stored in bfloat16 may be nearer to
//! its base than the one that was measured.

use collimate_data::counted;

/// Float32 is kept if rounding takes more than this share of the learned margin.
const MAX_SHARE: f64 = 0.05;

/// What rounding takes of what was learned: the mean margin of some groups' log-probs, in nats. The margin of a group is the
/// chosen response's log-prob less the mean of the others'; of a single response, its log-prob.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounding {
    /// The dtype of the final weights, if rounding takes little: `bfloat16`.
    pub dtype: String,
    /// Whether the recipe names that dtype, so that it is kept in any case.
    pub is_named: bool,
    /// Number of groups measured with.
    pub num_groups: usize,
    /// The margin before training.
    pub before: f64,
    /// The margin of the weights that were trained and measured, in float32.
    pub trained: f64,
    /// The margin of the rounded weights; `None` if a weight is too large for the dtype.
    pub rounded: Option<f64>,
    /// Where a log-prob is not finite, so that there is nothing to compare: file and line, and with which weights.
    pub not_finite: Option<String>,
}

impl Rounding {
    /// The share of the learned margin that the rounded weights have; 1 if rounding changes nothing.
    pub fn kept(&self) -> f64 {
        match self.rounded {
            Some(rounded) if rounded == self.trained => 1.0,
            Some(rounded) if self.trained != self.before => (rounded - self.before) / (self.trained - self.before),
            _ => 0.0,
        }
    }

    /// Whether rounding takes too much.
    fn matters(&self) -> bool {
        let learned = (self.trained - self.before).abs();
        self.not_finite.is_some()
            || self.rounded.is_none_or(|rounded| (rounded - self.trained).abs() > MAX_SHARE * learned)
    }

    /// Whether the final weights are saved in float32 instead.
    pub fn keeps_float32(&self) -> bool {
        self.rounded.is_none() || (self.matters() && !self.is_named)
    }

    /// A line for the summary.
    pub fn line(&self) -> String {
        let dtype = self.dtype.as_str();
        let saved = if self.keeps_float32() { "float32" } else { dtype };
        let Some(rounded) = self.rounded else {
            return format!("saved in {saved}: a weight is too large for {dtype}");
        };
        if let Some(place) = &self.not_finite {
            let warning = if self.is_named { "warning: " } else { "" };
            return format!(
                "{warning}saved in {saved}: what {dtype} takes is not known, a log-prob is not finite at {place}"
            );
        }
        let figures = format!(
            "margin {:.4} before, {:.4} trained, {rounded:.4} in {dtype}: {:.1} % of the change ({})",
            self.before,
            self.trained,
            100.0 * self.kept(),
            counted(self.num_groups, "prompt"),
        );
        let then = match (self.matters(), self.is_named) {
            (false, _) => "",
            (true, false) => "; torch_dtype: ",
            (true, true) => "; leave torch_dtype out, and what was measured is saved in float32",
        };
        let forced =
            if self.matters() && !self.is_named { format!("{then}{dtype} saves it rounded") } else { then.to_owned() };
        let warning = if self.matters() && self.is_named { "warning: " } else { "" };
        format!("{warning}saved in {saved}: {figures}{forced}")
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn rounding(rounded: Option<f64>, is_named: bool) -> Rounding {
        let dtype = "bfloat16".to_owned();
        Rounding { dtype, is_named, num_groups: 6, before: 0.25, trained: 0.75, rounded, not_finite: None }
    }

    #[rstest]
    #[case(Some(0.75), false, false, 1.0)]
    #[case(Some(0.74), false, false, 0.98)]
    #[case(Some(0.5), false, true, 0.5)]
    #[case(Some(0.5), true, false, 0.5)]
    #[case(None, false, true, 0.0)]
    #[case(None, true, true, 0.0)]
    fn float32_is_kept_where_rounding_takes_much(
        #[case] rounded: Option<f64>,
        #[case] is_named: bool,
        #[case] keeps_float32: bool,
        #[case] kept: f64,
    ) {
        let rounding = rounding(rounded, is_named);
        assert_eq!(rounding.keeps_float32(), keeps_float32);
        assert!((rounding.kept() - kept).abs() < 1e-12);
    }

    #[test]
    fn a_margin_that_is_no_number_is_named_and_float32_is_kept() {
        let place = Some("d.jsonl:3 in bfloat16".to_owned());
        let with = |is_named| Rounding { not_finite: place.clone(), ..rounding(Some(f64::NAN), is_named) };
        let what = "what bfloat16 takes is not known, a log-prob is not finite at d.jsonl:3 in bfloat16";
        assert!(with(false).keeps_float32() && !with(true).keeps_float32());
        assert_eq!(with(false).line(), format!("saved in float32: {what}"));
        assert_eq!(with(true).line(), format!("warning: saved in bfloat16: {what}"));
    }

    #[test]
    fn without_a_change_no_share_of_it_is_kept() {
        let nothing = Rounding { trained: 0.25, ..rounding(Some(0.5), false) };
        assert_eq!((nothing.kept(), nothing.keeps_float32()), (0.0, true));
    }

    #[test]
    fn the_line_has_the_figures() {
        assert_eq!(
            rounding(Some(0.5), false).line(),
            "saved in float32: margin 0.2500 before, 0.7500 trained, 0.5000 in bfloat16: 50.0 % of the change (6 prompts); \
             torch_dtype: bfloat16 saves it rounded"
        );
        assert!(rounding(Some(0.5), true).line().starts_with("warning: saved in bfloat16: margin 0.2500"));
        assert_eq!(rounding(None, true).line(), "saved in float32: a weight is too large for bfloat16");
    }
}
