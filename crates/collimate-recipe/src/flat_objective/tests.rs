//! Keys of a recipe and arguments over them, in any order.

use collimate_objectives as _;
use rstest::rstest;
use serde_json::{Value as Json, json};

use crate::trl_tests::load;
use crate::{ParsedRecipe, Recipe, RecipeError, TrlDefaults, VERB};

/// A recipe with arguments of the form `key=value`.
fn with_arguments(recipe: &str, arguments: &str) -> Result<ParsedRecipe, RecipeError> {
    let arguments: Vec<_> = arguments.split_whitespace().map(|one| one.split_once('=').expect("key=value")).collect();
    load(recipe, &arguments)
}

fn objective(recipe: &str, arguments: &str) -> Json {
    let parsed = with_arguments(recipe, arguments).expect("a recipe");
    serde_json::to_value(&parsed.recipe.objective).expect("JSON")
}

#[rstest]
#[case::the_loss_after_its_parameter("", "beta=0.3 loss_type=ipo", json!({"name": "ipo", "beta": 0.3}))]
#[case::another_loss_than_the_files("beta: 0.3\nloss_type: sigmoid\n", "loss_type=ipo", json!({"name": "ipo", "beta": 0.3}))]
#[case::a_parameter_that_the_other_loss_lacks(
    "beta: 0.3\nlabel_smoothing: 0.1\nloss_type: sigmoid\n", "loss_type=ipo", json!({"name": "ipo", "beta": 0.3})
)]
#[case::a_term_with_another_weight(
    "loss_type: sigmoid\nrpo_alpha: 1.0\nbeta: 0.3\n",
    "rpo_alpha=0.5",
    json!({"name": "combine", "terms": [{"name": "dpo", "beta": 0.3}, {"name": "sft", "weight": 0.5}]})
)]
#[case::a_term_that_is_taken_back(
    "loss_type: sigmoid\nrpo_alpha: 1.0\nbeta: 0.3\n", "rpo_alpha=0", json!({"name": "dpo", "beta": 0.3})
)]
#[case::a_term_that_stays(
    "loss_type: sigmoid\nrpo_alpha: 1.0\n",
    "beta=0.3 loss_type=ipo",
    json!({"name": "combine", "terms": [{"name": "ipo", "beta": 0.3}, {"name": "sft", "weight": 1.0}]})
)]
#[case::the_weight_of_one_loss(
    "loss_type: sigmoid\nloss_weights: [0.5]\nbeta: 0.3\n", "",
    json!({"name": "combine", "terms": [{"name": "dpo", "weight": 0.5, "beta": 0.3}]})
)]
#[case::no_weight_of_one_loss("loss_type: sigmoid\nloss_weights: [1.0]\n", "", json!({"name": "dpo"}))]
fn arguments_come_after_the_recipe(#[case] recipe: &str, #[case] arguments: &str, #[case] expected: Json) {
    let recipe = format!("{recipe}run_name: one of TRL's\n");
    assert_eq!(objective(&recipe, arguments), expected);
}

#[rstest]
#[case("loss_weights=[0.8,0.2] loss_type=[sigmoid,sft]")]
#[case("loss_type=[sigmoid,sft] loss_weights=[0.8,0.2]")]
#[case("loss_type=[sigmoid,ipo,sft] loss_weights=[1,2,3] loss_type=[sigmoid,sft] loss_weights=[0.8,0.2]")]
#[case("loss_type=[sigmoid,sft] loss_weights=[1,2] beta=0.3 loss_weights=[0.8,0.2] beta=0.1")]
fn weights_and_losses_may_come_in_any_order(#[case] arguments: &str) {
    let expected = json!([{"name": "dpo", "weight": 0.8, "beta": 0.1}, {"name": "sft", "weight": 0.2}]);
    let found = objective("dataset_name: d\nbeta: 0.1\n", arguments);
    assert_eq!(found, json!({"name": "combine", "terms": expected}));
}

#[rstest]
#[case("loss_type: [sigmoid, sft]\nloss_weights: [1.0, 0.5]\n", "loss_weights=[1]", "1 weight for the 2 objectives")]
#[case("beta: 0.1\n", "loss_weights=0.5", "weights the losses of loss_type, which is not there")]
#[case("loss_type: hinge\n", "verb=cpo", "CPO's loss hinge is not supported")]
#[case("beta: 0.1\n", "verb=cpo loss_type=ipo", "CPO's loss ipo is not supported")]
#[case("loss_type: apo_zero_unpaired\n", "verb=kto", "KTO's loss apo_zero_unpaired is not supported")]
#[case("loss_type: dft\n", "verb=sft", "SFT's loss dft is not supported")]
fn what_cannot_be_meant_is_refused(#[case] recipe: &str, #[case] arguments: &str, #[case] problem: &str) {
    let error = with_arguments(recipe, arguments).expect_err("a contradiction").to_string();
    assert!(error.contains(problem), "{error}");
}

