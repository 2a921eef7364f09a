//! Where a turn ends: the same for training, for every verb that generates, and in what is saved.

use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, succeed};
use crate::small_model::write_model_with;

/// Ids of the quickstart's tokenizer.
const END_OF_TEXT: u32 = 0;
const END_OF_TURN: u32 = 2;

/// Turns that end in this text.
fn template(end: &str) -> String {
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + 'END\\n' }}\
     {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
        .replace("END", end)
}

/// A base model whose EOS ends a text, with a template whose turns end otherwise; and a recipe's data for it.
fn base_model(folder: &Folder, end: &str) -> String {
    let model = folder.path("model");
    write_model_with(&model, &json!({"eos_token_id": END_OF_TEXT}));
    let mut config: Value = serde_json::from_str(&folder.read("model/tokenizer_config.json")).expect("JSON");
    config["eos_token"] = json!("<|endoftext|>");
    config["chat_template"] = json!(template(end));
    folder.write("model/tokenizer_config.json", config.to_string());
    model.display().to_string()
}

/// Teaches the answer `0.` to `Say 0.`, and so on; returns the run's folder.
fn train(folder: &Folder, model: &str, settings: &[&str]) -> String {
    let turn = |role: &str, text: String| json!([{"role": role, "content": text}]);
    let row = |i: usize| {
        let (chosen, rejected) = (turn("assistant", format!("{i}.")), turn("assistant", "No.".to_owned()));
        json!({"prompt": turn("user", format!("Say {i}.")), "chosen": chosen, "rejected": rejected}).to_string() + "\n"
    };
    let (data, run) = (folder.write("data.jsonl", (0..3).map(row).collect::<String>()), folder.arg("run"));
    let mut args = vec!["train", "--model", model, "--data", &data, "--output", &run, "--objective", "sft", "--quiet"];
    let common = [
        "learning_rate=5e-3",
        "lr_scheduler_type=constant",
        "warmup_ratio=0",
        "max_steps=60",
        "per_device_train_batch_size=3",
        "sample_prompts=1",
        "sample_max_new_tokens=24",
        "sample_time_share=1",
    ];
    args.extend(common.iter().chain(settings).flat_map(|setting| ["--set", setting]));
    succeed(&args);
    run
}

/// The greedy answer to `Say 0.`.
fn answer(folder: &Folder, model: &[&str]) -> Value {
    let prompt = json!({"prompt": [{"role": "user", "content": "Say 0."}]}).to_string() + "\n";
    let (prompts, output) = (folder.write("prompts.jsonl", prompt), folder.arg("samples.jsonl"));
    let args = ["sample", "--data", &prompts, "--output", &output, "-n", "1", "--temperature", "0"];
    succeed(&[&args[..], model, &["--max-new-tokens", "24"]].concat());
    let row = folder.rows("samples.jsonl").remove(0);
    std::fs::remove_file(folder.path("samples.jsonl")).expect("a file");
    row["responses"][0].clone()
}

fn json_of(folder: &Folder, name: &str) -> Value {
    serde_json::from_str(&folder.read(name)).expect("JSON")
}

#[test]
fn every_verb_stops_where_the_template_ends_a_turn_and_the_saved_model_says_so() {
    let folder = Folder::new();
    let model = base_model(&folder, "<|im_end|>");
    let run = train(&folder, &model, &["save_steps=30"]);
    assert_eq!(json_of(&folder, "run/samples.json")["prompts"][0]["after"], json!("0."));
    let sampled = answer(&folder, &["--model", &run]);
    assert_eq!(sampled["content"], json!("0."));
    assert_eq!(sampled["token_ids"].as_array().and_then(|ids| ids.last()), Some(&json!(END_OF_TURN)));
    let args = ["generate", "--model", &run, "--chat", "--prompt", "Say 0.", "--max-new-tokens", "24"];
    assert_eq!(succeed(&args).out, "0.\n");
    let both = json!([END_OF_TURN, END_OF_TEXT]);
    for saved in ["run", "run/checkpoint-30", "run/checkpoint-60"] {
        for file in ["config.json", "generation_config.json"] {
            assert_eq!(json_of(&folder, &format!("{saved}/{file}"))["eos_token_id"], both, "{saved}/{file}");
        }
    }
}

