//! Learning rates against transformers' and arithmetic.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::values::KeyType;

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

fn arguments(yaml: &str) -> ScheduleArguments {
    ScheduleArguments::from_yaml(&serde_yaml_ng::from_str(yaml).expect("YAML")).expect("arguments")
}

/// `get_scheduler` of transformers 5.23 at a base rate of 1e-5 and 12 steps, in units of the base rate, for the steps 0, 1,
/// 4, 7 and 11.
#[rstest]
#[case("cosine", "{}", 3, [0.0, 0.333333333, 0.96984631, 0.586824089, 0.03015369])]
#[case("cosine", "{num_cycles: 1.5}", 3, [0.0, 0.333333333, 0.75, 0.25, 0.25])]
#[case("linear", "{}", 3, [0.0, 0.333333333, 0.888888889, 0.555555556, 0.111111111])]
#[case("constant_with_warmup", "{}", 3, [0.0, 0.333333333, 1.0, 1.0, 1.0])]
#[case("cosine_with_restarts", "{num_cycles: 2}", 3, [0.0, 0.333333333, 0.883022222, 0.03015369, 0.116977778])]
#[case("cosine_with_min_lr", "{min_lr_rate: 0.1}", 3, [0.0, 0.333333333, 0.972861679, 0.62814168, 0.127138321])]
#[case("cosine_with_min_lr", "{min_lr: 1e-06}", 3, [0.0, 0.333333333, 0.972861679, 0.62814168, 0.127138321])]
#[case("cosine_warmup_with_min_lr", "{min_lr_rate: 0.1}", 3, [0.333333333, 0.666666667, 0.894719999, 0.47185832, 0.1])]
#[case("cosine_warmup_with_min_lr", "{min_lr: 2e-06, warmup_lr_rate: 0.2}", 3, [0.2, 0.6, 0.906417777, 0.530540729, 0.2])]
#[case("polynomial", "{}", 3, [0.0, 0.333333333, 0.89, 0.56, 0.12])]
#[case("polynomial", "{lr_end: 2e-06, power: 2.0}", 3, [0.0, 0.333333333, 0.832098765, 0.44691358, 0.209876543])]
#[case("inverse_sqrt", "{}", 3, [0.0, 0.333333333, 0.866025404, 0.654653671, 0.522232968])]
#[case("inverse_sqrt", "{timescale: 7}", 3, [0.0, 0.333333333, 0.935414347, 0.797724035, 0.683130051])]
#[case("warmup_stable_decay", "{num_decay_steps: 4}", 3, [0.0, 0.333333333, 1.0, 1.0, 0.146446609])]
#[case("warmup_stable_decay", "{num_decay_steps: 3, num_stable_steps: 2, warmup_type: cosine, decay_type: 1-sqrt, min_lr_ratio: 0.2}", 3, [0.2, 0.4, 1.0, 0.346802735, 0.2])]
#[case("warmup_stable_decay", "{num_decay_steps: 5, warmup_type: 1-sqrt, decay_type: linear}", 3, [0.0, 0.183503419, 1.0, 1.0, 0.2])]
#[case("cosine", "{}", 0, [1.0, 0.982962913, 0.75, 0.370590477, 0.017037087])]
#[case("cosine", "{num_cycles: 1.5}", 0, [1.0, 0.853553391, 0.0, 0.853553391, 0.146446609])]
#[case("linear", "{}", 0, [1.0, 0.916666667, 0.666666667, 0.416666667, 0.083333333])]
#[case("constant_with_warmup", "{}", 0, [1.0, 1.0, 1.0, 1.0, 1.0])]
#[case("cosine_with_restarts", "{num_cycles: 2}", 0, [1.0, 0.933012702, 0.25, 0.933012702, 0.066987298])]
#[case("cosine_with_min_lr", "{min_lr_rate: 0.1}", 0, [1.0, 0.984666622, 0.775, 0.43353143, 0.115333378])]
#[case("cosine_with_min_lr", "{min_lr: 1e-06}", 0, [1.0, 0.984666622, 0.775, 0.43353143, 0.115333378])]
#[case("cosine_warmup_with_min_lr", "{min_lr_rate: 0.1}", 0, [0.984666622, 0.939711432, 0.66646857, 0.325, 0.1])]
#[case("cosine_warmup_with_min_lr", "{min_lr: 2e-06, warmup_lr_rate: 0.2}", 0, [0.986370331, 0.946410162, 0.703527618, 0.4, 0.2])]
#[case("polynomial", "{}", 0, [1.0, 0.9175, 0.67, 0.4225, 0.0925])]
#[case("polynomial", "{lr_end: 2e-06, power: 2.0}", 0, [1.0, 0.872222222, 0.555555556, 0.338888889, 0.205555556])]
#[case("inverse_sqrt", "{}", 0, [1.0, 0.999950004, 0.99980006, 0.999650184, 0.999450453])]
#[case("inverse_sqrt", "{timescale: 7}", 0, [1.0, 0.935414347, 0.797724035, std::f64::consts::FRAC_1_SQRT_2, 0.623609564])]
#[case("warmup_stable_decay", "{num_decay_steps: 4}", 0, [1.0, 1.0, 1.0, 1.0, 0.146446609])]
#[case("warmup_stable_decay", "{num_decay_steps: 3, num_stable_steps: 2, warmup_type: cosine, decay_type: 1-sqrt, min_lr_ratio: 0.2}", 0, [1.0, 1.0, 0.346802735, 0.2, 0.2])]
#[case("warmup_stable_decay", "{num_decay_steps: 5, warmup_type: 1-sqrt, decay_type: linear}", 0, [1.0, 1.0, 1.0, 1.0, 0.2])]
fn rates_are_those_of_transformers(
    #[case] name: &str,
    #[case] given: &str,
    #[case] warmup_steps: usize,
    #[case] expected: [f64; 5],
) {
    let kind = ScheduleKind::from_name(name).expect("a schedule");
    let given = arguments(given);
    assert_eq!(given.problem(kind, 1e-5), None);
    let schedule = Schedule::new(kind, 1e-5, warmup_steps, 12).with_arguments(kind, &given);
    let found = [0, 1, 4, 7, 11].map(|step| schedule.lr(step) / 1e-5);
    assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-8), "{found:?}");
}