/// A trainer of TRL's leaves a recipe its loss, and a loss has the meaning that it has there.
#[rstest]
#[case("dpo", "loss_type: ipo\nbeta: 0.3\n", json!({"name": "ipo", "beta": 0.3}))]
#[case("dpo", "beta: 0.3\n", json!({"name": "dpo", "beta": 0.3}))]
#[case("cpo", "loss_type: sigmoid\ncpo_alpha: 0.5\n", json!({"name": "cpo", "sft_weight": 0.5}))]
#[case("cpo", "loss_type: simpo\ncpo_alpha: 0\nsimpo_gamma: 1\nbeta: 2\n", json!({"name": "simpo", "gamma": 1.0, "beta": 2.0}))]
#[case("kto", "loss_type: kto\ndesirable_weight: 1.3\n", json!({"name": "kto", "desirable_weight": 1.3}))]
#[case("sft", "loss_type: nll\n", json!({"name": "sft"}))]
#[case("sft", "loss_type: chunked_nll\n", json!({"name": "sft"}))]
fn a_trainer_has_its_own_losses(#[case] verb: &str, #[case] recipe: &str, #[case] expected: Json) {
    let recipe = format!("{recipe}run_name: one\n");
    let found = objective(&recipe, &format!("{VERB}={verb}"));
    for (name, value) in expected.as_object().expect("a table") {
        assert_eq!(&found[name], value, "{found}");
    }
}

#[test]
fn a_trainer_has_its_own_defaults() {
    let recipe = |text: &str, verb: &str| {
        let arguments = if verb.is_empty() { String::new() } else { format!("{VERB}={verb}") };
        let parsed =
            with_arguments(&format!("{text}dataset_name: d\nuse_peft: true\nlora_dropout: 0.05\n"), &arguments);
        let recipe = parsed.expect("a recipe").recipe;
        (recipe.learning_rate, recipe.shuffle, recipe.lora_dropout)
    };
    assert_eq!(recipe("", "dpo"), (1e-6, true, 0.0));
    // SFTConfig has another learning rate, and no `disable_dropout`.
    assert_eq!(recipe("", "sft"), (2e-5, true, 0.05));
    assert_eq!(recipe("learning_rate: 1e-4\n", "sft"), (1e-4, true, 0.05));
    assert_eq!(recipe("loss_type: nll\n", "sft"), (2e-5, true, 0.05));
    assert_eq!(recipe("loss_type: sft\n", ""), (1e-6, true, 0.0));
    // KTOConfig does not shuffle: its estimate of the divergence pairs neighbors.
    assert_eq!(recipe("", "kto"), (1e-6, false, 0.0));
    assert_eq!(recipe("loss_type: kto\n", ""), (1e-6, false, 0.0));
    assert_eq!(recipe("train_sampling_strategy: random\n", "kto"), (1e-6, true, 0.0));
}

#[rstest]
#[case::as_trl_is_called("model_name_or_path: m\n", 3.0)]
#[case::a_recipe_of_ours("model_name_or_path: m\ndata: d.jsonl\n", 1.0)]
#[case::a_recipe_of_ours_that_reports("data: d.jsonl\nreport_to: wandb\n", 1.0)]
#[case::a_recipe_of_trls_that_reports("model_name_or_path: m\nreport_to: wandb\n", 3.0)]
fn arguments_tell_whose_a_recipe_is_unless_the_recipe_does(#[case] text: &str, #[case] epochs: f64) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("r.yaml");
    std::fs::write(&path, text).expect("a file");
    let arguments = [("dataset_name", "d")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let arguments = if text.contains("data:") { Vec::new() } else { arguments.to_vec() };
    let defaults = TrlDefaults::ByFileOrArguments(vec!["dataset_name".to_owned()]);
    let recipe = Recipe::parse_with(Some(&path), &arguments, &defaults).expect("a recipe").recipe;
    assert_eq!(recipe.num_train_epochs, epochs);
}

/// A verb that names the recipe's own objective changes nothing.
#[rstest]
#[case("dpo", "objective: {name: dpo, beta: 0.5}\n", json!({"name": "dpo", "beta": 0.5}))]
#[case("nca", "objective: {name: nca, beta: 0.5, alpha: 0.1}\n", json!({"name": "nca", "beta": 0.5, "alpha": 0.1}))]
#[case("infonca", "objective: {name: nca, beta: 0.5}\n", json!({"name": "infonca"}))]
#[case("nca", "loss_type: NCA\nbeta: 0.01\n", json!({"name": "nca", "beta": 0.01}))]
#[case("nca", "dataset_name: d\nbeta: 0.01\n", json!({"name": "nca", "beta": 0.01}))]
fn a_verb_keeps_the_parameters_of_its_objective(#[case] verb: &str, #[case] recipe: &str, #[case] expected: Json) {
    assert_eq!(objective(recipe, &format!("{VERB}={verb}")), expected);
}

/// TRL's DPO trainer reads a key for some losses and not for others; where it does not, neither do we, and a line says so.
#[rstest]
#[case::sigmoid("loss_type: sigmoid\nlabel_smoothing: 0.1\n", "", json!({"name": "dpo"}),
    "label_smoothing (TRL 1.16 does not read it with the loss sigmoid; `--set objective.label_smoothing=0.1` sets it all the same)")]