#[test]
fn an_adapter_and_its_merged_model_say_where_a_turn_ends() {
    let folder = Folder::new();
    let model = base_model(&folder, "<|im_end|>");
    folder.write("model/generation_config.json", json!({"eos_token_id": END_OF_TEXT, "top_p": 0.8}).to_string());
    let run = train(&folder, &model, &["use_peft=true", "lora_r=8", "learning_rate=2e-2"]);
    let named = json!({"eos_token_id": [END_OF_TURN, END_OF_TEXT], "top_p": 0.8});
    assert_eq!(json_of(&folder, "run/generation_config.json"), named);
    let merged = folder.arg("merged");
    succeed(&["merge", "--model", &model, "--adapter", &run, "--output", &merged]);
    assert_eq!(json_of(&folder, "merged/generation_config.json"), named);
    assert_eq!(json_of(&folder, "merged/config.json")["eos_token_id"], named["eos_token_id"]);
    // The base itself stays as it was.
    assert_eq!(json_of(&folder, "model/generation_config.json")["eos_token_id"], json!(END_OF_TEXT));
    let expected = json_of(&folder, "run/samples.json")["prompts"][0]["after"].clone();
    assert_eq!(expected, json!("0."));
    for model in [&["--model", &model, "--adapter", &run][..], &["--model", &merged]] {
        assert_eq!(answer(&folder, model)["content"], expected);
    }
}

#[test]
fn a_chat_template_that_a_recipe_brings_goes_with_the_adapter() {
    let folder = Folder::new();
    let model = base_model(&folder, "<|im_end|>");
    let mut config = json_of(&folder, "model/tokenizer_config.json");
    let template = folder.write("template.jinja", config["chat_template"].take().as_str().expect("a template"));
    folder.write("model/tokenizer_config.json", config.to_string());
    let path = format!("chat_template_path={template}");
    let run = train(&folder, &model, &["use_peft=true", "lora_r=8", "learning_rate=2e-2", &path]);
    let merged = folder.arg("merged");
    succeed(&["merge", "--model", &model, "--adapter", &run, "--output", &merged]);
    for model in [&["--model", &model, "--adapter", &run][..], &["--model", &merged]] {
        let sampled = answer(&folder, model);
        assert_eq!(sampled["content"], json!("0."));
        assert_eq!(sampled["token_ids"].as_array().and_then(|ids| ids.last()), Some(&json!(END_OF_TURN)));
    }
}

// The second is no token of the tokenizer's: the turn ends in several, and training scores EOS after them.
#[rstest]
#[case("<|im_end|>")]
#[case("<end_of_turn>")]
fn what_was_sampled_is_scored_as_the_tokens_that_were_sampled(#[case] end: &str) {
    let folder = Folder::new();
    let model = base_model(&folder, end);
    let run = train(&folder, &model, &[]);
    assert_eq!(json_of(&folder, "run/samples.json")["prompts"][0]["after"], json!("0."));
    let sampled = answer(&folder, &["--model", &run]);
    assert_eq!(sampled["content"], json!("0."));
    let prompt = json!([{"role": "user", "content": "Say 0."}]);
    // Cut at a limit, so without an end; and tokens of another text.
    let vocab = &json_of(&folder, "model/tokenizer.json")["model"]["vocab"];
    let cut = json!({"content": "No", "token_ids": [vocab["N"], vocab["o"]]});
    let row = json!({"prompt": prompt, "responses": [sampled, cut, {"content": "0.", "token_ids": [vocab["N"]]}]});
    let (data, scores) = (folder.write("rows.jsonl", row.to_string()), folder.arg("scores.jsonl"));
    let err = succeed(&["score", "--model", &run, "--data", &data, "--output", &scores, "--tokens", "--quiet"]).err;
    let scored = &folder.rows("scores.jsonl")[0]["responses"];
    assert_eq!((&scored[0]["response_ids"], &scored[1]["response_ids"]), (&sampled["token_ids"], &cut["token_ids"]));
    assert!(err.contains("; 2 responses have the tokens that were sampled (token_ids)"), "{err}");
    assert!(err.contains("1 response has token_ids that are not what its text says"), "{err}");
}

#[test]
fn a_round_trains_on_the_tokens_that_it_sampled() {
    let folder = Folder::new();
    let model = base_model(&folder, "<|im_end|>");
    let row = |i: usize| json!({"prompt": [{"role": "user", "content": format!("Say {i}.")}]}).to_string() + "\n";
    let prompts = folder.write("prompts.jsonl", (0..3).map(row).collect::<String>());
    let program = folder.write("program.sh", "awk '{print NR % 5}'");
    let (program, output) = (format!("sh '{program}'"), folder.arg("loop"));
    let mut args = vec!["loop", "--model", &model, "--prompts", &prompts, "--command", &program, "--rounds", "1"];
    args.extend(["--num-responses", "4", "--max-new-tokens", "6", "--output", &output, "--objective", "nca"]);
    args.extend(["--set", "reference_cache=false", "--set", "max_steps=1"]);
    let err = succeed(&args).err;
    let rows = folder.rows("loop/round-1/train.jsonl");
    let responses = || rows.iter().flat_map(|row| row["responses"].as_array().expect("responses"));
    assert!(responses().all(|response| response["token_ids"].as_array().is_some_and(|ids| ids.len() <= 6)));
    let count = responses().count();
    assert!(err.contains(&format!("{count} responses have the tokens that were sampled (token_ids)")), "{err}");
}