#[rstest]
#[case("cosine", "{min_lr: 1e-6}", "\"min_lr\" is no argument of cosine, which takes num_cycles")]
#[case("linear", "{power: 2}", "\"power\" is no argument of linear, which takes no arguments")]
#[case("cosine_with_min_lr", "{}", "cosine_with_min_lr needs one of min_lr and min_lr_rate")]
#[case("cosine_with_min_lr", "{min_lr: 1e-6, min_lr_rate: 0.1}", "cosine_with_min_lr needs one of")]
#[case("polynomial", "{lr_end: 0.1}", "lr_end (1e-1) must be below learning_rate (1e-5)")]
#[case("warmup_stable_decay", "{}", "warmup_stable_decay needs num_decay_steps")]
#[case("warmup_stable_decay", "{num_decay_steps: 1, decay_type: exp}", "decay_type must be linear, cosine, 1-sqrt")]
#[case("inverse_sqrt", "{timescale: 0}", "timescale must be above 0, is 0")]
#[case("polynomial", "{power: fast}", "power must be a number, is \"fast\"")]
fn wrong_arguments_are_named(#[case] name: &str, #[case] given: &str, #[case] expected: &str) {
    let kind = ScheduleKind::from_name(name).expect("a schedule");
    let problem = arguments(given).problem(kind, 1e-5).expect("a problem");
    assert!(problem.starts_with(expected), "{problem}");
}

#[test]
fn arguments_may_be_json_and_read_back() {
    let table = arguments("{min_lr_rate: 0.1, num_cycles: null}");
    assert_eq!(arguments("'{\"min_lr_rate\": 0.1}'"), table);
    assert_eq!(arguments(&serde_yaml_ng::to_string(&table).expect("YAML")), table);
    assert!(arguments("null").is_empty() && ScheduleArguments::from_yaml(&"fast".into()).is_none());
}

proptest! {
    #[test]
    fn the_rate_stays_between_zero_and_its_base(warmup in 0usize..20, total in 0usize..40, step in 0usize..80) {
        for kind in ScheduleKind::all() {
            let rate = Schedule::new(kind, 1.0, warmup, total).lr(step);
            prop_assert!((0.0..=1.0).contains(&rate), "{kind:?} {rate}");
        }
    }
}