#[case::no_loss("label_smoothing: 0.1\n", "", json!({"name": "dpo"}),
    "label_smoothing (TRL 1.16 does not read it with the loss sigmoid; `--set objective.label_smoothing=0.1` sets it all the same)")]
#[case::hinge("loss_type: hinge\nlabel_smoothing: 0.1\n", "", json!({"name": "hinge"}),
    "label_smoothing (TRL 1.16 does not read it with the loss hinge)")]
#[case::an_argument("loss_type: nca_pair\n", "label_smoothing=0.1", json!({"name": "nca_pair"}),
    "label_smoothing (TRL 1.16 does not read it with the loss nca_pair)")]
#[case::sft("loss_type: sft\nbeta: 0.1\n", "", json!({"name": "sft"}), "beta (TRL 1.16 does not read it with the loss sft)")]
#[case::several("loss_type: [sigmoid, ipo]\nlabel_smoothing: 0.1\n", "",
    json!({"name": "combine", "terms": [{"name": "dpo", "weight": 1.0}, {"name": "ipo", "weight": 1.0}]}),
    "label_smoothing (TRL 1.16 does not read it with the loss sigmoid, ipo)")]
#[case::one_of_several("loss_type: [sigmoid, robust]\nlabel_smoothing: 0.2\n", "",
    json!({"name": "combine", "terms": [{"name": "dpo", "weight": 1.0}, {"name": "robust", "weight": 1.0, "label_smoothing": 0.2}]}),
    "")]
#[case::a_loss_that_reads_it("loss_type: ipo\nlabel_smoothing: 0.2\n", "loss_type=robust",
    json!({"name": "robust", "label_smoothing": 0.2}), "")]
#[case::taken_back("loss_type: ipo\nlabel_smoothing: 0.2\n", "label_smoothing=0", json!({"name": "ipo"}), "")]
#[case::alphapo_left_out("loss_type: simpo\nalpha: 0.0\ncpo_alpha: 0\n", "verb=cpo",
    json!({"name": "simpo", "beta": 0.1, "gamma": 0.5}), "")]
#[case::said_with_the_objective("label_smoothing: 0.2\n", "objective.label_smoothing=0.1",
    json!({"name": "dpo", "label_smoothing": 0.1}),
    "label_smoothing (TRL 1.16 does not read it with the loss sigmoid; `--set objective.label_smoothing=0.2` sets it all the same)")]
fn what_trl_does_not_read_has_no_effect(
    #[case] recipe: &str,
    #[case] arguments: &str,
    #[case] expected: Json,
    #[case] said: &str,
) {
    let parsed = with_arguments(recipe, arguments).expect("a recipe");
    assert_eq!(serde_json::to_value(&parsed.recipe.objective).expect("JSON"), expected);
    collimate_objective::registry::build(&parsed.recipe.objective.name, &parsed.recipe.objective.params)
        .expect("built");
    let line =
        parsed.notes().into_iter().find_map(|line| line.strip_prefix("without effect here: ").map(str::to_owned));
    assert_eq!(line.unwrap_or_default(), said);
}

/// Our own recipes name objectives, which refuse what they do not have; so does TRL's KTO trainer.
#[rstest]
#[case("objective: ipo\nlabel_smoothing: 0.1\n", "")]
#[case("loss_type: kto\nlabel_smoothing: 0.1\n", "")]
#[case("loss_type: simpo\nlabel_smoothing: 0.1\ncpo_alpha: 0\n", "")]
#[case("objective: nca\nbeta: 0.1\nlabel_smoothing: 0.1\n", "")]
#[case("loss_type: simpo\nalpha: 0.25\ncpo_alpha: 0\n", "verb=cpo")]
#[case("loss_type: NCA\nalpha: 0\n", "")]
fn other_objectives_refuse_what_they_do_not_have(#[case] recipe: &str, #[case] arguments: &str) {
    let objective = with_arguments(recipe, arguments).expect("a recipe").recipe.objective;
    let built = collimate_objective::registry::build(&objective.name, &objective.params);
    assert!(built.is_err(), "{objective:?}");
}

#[test]
fn our_own_recipes_smooth_the_labels_of_dpo() {
    assert_eq!(objective("objective: dpo\nlabel_smoothing: 0.1\n", "")["label_smoothing"], 0.1);
}
