//! Outputs of verbs that would replace or reach something else: a device, a pipe, a link, an earlier file, another's temporary.

use std::fs;

use super::runs::{contents, data, refused};
use crate::harness::{Folder, collimate, succeed};
use crate::small_model::{adapter_arg, model, model_arg};

/// The verbs that write a file, each with an output to be named.
fn verbs(folder: &Folder) -> Vec<Vec<String>> {
    let data = data(folder);
    let prompts = folder.write("prompts.jsonl", "{\"prompt\": \"2 * 2\"}\n");
    let samples = folder.write("samples.jsonl", "{\"prompt\": \"2 * 2\", \"responses\": [{\"content\": \"4\"}]}\n");
    for name in ["one", "two"] {
        folder.write(&format!("{name}/metrics.jsonl"), "{\"step\": 1, \"loss\": 0.5}\n");
        folder.write(&format!("{name}/recipe.yaml"), "seed: 1\n");
    }
    let (one, two) = (folder.arg("one"), folder.arg("two"));
    let scorer = folder.write("scorer.sh", "while read -r line; do echo 1; done\n");
    let verbs: [&[&str]; 6] = [
        &["score", "--model", model_arg(), "--data", &data, "--quiet"],
        &["data", "convert", &data],
        &["sample", "--model", model_arg(), "--data", &prompts, "-n", "1", "--max-new-tokens", "2", "--quiet"],
        &["reward", "--data", &samples, "--command", &format!("sh {scorer}"), "--quiet"],
        &["report", &one, &two],
        &["schema"],
    ];
    verbs.iter().map(|args| args.iter().map(|arg| (*arg).to_owned()).collect()).collect()
}

#[cfg(unix)]
#[test]
fn an_output_that_is_no_plain_file_is_written_to_or_refused_and_stays_what_it_is() {
    use std::os::unix::fs::{FileTypeExt, symlink};

    let folder = Folder::new();
    for verb in verbs(&folder) {
        let with = |output: &str, force: bool| {
            let mut args = verb.clone();
            args.extend(["--output".to_owned(), folder.arg(output)]);
            args.extend(force.then(|| "--force".to_owned()));
            collimate(&args)
        };
        // Not the device itself: as root a mistake would destroy it for the machine.
        let kind = |name: &str| fs::symlink_metadata(folder.path(name)).expect("it is there").file_type();
        symlink("/dev/null", folder.path("null")).expect("a link");
        assert_eq!(with("null", false).code, 0, "{verb:?}: {}", with("null", false).err);
        assert!(kind("null").is_symlink(), "{verb:?}");

        folder.write("precious", "precious");
        symlink("precious", folder.path("link")).expect("a link");
        for force in [false, true] {
            refused(&with("link", force), &["link: this is a link; name the file itself"]);
        }
        assert!(kind("link").is_symlink() && folder.read("precious") == "precious", "{verb:?}");

        let pipe = folder.path("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        refused(&with("pipe", false), &["pipe", "it is a pipe that nobody reads"]);
        let read = std::thread::scope(|scope| {
            let reader = scope.spawn(|| fs::read(&pipe).expect("bytes"));
            assert_eq!(with("pipe", false).code, 0, "{verb:?}");
            reader.join().expect("bytes")
        });
        assert!(!read.is_empty() && kind("pipe").is_fifo(), "{verb:?}");
        for name in ["null", "link", "pipe", "precious"] {
            fs::remove_file(folder.path(name)).expect("it is there");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_temporary_follows_no_link_and_the_next_command_clears_what_the_dead_left() {
    let folder = Folder::new();
    let (data, output) = (data(&folder), folder.arg("o.jsonl"));
    folder.write("victim", "precious");
    // What earlier versions would have opened.
    let link = folder.path(&format!(".o.jsonl.{}.tmp", std::process::id()));
    std::os::unix::fs::symlink("victim", &link).expect("a link");
    let dead = [".o.jsonl.0123456789abcdef.collimate.tmp", ".other.jsonl.00000000000000ff.collimate.tmp"];
    dead.iter().for_each(|name| drop(folder.write(name, "half")));
    let living = collimate_files::AtomicFile::create(&folder.path("other.jsonl")).expect("a file");
    succeed(&["data", "convert", &data, "--output", &output]);
    assert_eq!(folder.read("victim"), "precious");
    assert!(dead.iter().all(|name| !folder.path(name).exists()));
    living.commit().expect("nobody took it away");
    let left: Vec<_> = contents(&folder.path("")).into_iter().filter(|(name, _)| name.starts_with('.')).collect();
    assert_eq!(left.len(), 1, "the link alone: {left:?}");
}

#[test]
fn export_replaces_an_earlier_file_only_when_asked_to() {
    let folder = Folder::new();
    let output = folder.arg("m.gguf");
    let export = |outtype: &str, more: &[&str]| {
        let given = ["export", "--model", model_arg(), "--adapter", adapter_arg(), "--tokenizer-pre", "gpt-2"];
        collimate(&[&given[..], &["--outtype", outtype, "--output", &output], more].concat())
    };
    assert_eq!(export("f16", &[]).code, 0);
    let before = fs::read(&output).expect("a file");
    refused(&export("f32", &[]), &["m.gguf: there is a file of this name; --force replaces it"]);
    assert!(before == fs::read(&output).expect("a file"));
    assert_eq!(export("f32", &["--force"]).code, 0);
    assert!(before != fs::read(&output).expect("a file"));
    // What is no GGUF file is never replaced.
    folder.write("m.gguf", "mine");
    refused(&export("f16", &["--force"]), &["m.gguf", "which is no GGUF file"]);
    assert_eq!(folder.read("m.gguf"), "mine");
}

#[test]
fn a_file_of_the_model_is_not_replaced_even_when_asked_to() {
    let folder = Folder::new();
    let (base, data) = (folder.copy(model(), "m"), data(&folder));
    let before = contents(&folder.path("m"));
    for name in ["model.safetensors", "tokenizer.json"] {
        let output = folder.path("m").join(name).display().to_string();
        for verb in ["score", "sample"] {
            let args = [verb, "--model", &base, "--data", &data, "--output", &output, "--force", "--quiet"];
            refused(&collimate(&args), &[name, "this file is read, so it cannot be the output too"]);
        }
    }
    assert!(before == contents(&folder.path("m")));
}
