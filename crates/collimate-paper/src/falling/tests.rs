//! A short form: generated problems, a tiny model.

use super::*;

#[test]
fn infonca_lets_the_chosen_responses_fall_and_nca_holds_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let stages = Stages::new(folder.path(), String::new()).expect("stages");
    let size = FallingSize {
        num_sft: 160,
        sft_epochs: 2.0,
        num_preference: 64,
        num_held_out: 24,
        num_steps: 12,
        eval_steps: 4,
        learning_rate: 1e-3,
        ..FallingSize::quick()
    };
    let found = run(&stages, &size, None).expect("measured");
    assert!(!found.real && found.curves.len() == OBJECTIVES.len());
    for curve in &found.curves {
        assert_eq!(curve.held_out.iter().map(|moment| moment.step).collect::<Vec<_>>(), [0.0, 4.0, 8.0, 12.0]);
        assert_eq!((curve.held_out[0].chosen, curve.held_out[0].rejected), (0.0, 0.0));
    }
    let end = |name: &str, figure: fn(&Moment) -> f64| found.held_out(name, 12, figure).mean;
    let level = |name: &str| end(name, |moment| moment.chosen);
    // All objectives widen the margin.
    for name in OBJECTIVES {
        assert!(end(name, |moment| moment.chosen - moment.rejected) > 0.0, "{found:?}");
    }
    assert!(level("nca") > level("infonca") + 0.5 && level("nca") > level("dpo") + 0.5, "{found:?}");
}
