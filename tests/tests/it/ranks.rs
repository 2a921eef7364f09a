//! Runs of several ranks, which are threads here. Under `mpirun` they are processes: `tests/tests/mpi`.

use std::fs;
use std::path::Path;

use collimate_collective::{Collective, Threads};
use collimate_oracle::tolerances::assert_relative;
use collimate_recipe::Recipe;
use collimate_report::{MetricsRow, read_metrics};
use collimate_train::progress::Silent;
use collimate_train::{RunControl, TrainError, TrainSummary, load_recipe, train_among};
use rstest::rstest;
use serde_json::json;

use crate::harness::Folder;
use crate::small_model::{model_arg, write_model_with};

/// Forty groups of two to five responses of many lengths.
fn groups(folder: &Folder) -> String {
    let row = |i: usize| {
        let response = |k: usize| {
            let content = format!("{} ", i * (k + 3)).repeat(1 + (i * 7 + k * 3) % 9);
            json!({"content": content.trim(), "reward": ((i + k * k) % 5) as f64 / 4.0 + k as f64})
        };
        let responses: Vec<_> = (0..2 + i % 4).map(response).collect();
        json!({"prompt": format!("What is {i} times 3?"), "responses": responses}).to_string() + "\n"
    };
    folder.write("groups.jsonl", (5..45).map(row).collect::<String>())
}

/// The recipe of a run in a folder.
fn recipe(folder: &Folder, name: &str, settings: &[&str]) -> Recipe {
    let (data, output) = (folder.arg("groups.jsonl"), folder.arg(name));
    let fixed = [("model_name_or_path", model_arg()), ("data", &data), ("output_dir", &output), ("objective", "nca")];
    let more = ["learning_rate=2e-3", "per_device_train_batch_size=2", "reference_cache=false", "token_cache=false"];
    let more = more.iter().chain(settings).map(|setting| setting.split_once('=').expect("a setting"));
    let all = fixed.into_iter().chain([("sample_time_share", "0.01"), ("num_threads", "8")]).chain(more);
    let all: Vec<_> = all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    load_recipe(None, &all).expect("a recipe")
}

type Ran = Result<TrainSummary, TrainError>;

/// What each rank of a run returns.
fn run(recipe: &Recipe, ranks: usize, resume: bool) -> Vec<Ran> {
    let control = RunControl { resume, ..RunControl::default() };
    let all = Threads::run(ranks, |world| train_among(recipe, &mut Silent, &control, world));
    all.into_iter().map(|result| result.expect("no panic")).collect()
}

/// The rows of a run that every rank finishes.
fn rows(folder: &Folder, name: &str, ranks: usize, settings: &[&str]) -> Vec<MetricsRow> {
    run(&recipe(folder, name, settings), ranks, false).into_iter().for_each(|ran| drop(ran.expect("a run")));
    read_rows(folder, name)
}

fn read_rows(folder: &Folder, name: &str) -> Vec<MetricsRow> {
    read_metrics(&folder.path(name).join("metrics.jsonl")).expect("metrics")
}

/// What the clock, memory and the number of processes decide.
const CLOCKED: [&str; 6] =
    ["step_seconds", "memory_bytes", "tokens_per_second", "slowest_tokens_per_second", "slowest_rank", "ranks"];

/// A row without what the clock decides.
fn timeless(row: &MetricsRow) -> Vec<String> {
    let figures = row.names().filter(|name| !CLOCKED.contains(name));
    figures.map(|name| format!("{name} {:?}", row.get(name))).collect()
}

/// Checks that the first rows are equal to the bit, as far as they do not depend on gradients, and the others nearly.
fn assert_same_run(one: &[MetricsRow], several: &[MetricsRow], what: &str) {
    assert_eq!(one.len(), several.len(), "{what}");
    let scores = |row: &MetricsRow| timeless(row).into_iter().filter(|text| !text.starts_with("grad_norm ")).collect();
    let first = |rows: &[MetricsRow]| -> Vec<String> {
        let first_step = rows.iter().position(|row| row.get("grad_norm").is_some()).expect("a step");
        rows[..=first_step].iter().flat_map(|row| -> Vec<String> { scores(row) }).collect()
    };
    assert_eq!(first(one), first(several), "{what}");
    for (row, other) in one.iter().zip(several) {
        let figures = |name: &str| row.get(name).zip(other.get(name));
        assert_eq!(row.get("step"), other.get("step"));
        for name in ["loss", "eval_loss", "aux_loss"] {
            let Some((one, other)) = figures(name) else { continue };
            assert!((one - other).abs() <= 1e-4, "{what}, {name}: {one} {other}");
        }
        if let Some((one, other)) = figures("grad_norm") {
            assert_relative(other, one, 1e-3, &format!("{what}, grad_norm"));
        }
    }
}

/// The bytes of a file in a run's folder.
fn bytes(folder: &Folder, name: &str) -> Vec<u8> {
    fs::read(folder.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[rstest]
#[case::adapter(&["use_peft=true", "lora_r=4", "lora_dropout=0.1"], &["adapter_model.safetensors"])]
#[case::all_weights(&["eval_fraction=0.2", "eval_steps=6"], &["model.safetensors"])]
#[case::coupled(&["objective=aot", "use_peft=true"], &["adapter_model.safetensors"])]
#[case::coupled_with_weights(&["objective=kto"], &["model.safetensors"])]
#[case::pairs(&["objective=cca", "objective.uncond_ratio=0", "eval_fraction=0.2", "eval_steps=6"], &["model.safetensors"])]
#[case::coupled_pairs(&["objective=kto", "objective.reference_point=mismatched"], &["model.safetensors"])]
fn several_ranks_take_the_steps_of_one_and_repeat_themselves(#[case] settings: &[&str], #[case] weights: &[&str]) {
    let folder = Folder::new();
    groups(&folder);
    let with = |name: &str, ranks: usize, accumulation: &str| {
        let more = ["max_steps=12", "save_steps=6", accumulation];
        rows(&folder, name, ranks, &[settings, &more].concat())
    };
    let one = with("one", 1, "gradient_accumulation_steps=4");
    let two = with("two", 2, "gradient_accumulation_steps=2");
    let four = with("four", 4, "gradient_accumulation_steps=1");
    assert_same_run(&one, &two, "two ranks");
    assert_same_run(&one, &four, "four ranks");
    let again = with("again", 2, "gradient_accumulation_steps=2");
    assert_eq!(two.iter().map(timeless).collect::<Vec<_>>(), again.iter().map(timeless).collect::<Vec<_>>());
    for file in
        weights.iter().copied().chain(["checkpoint-6/optimizer.safetensors", "checkpoint-12/optimizer.safetensors"])
    {
        assert!(bytes(&folder, &format!("two/{file}")) == bytes(&folder, &format!("again/{file}")), "{file} differs");
    }
    let recipe = folder.read("two/recipe.yaml");
    assert!(recipe.contains("gradient_accumulation_steps: 2\n") && recipe.contains("num_threads: 8\n"), "{recipe}");
}

/// A last bit of a weight in float32 may decide how it is rounded, so later steps differ by more than float32's.
#[test]
fn bfloat16_begins_as_one_rank_and_repeats_itself() {
    let folder = Folder::new();
    groups(&folder);
    let with = |name: &str, ranks: usize, accumulation: &str| {
        rows(&folder, name, ranks, &["compute_dtype=bfloat16", "max_grad_norm=0.1", "max_steps=6", accumulation])
    };
    let one = with("one", 1, "gradient_accumulation_steps=2");
    let [two, again] = ["two", "again"].map(|name| with(name, 2, "gradient_accumulation_steps=1"));
    assert_same_run(&one[..1], &two[..1], "two ranks");
    assert_eq!(two.iter().map(timeless).collect::<Vec<_>>(), again.iter().map(timeless).collect::<Vec<_>>());
    assert!(bytes(&folder, "two/model.safetensors") == bytes(&folder, "again/model.safetensors"));
}

#[test]
fn the_balance_loss_is_that_of_one_rank() {
    let folder = Folder::new();
    groups(&folder);
    let fields = json!({
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 4, "sliding_window": null,
    });
    write_model_with(&folder.path("model"), &fields);
    let model = format!("model_name_or_path={}", folder.arg("model"));
    let with = |name: &str, ranks: usize, accumulation: &str| {
        rows(&folder, name, ranks, &[&model, "max_steps=12", "router_aux_loss_coef=0.5", accumulation])
    };
    let one = with("one", 1, "gradient_accumulation_steps=3");
    let three = with("three", 3, "gradient_accumulation_steps=1");
    assert!(one.iter().all(|row| row.get("aux_loss").is_some()));
    assert_same_run(&one, &three, "three ranks");
}

#[rstest]
#[case::adapter(&["use_peft=true", "lora_dropout=0.1"])]
#[case::all_weights(&[])]
fn a_run_goes_on_with_another_number_of_ranks(#[case] settings: &[&str]) {
    let folder = Folder::new();
    groups(&folder);
    // What follows has the schedule of a run of twelve steps.
    let all =
        [settings, &["gradient_accumulation_steps=2", "max_steps=12", "save_steps=4", "lr_scheduler_type=constant"]];
    let all = all.concat();
    let whole = rows(&folder, "whole", 2, &all);
    let mut moved = recipe(&folder, "moved", &all);
    for (ranks, steps) in [(2, 4), (1, 8), (4, 12)] {
        moved.max_steps = steps;
        let ran = run(&moved, ranks, steps > 4);
        assert!(ran.iter().all(Result::is_ok), "{ranks}: {ran:?}");
    }
    let rows = read_rows(&folder, "moved");
    assert_eq!(rows[..4].iter().map(timeless).collect::<Vec<_>>(), whole[..4].iter().map(timeless).collect::<Vec<_>>());
    assert_same_run(&whole, &rows, "moved");
    let states: Vec<String> = [4, 8, 12].map(|step| format!("moved/checkpoint-{step}/trainer_state.json")).into();
    assert!(states.iter().all(|state| folder.read(state).contains("\"ranks\": 2")));
}

#[test]
fn the_reference_is_dealt_out_and_kept_for_later_runs() {
    let folder = Folder::new();
    groups(&folder);
    let cache = format!("reference_cache={}", folder.arg("cache"));
    let with = |name: &str, ranks: usize, accumulation: &str| {
        rows(&folder, name, ranks, &[&cache, "max_steps=4", "eval_fraction=0.3", accumulation])
    };
    let size = || {
        let files = fs::read_dir(folder.path("cache")).expect("a cache");
        files.map(|file| file.expect("an entry").metadata().expect("a file").len()).sum::<u64>()
    };
    let two = with("two", 2, "gradient_accumulation_steps=2");
    let filled = size();
    assert!(filled > 0);
    // All of it is found, by one rank and by four.
    let one = with("one", 1, "gradient_accumulation_steps=4");
    let four = with("four", 4, "gradient_accumulation_steps=1");
    assert_eq!(size(), filled);
    assert_same_run(&one, &two, "two ranks");
    assert_same_run(&one, &four, "four ranks");
}

#[test]
fn a_mistake_ends_all_ranks_with_one_error() {
    let folder = Folder::new();
    groups(&folder);
    let mut broken = recipe(&folder, "broken", &["max_steps=2"]);
    broken.data = Some(Path::new(&folder.write("empty.jsonl", "")).to_owned().into());
    let ran: Vec<String> =
        run(&broken, 3, false).into_iter().map(|ran| ran.expect_err("no data").to_string()).collect();
    assert!(ran[1] == format!("rank 0: {}", ran[0]) && ran[2] == ran[1], "{ran:?}");
}

#[test]
fn a_stop_that_one_rank_is_asked_for_saves_once_for_all() {
    let folder = Folder::new();
    groups(&folder);
    let recipe = recipe(&folder, "run", &["max_steps=500", "use_peft=true"]);
    let all = Threads::run(2, |world| {
        let control = RunControl::default();
        std::thread::scope(|scope| {
            if world.rank() == 1 {
                let (stop, metrics) = (control.stop.clone(), folder.path("run/metrics.jsonl"));
                scope.spawn(move || {
                    while fs::read_to_string(&metrics).map_or(0, |text| text.lines().count()) < 3 {
                        std::thread::yield_now();
                    }
                    stop.request(15);
                });
            }
            train_among(&recipe, &mut Silent, &control, world)
        })
    });
    for ran in all {
        let error = ran.expect("no panic").expect_err("stopped");
        assert!(matches!(error, TrainError::Interrupted { signal: 15, .. }), "{error}");
    }
    let checkpoints = fs::read_dir(folder.path("run")).expect("a folder").flatten();
    let checkpoints = checkpoints.filter(|entry| entry.file_name().to_string_lossy().starts_with("checkpoint-"));
    assert_eq!(checkpoints.count(), 1);
    let resumed = Recipe { max_steps: read_rows(&folder, "run").len() as i64 + 2, ..recipe };
    assert!(run(&resumed, 2, true).iter().all(Result::is_ok));
}
